/**
 * Base64 of large values, in slices: the event loop serves other work after each slice.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import * as Effect from "effect/Effect"
import { base64Fault } from "../protocol/Schemas.js"

/** The bytes of one slice: about a millisecond's work. A multiple of 3, so that encoded slices can be joined. */
export const sliceBytes = 393216

const sliceLength = (sliceBytes / 3) * 4

/** Yields to the event loop. */
const turn: Effect.Effect<void> = Effect.async((resume) => {
  const immediate = setImmediate(() => resume(Effect.void))
  return Effect.sync(() => clearImmediate(immediate))
})

/** Decodes strict base64. A failure gives the position and the reason. */
export const decode = (text: string): Effect.Effect<Buffer, string> =>
  Effect.gen(function* () {
    const target = Buffer.allocUnsafe(Buffer.byteLength(text, "base64"))
    let length = 0
    for (let at = 0; at < text.length; at += sliceLength) {
      if (at > 0) yield* turn
      const slice = text.slice(at, at + sliceLength)
      const written = target.write(slice, length, "base64")
      const isLast = at + sliceLength >= text.length
      if (target.toString("base64", length, length + written) !== slice || (!isLast && slice.endsWith("="))) {
        return yield* Effect.fail(base64Fault(text))
      }
      length += written
    }
    return target.subarray(0, length)
  })
