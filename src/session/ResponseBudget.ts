/**
 * Bounds the memory that the large responses of one connection take before its peer has read them: a request reserves
 * bytes before it reads what it answers with, and waits while there are none.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/** Bytes reserved at a time, for responses that are not on their way yet; a larger response is made alone. */
const maxReservedBytes = 8_388_608

interface Reservation {
  readonly bytes: number
  state: "waiting" | "granted" | "released"
  wake: () => void
}

/** The budget of one connection. */
export class ResponseBudget {
  private waiting: Array<Reservation> = []
  private reserved = 0

  /** `isFull` says whether earlier responses are still here, waiting for the peer. */
  constructor(private readonly isFull: () => boolean) {}

  /** Waits for these bytes, in the order of the calls, and holds them until the scope closes. */
  reserve(bytes: number): Effect.Effect<void, never, Scope.Scope> {
    return Effect.uninterruptibleMask((restore) => {
      const reservation: Reservation = { bytes, state: "waiting", wake: () => {} }
      this.waiting.push(reservation)
      this.advance()
      const granted = Effect.async<void>((resume) => {
        if (reservation.state === "granted") return resume(Effect.void)
        reservation.wake = () => resume(Effect.void)
      })
      return Effect.zipRight(
        Effect.addFinalizer(() => Effect.sync(() => this.release(reservation))),
        restore(granted)
      )
    })
  }

  /** Grants what waits, as far as there are bytes for it. Called when earlier responses may have left. */
  advance(): void {
    while (!this.isFull()) {
      const [first] = this.waiting
      if (first === undefined || (this.reserved > 0 && this.reserved + first.bytes > maxReservedBytes)) return
      this.waiting.shift()
      this.reserved += first.bytes
      first.state = "granted"
      first.wake()
    }
  }

  private release(reservation: Reservation): void {
    if (reservation.state === "waiting") this.waiting = this.waiting.filter((other) => other !== reservation)
    else if (reservation.state === "granted") this.reserved -= reservation.bytes
    reservation.state = "released"
    this.advance()
  }
}
