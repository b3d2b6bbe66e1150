/**
 * `top`: what the processes of a server use, as a table that is drawn again and again.
 *
 * @since 0.1.0
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { need } from "../client/ServerFeatures.js"
import * as PlainText from "../internal/PlainText.js"
import type { ProcessInfo } from "../protocol/ExecApi.js"
import type { UsageSample } from "../protocol/UsageApi.js"
import * as Table from "./Table.js"
import * as Target from "./Target.js"
import * as Terminal from "./Terminal.js"

/** The arguments of `top`. */
export interface Options {
  readonly target: Target.Target
  /** The time between samples, in milliseconds. */
  readonly intervalMs: number | undefined
  readonly json: boolean
}

const defaultIntervalMs = 2000

const header = ["SESSION", "ID", "CPU%", "CPU", "RSS", "PROCESSES", "COMMAND"]

/** The CPU time between two samples, in percent of one core; undefined without an earlier sample. */
const percentOf = (cpuMs: number, earlierMs: number | undefined, elapsedMs: number): number | undefined =>
  earlierMs === undefined || elapsedMs <= 0 ? undefined : (Math.max(0, cpuMs - earlierMs) / elapsedMs) * 100

const shownPercent = (percent: number | undefined) => (percent === undefined ? "-" : percent.toFixed(1))

const keyOf = ({ session, processId }: { readonly session?: string | undefined; readonly processId: string }) =>
  `${session} ${processId}`

/** A line about the server, and a row for each process, the busiest first. */
const format = (
  sample: UsageSample,
  earlier: UsageSample | undefined,
  infos: ReadonlyMap<string, ProcessInfo>
): string => {
  const elapsedMs = sample.atMs - (earlier?.atMs ?? 0)
  const before = new Map(earlier?.processes.map((process) => [keyOf(process), process.cpuMs]))
  const rows = sample.processes
    .map((process) => ({ ...process, percent: percentOf(process.cpuMs, before.get(keyOf(process)), elapsedMs) }))
    .sort((a, b) => (b.percent ?? 0) - (a.percent ?? 0) || b.cpuMs - a.cpuMs)
    .map((process) => [
      process.session,
      PlainText.quote(process.processId),
      shownPercent(process.percent),
      Table.duration(process.cpuMs),
      Table.bytes(process.rssBytes),
      String(process.processes),
      infos.get(keyOf(process))?.argv.map(PlainText.quote).join(" ") ?? "-"
    ])
  const { server, omitted = 0 } = sample
  const percent = percentOf(server.cpuMs, earlier?.server.cpuMs, elapsedMs)
  const more = omitted > 0 ? `; ${omitted} more processes are not listed` : ""
  return (
    `server: CPU ${shownPercent(percent)} %, memory ${Table.bytes(server.rssBytes)}, ` +
    `event loop ${server.eventLoopDelayMs} ms late${more}\n\n${Table.format(header, rows)}`
  )
}

/** The lines that fit on the screen, over the previous ones: clearing it first would flicker. */
const redrawn = (text: string) => {
  const lines = text.trimEnd().split("\n")
  return `\u001b[H${lines.slice(0, Terminal.size()?.rows).join("\u001b[K\r\n")}\u001b[J`
}

/** Opens the alternate screen, without a cursor and without wrapped lines, while the scope is open. */
const screen = Effect.acquireRelease(Terminal.write("stdout", "\u001b[?1049h\u001b[?25l\u001b[?7l"), () =>
  Effect.ignore(Terminal.write("stdout", "\u001b[?7h\u001b[?25h\u001b[?1049l"))
)

/**
 * Shows samples until q is pressed; if stdout is not a terminal, prints the first one that has percentages. With `json`,
 * prints each sample as one object.
 */
export const top = ({ target, intervalMs = defaultIntervalMs, json }: Options) =>
  Effect.scoped(
    Effect.gen(function* () {
      const { client, isAll } = yield* Target.connectToProcesses(target)
      yield* need(client.features, client.features.extensions, "tell what its processes use")
      if (isAll) yield* Target.tellIfOnlyOwn(client)
      const samples = client.usage.samples(intervalMs)
      if (json) {
        return yield* Stream.runForEach(samples, (sample) => Terminal.write("stdout", `${PlainText.json(sample)}\n`))
      }
      const texts = samples.pipe(
        Stream.mapEffect((sample) => Effect.map(client.sessions.processes(), (infos) => ({ sample, infos }))),
        Stream.mapAccum(undefined as UsageSample | undefined, (earlier, { sample, infos }) => {
          const byKey = new Map(infos.map((info) => [keyOf(info), info]))
          return [sample, { text: format(sample, earlier, byKey), isComplete: earlier !== undefined }]
        })
      )
      if (Terminal.size() === undefined) {
        const first = yield* Stream.runHead(Stream.filter(texts, ({ isComplete }) => isComplete))
        return yield* Option.isSome(first) ? Terminal.write("stdout", first.value.text) : Effect.void
      }
      yield* Terminal.raw
      yield* screen
      const left = yield* Deferred.make<void>()
      const leave = Deferred.unsafeDone
      yield* Terminal.forEachInput((keys) =>
        Effect.sync(() => (Terminal.quits(keys) ? leave(left, Exit.void) : undefined))
      ).pipe(Effect.ignore, Effect.interruptible, Effect.forkScoped)
      const drawn = Stream.runForEach(texts, ({ text }) => Terminal.write("stdout", redrawn(text)))
      yield* Effect.raceFirst(drawn, Deferred.await(left))
    })
  )
