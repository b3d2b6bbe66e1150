/**
 * The output of the processes of the own session. The server sends all of it; what nobody looks at is acknowledged a few
 * times a second, so that such a process goes on, but not faster than the page.
 *
 * @since 0.1.0
 */
import type { Connection } from "./Connection.js"
import type { ProcessFrame } from "./Frames.js"

/** How often output that is not shown is acknowledged, in milliseconds. */
const idleAckMs = 50

/** How long the output of a new process waits for who wants to see it, in milliseconds. */
const claimMs = 10_000

type Listener = (frame: ProcessFrame) => void

/** Who gets the output of which process. */
export class Outputs {
  private readonly listeners = new Map<string, Listener>()
  private readonly held = new Map<string, Array<ProcessFrame>>()
  private readonly unseen = new Map<string, number>()
  private timer: ReturnType<typeof setTimeout> | undefined

  constructor(private readonly connection: Connection) {
    connection.onFrame((frame) => {
      if (frame._tag === "Process") this.receive(frame)
    })
    connection.whenLost(() => {
      this.unseen.clear()
      this.held.clear()
    })
  }

  /** Holds the output of a process that is about to start until it is claimed; the window bounds it. */
  hold(processId: string): void {
    this.held.set(processId, [])
    setTimeout(() => this.release(processId), claimMs)
  }

  /** Takes what is held; undefined if nothing was, or it is lost. */
  claim(processId: string): ReadonlyArray<ProcessFrame> | undefined {
    const frames = this.held.get(processId)
    this.held.delete(processId)
    return frames
  }

  /** Gives the output to a listener, until the returned function is called. */
  listen(processId: string, listener: Listener): () => void {
    this.listeners.set(processId, listener)
    this.unseen.delete(processId)
    return () => {
      if (this.listeners.get(processId) === listener) this.listeners.delete(processId)
    }
  }

  private release(processId: string): void {
    for (const frame of this.claim(processId) ?? []) this.receive(frame)
  }

  private receive(frame: ProcessFrame): void {
    const { processId, seq } = frame
    const listener = this.listeners.get(processId)
    const held = this.held.get(processId)
    if (listener !== undefined) listener(frame)
    else if (held !== undefined) held.push(frame)
    else {
      this.unseen.set(processId, seq)
      this.timer ??= setTimeout(() => this.flush(), idleAckMs)
    }
  }

  private flush(): void {
    this.timer = undefined
    for (const [processId, seq] of this.unseen) this.connection.acknowledge("process/ack", { processId, seq })
    this.unseen.clear()
  }
}
