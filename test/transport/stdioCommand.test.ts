/** The stdio transport from the outside: bytes into the binary, lines out of it. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { childrenOf, eventually, isAlive, launch, stdioClient } from "../support/servers.js"
import type { Json } from "../support/TestClient.js"

/** Sends bytes to a server of their own, ends its input, and gives the lines it answered with. */
const exchange = (bytes: Buffer | string, args: ReadonlyArray<string> = []) =>
  Effect.gen(function* () {
    const server = yield* launch({ args })
    let output = ""
    server.child.stdout?.on("data", (chunk) => {
      output += chunk
    })
    server.child.stdin?.end(bytes)
    const code = yield* server.exit
    const lines: ReadonlyArray<Json> = output
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line))
    return { code, lines, stderr: server.stderr() }
  })

describe("stdio transport", () => {
  it.scopedLive("answers what came before the end of input, then exits 0 with nothing on stderr", () =>
    Effect.gen(function* () {
      const { code, lines, stderr } = yield* exchange(
        '\n  \r\n{"id":1,"method":"nope"}\r\n{"id":"b","method":"nope"}\n'
      )
      assert.deepStrictEqual(
        lines.map((line) => line.id),
        [1, "b"]
      )
      assert.strictEqual(code, 0)
      assert.strictEqual(stderr, "")
    })
  )

  it.scopedLive("a line that is not UTF-8, or no JSON, is malformed and the connection lives on", () =>
    Effect.gen(function* () {
      const bytes = Buffer.concat([Buffer.from([0xff, 0xfe, 10]), Buffer.from('nope\n{"id":1,"method":"x"}\n')])
      const { lines } = yield* exchange(bytes)
      assert.deepStrictEqual(
        lines.map((line) => [line.id, line.error.code]),
        [
          [-1, -32600],
          [-1, -32600],
          [1, -32601]
        ]
      )
      assert.match(lines[0].error.message, /^failed to parse JSON-RPC message from exec-server stdio: .*UTF-8/)
    })
  )

  it.scopedLive("a line above maxMessageBytes is answered once with the limit's name and skipped", () =>
    Effect.gen(function* () {
      const { lines } = yield* exchange(`${"x".repeat(300000)}\n{"id":1,"method":"x"}\n`, [
        "--max-message-bytes",
        "1000"
      ])
      assert.deepStrictEqual(
        lines.map((line) => line.id),
        [-1, 1]
      )
      assert.include(lines[0].error.message, "maxMessageBytes (1000)")
    })
  )

  it.scopedLive("an unfinished last line is not answered", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual((yield* exchange('{"id":1,"method":"x"}')).lines, [])
    })
  )

  it.scopedLive("a 20 MiB line passes", () =>
    Effect.gen(function* () {
      const { client } = yield* stdioClient()
      client.raw(JSON.stringify({ id: 1, method: "nope", params: "x".repeat(20 * 2 ** 20) }))
      assert.strictEqual((yield* client.reply(1)).error.code, -32601)
    })
  )

  it.scopedLive("the end of input ends every process, of any dialect, and the server with 0", () =>
    Effect.gen(function* () {
      const { client, server } = yield* stdioClient()
      yield* client.handshake({ resumeSessionId: null })
      const one = yield* client.sh("p", "trap '' TERM HUP; sleep 1000 & wait; sleep 1000")
      const two = yield* client.start("q", ["sleep", "1000"], { tty: true })
      client.carrier.close()
      assert.strictEqual(yield* server.exit, 0)
      yield* eventually("both are gone", () => !isAlive(one.pid) && !isAlive(two.pid))
    })
  )

  it.scopedLive("a protocol violation ends the processes and the server at once", () =>
    Effect.gen(function* () {
      const { client, server } = yield* stdioClient()
      yield* client.handshake()
      const { pid } = yield* client.start("p", ["sleep", "1000"])
      client.raw('{"method":"nope"}')
      assert.strictEqual(yield* server.exit, 0)
      assert.isFalse(isAlive(pid))
    })
  )

  it.scopedLive("a peer that does not read cannot keep the server from ending", () =>
    Effect.gen(function* () {
      const server = yield* launch({})
      const { stdin, stdout } = server.child
      // Never read: the pipe fills up.
      stdout?.pause()
      stdin?.write('{"id":1,"method":"initialize","params":{"clientName":"x"}}\n{"method":"initialized"}\n')
      const params = { processId: "p", argv: ["yes"], cwd: "/tmp", env: { PATH: "/usr/bin" }, tty: false }
      stdin?.write(`${JSON.stringify({ id: 2, method: "process/start", params })}\n`)
      yield* eventually("the child runs", () => childrenOf(server.pid).length > 0)
      yield* Effect.sleep("1 second")
      const [pid = -1] = childrenOf(server.pid)
      server.child.kill("SIGTERM")
      assert.strictEqual(yield* server.exit, 0)
      assert.isFalse(isAlive(pid))
    })
  )
})
