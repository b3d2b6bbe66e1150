/**
 * Bounds the memory of large responses that the peer of one connection has not read: a request reserves bytes before it
 * reads the data for its response, and waits while there are none.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/** The most bytes reserved at a time, for responses that are not being sent yet. A larger response is made alone. */
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

  /** `isFull` says whether earlier responses are still waiting for the peer. */
  constructor(readonly isFull: () => boolean) {}

  /** Reserves bytes until the scope closes. Waits for them in the order of the calls. */
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

  /** Grants waiting reservations, as far as there are bytes. Called when earlier responses may have been sent. */
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
