/**
 * How much one connection's large answers may take in memory before the peer has taken them: what is to be read for one
 * waits until there is room for it.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/** Bytes read at a time for answers that are not on their way yet; a larger answer is made alone. */
const maxHeldBytes = 8_388_608

interface Claim {
  readonly bytes: number
  state: "waiting" | "held" | "given back"
  wake: () => void
}

/** The room of one connection. */
export class AnswerRoom {
  private waiting: Array<Claim> = []
  private held = 0

  /** `isFull` says whether earlier answers are still here, waiting for the peer. */
  constructor(private readonly isFull: () => boolean) {}

  /** Waits for room, in the order of arrival, and keeps it to the end of the scope. */
  take(bytes: number): Effect.Effect<void, never, Scope.Scope> {
    return Effect.uninterruptibleMask((restore) => {
      const claim: Claim = { bytes, state: "waiting", wake: () => {} }
      this.waiting.push(claim)
      this.look()
      const granted = Effect.async<void>((resume) => {
        if (claim.state === "held") return resume(Effect.void)
        claim.wake = () => resume(Effect.void)
      })
      return Effect.zipRight(
        Effect.addFinalizer(() => Effect.sync(() => this.give(claim))),
        restore(granted)
      )
    })
  }

  /** Earlier answers may have left. */
  look(): void {
    while (!this.isFull()) {
      const [first] = this.waiting
      if (first === undefined || (this.held > 0 && this.held + first.bytes > maxHeldBytes)) return
      this.waiting.shift()
      this.held += first.bytes
      first.state = "held"
      first.wake()
    }
  }

  private give(claim: Claim): void {
    if (claim.state === "waiting") this.waiting = this.waiting.filter((other) => other !== claim)
    else if (claim.state === "held") this.held -= claim.bytes
    claim.state = "given back"
    this.look()
  }
}
