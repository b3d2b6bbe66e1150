/**
 * An open WebSocket of either side: pings detect a dead peer, writes are batched, and closing takes a bounded time.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import type { Socket } from "node:net"
import { WebSocket } from "ws"

/** How long a peer may take to answer a close frame, in milliseconds. */
const closeMs = 1000

/** The longest reason in a close frame, in bytes: RFC 6455, section 5.5. */
const maxReasonBytes = 123

/** Events that prove the peer is alive. */
const signs = ["pong", "ping", "message"] as const

/** When a peer is considered dead. */
export interface Heartbeat {
  /** The time between pings, in milliseconds. */
  readonly intervalMs: number
  /** The number of pings that a peer may leave unanswered. */
  readonly maxUnanswered: number
  /**
   * Whether a peer that accepts no pending data is considered dead even while this side does not read. A server that
   * stops reading because its answers are not accepted would otherwise keep a dead peer forever.
   */
  readonly countsWhilePaused: boolean
  /** Called before the socket of a dead peer is destroyed. */
  readonly onSilent?: () => void
}

/** How a frame is sent. By default it is a whole message: text for a string, binary for bytes. */
export interface SendOptions {
  readonly binary?: boolean
  /** Whether this is the last frame of its message. */
  readonly fin?: boolean
}

const asItIs: SendOptions = {}

const encoder = new TextEncoder()

/** The part of a reason that fits into a close frame, cut between characters. */
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
    // Small messages must not wait for the acknowledgement of earlier ones (Nagle's algorithm).
    socket.setNoDelay(true)
    this.received = socket.bytesRead
    this.taken = this.takenNow
    const timer = setInterval(() => this.beat(), heartbeat.intervalMs)
    ws.once("close", () => clearInterval(timer))
    // ws answers a protocol error with the right close frame; "close" follows.
    ws.on("error", () => {})
    // A peer that ends its side but never reads ours would keep the socket open.
    socket.once("end", () => this.terminateSoon())
  }

  /** The number of sent bytes that have not left this process. */
  get buffered(): number {
    return this.socket.writableLength
  }

  /** Sends one frame. On a closing or closed socket the frame is dropped, and `onSent` may not be called. */
  send(data: string | Uint8Array, options: SendOptions = asItIs, onSent?: () => void): void {
    if (this.ws.readyState !== WebSocket.OPEN) return
    this.cork()
    this.ws.send(data, options, onSent)
  }

  /** Stops reading. A few messages may still arrive. */
  pause(): void {
    this.ws.pause()
  }

  /** Reads again. */
  resume(): void {
    // What the peer sent during the pause was not read yet.
    if (this.ws.isPaused) this.unanswered = 0
    this.ws.resume()
  }

  /** Sends a close frame. Destroys the socket if the peer does not answer in time. */
  close(code: number, reason: string): void {
    if (this.ws.readyState === WebSocket.CLOSED) return
    if (this.ws.readyState === WebSocket.OPEN) this.ws.close(code, fitReason(reason))
    // The answer of a peer could not be read while paused.
    this.ws.resume()
    this.terminateSoon()
  }

  /** Calls back once the socket is closed; at once if it is already. */
  onceClosed(onClosed: (code: number, reason: string) => void): void {
    if (this.ws.readyState === WebSocket.CLOSED) onClosed(1006, "")
    else this.ws.once("close", (code, reason) => onClosed(code, reason.toString()))
  }

  /** Batches all sends of one turn of the event loop into one system call. */
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

  /** Whether the peer has sent nothing, and accepted nothing, since the last ping. */
  get isSilent(): boolean {
    return this.unanswered > 0 && !this.livesSince(this.received, this.taken, this.waiting)
  }

  /** Pings the peer at once, and reports within `withinMs` milliseconds whether it is alive. */
  probe(withinMs: number, onAnswer: (isAlive: boolean) => void): void {
    const { ws, socket, takenNow } = this
    const received = socket.bytesRead
    const waits = socket.writableLength > 0
    const isOpen = ws.readyState === WebSocket.OPEN
    // A peer that is not read and has no pending data cannot be probed.
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
    // Data that arrived while this process was suspended is read before the verdict.
    const timer = setTimeout(() => setImmediate(judge), withinMs)
    for (const sign of signs) ws.on(sign, onSign)
    ws.once("close", onClose)
    ws.ping()
  }

  private terminateSoon(): void {
    const timer = setTimeout(() => this.ws.terminate(), closeMs).unref()
    // A timer would keep what a closed connection has received.
    this.ws.once("close", () => clearTimeout(timer))
  }

  /** Whether the peer has sent anything beyond `received` bytes, or accepted pending data beyond `taken` bytes. */
  private livesSince(received: number, taken: number, waiting: boolean): boolean {
    return this.socket.bytesRead !== received || (waiting && this.takenNow !== taken)
  }

  private get takenNow(): number {
    return this.socket.bytesWritten - this.socket.writableLength
  }

  /**
   * A slow peer is not dead: any incoming data is a sign of life. So is accepting pending data, since a ping queues
   * behind it.
   */
  private beat(): void {
    const { ws, socket, heartbeat, takenNow } = this
    const { intervalMs, maxUnanswered, countsWhilePaused, onSilent } = heartbeat
    const now = performance.now()
    const waits = socket.writableLength > 0
    const lives = this.livesSince(this.received, this.taken, this.waiting)
    // Nothing can be heard while reading is paused or while this process was suspended.
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
