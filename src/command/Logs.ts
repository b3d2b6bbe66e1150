/**
 * `logs`: prints the retained output of a process.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { WatchEvent } from "../client/WatchEvent.js"
import * as PlainText from "../internal/PlainText.js"
import type { OutputChunk } from "../protocol/ExecApi.js"
import { ProcessId } from "../protocol/Ids.js"
import { CommandFailed } from "./CommandExit.js"
import * as Reference from "./Reference.js"
import type * as Target from "./Target.js"
import * as Terminal from "./Terminal.js"

/** The arguments of `logs`. */
export interface Options {
  readonly target: Target.Target
  /** SESSION[/PROCESS]; with `--session`, a process of it. */
  readonly reference: string
  /** Continue until the process ends. */
  readonly follow: boolean
  readonly json: boolean
}

const print = ({ seq, stream, chunk }: OutputChunk, json: boolean) =>
  json
    ? Terminal.write("stdout", `${PlainText.json({ seq, stream, chunk: chunk.toString("base64") })}\n`)
    : Terminal.write(stream === "stderr" ? "stderr" : "stdout", chunk)

/** The largest window: a log should skip as little as possible. */
const window = 4194304

const missed = (bytes: number) =>
  bytes > 0 ? Terminal.say(`${bytes} bytes of earlier output are no longer retained`) : Effect.void

/** Prints the output of a process of another session until its end, or that of the attachment. */
const watch = <E>(events: Stream.Stream<WatchEvent, E>, json: boolean) =>
  Stream.runForEach(
    Stream.takeUntil(events, ({ _tag }) => _tag === "Closed"),
    (event) => {
      switch (event._tag) {
        case "Output":
          return print(event, json)
        case "Gap":
          return missed(event.bytes)
        case "Screen":
          return missed(event.skippedBytes)
        case "Ended":
          return new CommandFailed({ message: `the attachment has ended: ${event.reason}` })
        default:
          return Effect.void
      }
    }
  )

/** Prints the output unchanged, or with `json` one object per chunk, with its bytes in base64. */
export const logs = ({ target, reference, follow, json }: Options) =>
  Effect.scoped(
    Effect.gen(function* () {
      const found = yield* Reference.resolve(target, reference)
      const { session } = found
      const { client } = found.environment
      const id = yield* Reference.processOf(found)
      if (!follow) {
        const { chunks, droppedBytes } = yield* client.call("process/read", { session, processId: ProcessId.make(id) })
        yield* missed(droppedBytes)
        return yield* Effect.forEach(chunks, (chunk) => print(chunk, json), { discard: true })
      }
      if (session !== undefined) return yield* watch(client.sessions.watch({ session, processId: id, window }), json)
      const process = yield* client.attach(id)
      yield* Stream.runForEach(process.events, (event) => {
        if (event._tag === "Missed") return missed(event.bytes)
        return event._tag === "Output" ? print(event, json) : Effect.void
      })
    })
  )
