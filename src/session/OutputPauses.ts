/**
 * Which processes are not read for now, for the sake of one peer: those that print while it is congested, and those
 * whose window is full.
 *
 * @since 0.1.0
 */
import type { EventSource } from "../process/ProcessEvents.js"
import type { ProcessId } from "../protocol/Ids.js"
import { OutputWindow } from "./OutputWindow.js"

/** The pauses for one peer. A class: each connection has one. */
export class OutputPauses {
  private readonly congested = new Set<EventSource>()
  private readonly windows = new Map<ProcessId, { readonly process: EventSource; readonly window: OutputWindow }>()

  /** Makes it with the size of windows in bytes; undefined if the peer does not acknowledge output. */
  constructor(private readonly limit: number | undefined) {}

  /** Counts output that was sent, and pauses its process if it must. */
  sent(process: EventSource, seq: number, bytes: number, isCongested: boolean): void {
    const window = this.limit === undefined ? undefined : this.windowOf(process, this.limit)
    window?.add(seq, bytes)
    if (isCongested) this.congested.add(process)
    if (isCongested || window?.isFull === true) process.pause()
  }

  /** Releases the output of a process up to `seq`. */
  acknowledge(processId: ProcessId, seq: number): void {
    const found = this.windows.get(processId)
    if (found === undefined) return
    const { process, window } = found
    const wasFull = window.isFull
    window.acknowledge(seq)
    if (wasFull && !window.isFull && !this.congested.has(process)) process.resume()
  }

  /** The peer is no longer congested. */
  drained(): void {
    for (const process of this.congested) if (!this.isFull(process)) process.resume()
    this.congested.clear()
  }

  /** Forgets a process. */
  forget(process: EventSource): void {
    this.congested.delete(process)
    this.windows.delete(process.processId)
  }

  /** Lets all processes go on. */
  stop(): void {
    this.drained()
    for (const { process } of this.windows.values()) process.resume()
    this.windows.clear()
  }

  private isFull({ processId }: EventSource): boolean {
    return this.windows.get(processId)?.window.isFull === true
  }

  private windowOf(process: EventSource, limit: number): OutputWindow {
    const known = this.windows.get(process.processId)
    if (known !== undefined) return known.window
    const window = new OutputWindow(limit)
    this.windows.set(process.processId, { process, window })
    return window
  }
}
