/**
 * Waits for conditions. They are checked whenever `wake` is called, without polling.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Immediate from "../internal/Immediate.js"

/** A set of waits. */
export class Waiters {
  private readonly waiting = new Set<() => void>()

  /** Checks all conditions, after a change. */
  wake(): void {
    if (this.waiting.size > 0) for (const look of this.waiting) look()
  }

  /**
   * Completes when `ready` returns true, or after `waitMs`. If it is ready already, completes at once and without a
   * fiber.
   */
  until(ready: () => boolean, waitMs: number): Effect.Effect<void> {
    return Immediate.make(() => {
      if (ready() || waitMs === 0) return Exit.void
      const woken = Effect.async<void>((resume) => {
        // The race starts this later, in another fiber: check again.
        if (ready()) return resume(Effect.void)
        const look = () => {
          if (ready() && this.waiting.delete(look)) resume(Effect.void)
        }
        this.waiting.add(look)
        return Effect.sync(() => this.waiting.delete(look))
      })
      if (waitMs === Number.POSITIVE_INFINITY) return woken
      // Interruptible: in a finalizer the timeout would otherwise have no effect.
      return Effect.asVoid(Effect.timeoutOption(Effect.interruptible(woken), Duration.millis(waitMs)))
    })
  }
}
