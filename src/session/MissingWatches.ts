/**
 * The watch of one connection on missing paths. There is one at a time, and it notifies once.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import type { Files } from "../filesystem/FileSystem.js"
import type { Watched } from "../filesystem/MissingWatch.js"
import type { Notify } from "./CurrentConnection.js"

/** A watch that may not have notified yet. */
interface Watch {
  readonly watchId: number
  readonly scope: Scope.CloseableScope
  isAnswered: boolean
  hasChanged: boolean
}

/** The watch of one connection. */
export class MissingWatches {
  private current: Watch | undefined
  private lastId = 0

  constructor(
    private readonly watchMissing: Files["watchMissing"],
    private readonly notify: Notify
  ) {}

  /**
   * Replaces the previous watch. Ids must grow: a lower or equal one is refused and leaves the current watch. The
   * notification follows the answer: it is sent after the current fiber has ended, whose request is answered in the
   * same turn.
   */
  watch(watchId: number, watched: Watched): Effect.Effect<{ readonly watching: boolean }> {
    return Effect.gen(this, function* () {
      const { watchMissing } = this
      if (watchMissing === undefined || watchId <= this.lastId) return { watching: false }
      this.lastId = watchId
      yield* this.end
      // An interruption means that the connection has ended, which ends the watch too.
      const watch: Watch = { watchId, scope: yield* Scope.make(), isAnswered: false, hasChanged: false }
      this.current = watch
      const watching = yield* Scope.extend(
        watchMissing(watched, () => this.onChange(watch)),
        watch.scope
      )
      // Changes before this point are visible to the client when it looks.
      if (!watching || watch.hasChanged || this.current !== watch) {
        yield* this.close(watch)
        return { watching: false }
      }
      yield* Effect.withFiberRuntime<void>((fiber) => {
        fiber.addObserver(() =>
          queueMicrotask(() => {
            watch.isAnswered = true
            if (watch.hasChanged) this.tell(watch)
          })
        )
        return Effect.void
      })
      return { watching: true }
    })
  }

  /** The number of watches: none or one. */
  get size(): number {
    return this.current === undefined ? 0 : 1
  }

  /** Ends the watch, if there is one, without a notification. */
  get end(): Effect.Effect<void> {
    return Effect.suspend(() => (this.current === undefined ? Effect.void : this.close(this.current)))
  }

  private onChange(watch: Watch): void {
    watch.hasChanged = true
    if (watch.isAnswered) this.tell(watch)
  }

  private tell(watch: Watch): void {
    if (this.current !== watch) return
    Effect.runSync(this.close(watch))
    this.notify("fs/missingChanged", { watchId: watch.watchId })
  }

  private close(watch: Watch): Effect.Effect<void> {
    if (this.current === watch) this.current = undefined
    return Scope.close(watch.scope, Exit.void)
  }
}
