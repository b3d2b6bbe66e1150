/**
 * The end of stdin, for programs that end with whoever started them.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"

/** Waits for the end of stdin; discards its content. */
export const stdinClosed = Effect.async<void>((resume) => {
  const { stdin } = process
  const onEnd = () => resume(Effect.void)
  for (const event of ["end", "close", "error"]) stdin.once(event, onEnd)
  stdin.resume()
  return Effect.sync(() => {
    for (const event of ["end", "close", "error"]) stdin.off(event, onEnd)
    stdin.pause()
  })
})
