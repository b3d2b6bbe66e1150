/**
 * An ordinary connection whose dialling is exchanged: the executor registers, opens a WebSocket to the address in the
 * answer, and the side that accepted it is the client. There is one client at a time, and no relay.
 *
 * @since 0.1.0
 */
import type { Socket } from "node:net"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import { isRecord } from "effect/Predicate"
import type { WebSocket } from "ws"
import { isLoopback } from "../internal/Loopback.js"
import { timerMs } from "../internal/Timer.js"
import { redactUrl } from "../protocol/Redact.js"
import type { Grant } from "../session/Grant.js"
import { Transport, TransportFailed } from "../transport/Transport.js"
import { TransportLimits } from "../transport/TransportLimits.js"
import * as WebSocketPeer from "../transport/WebSocketPeer.js"
import * as CarriedRegistration from "./CarriedRegistration.js"
import * as Dialer from "./Dialer.js"
import * as Registration from "./Registration.js"
import { EndpointError } from "./RelayEndpoint.js"
import * as RelaySocket from "./RelaySocket.js"
import { RemoteAuth } from "./RemoteAuth.js"

/** The name of this transport in registrations. */
const transport = "direct_jsonrpc_v1"

/** Whoever the registry's address leads to. */
const anyClient: Grant = { id: "direct" }

/**
 * Statuses of an upgrade after which another attempt with the same registration is of no use. They end an executor that
 * has not served yet; later it registers again.
 */
const isFinal = (status = 0) => [400, 401, 403, 404, 410].includes(status)

/** Whether the address belongs to another registration by now. */
const asksToRegister = (status = 0) => status === 409 || isFinal(status)

/** The waits between attempts, as the original has them. */
const waits: Dialer.Waits = { first: "500 millis", longest: "5 seconds", jitter: { min: 1, max: 1.5 } }

/** A registration. */
interface Registered {
  /** The address to dial. */
  readonly url: string
  readonly registrationId: string
}

/** Options of a direct transport. */
export interface Options {
  readonly target: Registration.Target
  readonly onRegistered: (environmentId: string) => Effect.Effect<void>
}

const refuse = (message: string) => Either.left(new EndpointError({ message, retryable: false }))

/** The registration in an answer. */
const registeredIn = (json: unknown, target: Registration.Target): Either.Either<Registered, EndpointError> =>
  Either.gen(function* () {
    const address = yield* Registration.addressIn(json, target)
    const given = isRecord(json) ? json["transport"] : undefined
    if (given !== transport) {
      return yield* refuse(
        `environment registry returned unsupported direct transport \`${String(given).slice(0, 128)}\``
      )
    }
    const url = URL.canParse(address) ? new URL(address) : undefined
    if (url?.protocol !== "wss:" && !(url?.protocol === "ws:" && isLoopback(url.hostname))) {
      return yield* refuse("remote transport requires wss for non-loopback endpoints")
    }
    const registrationId = isRecord(json) ? json["registration_id"] : undefined
    return typeof registrationId === "string"
      ? { url: address, registrationId }
      : yield* refuse("environment registry answered without `registration_id`")
  })

/** Serves whoever is at the other end of the registered address, one connection after another. */
export const layer = ({ target, onRegistered }: Options): Layer.Layer<Transport, EndpointError, RemoteAuth> =>
  Layer.effect(
    Transport,
    Effect.gen(function* () {
      const auth = yield* RemoteAuth
      const { maxMessageBytes, pingIntervalMs } = yield* TransportLimits

      const register = Registration.askAs(auth, Registration.beside(target, "direct/register"), { transport }).pipe(
        Effect.flatMap((json) => registeredIn(json, target)),
        Effect.tap(() => onRegistered(target.environmentId))
      )
      const before = yield* CarriedRegistration.adopted("direct", target)
      let served = before !== undefined
      let registered: { readonly url: string; readonly registrationId?: string | undefined } =
        before ?? (yield* register)
      const address = redactUrl(registered.url)
      yield* CarriedRegistration.contribute(() => {
        const { url, registrationId } = registered
        return { kind: "direct", target: target.url.href, url, registrationId }
      })

      const attach = ({ ws, socket }: { readonly ws: WebSocket; readonly socket: Socket }, hooks: Dialer.Hooks) => {
        served = true
        const name = redactUrl(ws.url)
        const peer = WebSocketPeer.make(ws, socket, { name, grant: anyClient, pingIntervalMs: timerMs(pingIntervalMs) })
        const gone = (onGone: () => void) => {
          if (ws.readyState === ws.CLOSED) onGone()
          else ws.once("close", onGone)
        }
        hooks.accept(
          {
            ...peer,
            malformedPrefix: `failed to parse websocket JSON-RPC message from direct exec-server websocket ${name}`,
            listen: (events) => {
              peer.listen(events)
              ws.resume()
            }
          },
          gone
        )
        ws.once("close", (code: number, reason: Buffer) => hooks.onEnd(code, reason.toString()))
      }

      const run: Transport["Type"]["run"] = (serve) =>
        Effect.suspend(() => {
          const registerAgain = Effect.map(Effect.mapError(register, Dialer.asDialFailure), (next) => {
            registered = next
          })
          const signed = Effect.suspend(() =>
            auth.headers(new URL(registered.url), { method: "GET", headers: {}, body: undefined })
          )
          const open = signed.pipe(
            Effect.mapError(({ message }) => new RelaySocket.DialError({ message, status: undefined })),
            Effect.flatMap((headers) => RelaySocket.open(registered.url, { maxPayload: maxMessageBytes, headers })),
            Effect.map(({ ws, socket }) => ({ ws, socket, close: ws.close.bind(ws) })),
            Effect.catchAll(
              (error): Effect.Effect<never, RelaySocket.DialError | TransportFailed> =>
                isFinal(error.status) && !served
                  ? Effect.fail(new TransportFailed({ message: error.message }))
                  : Effect.zipRight(asksToRegister(error.status) ? registerAgain : Effect.void, Effect.fail(error))
            )
          )
          return Dialer.run(serve, { open, attach, waits })
        })

      return { address, run }
    })
  )
