/**
 * Records the reports of a real child and replays them with a fake one, at the same times.
 *
 * A recording is plain JSON, to be kept beside the tests that replay it.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type { Child, ChildEvents } from "../spawn/Child.js"
import { ExitStatus } from "../spawn/Child.js"
import { Spawner } from "../spawn/Spawner.js"
import type { Plan } from "./FakeSpawner.js"
import * as Script from "./Script.js"

const atMs = Schema.NonNegative

/**
 * One report of a child. `atMs` counts from its start.
 *
 * @category schemas
 */
export const Report = Schema.Union(
  Schema.Struct({
    kind: Schema.Literal("output"),
    atMs,
    stream: Schema.Literal("stdout", "stderr", "pty"),
    /** In base64. */
    bytes: Schema.String
  }),
  Schema.Struct({ kind: Schema.Literal("exited"), atMs, code: Schema.Int }),
  Schema.Struct({ kind: Schema.Literal("signaled"), atMs, number: Schema.Int, signal: Schema.String }),
  Schema.Struct({ kind: Schema.Literal("lost"), atMs, reason: Schema.String }),
  Schema.Struct({ kind: Schema.Literal("outputEnd"), atMs }),
  Schema.Struct({ kind: Schema.Literal("stdinClosed"), atMs })
)
export type Report = typeof Report.Type

/**
 * All reports of a child, in order.
 *
 * @category schemas
 */
export const Recording = Schema.Struct({ argv: Schema.Array(Schema.String), reports: Schema.Array(Report) })
export type Recording = typeof Recording.Type

/**
 * A recording as the JSON text of a file.
 *
 * @category schemas
 */
export const Json = Schema.parseJson(Recording, { space: 2 })

const exitReport = (status: ExitStatus, atMs: number): Report =>
  ExitStatus.$match(status, {
    Exited: ({ code }): Report => ({ kind: "exited", atMs, code }),
    Signaled: ({ number, signal }): Report => ({ kind: "signaled", atMs, number, signal }),
    Lost: ({ reason }): Report => ({ kind: "lost", atMs, reason })
  })

/** The child, with its reports recorded. */
const listening = (child: Child, now: () => number, add: (report: Report) => void): Child => ({
  ...child,
  listen: (events: ChildEvents) =>
    child.listen({
      onOutput: (stream, bytes) => {
        add({ kind: "output", atMs: now(), stream, bytes: bytes.toString("base64") })
        events.onOutput(stream, bytes)
      },
      onExit: (status, usage) => {
        add(exitReport(status, now()))
        events.onExit(status, usage)
      },
      onOutputEnd: () => {
        add({ kind: "outputEnd", atMs: now() })
        events.onOutputEnd()
      },
      onStdinClosed: () => {
        add({ kind: "stdinClosed", atMs: now() })
        events.onStdinClosed()
      }
    })
})

/**
 * Records what children report.
 *
 * @category tags
 */
export class Recorder extends Context.Tag("exec-server/testing/Recorder")<
  Recorder,
  {
    /** The recordings of all children so far, in the order of their starts. Those of running children are partial. */
    readonly recordings: Effect.Effect<ReadonlyArray<Recording>>
  }
>() {
  /** Records the children of another spawner, and leaves them otherwise unchanged. */
  static readonly layer: Layer.Layer<Recorder | Spawner, never, Spawner> = Layer.effectContext(
    Effect.gen(function* () {
      const { confines, spawn } = yield* Spawner
      const clock = yield* Clock.clockWith(Effect.succeed)
      const recordings: Array<{ readonly argv: ReadonlyArray<string>; readonly reports: Array<Report> }> = []
      return Context.make(Recorder, {
        recordings: Effect.sync(() => recordings.map(({ argv, reports }) => ({ argv, reports: [...reports] })))
      }).pipe(
        Context.add(Spawner, {
          confines,
          spawn: (spec) =>
            Effect.map(spawn(spec), (child) => {
              const reports: Array<Report> = []
              recordings.push({ argv: spec.argv, reports })
              const start = clock.unsafeCurrentTimeMillis()
              const now = () => Math.max(0, clock.unsafeCurrentTimeMillis() - start)
              return listening(child, now, (report) => reports.push(report))
            })
        })
      )
    })
  )
}

const stepOf = (report: Report, outputFollows: boolean): Script.Step => {
  switch (report.kind) {
    case "output":
      return Script.output(report.atMs, Buffer.from(report.bytes, "base64"), report.stream)
    case "exited":
      return exitStep(report.atMs, ExitStatus.Exited(report), outputFollows)
    case "signaled":
      return exitStep(report.atMs, ExitStatus.Signaled(report), outputFollows)
    case "lost":
      return exitStep(report.atMs, ExitStatus.Lost(report), outputFollows)
    case "outputEnd":
      return Script.outputEnd(report.atMs)
    case "stdinClosed":
      return Script.closeStdin(report.atMs)
  }
}

/** Until the recorded end of the output, a descendant holds the output open. */
const exitStep = (atMs: number, status: ExitStatus, outputFollows: boolean): Script.Step => ({
  atMs,
  run: (child) => {
    child.remains = outputFollows
    child.exit(status)
  }
})

/**
 * Records the children of another spawner, and leaves them otherwise unchanged.
 *
 * @category layers
 * @example
 * const recorded = ExecServer.layerSessions.pipe(
 *   Layer.provideMerge(Recording.layer),
 *   Layer.provide(NodeServices.layer)
 * )
 */
export const layer: Layer.Layer<Recorder | Spawner, never, Spawner> = Recorder.layer

/**
 * A fake child that replays a recording, at the same times after its start. It reacts to signals as most programs do.
 *
 * @category constructors
 */
export const plan = ({ reports }: Recording, more: Omit<Plan, "script"> = {}): Plan =>
  Script.plan(
    reports.map((report, index) =>
      stepOf(
        report,
        reports.slice(index).some(({ kind }) => kind === "outputEnd")
      )
    ),
    more
  )
