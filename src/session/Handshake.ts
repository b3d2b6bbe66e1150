/**
 * The handshake of a connection: `initialize`, then `initialized`, then everything else.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Immediate from "../internal/Immediate.js"
import * as Dialect from "../protocol/Dialect.js"
import type { Capabilities } from "../protocol/ExecApi.js"
import { HandshakeOrder } from "../protocol/Failure.js"
import type { Family } from "../protocol/MethodFacts.js"
import type { Session } from "./SessionRegistry.js"

/** A connection that has initialized. */
export interface Initialized {
  readonly session: Session
  readonly dialect: Dialect.Dialect
  readonly capabilities: Capabilities
}

/** The progress of one connection. */
export class Handshake {
  /** `takesBinary`: whether this client accepts output in binary frames. */
  constructor(private readonly takesBinary: boolean) {}

  private current: Initialized | undefined
  private starting = false
  private confirmed = false

  /** The result of `initialize` on this connection, if it has succeeded. */
  get initialized(): Initialized | undefined {
    return this.current
  }

  /** Runs `initialize`, once; failed attempts do not count. */
  initialize<E>(
    params: { readonly capabilities?: Capabilities | null | undefined },
    open: Effect.Effect<Session, E>
  ): Effect.Effect<Initialized, E | HandshakeOrder> {
    return Effect.suspend((): Effect.Effect<Initialized, E | HandshakeOrder> => {
      if (this.starting || this.current !== undefined) {
        return new HandshakeOrder({ message: "initialize may only be sent once per connection" })
      }
      this.starting = true
      return open.pipe(
        Effect.map((session) => {
          const { lifecycle, binaryOutput } = params.capabilities ?? {}
          const capabilities: Capabilities = {
            ...(lifecycle === true ? { lifecycle } : {}),
            ...(binaryOutput === true && this.takesBinary ? { binaryOutput } : {})
          }
          this.current = { session, dialect: Dialect.of(params), capabilities }
          return this.current
        }),
        Effect.ensuring(
          Effect.sync(() => {
            this.starting = false
          })
        )
      )
    })
  }

  /** Handles `initialized`. Returns the connection's state the first time, undefined if repeated or out of order. */
  confirm(): Initialized | undefined {
    if (this.confirmed || this.current === undefined) return undefined
    this.confirmed = true
    return this.current
  }

  /** The step of the handshake that methods of this family require; undefined if the client may use them. */
  refusal(family: Family): HandshakeOrder | undefined {
    if (family === "handshake" || this.confirmed) return undefined
    const message =
      this.current === undefined
        ? `client must call initialize before using ${family} methods`
        : `client must send initialized before using ${family} methods`
    return new HandshakeOrder({ message })
  }
}

/** The handshake of the current request's connection. By default, outside of a connection, it has not begun. */
export class CurrentHandshake extends Context.Reference<CurrentHandshake>()("exec-server/CurrentHandshake", {
  defaultValue: () => new Handshake(false)
}) {}

/** Runs a request of this family, or fails if the handshake of its connection does not permit it yet. */
export const guard = <A, E>(family: Family, request: () => Effect.Effect<A, E>): Effect.Effect<A, E | HandshakeOrder> =>
  Immediate.make((context): Effect.Effect<A, E | HandshakeOrder> => {
    const refusal = Context.get(context, CurrentHandshake).refusal(family)
    return refusal === undefined ? request() : Exit.fail(refusal)
  })

/** The initialized state of the current request's connection. Use it only after `guard`. */
export const initialized: Effect.Effect<Initialized> = Immediate.make((context) => {
  const { initialized } = Context.get(context, CurrentHandshake)
  return initialized === undefined
    ? Exit.die(new Error("the connection has not initialized"))
    : Exit.succeed(initialized)
})
