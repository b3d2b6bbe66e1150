/**
 * Times that are the same for all, and that few exceed: one fiber for all of them sleeps until the earliest. A fiber for
 * each would be made only to be interrupted.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Monotonic from "./Monotonic.js"
import { timerMs } from "./Timer.js"

/** What happens if a time is exceeded. */
interface Deadline {
  readonly atMs: number
  readonly onLate: () => void
}

/** Deadlines of one duration. */
export class Deadlines {
  /** Deadlines so many milliseconds after they are set. None is reached once the scope has closed. */
  static readonly make = (ms: number, scope: Scope.Scope): Effect.Effect<Deadlines> =>
    Effect.map(Effect.clock, (clock) => new Deadlines(ms, clock, scope))

  /** In the order in which they were set, and so that of their times. */
  private readonly waiting = new Set<Deadline>()
  private isWatched = false

  private constructor(
    private readonly ms: number,
    private readonly clock: Clock.Clock,
    private readonly scope: Scope.Scope
  ) {}

  /** Sets a deadline. Returns a function that takes it back. */
  readonly set = (onLate: () => void): Effect.Effect<() => void> =>
    Effect.suspend(() => {
      const deadline = { atMs: Monotonic.of(this.clock) + this.ms, onLate }
      this.waiting.add(deadline)
      const takeBack = () => {
        this.waiting.delete(deadline)
      }
      if (this.isWatched) return Effect.succeed(takeBack)
      this.isWatched = true
      return Effect.as(Effect.forkIn(Effect.interruptible(this.watch), this.scope), takeBack)
    })

  /** Goes on as long as there are deadlines: those that are taken back wake nobody. */
  private readonly watch: Effect.Effect<void> = Effect.suspend(() => {
    const now = Monotonic.of(this.clock)
    for (const deadline of this.waiting) {
      if (deadline.atMs > now) {
        return Effect.zipRight(Clock.sleep(timerMs(deadline.atMs - now)), this.watch)
      }
      this.waiting.delete(deadline)
      deadline.onLate()
    }
    this.isWatched = false
    return Effect.void
  })
}
