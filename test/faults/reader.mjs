// A client that starts `yes` and reads: `node reader.mjs URL` prints how many bytes of messages it has received.
import { WebSocket } from "ws"

const ws = new WebSocket(process.argv[2], { perMessageDeflate: false })
const send = (message) => ws.send(JSON.stringify(message))
let received = 0
let told = 0
ws.on("message", (data) => {
  received += data.length
  if (received - told > 1_000_000) {
    told = received
    console.log(received)
  }
})
ws.once("close", () => process.exit(1))
await new Promise((resolve) => ws.once("open", resolve))
send({ id: 1, method: "initialize", params: { clientName: "reader" } })
send({ method: "initialized" })
const env = { PATH: "/usr/bin:/bin" }
send({ id: 2, method: "process/start", params: { processId: "p", argv: ["yes"], cwd: "/", env, tty: false } })
