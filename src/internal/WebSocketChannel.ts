/**
 * An open WebSocket, whichever side opened it: pings that notice a dead peer, writes that leave together, and an end
 * within a bounded time.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import type { Socket } from "node:net"
import { WebSocket } from "ws"

/** How long a peer may take to answer a close frame, in milliseconds. */
const closeMs = 1000

/** The longest reason that a close frame holds, in bytes: RFC 6455, section 5.5. */
const maxReasonBytes = 123

/** Events that only a peer that is there causes. */
const signs = ["pong", "ping", "message"] as const

/** When a peer is given up. */
export interface Heartbeat {
  /** The time between pings, in milliseconds. */
  readonly intervalMs: number
  /** Pings that a peer may leave unanswered. */
  readonly maxUnanswered: number
  /**
   * Whether a peer that takes nothing of what waits to be sent is given up even while this side does not read. A server
   * that stops reading because its answers are not taken would otherwise keep a dead peer for ever.
   */
  readonly countsWhilePaused: boolean
  /** The peer is given up; its socket is destroyed next. */
  readonly onSilent?: () => void
}

/** How a frame is sent: by default it is a message of its own, text for a string and binary for bytes. */
export interface SendOptions {
  readonly binary?: boolean
  /** Whether this is the last frame of its message. */
  readonly fin?: boolean
}

const asItIs: SendOptions = {}

const encoder = new TextEncoder()

/** As many whole characters of a reason as a close frame holds. */
const fitReason = (reason: string): Buffer => {
  const bytes = Buffer.alloc(maxReasonBytes)
  return bytes.subarray(0, encoder.encodeInto(reason, bytes).written)
}

/** An open WebSocket, and the connection below it. */
export class WebSocketChannel {
  private corked = false
  private unanswered = 0
  private received: number
  private taken: number
  private waiting = false
  private lookedAt = performance.now()

  constructor(
    readonly ws: WebSocket,
    readonly socket: Socket,
    private readonly heartbeat: Heartbeat
  ) {
    // Small messages must not wait for the acknowledgement of earlier ones.
    socket.setNoDelay(true)
    this.received = socket.bytesRead
    this.taken = this.takenNow
    const timer = setInterval(() => this.beat(), heartbeat.intervalMs)
    ws.once("close", () => clearInterval(timer))
    // A protocol error: ws answers with the right close frame itself, and "close" follows.
    ws.on("error", () => {})
    // A peer that has ended its side and does not read ours would never be gone.
    socket.once("end", () => this.terminateSoon())
  }

  /** Bytes sent that have not left this process. */
  get buffered(): number {
    return this.socket.writableLength
  }

  /** Sends one frame; one on a socket that is closing or closed is dropped, and `onSent` need not come. */
  send(data: string | Uint8Array, options: SendOptions = asItIs, onSent?: () => void): void {
    if (this.ws.readyState !== WebSocket.OPEN) return
    this.cork()
    this.ws.send(data, options, onSent)
  }

  /** Stops reading. A few messages may still come. */
  pause(): void {
    this.ws.pause()
  }

  /** Goes on with reading. */
  resume(): void {
    // What the peer said meanwhile has not been read yet.
    if (this.ws.isPaused) this.unanswered = 0
    this.ws.resume()
  }

  /** Sends a close frame, and destroys the socket if it is not answered in time. */
  close(code: number, reason: string): void {
    if (this.ws.readyState === WebSocket.CLOSED) return
    if (this.ws.readyState === WebSocket.OPEN) this.ws.close(code, fitReason(reason))
    // A peer that is not read could not be heard answering.
    this.ws.resume()
    this.terminateSoon()
  }

  /** Calls back once the socket is gone, at once if it is. */
  onceClosed(onClosed: (code: number, reason: string) => void): void {
    if (this.ws.readyState === WebSocket.CLOSED) onClosed(1006, "")
    else this.ws.once("close", (code, reason) => onClosed(code, reason.toString()))
  }

  /** What is sent in one turn of the event loop leaves in one system call; nothing waits longer than that turn. */
  private cork(): void {
    if (this.corked) return
    this.corked = true
    this.socket.cork()
    process.nextTick(this.uncork)
  }

  private readonly uncork = () => {
    this.corked = false
    this.socket.uncork()
  }

  /** Whether nothing has come from the peer, and it has taken nothing, since it was pinged last. */
  get isSilent(): boolean {
    return this.unanswered > 0 && !this.livesSince(this.received, this.taken, this.waiting)
  }

  /** Pings the peer at once, and says within this time, in milliseconds, whether it is still there. */
  probe(withinMs: number, onAnswer: (isAlive: boolean) => void): void {
    const { ws, socket, takenNow } = this
    const received = socket.bytesRead
    const waits = socket.writableLength > 0
    const isOpen = ws.readyState === WebSocket.OPEN
    // Of a peer that is not read, and has nothing to take, nothing can be learnt.
    const isDeaf = ws.isPaused && !(this.heartbeat.countsWhilePaused && waits)
    if (!isOpen || isDeaf) {
      onAnswer(isOpen)
      return
    }
    let isAnswered = false
    const answer = (isAlive: boolean) => {
      if (isAnswered) return
      isAnswered = true
      clearTimeout(timer)
      for (const sign of signs) ws.off(sign, onSign)
      ws.off("close", onClose)
      onAnswer(isAlive)
    }
    const onSign = () => answer(true)
    const onClose = () => answer(false)
    const judge = () => answer(this.livesSince(received, takenNow, waits))
    // What came while this process stood still is read before the verdict.
    const timer = setTimeout(() => setImmediate(judge), withinMs)
    for (const sign of signs) ws.on(sign, onSign)
    ws.once("close", onClose)
    ws.ping()
  }

  private terminateSoon(): void {
    setTimeout(() => this.ws.terminate(), closeMs).unref()
  }

  /** Whether the peer has said anything since so much was received, or taken anything since so much of more was taken. */
  private livesSince(received: number, taken: number, waiting: boolean): boolean {
    return this.socket.bytesRead !== received || (waiting && this.takenNow !== taken)
  }

  private get takenNow(): number {
    return this.socket.bytesWritten - this.socket.writableLength
  }

  /**
   * Slow is not dead: whatever comes from the peer is a sign of life, and so is its taking of what waits to be sent,
   * behind which a ping waits as well.
   */
  private beat(): void {
    const { ws, socket, heartbeat, takenNow } = this
    const { intervalMs, maxUnanswered, countsWhilePaused, onSilent } = heartbeat
    const now = performance.now()
    const waits = socket.writableLength > 0
    const lives = this.livesSince(this.received, this.taken, this.waiting)
    // What is not read cannot be heard, and nothing is read while this process is stopped.
    const isDeaf = (ws.isPaused && !(countsWhilePaused && waits)) || now - this.lookedAt > 2 * intervalMs
    if (lives || isDeaf) this.unanswered = 0
    this.received = socket.bytesRead
    this.taken = takenNow
    this.waiting = waits
    this.lookedAt = now
    if (this.unanswered === maxUnanswered) {
      onSilent?.()
      ws.terminate()
    } else {
      this.unanswered++
      ws.ping()
    }
  }
}
