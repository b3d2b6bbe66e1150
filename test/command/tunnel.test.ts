/** `run` as a tunnel for agents that speak lines of JSON on stdin and stdout, such as those of ACP and MCP. */
import { Buffer } from "node:buffer"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { start } from "../support/command.js"
import { binary, eventually, webSocketServer } from "../support/servers.js"

const megabyte = 1_000_000

/** A program behind the tunnel. */
interface Tunnel {
  readonly send: (bytes: Buffer | string) => void
  /** Waits until so many bytes have come back, and takes them. */
  readonly take: (bytes: number) => Effect.Effect<Buffer>
  readonly takeLine: Effect.Effect<string>
  /** Ends the input; the exit code, what was not taken, and stderr. */
  readonly end: Effect.Effect<{ readonly code: number | string; readonly rest: string; readonly stderr: string }>
}

/** Starts a program on a server of its own. */
const tunnel = (...argv: ReadonlyArray<string>): Effect.Effect<Tunnel, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { url } = yield* webSocketServer()
    const running = yield* start(["run", "--url", url, "--", ...argv])
    const { stdin, stdout, stderr } = running.child
    const chunks: Array<Buffer> = []
    let length = 0
    stdout?.on("data", (chunk: Buffer) => {
      chunks.push(chunk)
      length += chunk.length
    })
    const take = (bytes: number) => {
      const all = Buffer.concat(chunks)
      chunks.splice(0, chunks.length, all.subarray(bytes))
      length = all.length - bytes
      return all.subarray(0, bytes)
    }
    return {
      send: (bytes) => void stdin?.write(bytes),
      take: (bytes) =>
        Effect.map(
          eventually(`${bytes} bytes have come`, () => length >= bytes, 30_000),
          () => take(bytes)
        ),
      takeLine: Effect.suspend(() =>
        Effect.map(
          eventually("a line has come", () => chunks.some((chunk) => chunk.includes("\n")), 30_000),
          () => take(Buffer.concat(chunks).indexOf("\n") + 1).toString()
        )
      ),
      end: Effect.gen(function* () {
        stdin?.end()
        const code = yield* running.exit
        yield* eventually(
          "its output has ended",
          () => stdout?.readableEnded !== false && stderr?.readableEnded !== false
        )
        return { code, rest: take(length).toString(), stderr: running.stderr() }
      })
    }
  })

/** A line of 5 MB with all bytes but the newline, which are no text, at places that depend on the seed. */
const line = (seed: number): Buffer => {
  const bytes = Buffer.alloc(5 * megabyte)
  let state = seed
  for (let i = 0; i < bytes.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    const byte = state >>> 24
    bytes[i] = byte === 0x0a ? 0x0d : byte
  }
  bytes[bytes.length - 1] = 0x0a
  return bytes
}

describe("an agent on a server", () => {
  it.scopedLive("gets and sends lines of 5 MB byte for byte; the end of its input ends it, with its exit code", () =>
    Effect.gen(function* () {
      const { send, take, end } = yield* tunnel("sh", "-c", "cat; echo bye >&2; exit 7")
      // One after the other, as in a dialogue: nothing is held back until more comes.
      for (const sent of [Buffer.from("{}\n"), line(1), Buffer.from("\n")]) {
        send(sent)
        assert.isTrue((yield* take(sent.length)).equals(sent), `${sent.length} bytes, in a dialogue`)
      }
      // All at once, in both directions at the same time, and a last one without an end.
      const sent = Buffer.concat([line(2), line(3), Buffer.from("the end")])
      send(sent)
      assert.isTrue((yield* take(sent.length)).equals(sent), "all at once")
      assert.deepStrictEqual(yield* end, { code: 7, rest: "", stderr: "bye\n" })
    })
  )

  it.scopedLive("that sends much more than it gets, and leaves by itself, is heard to the end", () =>
    Effect.gen(function* () {
      const agent = `require("readline").createInterface(process.stdin).on("line", (line) => {
        const { id } = JSON.parse(line)
        console.log(JSON.stringify({ id, text: "é".repeat(${2.5 * megabyte}) }))
        if (id === 3) process.exitCode = 5, process.stdin.destroy()
      })`
      const { send, takeLine, end } = yield* tunnel(process.execPath, "-e", agent)
      for (const id of [1, 2, 3]) {
        send(`{"id":${id}}\n`)
        const { id: answered, text } = JSON.parse(yield* takeLine)
        assert.strictEqual(answered, id)
        assert.isTrue(text === "é".repeat(2.5 * megabyte))
      }
      assert.deepStrictEqual(yield* end, { code: 5, rest: "", stderr: "" })
    })
  )

  it.scopedLive("may be an MCP server", () =>
    Effect.gen(function* () {
      const { send, takeLine, end } = yield* tunnel(process.execPath, binary, "mcp")
      const params = { protocolVersion: "2025-11-25", capabilities: {}, clientInfo: { name: "test", version: "1" } }
      const ask = (message: object) => {
        send(`${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`)
        return Effect.map(takeLine, (text): unknown => JSON.parse(text))
      }
      assert.nestedInclude(yield* ask({ id: "a", method: "initialize", params }), {
        id: "a",
        "result.protocolVersion": "2025-11-25"
      })
      send('{"jsonrpc":"2.0","method":"notifications/initialized"}\n')
      assert.nestedInclude(yield* ask({ id: 2, method: "tools/list", params: {} }), {
        id: 2,
        "result.tools[0].name": "exec_command"
      })
      assert.deepStrictEqual(yield* end, { code: 0, rest: "", stderr: "" })
    })
  )
})
