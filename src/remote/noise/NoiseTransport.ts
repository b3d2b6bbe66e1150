/**
 * Peers behind a rendezvous that cannot read them: the executor registers its key and connects, and every stream whose
 * client the registry confirms is a peer. If the socket is lost, its streams end, but their sessions do not.
 *
 * The key, the registration and the URL are kept over reconnections. The rendezvous asks for another registration by
 * refusing the socket with a 4xx status.
 *
 * @since 0.1.0
 */
import { randomBytes } from "node:crypto"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Runtime from "effect/Runtime"
import { redactUrl } from "../../protocol/Redact.js"
import { Transport, type TransportFailed } from "../../transport/Transport.js"
import { TransportLimits } from "../../transport/TransportLimits.js"
import * as CarriedRegistration from "../CarriedRegistration.js"
import * as Dialer from "../Dialer.js"
import type * as Registration from "../Registration.js"
import { maxOverheadBytes } from "../RelayFrame.js"
import { RelayLimits } from "../RelayLimits.js"
import * as RelaySocket from "../RelaySocket.js"
import { RemoteAuth } from "../RemoteAuth.js"
import * as KeyPair from "./KeyPair.js"
import { maxFrameBytes } from "./NoiseFrame.js"
import * as NoiseMux from "./NoiseMux.js"
import * as NoiseRegistry from "./NoiseRegistry.js"

/** Options of an encrypted relay transport. */
export interface Options {
  readonly target: Registration.Target
  readonly identity: KeyPair.KeyPair
  /** Whether no file has the key. */
  readonly isOwnKey: boolean
  /** The registration to begin with. */
  readonly first: NoiseRegistry.Registered
  readonly onRegistered: (environmentId: string) => Effect.Effect<void>
}

/** Whether the rendezvous wants another registration before the next attempt. */
const asksToRegister = ({ status = 0 }: RelaySocket.DialError) => status >= 400 && status < 500

/** Serves a registration and those that follow it, for as long as the transport runs. */
export const layer = ({
  target,
  identity,
  isOwnKey,
  first,
  onRegistered
}: Options): Layer.Layer<Transport, never, RemoteAuth> =>
  Layer.effect(
    Transport,
    Effect.gen(function* () {
      const auth = yield* RemoteAuth
      const { maxMessageBytes } = yield* TransportLimits
      const limits = yield* RelayLimits
      const { environmentId } = target

      const register = Effect.flatMap(NoiseRegistry.register(target, auth, identity.public), (json) =>
        NoiseRegistry.registeredIn(json, target)
      ).pipe(Effect.tap(() => onRegistered(environmentId)))

      let registered = first
      yield* CarriedRegistration.contribute(() => ({
        kind: "noise",
        target: target.url.href,
        ...registered,
        registeredKey: KeyPair.fingerprint(identity.public),
        ...(isOwnKey ? { identity: KeyPair.freeze(identity) } : {})
      }))

      const run: Transport["Type"]["run"] = (serve) =>
        Effect.gen(function* () {
          const runFork = Runtime.runFork(yield* Effect.runtime<never>())
          const registerAgain = Effect.map(Effect.mapError(register, Dialer.asDialFailure), (next) => {
            registered = next
          })
          const open: Effect.Effect<RelaySocket.RelaySocket, RelaySocket.DialError | TransportFailed> = Effect.suspend(
            () =>
              RelaySocket.dial(registered.url, {
                maxMessageBytes: maxFrameBytes - maxOverheadBytes,
                headers: { "x-request-id": `req_${randomBytes(16).toString("hex")}` }
              })
          ).pipe(Effect.tapError((error) => (asksToRegister(error) ? registerAgain : Effect.void)))

          const attach = (socket: RelaySocket.RelaySocket, hooks: Dialer.Hooks) => {
            const { registrationId } = registered
            NoiseMux.run(socket, {
              ...hooks,
              limits,
              maxMessageBytes,
              identity,
              environmentId,
              registrationId,
              validate: (client, authorization, onVerdict) => {
                const fiber = runFork(
                  Effect.map(NoiseRegistry.validate(target, auth, registrationId, client, authorization), onVerdict)
                )
                return () => fiber.unsafeInterruptAsFork(fiber.id())
              }
            })
          }
          return yield* Dialer.run(serve, { open, attach })
        })

      return { address: redactUrl(first.url), run }
    })
  )
