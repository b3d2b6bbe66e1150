/**
 * Those who wait for something to become true. It is looked at whenever `wake` is called: nobody polls.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Immediate from "../internal/Immediate.js"

/** Those who wait. */
export class Waiters {
  private readonly waiting = new Set<() => void>()

  /** Something has changed. */
  wake(): void {
    if (this.waiting.size > 0) for (const look of this.waiting) look()
  }

  /** Completes when it is `ready`, or after `waitMs`; at once, and without a fiber, if it is. */
  until(ready: () => boolean, waitMs: number): Effect.Effect<void> {
    return Immediate.make(() => {
      if (ready() || waitMs === 0) return Exit.void
      const woken = Effect.async<void>((resume) => {
        // The race against the clock begins this in a fiber of its own, later.
        if (ready()) return resume(Effect.void)
        const look = () => {
          if (ready() && this.waiting.delete(look)) resume(Effect.void)
        }
        this.waiting.add(look)
        return Effect.sync(() => this.waiting.delete(look))
      })
      if (waitMs === Number.POSITIVE_INFINITY) return woken
      // Interruptible, or in a finalizer the clock could not win.
      return Effect.asVoid(Effect.timeoutOption(Effect.interruptible(woken), Duration.millis(waitMs)))
    })
  }
}
