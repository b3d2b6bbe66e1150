/**
 * The events of all sessions, for those who watch them. Without watchers nothing is made.
 *
 * @since 0.1.0
 */
import type { ConsoleEvent } from "../protocol/WatchNotifications.js"
import type { Sink } from "./Sink.js"

/** The event of one session, by its handle. */
export type SessionEvent = Exclude<ConsoleEvent, { readonly type: "missed" }>

/** One connection that watches. While its peer is congested, events are counted instead of sent. */
class Watcher {
  private missed = 0

  constructor(
    private readonly sink: Sink,
    private readonly sees: (session: string) => boolean
  ) {}

  onEvent(event: SessionEvent): void {
    if (!this.sees(event.session)) return
    if (this.missed > 0 || this.sink.isCongested()) this.missed++
    else this.sink.notify("console/event", event)
  }

  /** The peer accepts data again. */
  onDrain(): void {
    if (this.missed === 0 || this.sink.isCongested()) return
    this.sink.notify("console/event", { type: "missed", events: this.missed })
    this.missed = 0
  }
}

/** The events of one server's sessions. */
export class ConsoleEvents {
  private readonly watchers = new Set<Watcher>()

  /** Tells the watchers. The event is made only if there are some. */
  tell(event: () => SessionEvent): void {
    if (this.watchers.size === 0) return
    const told = event()
    for (const watcher of this.watchers) watcher.onEvent(told)
  }

  /** Adds a watcher of the sessions that it sees; `onDrain` and `stop` are for its connection to call. */
  watch(sink: Sink, sees: (session: string) => boolean): { readonly onDrain: () => void; readonly stop: () => void } {
    const watcher = new Watcher(sink, sees)
    this.watchers.add(watcher)
    return { onDrain: () => watcher.onDrain(), stop: () => void this.watchers.delete(watcher) }
  }
}
