/**
 * Requests that arrive in one burst end in the same state as the same requests sent one at a time, each after the
 * answer to the one before: with real children, on pipes and terminals.
 */
import { Buffer } from "node:buffer"
import { constants, openSync, readlinkSync } from "node:fs"
import { WriteStream } from "node:tty"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { connected } from "../support/servers.js"
import { startParams, type TestClient } from "../support/TestClient.js"

const sequences = 1000
/** The time goes into waiting for children, not into work. */
const atATime = 32

/** Copies its input, says when that ends, and then waits to be ended. */
const child = [
  "perl",
  "-e",
  'while (sysread STDIN, $b, 65536) { syswrite STDOUT, $b } syswrite STDOUT, "<eof>"; sleep 600'
]

type Operation =
  | { readonly _tag: "Write"; readonly text: string }
  | { readonly _tag: "Resize"; readonly rows: number; readonly cols: number }
  | { readonly _tag: "Signal"; readonly signal: string; readonly target: string }
  | { readonly _tag: "CloseStdin" }
  | { readonly _tag: "Terminate"; readonly mode: object | null }

interface Sequence {
  readonly tty: boolean
  readonly operations: ReadonlyArray<Operation>
}

/** mulberry32: the same numbers for the same seed. */
const random = (seed: number) => {
  let state = seed >>> 0
  return (below: number) => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) % below
  }
}

const harmless = ["SIGCONT", "SIGWINCH", "SIGURG"]
const deadly = ["interrupt", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGKILL"]
const isDeadly = (operation: Operation) =>
  operation._tag === "Terminate" || (operation._tag === "Signal" && deadly.includes(operation.signal))

/** At most one request that ends the child: of two, the kernel chooses. */
const generate = (seed: number): Sequence => {
  const below = random(seed)
  const oneOf = <A>(values: ReadonlyArray<A>): A => values[below(values.length)] as A
  const operations: Array<Operation> = []
  const length = 1 + below(8)
  while (operations.length < length) {
    const kind = below(10)
    const mayEnd = !operations.some(isDeadly)
    if (kind < 4) {
      const text = Array.from({ length: below(20) }, () => oneOf(["a", "b", "c", "\n"])).join("")
      operations.push({ _tag: "Write", text })
    } else if (kind < 6) operations.push({ _tag: "Resize", rows: 1 + below(200), cols: 1 + below(300) })
    else if (kind === 6) operations.push({ _tag: "CloseStdin" })
    else if (kind === 7)
      operations.push({ _tag: "Signal", signal: oneOf(harmless), target: oneOf(["group", "leader", "tree"]) })
    else if (kind === 8 && mayEnd) {
      operations.push({ _tag: "Signal", signal: oneOf(deadly), target: oneOf(["group", "leader", "tree"]) })
    } else if (kind === 9 && mayEnd) {
      operations.push({
        _tag: "Terminate",
        mode: oneOf([null, { type: "force" }, { type: "graceful", timeoutMs: 5000 }])
      })
    }
  }
  return { tty: below(2) === 0, operations }
}

const requestOf = (processId: string, operation: Operation): readonly [string, object] => {
  switch (operation._tag) {
    case "Write":
      return ["process/write", { processId, chunk: Buffer.from(operation.text).toString("base64") }]
    case "Resize":
      return ["process/resize", { processId, rows: operation.rows, cols: operation.cols }]
    case "Signal":
      return ["process/signal", { processId, signal: operation.signal, target: operation.target }]
    case "CloseStdin":
      return ["process/closeStdin", { processId }]
    case "Terminate":
      return ["process/terminate", { processId, mode: operation.mode }]
  }
}

const requestsOf = (processId: string, { tty, operations }: Sequence) => [
  ["process/start", startParams(processId, child, tty ? { tty } : { pipeStdin: true })] as const,
  ...operations.map((operation) => requestOf(processId, operation))
]

/** Rows and columns of the terminal that a process has. */
const sizeOf = (pid: number): string => {
  const path = readlinkSync(`/proc/${pid}/fd/0`)
  const terminal = new WriteStream(openSync(path, constants.O_RDWR | constants.O_NOCTTY))
  const size = `${terminal.rows}x${terminal.columns}`
  terminal.destroy()
  return size
}

/** Echo and copy share a terminal in either order: its characters count, not their places. */
const sorted = (output: Buffer) => Array.from(output.toString("latin1")).sort().join("")

/** The state that a sequence ends in. A child that lives on is asked for all it has, and then ended. */
const finalState = (client: TestClient, processId: string, sequence: Sequence, pid: number) =>
  Effect.gen(function* () {
    const { tty, operations } = sequence
    const stream = tty ? "pty" : "stdout"
    if (operations.some(isDeadly)) {
      const { exitCode, signal } = yield* client.closed(processId)
      return { exitCode, signal }
    }
    const isClosed = operations.some(({ _tag }) => _tag === "CloseStdin")
    if (!isClosed) yield* client.ask("process/closeStdin", { processId })
    yield* client.sees(processId, "<eof>", stream)
    const size = tty ? sizeOf(pid) : undefined
    const output = sorted(client.output(processId, stream))
    yield* client.ask("process/terminate", { processId })
    const { exitCode, signal } = yield* client.closed(processId)
    return { exitCode, signal, size, output }
  })

const inABurst = (client: TestClient, processId: string, sequence: Sequence) =>
  Effect.gen(function* () {
    const ids = requestsOf(processId, sequence).map(([method, params]) => client.post(method, params))
    const [start] = yield* Effect.forEach(ids, (id) => client.reply(id))
    return yield* finalState(client, processId, sequence, start.result.pid)
  })

const oneAtATime = (client: TestClient, processId: string, sequence: Sequence) =>
  Effect.gen(function* () {
    const [start] = yield* Effect.forEach(requestsOf(processId, sequence), ([method, params]) =>
      client.call(method, params)
    )
    return yield* finalState(client, processId, sequence, start.result.pid)
  })

describe("requests for one process in one burst", () => {
  it.scoped(
    `${sequences} sequences end as they do one at a time`,
    () =>
      Effect.gen(function* () {
        const { client } = yield* connected({ args: ["--max-processes-per-session", "100000"] })
        const differences = yield* Effect.forEach(
          Array.from({ length: sequences }, (_, seed) => seed),
          (seed) =>
            Effect.gen(function* () {
              const sequence = generate(seed)
              const burst = yield* inABurst(client, `burst-${seed}`, sequence)
              const single = yield* oneAtATime(client, `single-${seed}`, sequence)
              return JSON.stringify(burst) === JSON.stringify(single) ? [] : [{ seed, sequence, burst, single }]
            }),
          { concurrency: atATime }
        )
        assert.deepStrictEqual(differences.flat(), [])
      }),
    180_000
  )

  it.scoped("a size given right after the start is the terminal's", () =>
    Effect.gen(function* () {
      const { client } = yield* connected()
      const start = client.post(
        "process/start",
        startParams("p", ["sh", "-c", "stty size; exec sleep 60"], { tty: true })
      )
      client.post("process/resize", { processId: "p", rows: 50, cols: 132 })
      const { pid } = (yield* client.reply(start)).result
      yield* client.sees("p", "\r\n", "pty")
      assert.strictEqual(sizeOf(pid), "50x132")
    })
  )

  it.scoped("the end of a terminal's input right after the start reaches the program", () =>
    Effect.gen(function* () {
      const { client } = yield* connected()
      client.post("process/start", startParams("p", ["cat"], { tty: true }))
      client.post("process/write", { processId: "p", chunk: Buffer.from("hello").toString("base64") })
      client.post("process/closeStdin", { processId: "p" })
      assert.strictEqual((yield* client.closed("p")).exitCode, 0)
    })
  )
})
