/** Real trees that are terminated: all of each ends, as asked for first, whatever its leader makes of it. */
import { Buffer } from "node:buffer"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { connected, eventually, isAlive } from "../support/servers.js"

/** A leader that ends by SIGTERM, and a descendant in a session of its own that does not; it says its pid. */
const cut = `(trap '' TERM; exec setsid sh -c 'echo $$; exec sleep 1000') & trap 'exit 0' TERM; while :; do sleep 0.02; done`

const modes = [false, true] as const

describe("a descendant that ignores SIGTERM in a session of its own, under a leader that does not", () => {
  for (const tty of modes) {
    const stream = tty ? "pty" : "stdout"
    const started = (args: ReadonlyArray<string> = []) =>
      Effect.gen(function* () {
        const { server, client } = yield* connected({ args })
        yield* client.sh("p", cut, { tty })
        const stray = Number.parseInt(yield* client.sees("p", "\n", stream), 10)
        assert.isTrue(isAlive(stray))
        return { server, client, stray }
      })

    it.scopedLive(`is killed when the time of a graceful termination runs out, ${stream}`, () =>
      Effect.gen(function* () {
        const { client, stray } = yield* started()
        yield* client.ask("process/terminate", { processId: "p", mode: { type: "graceful", timeoutMs: 300 } })
        yield* eventually("it is gone", () => !isAlive(stray))
        assert.strictEqual((yield* client.closed("p")).exitCode, 0)
      })
    )

    it.scopedLive(`is killed by force after a graceful termination, ${stream}`, () =>
      Effect.gen(function* () {
        const { client, stray } = yield* started()
        yield* client.ask("process/terminate", { processId: "p", mode: { type: "graceful", timeoutMs: 3_600_000 } })
        yield* client.notified("process/exited")
        assert.isTrue(isAlive(stray))
        yield* client.ask("process/terminate", { processId: "p" })
        yield* eventually("it is gone", () => !isAlive(stray))
      })
    )

    it.scopedLive(`is killed when the grace of a shutdown runs out, ${stream}`, () =>
      Effect.gen(function* () {
        const { server, stray } = yield* started(["--shutdown-grace-period-ms", "300"])
        server.child.kill("SIGTERM")
        assert.strictEqual(yield* server.exit, 0)
        yield* eventually("it is gone", () => !isAlive(stray))
      })
    )
  }
})

describe("a process that was killed", () => {
  it.scopedLive("gets no signal that was asked for later", () =>
    Effect.gen(function* () {
      const { client } = yield* connected()
      for (let i = 0; i < 20; i++) {
        const processId = `p${i}`
        yield* client.sh(processId, "trap 'exit 5' TERM; echo ready; while :; do sleep 0.02; done")
        yield* client.sees(processId, "ready")
        client.post("process/terminate", { processId })
        client.post("process/signal", { processId, signal: "SIGTERM" })
        assert.strictEqual((yield* client.closed(processId)).exitCode, 137)
      }
    })
  )

  for (const tty of modes) {
    it.scopedLive(`takes no input, ${tty ? "terminal" : "pipe"}`, () =>
      Effect.gen(function* () {
        const { client } = yield* connected()
        yield* client.start("p", ["cat"], { tty, pipeStdin: !tty })
        yield* client.ask("process/terminate", { processId: "p" })
        const { status } = yield* client.ask("process/write", { processId: "p", chunk: "eA==", writeId: "1" })
        assert.strictEqual(status, "stdinClosed")
        yield* client.closed("p")
      })
    )
  }
})

describe("a real-time signal", () => {
  it.scopedLive("is sent by the name that is told of it", () =>
    Effect.gen(function* () {
      const { client } = yield* connected()
      yield* client.start("p", ["sleep", "1000"])
      yield* client.ask("process/signal", { processId: "p", signal: "SIGRTMIN+1" })
      const { exitCode, signal } = yield* client.closed("p")
      assert.deepStrictEqual([exitCode, signal], [128 + 35, "SIGRTMIN+1"])
    })
  )
})

describe("closing the input of a terminal", () => {
  it.scopedLive("sends the character that ends input there, whichever it is", () =>
    Effect.gen(function* () {
      const { client } = yield* connected()
      yield* client.sh("p", "stty eof ^X -echo; echo ready; cat; echo done", { tty: true })
      yield* client.sees("p", "ready", "pty")
      yield* client.ask("process/write", { processId: "p", chunk: Buffer.from("unfinished").toString("base64") })
      yield* client.ask("process/closeStdin", { processId: "p" })
      assert.strictEqual((yield* client.closed("p")).exitCode, 0)
      assert.strictEqual(client.output("p", "pty").toString(), "ready\r\nunfinisheddone\r\n")
    })
  )
})
