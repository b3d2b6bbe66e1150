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

/** A place in a queue. */
interface Place {
  /** Completes when its turn has come. */
  readonly admitted: Effect.Effect<void>
  /** Gives up the place, before or after its turn. Call it once. */
  readonly leave: () => void
}

/** A queue of operations. It has no limit of its own: callers bound the number of requests in flight. */
export abstract class Queue {
  /** Takes a place. */
  abstract enter(kind: Kind): Place

  /** Runs with other readers, after all earlier writers. An interruption while it waits removes it from the queue. */
  read<A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return Effect.acquireUseRelease(
      Effect.sync(() => this.enter("read")),
      (place) => Effect.zipRight(place.admitted, effect),
      (place) => Effect.sync(place.leave)
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
      const place = this.enter("write")
      return Effect.forkIn(
        // The fork is uninterruptible, so that `ensuring` always releases the place.
        Effect.interruptible(Effect.zipRight(place.admitted, effect)).pipe(Effect.ensuring(Effect.sync(place.leave))),
        scope
      )
    }).pipe(Effect.uninterruptible)
  }
}

interface Ticket {
  readonly kind: Kind
  isAdmitted: boolean
  wake: () => void
}

/** One queue. */
export class AccessQueue extends Queue {
  private waiting: Array<Ticket> = []
  private readers = 0
  private writing = false

  override enter(kind: Kind): Place {
    const ticket: Ticket = { kind, isAdmitted: false, wake: () => {} }
    this.waiting.push(ticket)
    this.advance()
    return { admitted: admitted(ticket), leave: () => this.leave(ticket) }
  }

  private leave(ticket: Ticket): void {
    if (!ticket.isAdmitted) this.waiting = this.waiting.filter((other) => other !== ticket)
    else if (ticket.kind === "read") this.readers--
    else this.writing = false
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
      first.isAdmitted = true
      first.wake()
    }
  }
}

const admitted = (ticket: Ticket): Effect.Effect<void> =>
  Effect.async<void>((resume) => {
    if (ticket.isAdmitted) return resume(Effect.void)
    ticket.wake = () => resume(Effect.void)
  })

/** Queues an operation in two queues at once; it runs when both admit it. */
export class JointQueue extends Queue {
  constructor(
    private readonly one: AccessQueue,
    private readonly other: AccessQueue
  ) {
    super()
  }

  override enter(kind: Kind): Place {
    const [one, other] = [this.one.enter(kind), this.other.enter(kind)]
    return {
      admitted: Effect.zipRight(one.admitted, other.admitted),
      leave: () => {
        one.leave()
        other.leave()
      }
    }
  }
}
