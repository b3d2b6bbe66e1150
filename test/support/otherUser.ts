/** Requests of another user of this machine. Root may make them. */
import { spawn } from "node:child_process"
import * as Effect from "effect/Effect"

/** A user who is nobody else. */
export const nobody = 65534

/** Asks for an upgrade at an address, as another user; gives the status line. */
export const upgradeAs = (
  uid: number,
  where: { readonly port: number; readonly host: string } | { readonly path: string }
) =>
  Effect.async<string>((resume) => {
    const script = `
      const socket = require("node:net").connect(${JSON.stringify(where)})
      socket.on("error", (error) => console.log(error.code))
      socket.on("data", (data) => { console.log(String(data).split("\\r\\n")[0]); socket.destroy() })
      socket.write("GET / HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n" +
        "Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\\r\\n\\r\\n")`
    const options = { uid, gid: uid, cwd: "/", env: {} } as const
    const child = spawn(process.execPath, ["-e", script], { ...options, stdio: ["ignore", "pipe", "inherit"] })
    let output = ""
    child.stdout.on("data", (data) => {
      output += String(data)
    })
    child.once("close", () => resume(Effect.succeed(output.trim())))
  })
