/**
 * What one connection watches: its attachments, and the events of sessions.
 *
 * @since 0.1.0
 */
import { LimitReached } from "../protocol/Failure.js"
import type { Attachment, EndReason } from "./Attachment.js"
import type { Sink } from "./Sink.js"

/** The most attachments of one connection. */
export const maxAttachments = 256

/** The attachments of one connection. */
export class Attachments {
  private readonly all = new Map<number, Attachment>()
  private readonly drains = new Set<() => void>()
  private hasAttached = false
  /** Whether the client gets `console/event`. */
  watchesConsole = false

  constructor(readonly sink: Sink) {}

  /** Why no attachment can be added; undefined if one can. */
  get refusal(): LimitReached | undefined {
    if (this.all.size < maxAttachments) return undefined
    const advice = "detach from some processes first"
    return new LimitReached({ limit: "attachments of one connection", value: maxAttachments, advice })
  }

  get size(): number {
    return this.all.size
  }

  add(attachment: Attachment): void {
    this.all.set(attachment.id, attachment)
    this.hasAttached = true
  }

  remove(attachment: Attachment): void {
    this.all.delete(attachment.id)
  }

  find(id: number): Attachment | undefined {
    return this.all.get(id)
  }

  /** The client has shown everything up to `seq`. Returns whether it has ever attached. */
  acknowledge(id: number, seq: number): boolean {
    this.all.get(id)?.acknowledge(seq)
    return this.hasAttached
  }

  /** Calls a listener whenever the client accepts data again. */
  whenDrained(listener: () => void): void {
    this.drains.add(listener)
  }

  /** The client accepts data again. */
  onDrain(): void {
    for (const attachment of this.all.values()) attachment.wake()
    for (const listener of this.drains) listener()
  }

  /** Ends all attachments, and tells why. */
  end(reason: EndReason): void {
    for (const attachment of Array.from(this.all.values())) attachment.end(reason)
  }

  /** The connection has ended. */
  close(): void {
    this.drains.clear()
    for (const attachment of Array.from(this.all.values())) attachment.stop()
  }
}
