/**
 * The memory for requests that have no answer yet, of all connections of a server: each connection may have many, but
 * not all of them at once.
 *
 * @since 0.1.0
 */
import { LimitReached } from "../protocol/Failure.js"

/** What a connection has whatever others take, in bytes: those who send little go on when somebody has taken all. */
export const reservedBytes = 262144

/** The budget of one server; a character of a request counts as a byte. */
export class RequestBudget {
  private total = 0

  /** `limit` is in bytes, of all connections together. */
  constructor(readonly limit: number = Number.POSITIVE_INFINITY) {}

  /** Whether a connection that has so many bytes may add others. */
  hasRoomFor(bytes: number, own: number): boolean {
    return this.total + bytes <= this.limit || own + bytes <= reservedBytes
  }

  /** The refusal of a request that there is no room for. */
  get refusal(): LimitReached {
    const advice = "the clients of the server wait for too many answers together: wait for yours, or try again later"
    return new LimitReached({ limit: "requestBytesTotal", value: this.limit, advice })
  }

  /** A connection has so many bytes more, or fewer. */
  change(bytes: number): void {
    this.total += bytes
  }
}
