/** Where the fuzzer's requests lead: folders of its own, and an HTTP server that answers well and badly. */
import { spawnSync } from "node:child_process"
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { World } from "./Grammar.js"
import type { Tally } from "./Ledger.js"

/** Everything that a run makes outside of its processes. */
export interface Ground {
  /** A folder with something in it, for so many messages. */
  readonly folder: (name: string) => World
  /** Removes such a folder. */
  readonly clear: (world: World) => void
  readonly root: string
  readonly tally: Tally
  readonly end: () => void
}

const listen = async () => {
  const server = createServer((request, response) => {
    request.resume()
    switch (request.url) {
      case "/small":
        return response.end("hello")
      case "/large":
        return response.end(Buffer.alloc(300_000, "x"))
      case "/cut":
        response.writeHead(200, { "content-length": "1000" })
        response.write("a part")
        return setTimeout(() => request.socket.destroy(), 5)
      case "/late":
        return setTimeout(() => response.end("late"), 30)
      case "/redirect":
        return response.writeHead(302, { location: "/small" }).end()
      case "/loop":
        return response.writeHead(307, { location: "/loop" }).end()
      case "/garbage":
        return request.socket.end("HTTP/1.1 999999 \0\r\nx\r\n\r\n")
      default:
        return response.end()
    }
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  return server
}

/** Makes the ground that a run stands on. */
export const make = async (): Promise<Ground> => {
  const root = realpathSync(mkdtempSync(join(tmpdir(), "fuzz-")))
  const server = await listen()
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const remove = () => rmSync(root, { recursive: true, force: true })
  process.once("exit", remove)
  const end = () => {
    process.off("exit", remove)
    server.close()
    server.closeAllConnections()
    remove()
  }
  return {
    root,
    tally: { results: 0, errors: 0 },
    end,
    folder: (name) => {
      const folder = join(root, name)
      mkdirSync(join(folder, "a", "b"), { recursive: true })
      writeFileSync(join(folder, "f"), "a file")
      symlinkSync("f", join(folder, "link"))
      symlinkSync("loop", join(folder, "loop"))
      spawnSync("mkfifo", [join(folder, "fifo")])
      return { folder, origin }
    },
    clear: ({ folder }) => {
      try {
        rmSync(folder, { recursive: true, force: true })
      } catch {
        // A server that still carries out what it has received fills it again; the end of the run removes it.
      }
    }
  }
}
