/**
 * The memory for requests that have no answer yet. All connections of a server share it, because the limits of single
 * connections would add up to far more.
 *
 * @since 0.1.0
 */
import { LimitReached } from "../protocol/Failure.js"

/** Bytes guaranteed to each connection, even when others have used up the budget. */
export const reservedBytes = 262144

/** The budget of one server; a character of a request counts as a byte. */
export class RequestBudget {
  private total = 0

  /** `limit` is in bytes, of all connections together. */
  constructor(readonly limit: number = Number.POSITIVE_INFINITY) {}

  /** Whether a connection that holds `own` bytes may add `bytes` more. */
  hasRoomFor(bytes: number, own: number): boolean {
    return this.total + bytes <= this.limit || own + bytes <= reservedBytes
  }

  /** The refusal of a request that exceeds the budget. */
  get refusal(): LimitReached {
    const advice = "the clients of the server wait for too many answers together: wait for yours, or try again later"
    return new LimitReached({ limit: "requestBytesTotal", value: this.limit, advice })
  }

  /** Adds `bytes` to the total; negative when a request is answered. */
  change(bytes: number): void {
    this.total += bytes
  }
}
