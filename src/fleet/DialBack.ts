/**
 * Connections that hosts have opened to a gateway for it to speak on: `GET /fleet/back?ticket=...` with
 * `Upgrade: exec-server-reverse`. A ticket opens one connection, once.
 *
 * @since 0.1.0
 */
import { randomBytes } from "node:crypto"
import type { Duplex } from "node:stream"
import * as Effect from "effect/Effect"
import { UpstreamError } from "./Upstream.js"

/** The path of such a connection. */
export const path = "/fleet/back"

/** The protocol that it is upgraded to. */
export const protocol = "exec-server-reverse"

/** How long a host may take to connect, in milliseconds. */
const dialMs = 4000

/** The most connections that are waited for. */
const maxPending = 4096

/** The connections that are waited for. */
export class DialBack {
  private readonly pending = new Map<string, (result: Effect.Effect<Duplex, UpstreamError>) => void>()

  /**
   * Asks a host for a connection, by a message with a ticket. The caller owns the connection. Ends in a bounded time also
   * where it cannot be interrupted.
   */
  dial(ask: (ticket: string) => void): Effect.Effect<Duplex, UpstreamError> {
    return Effect.async<Duplex, UpstreamError>((resume) => {
      if (this.pending.size >= maxPending) {
        return resume(new UpstreamError({ message: "too many connections to hosts are being made" }))
      }
      const ticket = randomBytes(24).toString("base64url")
      const drop = () => {
        clearTimeout(timer)
        this.pending.delete(ticket)
      }
      const timer = setTimeout(() => {
        drop()
        resume(new UpstreamError({ message: "the host has not connected in time" }))
      }, dialMs)
      this.pending.set(ticket, (result) => {
        drop()
        resume(result)
      })
      ask(ticket)
      return Effect.sync(drop)
    })
  }

  /** Takes the connection with a ticket. False if nobody waits for it. */
  accept(ticket: string, socket: Duplex): boolean {
    const resume = this.pending.get(ticket)
    if (resume === undefined) return false
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\n\r\n`)
    resume(Effect.succeed(socket))
    return true
  }

  /** The connection with a ticket will not come. */
  refuse(ticket: string, message: string): void {
    this.pending.get(ticket)?.(new UpstreamError({ message }))
  }
}
