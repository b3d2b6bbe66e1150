/**
 * A fair readers-writer lock for file operations: writers run alone, readers together, in arrival order.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"

/** The most concurrent readers: enough to keep a disk busy, few enough to bound the open files. */
export const maxReaders = 16

type Kind = "read" | "write"

interface Ticket {
  readonly kind: Kind
  state: "waiting" | "admitted" | "left"
  wake: () => void
}

/** The queue of operations. It has no limit of its own: callers bound the number of requests in flight. */
export class AccessQueue {
  private waiting: Array<Ticket> = []
  private readers = 0
  private writing = false

  /** Runs with other readers, after all earlier writers. An interruption while it waits removes it from the queue. */
  read<A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return Effect.acquireUseRelease(
      Effect.sync(() => this.enter("read")),
      (ticket) => Effect.zipRight(admitted(ticket), effect),
      (ticket) => Effect.sync(() => this.leave(ticket))
    )
  }

  /**
   * Runs alone, after all earlier operations. It is forked in `scope`, so it runs even if its caller is interrupted.
   */
  write<A, E>(effect: Effect.Effect<A, E>, scope: Scope.Scope): Effect.Effect<A, E> {
    return Effect.flatMap(this.enqueue(effect, scope), Fiber.join)
  }

  /** Like `write`, but returns the fiber without waiting. The place in the queue is taken when this effect runs. */
  enqueue<A, E>(effect: Effect.Effect<A, E>, scope: Scope.Scope): Effect.Effect<Fiber.RuntimeFiber<A, E>> {
    return Effect.suspend(() => {
      const ticket = this.enter("write")
      return Effect.forkIn(
        // The fork is uninterruptible, so that `ensuring` always releases the place.
        Effect.interruptible(Effect.zipRight(admitted(ticket), effect)).pipe(
          Effect.ensuring(Effect.sync(() => this.leave(ticket)))
        ),
        scope
      )
    }).pipe(Effect.uninterruptible)
  }

  private enter(kind: Kind): Ticket {
    const ticket: Ticket = { kind, state: "waiting", wake: () => {} }
    this.waiting.push(ticket)
    this.advance()
    return ticket
  }

  private leave(ticket: Ticket): void {
    if (ticket.state === "waiting") this.waiting = this.waiting.filter((other) => other !== ticket)
    else if (ticket.state === "admitted") {
      if (ticket.kind === "read") this.readers--
      else this.writing = false
    }
    ticket.state = "left"
    this.advance()
  }

  private advance(): void {
    while (true) {
      const [first] = this.waiting
      if (first === undefined || this.writing) return
      if (first.kind === "read" ? this.readers >= maxReaders : this.readers > 0) return
      this.waiting.shift()
      if (first.kind === "read") this.readers++
      else this.writing = true
      first.state = "admitted"
      first.wake()
    }
  }
}

const admitted = (ticket: Ticket): Effect.Effect<void> =>
  Effect.async<void>((resume) => {
    if (ticket.state === "admitted") return resume(Effect.void)
    ticket.wake = () => resume(Effect.void)
  })
