/**
 * The service `process.Process`: commands and terminals.
 *
 * @since 0.1.0
 */
import type { IncomingMessage } from "node:http"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { Bytes, Cells, Count, Empty, Flag, optional, Text } from "../protocol/Schemas.js"
import { type Answers, message } from "./Connect.js"
import { fail, ofClient } from "./Failure.js"
import { sustain } from "./KeepAlive.js"
import { answering, type Methods, taking, unary } from "./Methods.js"
import * as Place from "./Place.js"
import type { Processes, Running } from "./Processes.js"

const Selector = Schema.Struct({ pid: optional(Count), tag: optional(Text) })

const Pty = Schema.Struct({ size: Schema.Struct({ cols: Cells, rows: Cells }) })

const Texts = Schema.Record({ key: Schema.String, value: Text })

const StartRequest = Schema.Struct({
  process: Schema.Struct({
    cmd: Text,
    args: Schema.optionalWith(Schema.Array(Text), { default: () => [] }),
    envs: Schema.optionalWith(Texts, { default: () => ({}) }),
    cwd: optional(Text)
  }),
  pty: optional(Pty),
  tag: optional(Text),
  stdin: optional(Flag)
})

const Input = Schema.Struct({ stdin: optional(Bytes), pty: optional(Bytes) })

const OnProcess = Schema.Struct({ process: Selector })

const StreamInputRequest = Schema.Struct({
  start: optional(OnProcess),
  data: optional(Schema.Struct({ input: Input })),
  keepalive: optional(Empty)
})

/** The signals that can be sent, by name and number. */
const signals = new Map<string | number, "SIGTERM" | "SIGKILL">([
  ["SIGNAL_SIGTERM", "SIGTERM"],
  [15, "SIGTERM"],
  ["SIGNAL_SIGKILL", "SIGKILL"],
  [9, "SIGKILL"]
])

const keepAlive = message({ event: { keepalive: {} } })

/** Sends what a process prints until it has ended, or the client is gone. */
const watch = (one: Running, answers: Answers, request: IncomingMessage, timeoutMs: number | undefined) =>
  Effect.ensuring(
    sustain(answers, request, timeoutMs, keepAlive),
    Effect.sync(() => one.listeners.delete(answers))
  )

const write = (one: Running, { stdin, pty }: typeof Input.Type) => {
  const bytes = one.hasTerminal ? pty : stdin
  if (bytes === undefined) {
    const other = one.hasTerminal ? "a terminal: send pty" : "no terminal: send stdin"
    return fail("invalid_argument", `process ${one.pid} has ${other}`)
  }
  if (!one.hasTerminal && !one.hasStdin) {
    return fail("failed_precondition", `stdin of process ${one.pid} is not enabled: start it with stdin`)
  }
  return Effect.mapError(one.process.write(bytes), (error) => ofClient(`error writing to process ${one.pid}`, error))
}

const infoOf = ({ pid, tag, config }: Running): object => ({
  pid,
  config,
  ...(tag === undefined ? {} : { tag })
})

const act = <A extends { readonly process: typeof Selector.Type }, I>(
  schema: Schema.Schema<A, I>,
  use: (one: Running, given: A) => Effect.Effect<unknown, ReturnType<typeof fail>>
) =>
  unary(schema, (given, { sandbox }) =>
    Effect.as(
      Effect.flatMap(sandbox.processes.find(given.process), (one) => use(one, given)),
      {}
    )
  )

/** Writes the messages of a stream to the process that the first of them names. */
const streamInput = (
  messages: Stream.Stream<typeof StreamInputRequest.Type, ReturnType<typeof fail>>,
  processes: Processes
) => {
  let target: Running | undefined
  return Effect.as(
    Stream.runForEach(messages, ({ start, data }) => {
      if (start !== undefined) {
        return Effect.map(processes.find(start.process), (one) => {
          target = one
        })
      }
      if (data === undefined) return Effect.void
      return target === undefined
        ? fail("invalid_argument", "the first message of a stream of input must be start")
        : write(target, data.input)
    }),
    {}
  )
}

/** The methods of `process.Process`. */
export const methods: Methods = {
  "/process.Process/List": unary(Empty, (_, { sandbox }) =>
    Effect.sync(() => ({ processes: sandbox.processes.list().map(infoOf) }))
  ),
  "/process.Process/Start": answering(StartRequest, ({ process, pty, tag, stdin }, call, answers) =>
    Effect.gen(function* () {
      const { sandbox, request, timeoutMs } = call
      const { processes, place } = sandbox
      yield* Place.checkUser(place, Place.userIn(request.headers.authorization))
      const cwd = yield* Place.resolve(place, process.cwd ?? "")
      const start = { config: process, tag, cwd, size: pty?.size, hasStdin: stdin ?? true, timeoutMs }
      const one = yield* processes.start(start, answers)
      yield* watch(one, answers, request, undefined)
    })
  ),
  "/process.Process/Connect": answering(OnProcess, ({ process }, { sandbox, request, timeoutMs }, answers) =>
    Effect.flatMap(sandbox.processes.findEnded(process), (one) => {
      sandbox.processes.listen(one, answers)
      return watch(one, answers, request, timeoutMs)
    })
  ),
  "/process.Process/Update": act(Schema.Struct({ process: Selector, pty: optional(Pty) }), (one, { pty }) => {
    if (pty === undefined) return Effect.void
    const { rows, cols } = pty.size
    return one.hasTerminal
      ? Effect.mapError(one.process.resize(rows, cols), (error) => ofClient(`error resizing process ${one.pid}`, error))
      : fail("failed_precondition", `process ${one.pid} has no terminal`)
  }),
  "/process.Process/SendInput": act(Schema.Struct({ process: Selector, input: Input }), (one, { input }) =>
    write(one, input)
  ),
  "/process.Process/StreamInput": taking(StreamInputRequest, (messages, { sandbox }) =>
    streamInput(messages, sandbox.processes)
  ),
  "/process.Process/SendSignal": act(
    Schema.Struct({ process: Selector, signal: Schema.Union(Text, Count) }),
    (one, { signal }) => {
      const known = signals.get(signal)
      if (known === undefined) return fail("invalid_argument", `the signal ${signal} is not SIGNAL_SIGTERM or _SIGKILL`)
      const { process, pid } = one
      return Effect.mapError(known === "SIGKILL" ? process.terminate() : process.signal(known), (error) =>
        ofClient(`error sending ${known} to process ${pid}`, error)
      )
    }
  ),
  "/process.Process/CloseStdin": act(OnProcess, (one) =>
    one.hasTerminal
      ? fail("failed_precondition", `process ${one.pid} has a terminal: send Ctrl+D (0x04) instead`)
      : Effect.mapError(one.process.closeStdin, (error) => ofClient(`error closing stdin of process ${one.pid}`, error))
  )
}
