/**
 * Decides which messages of a peer are served now and which wait, so that a peer that sends more than it reads cannot
 * make memory grow. Beyond the limits of a connection, its peer is not read. Beyond the budget shared by all
 * connections, requests are refused.
 *
 * @since 0.1.0
 */
import { RequestBudget } from "./RequestBudget.js"

/** Limits of one connection. */
export interface Limits {
  /** Requests served at a time; further ones wait, in order. */
  readonly maxServed: number
  /** Requests served and waiting; beyond it the peer is not read. */
  readonly maxInFlight: number
  /** Requests with large answers that wait for a congested peer. */
  readonly maxDeferred: number
  /** Characters of all requests, served and waiting. A larger single request is served alone. */
  readonly maxSize: number
}

/** The default limits of a connection; the configuration may lower `maxServed`. */
export const limits: Limits = { maxServed: 4096, maxInFlight: 4096, maxDeferred: 256, maxSize: 67108864 }

/** The connection, as admission sees it. */
export interface Gate {
  /** Whether the peer lags so far behind that requests with large answers must wait. */
  readonly isCongested: () => boolean
  /** Whether the peer lags so far behind that no request is served. */
  readonly isBlocked: () => boolean
  /** Handles a message; may call `begin` and `defer`. */
  readonly serve: (text: string) => void
  /** Refuses a message that exceeds the memory budget. */
  readonly refuse: (text: string) => void
  /** Pauses and resumes reading from the peer. A few messages may still arrive after `pause`. */
  readonly pause: () => void
  readonly resume: () => void
}

/** The admission of one connection. */
export class Admission {
  private inFlight = 0
  private size = 0
  /** Requests with large answers, while the peer is congested. */
  private readonly deferred: Array<string> = []
  /**
   * Messages that wait for an earlier answer. The peer is read until there are too many, so that its disconnect is
   * noticed. After that, at most one more read of its socket arrives.
   */
  private readonly held: Array<string> = []
  private heldSize = 0
  private isServing = false
  private isHeld = false
  private isEnded = false

  constructor(
    private readonly gate: Gate,
    private readonly bounds: Limits = limits,
    private readonly budget: RequestBudget = new RequestBudget()
  ) {}

  /** Accepts a message: serves it or holds it in order, and pauses reading when the limits are exceeded. */
  receive(text: string): void {
    if (this.isEnded) return
    if (!this.budget.hasRoomFor(text.length, this.size + this.heldSize)) this.gate.refuse(text)
    else if (this.held.length === 0 && !this.isBusy()) this.gate.serve(text)
    else {
      this.held.push(text)
      this.changeHeldSize(text.length)
      if (this.isFull()) this.gate.pause()
    }
  }

  /** Holds a request with a large answer until the peer has caught up. Other requests overtake it. */
  defer(text: string): void {
    this.deferred.push(text)
    this.changeSize(text.length)
  }

  /** Begins serving a request of this size; the returned function ends it. */
  begin(size: number): () => void {
    this.inFlight++
    this.changeSize(size)
    return () => {
      this.inFlight--
      this.changeSize(-size)
      this.advance()
    }
  }

  /** Serves waiting requests as far as the limits allow. */
  advance(): void {
    // An answer sent within the loop calls this function again; the outer loop continues then.
    if (this.isServing || this.isEnded || (this.held.length === 0 && this.deferred.length === 0)) return
    this.isServing = true
    while (
      this.deferred.length > 0 &&
      !this.isHeld &&
      !this.gate.isCongested() &&
      this.inFlight < this.bounds.maxServed
    ) {
      const text = this.deferred.shift() ?? ""
      this.changeSize(-text.length)
      this.gate.serve(text)
    }
    while (this.held.length > 0 && !this.isEnded && !this.isBusy()) this.gate.serve(this.nextHeld())
    this.isServing = false
    if (this.held.length === 0 && !this.isHeld) this.gate.resume()
  }

  /** Makes messages wait, whatever they are; or serves them again. Those that wait when it ends are dropped. */
  hold(isHeld: boolean): void {
    this.isHeld = isHeld
    if (isHeld) this.gate.pause()
    else {
      this.advance()
      if (this.held.length === 0) this.gate.resume()
    }
  }

  /** Ends serving. */
  end(): void {
    this.isEnded = true
    const deferred = this.deferred.reduce((sum, { length }) => sum + length, 0)
    this.deferred.length = 0
    this.held.length = 0
    this.changeHeldSize(-this.heldSize)
    // Requests being served still end, and release their own bytes.
    this.changeSize(-deferred)
  }

  /**
   * Serves what was received although the peer is gone: changes are carried out. Deferred requests only read and are
   * dropped.
   */
  drain(): void {
    while (this.held.length > 0 && !this.isEnded && !this.isHeld) this.gate.serve(this.nextHeld())
    this.end()
  }

  private nextHeld(): string {
    const text = this.held.shift() ?? ""
    this.changeHeldSize(-text.length)
    return text
  }

  private changeSize(bytes: number): void {
    this.size += bytes
    this.budget.change(bytes)
  }

  private changeHeldSize(bytes: number): void {
    this.heldSize += bytes
    this.budget.change(bytes)
  }

  private isBehind(): boolean {
    return this.deferred.length >= this.bounds.maxDeferred || this.gate.isBlocked()
  }

  /** Whether the next message must wait. */
  private isBusy(): boolean {
    const { maxServed, maxInFlight, maxSize } = this.bounds
    return this.isHeld || this.inFlight >= Math.min(maxServed, maxInFlight) || this.size > maxSize || this.isBehind()
  }

  /** Whether no further message may be read. */
  private isFull(): boolean {
    const { maxInFlight, maxSize } = this.bounds
    return this.inFlight + this.held.length > maxInFlight || this.size + this.heldSize > maxSize || this.isBehind()
  }
}
