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
import { type Forbidden, HandshakeOrder } from "../protocol/Failure.js"
import type { Facts } from "../protocol/MethodFacts.js"
import * as Access from "./Access.js"
import type { Grant } from "./Grant.js"
import { grantedWindow } from "./OutputWindow.js"
import type { Session } from "./SessionRegistry.js"

/** A connection that has initialized. */
export interface Initialized {
  readonly session: Session
  readonly grant: Grant
  readonly dialect: Dialect.Dialect
  readonly capabilities: Capabilities
}

/** The capabilities that a connection can be granted. */
export interface Offer {
  /** Whether the client accepts output in binary frames. */
  readonly binaryOutput: boolean
  /** Whether the client can acknowledge output. */
  readonly outputWindow: boolean
}

/** The progress of one connection. */
export class Handshake {
  constructor(
    private readonly offer: Offer,
    private readonly grant: Grant
  ) {}

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
          const { lifecycle, binaryOutput, outputWindow, exitUsage } = params.capabilities ?? {}
          const capabilities: Capabilities = {
            ...(lifecycle === true ? { lifecycle } : {}),
            ...(binaryOutput === true && this.offer.binaryOutput ? { binaryOutput } : {}),
            ...(outputWindow !== undefined && this.offer.outputWindow
              ? { outputWindow: grantedWindow(outputWindow) }
              : {}),
            ...(exitUsage === true ? { exitUsage } : {})
          }
          this.current = { session, grant: this.grant, dialect: Dialect.of(params), capabilities }
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

  /** Why a method is refused: the handshake is not complete, or the grant does not permit it; undefined if it is not. */
  refusal(method: string, { family, access }: Facts): HandshakeOrder | Forbidden | undefined {
    if (family === "handshake") return undefined
    if (this.confirmed) return Access.refusal(this.grant, method, access)
    const message =
      this.current === undefined
        ? `client must call initialize before using ${family} methods`
        : `client must send initialized before using ${family} methods`
    return new HandshakeOrder({ message })
  }
}

/** The handshake of the current request's connection. By default, outside of a connection, it has not begun. */
export class CurrentHandshake extends Context.Reference<CurrentHandshake>()("exec-server/CurrentHandshake", {
  defaultValue: () => new Handshake({ binaryOutput: false, outputWindow: false }, { id: "in process" })
}) {}

/** Runs a request, or fails if the handshake or the grant of its connection does not permit it. */
export const guard = <A, E>(
  method: string,
  facts: Facts,
  request: () => Effect.Effect<A, E>
): Effect.Effect<A, E | HandshakeOrder | Forbidden> =>
  Immediate.make((context): Effect.Effect<A, E | HandshakeOrder | Forbidden> => {
    const refusal = Context.get(context, CurrentHandshake).refusal(method, facts)
    return refusal === undefined ? request() : Exit.fail(refusal)
  })

/** The initialized state of the current request's connection. Use it only after `guard`. */
export const initialized: Effect.Effect<Initialized> = Immediate.make((context) => {
  const { initialized } = Context.get(context, CurrentHandshake)
  return initialized === undefined
    ? Exit.die(new Error("the connection has not initialized"))
    : Exit.succeed(initialized)
})
