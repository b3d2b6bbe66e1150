/**
 * Counts bytes on WebSocket connections. Sockets count them already, and are read when metrics are requested and when
 * they close.
 *
 * @since 0.1.0
 */
import type { Socket } from "node:net"
import * as Metric from "effect/Metric"

const received = Metric.counter("exec_server_received_bytes_total", {
  description: "Bytes received on WebSocket connections.",
  incremental: true
})

const sent = Metric.counter("exec_server_sent_bytes_total", {
  description: "Bytes sent on WebSocket connections.",
  incremental: true
})

/** The sockets of one listener. */
export class Traffic {
  private readonly seen = new Map<Socket, { received: number; sent: number }>()

  /** Makes both counters visible. */
  constructor() {
    received.unsafeModify(0, [])
    sent.unsafeModify(0, [])
  }

  /** Counts a socket until it closes. */
  add(socket: Socket): void {
    this.seen.set(socket, { received: 0, sent: 0 })
    socket.once("close", () => {
      this.count(socket)
      this.seen.delete(socket)
    })
  }

  /** Counts the bytes since the last call. */
  countAll(): void {
    for (const socket of this.seen.keys()) this.count(socket)
  }

  private count(socket: Socket): void {
    const seen = this.seen.get(socket)
    if (seen === undefined) return
    // `bytesWritten` includes bytes that still wait to be sent.
    const now = { received: socket.bytesRead, sent: socket.bytesWritten - socket.writableLength }
    received.unsafeUpdate(Math.max(0, now.received - seen.received), [])
    sent.unsafeUpdate(Math.max(0, now.sent - seen.sent), [])
    this.seen.set(socket, { received: Math.max(seen.received, now.received), sent: Math.max(seen.sent, now.sent) })
  }
}
