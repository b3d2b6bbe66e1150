/**
 * A link to an in-process server that can be cut, losing the messages in transit, and that can hold messages back.
 *
 * It uses no clock and no timers: the test decides when each message arrives.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { ClientError } from "../client/ClientError.js"
import type { Link, LinkEvents, OpenLink } from "../client/TextChannel.js"
import type * as Memory from "../transport/Memory.js"

/** One connection over the link. */
interface Connection {
  readonly events: LinkEvents
  readonly link: Memory.Link
  readonly toServer: Array<string>
  readonly toClient: Array<string>
}

/**
 * A breakable link to a server.
 *
 * @category models
 */
export class FaultyLink {
  /** The number of connections made so far, without failed attempts. */
  connections = 0
  private current: Connection | undefined
  private readonly orphans: Array<Connection> = []
  private holding = false
  private refusal: ClientError | undefined

  constructor(private readonly connect: (events: Memory.LinkEvents) => Memory.Link) {}

  /** Whether the client has a connection. */
  get isOpen(): boolean {
    return this.current !== undefined
  }

  /** Opens a link; one at a time. */
  readonly open: OpenLink = (events) =>
    Effect.acquireRelease(
      Effect.suspend(() =>
        this.refusal === undefined ? Effect.succeed(this.make(events)) : Effect.fail(this.refusal)
      ),
      (connection) =>
        Effect.sync(() => {
          // A connection that was cut is closed by tellServer().
          if (this.current !== connection) return
          this.current = undefined
          connection.link.close()
        })
    ).pipe(Effect.map((connection) => this.linkOf(connection)))

  /** From now on messages arrive only by `deliver`. */
  hold(): void {
    this.holding = true
  }

  /** Delivers the held messages; from now on every message arrives at once. */
  flow(): void {
    this.holding = false
    this.deliver(Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY)
  }

  /** Delivers that many held messages in each direction. */
  deliver(toServer: number, toClient: number): void {
    const connection = this.current
    if (connection === undefined) return
    for (const text of connection.toServer.splice(0, toServer)) connection.link.send(text)
    for (const text of connection.toClient.splice(0, toClient)) {
      // Handling a message may have ended the connection.
      if (this.current === connection) connection.events.onMessage(text)
    }
  }

  /** Drops that many of the messages held for the client. */
  drop(toClient: number): void {
    this.current?.toClient.splice(0, toClient)
  }

  /** Cuts the connection: messages in transit are lost, and the server does not notice until `tellServer`. */
  cut(): void {
    const connection = this.current
    if (connection === undefined) return
    this.current = undefined
    this.orphans.push(connection)
    connection.events.onEnd("cut")
  }

  /** Makes the server notice every cut so far. */
  tellServer(): void {
    for (const { link } of this.orphans.splice(0)) link.close()
  }

  /** Makes connecting fail with this error; with undefined, succeed again. */
  refuse(error: ClientError | undefined): void {
    this.refusal = error
  }

  private make(events: LinkEvents): Connection {
    const connection: Connection = {
      events,
      toServer: [],
      toClient: [],
      link: this.connect({
        onMessage: (text) => {
          if (this.current !== connection) return
          connection.toClient.push(text)
          if (!this.holding) this.deliver(0, 1)
        },
        onEnd: () => {
          if (this.current !== connection) return
          this.current = undefined
          events.onEnd("the server has ended the connection")
        }
      })
    }
    this.current = connection
    this.connections++
    return connection
  }

  private linkOf(connection: Connection): Link {
    return {
      send: (text) => {
        if (this.current !== connection) return
        connection.toServer.push(text)
        if (!this.holding) this.deliver(1, 0)
      },
      close: () => {
        if (this.current === connection) connection.link.close()
      }
    }
  }
}
