/**
 * A link to the server of this process that loses what is under way when it is cut, and delays what it is told to.
 *
 * Nothing here reads a clock or schedules by itself: the test decides what arrives when.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { ClientError } from "../client/ClientError.js"
import type { Link, LinkEvents, OpenLink } from "../client/TextChannel.js"
import type * as Memory from "../transport/Memory.js"

/** One connection over it. */
interface Connection {
  readonly events: LinkEvents
  readonly link: Memory.Link
  readonly toServer: Array<string>
  readonly toClient: Array<string>
}

/**
 * A way to a server that can be broken.
 *
 * @category models
 */
export class FaultyLink {
  /** Connections made so far, failed attempts not counted. */
  connections = 0
  private current: Connection | undefined
  private readonly orphans: Array<Connection> = []
  private holding = false
  private refusal: ClientError | undefined

  constructor(private readonly connect: (events: Memory.LinkEvents) => Memory.Link) {}

  /** Whether there is a connection, as far as the client knows. */
  get isOpen(): boolean {
    return this.current !== undefined
  }

  /** Makes links; one at a time. */
  readonly open: OpenLink = (events) =>
    Effect.acquireRelease(
      Effect.suspend(() =>
        this.refusal === undefined ? Effect.succeed(this.make(events)) : Effect.fail(this.refusal)
      ),
      (connection) =>
        Effect.sync(() => {
          // A connection that was cut has nobody to say goodbye to.
          if (this.current !== connection) return
          this.current = undefined
          connection.link.close()
        })
    ).pipe(Effect.map((connection) => this.linkOf(connection)))

  /** From now on nothing arrives but by `deliver`. */
  hold(): void {
    this.holding = true
  }

  /** From now on everything arrives at once, what was held first. */
  flow(): void {
    this.holding = false
    this.deliver(Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY)
  }

  /** Lets that many messages arrive. */
  deliver(toServer: number, toClient: number): void {
    const connection = this.current
    if (connection === undefined) return
    for (const text of connection.toServer.splice(0, toServer)) connection.link.send(text)
    for (const text of connection.toClient.splice(0, toClient)) {
      // What a message leads to may be the end of the connection.
      if (this.current === connection) connection.events.onMessage(text)
    }
  }

  /** Loses that many of the held messages to the client. */
  drop(toClient: number): void {
    this.current?.toClient.splice(0, toClient)
  }

  /** Cuts the connection: what is under way is lost, and the server does not know yet. */
  cut(): void {
    const connection = this.current
    if (connection === undefined) return
    this.current = undefined
    this.orphans.push(connection)
    connection.events.onEnd("cut")
  }

  /** Lets the server find out about every cut so far. */
  tellServer(): void {
    for (const { link } of this.orphans.splice(0)) link.close()
  }

  /** Lets attempts to connect fail with this, or succeed again. */
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
