/**
 * Who may use the files now: those that write one at a time, those that read together, all in the order they came.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"

/** How many read at a time: more than keep the disk busy, and few enough to bound the files that are open. */
export const maxReaders = 16

type Kind = "read" | "write"

interface Ticket {
  readonly kind: Kind
  state: "waiting" | "admitted" | "left"
  wake: () => void
}

/** A place where everybody gets their turn. What waits is bounded by whoever lets requests in. */
export class AccessQueue {
  private waiting: Array<Ticket> = []
  private readers = 0
  private writing = false

  /** Runs among other readers, after every writer that came before. Interrupted while it waits, it leaves the queue. */
  read<A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return Effect.acquireUseRelease(
      Effect.sync(() => this.enter("read")),
      (ticket) => Effect.zipRight(admitted(ticket), effect),
      (ticket) => Effect.sync(() => this.leave(ticket))
    )
  }

  /** Runs alone, after everybody that came before, whether or not the caller still waits for it: it belongs to `scope`. */
  write<A, E>(effect: Effect.Effect<A, E>, scope: Scope.Scope): Effect.Effect<A, E> {
    return Effect.flatMap(this.enqueue(effect, scope), Fiber.join)
  }

  /** The same, without waiting. Its place is the one it has when this is run. */
  enqueue<A, E>(effect: Effect.Effect<A, E>, scope: Scope.Scope): Effect.Effect<Fiber.RuntimeFiber<A, E>> {
    return Effect.suspend(() => {
      const ticket = this.enter("write")
      return Effect.forkIn(
        // Forked past interruption, so that the place is given up whatever happens.
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
