/**
 * `logs`: prints the retained output of a process.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as PlainText from "../internal/PlainText.js"
import type { OutputChunk } from "../protocol/ExecApi.js"
import { ProcessId } from "../protocol/Ids.js"
import * as Target from "./Target.js"
import * as Terminal from "./Terminal.js"

/** The arguments of `logs`. */
export interface Options {
  readonly target: Target.Target
  readonly id: string
  /** Continue until the process ends. */
  readonly follow: boolean
  readonly json: boolean
}

const print = ({ seq, stream, chunk }: OutputChunk, json: boolean) =>
  json
    ? Terminal.write("stdout", `${PlainText.json({ seq, stream, chunk: chunk.toString("base64") })}\n`)
    : Terminal.write(stream === "stderr" ? "stderr" : "stdout", chunk)

const missed = (bytes: number) =>
  bytes > 0 ? Terminal.say(`${bytes} bytes of earlier output are no longer retained`) : Effect.void

/** Prints the output unchanged, or with `json` one object per chunk, with its bytes in base64. */
export const logs = ({ target, id, follow, json }: Options) =>
  Effect.scoped(
    Effect.gen(function* () {
      const { client } = yield* Target.resume(target)
      if (!follow) {
        const { chunks, droppedBytes } = yield* client.call("process/read", { processId: ProcessId.make(id) })
        yield* missed(droppedBytes)
        return yield* Effect.forEach(chunks, (chunk) => print(chunk, json), { discard: true })
      }
      const process = yield* client.attach(id)
      yield* Stream.runForEach(process.events, (event) => {
        if (event._tag === "Missed") return missed(event.bytes)
        return event._tag === "Output" ? print(event, json) : Effect.void
      })
    })
  )
