/** No descriptor is left: whatever needs one is refused in the system's words, and all is well once there are some. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { directory } from "../support/files.js"
import { connectTo, descriptors, eventually, rawSocket, webSocketServer } from "../support/servers.js"
import { startParams } from "../support/TestClient.js"

describe("the descriptor limit is reached", () => {
  it.scopedLive("files, exchanges, processes and connections are refused one by one, and taken again afterwards", () =>
    Effect.gen(function* () {
      const folder = yield* directory
      const server = yield* webSocketServer({ under: 'ulimit -n 64; exec "$@"' })
      const client = yield* server.connect
      yield* client.handshake()
      yield* client.ask("fs/writeFile", { path: `${folder}/f`, dataBase64: "" })
      const before = descriptors(server.pid)
      let open = 0
      for (; open < 64; open++) {
        const { error } = yield* client.call("fs/open", { path: `${folder}/f`, handleId: `h${open}` })
        if (error === undefined) continue
        assert.deepStrictEqual(error, { code: -32603, message: `Too many open files (os error 24): ${folder}/f` })
        break
      }
      assert.isBelow(open, 64)
      for (const tty of [false, true]) {
        const { error } = yield* client.call("process/start", startParams("p", ["true"], { tty, pipeStdin: true }))
        assert.strictEqual(error.code, -32603)
        assert.match(error.message, /Too many open files|cannot open a terminal/)
      }
      const read = yield* client.call("fs/readFile", { path: `${folder}/f` })
      assert.deepStrictEqual(read.error, { code: -32603, message: `Too many open files (os error 24): ${folder}/f` })
      const listing = yield* client.call("fs/readDirectory", { path: folder })
      assert.deepStrictEqual(listing.error, { code: -32603, message: `Too many open files (os error 24): ${folder}` })
      const url = server.url.replace("ws:", "http:")
      const exchange = yield* client.call("http/request", { method: "GET", url, requestId: "r" })
      assert.strictEqual(exchange.error.code, -32603)
      assert.match(exchange.error.message, /^http\/request failed: /)
      // The kernel still completes these; the server has to end them, or leave them for later.
      const knocks = yield* Effect.forEach(Array(5), () => rawSocket(server.url))
      assert.deepStrictEqual(yield* client.ask("environment/status"), { status: "ready" })
      for (const knock of knocks) knock.destroy()
      for (let i = 0; i < open; i++) yield* client.ask("fs/close", { handleId: `h${i}` })
      yield* eventually("descriptors are back", () => descriptors(server.pid) <= before)
      const other = yield* connectTo(server.url)
      yield* other.handshake()
      for (const tty of [false, true]) {
        yield* other.start(`p${tty}`, ["true"], { tty })
        assert.strictEqual((yield* other.closed(`p${tty}`)).exitCode, 0)
      }
    })
  )
})
