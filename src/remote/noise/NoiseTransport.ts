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
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import * as Runtime from "effect/Runtime"
import { redactUrl } from "../../protocol/Redact.js"
import type { Peer } from "../../session/Peer.js"
import { Transport, type TransportFailed } from "../../transport/Transport.js"
import { TransportLimits } from "../../transport/TransportLimits.js"
import type * as Registration from "../Registration.js"
import type { EndpointError } from "../RelayEndpoint.js"
import { maxOverheadBytes } from "../RelayFrame.js"
import { RelayLimits } from "../RelayLimits.js"
import * as RelaySocket from "../RelaySocket.js"
import { RemoteAuth } from "../RemoteAuth.js"
import type * as KeyPair from "./KeyPair.js"
import { maxFrameBytes } from "./NoiseFrame.js"
import * as NoiseMux from "./NoiseMux.js"
import * as NoiseRegistry from "./NoiseRegistry.js"

/** The waits between attempts, in milliseconds: doubling, with jitter. */
const waitMs = { first: 1000, last: 30000 } as const

/** A socket that has lived as long starts the waits anew, in milliseconds. */
const steadyMs = 10000

/** How long the close handshake with the rendezvous may take, in milliseconds. */
const goodbyeMs = 2000

/** Options of an encrypted relay transport. */
export interface Options {
  readonly target: Registration.Target
  readonly identity: KeyPair.KeyPair
  /** The registration to begin with. */
  readonly first: NoiseRegistry.Registered
  readonly onRegistered: (environmentId: string) => Effect.Effect<void>
}

/** Whether the rendezvous wants another registration before the next attempt. */
const asksToRegister = ({ status = 0 }: RelaySocket.DialError) => status >= 400 && status < 500

/** Serves a registration and those that follow it, for as long as the transport runs. */
export const layer = ({ target, identity, first, onRegistered }: Options): Layer.Layer<Transport, never, RemoteAuth> =>
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

      const run = <R>(serve: (peer: Peer) => Effect.Effect<void, never, R>): Effect.Effect<void, TransportFailed, R> =>
        Effect.scoped(
          Effect.gen(function* () {
            let current: { readonly socket: RelaySocket.RelaySocket; readonly gone: Effect.Effect<void> } | undefined
            // Added first, so that it runs last, when every peer was notified.
            yield* Effect.addFinalizer(() =>
              Effect.suspend(() => {
                if (current === undefined) return Effect.void
                current.socket.close(1001, "the executor is shutting down")
                return Effect.asVoid(Effect.timeoutOption(Effect.interruptible(current.gone), goodbyeMs))
              })
            )
            const fork = yield* FiberSet.makeRuntime<R>()
            const runFork = Runtime.runFork(yield* Effect.runtime<never>())
            let registered = first
            let nextWaitMs: number = waitMs.first

            const accept: NoiseMux.Options["accept"] = (peer, onEnded) => {
              const ended = Effect.async<void>((resume) => onEnded(() => resume(Effect.void)))
              const close = Effect.sync(() => peer.close({ code: 1001, reason: "closed" }))
              fork(Effect.ensuring(serve(peer), Effect.zipRight(close, ended)))
            }

            /** Serves one socket; the inner effect completes when it is gone. */
            const attach = (socket: RelaySocket.RelaySocket) =>
              Effect.sync(() => {
                const ended = Deferred.unsafeMake<void>(FiberId.none)
                const gone = Deferred.await(ended)
                current = { socket, gone }
                const { registrationId } = registered
                NoiseMux.run(socket, {
                  limits,
                  maxMessageBytes,
                  identity,
                  environmentId,
                  registrationId,
                  accept,
                  validate: (client, authorization, onVerdict) => {
                    const fiber = runFork(
                      Effect.map(NoiseRegistry.validate(target, auth, registrationId, client, authorization), onVerdict)
                    )
                    return () => fiber.unsafeInterruptAsFork(fiber.id())
                  },
                  warn: (message) => runFork(Effect.logWarning(message)),
                  onEnd: () => Deferred.unsafeDone(ended, Exit.void)
                })
                return gone
              })

            /** Serves one socket until it is gone. */
            const connect = Effect.suspend(() => {
              const headers = { "x-request-id": `req_${randomBytes(16).toString("hex")}` }
              let openedAt = Number.POSITIVE_INFINITY
              // If this were interrupted between opening and serving, the socket would have no owner.
              return Effect.uninterruptibleMask((restore) =>
                restore(
                  RelaySocket.dial(registered.url, { maxMessageBytes: maxFrameBytes - maxOverheadBytes, headers })
                ).pipe(
                  Effect.tap(() => {
                    openedAt = performance.now()
                  }),
                  Effect.flatMap(attach),
                  Effect.flatMap(restore)
                )
              ).pipe(
                Effect.tap(() => {
                  if (performance.now() - openedAt >= steadyMs) nextWaitMs = waitMs.first
                })
              )
            })

            const wait = Effect.suspend(() => {
              const longestMs = nextWaitMs
              nextWaitMs = Math.min(2 * longestMs, waitMs.last)
              return Effect.flatMap(Random.nextRange(longestMs / 2, longestMs), Effect.sleep)
            })

            const logged = ({ message }: EndpointError | RelaySocket.DialError) => Effect.logWarning(message)

            // A registration that fails later does not end the service: the old one may still hold, and the rendezvous
            // asks again if not.
            const registerAgain = Effect.catchAll(
              Effect.map(register, (next) => {
                registered = next
              }),
              logged
            )

            return yield* connect.pipe(
              Effect.matchEffect({
                onSuccess: () => Effect.logWarning("the relay socket is gone; another one will follow"),
                onFailure: (error) =>
                  asksToRegister(error) ? Effect.zipRight(logged(error), registerAgain) : logged(error)
              }),
              Effect.zipRight(wait),
              Effect.forever
            )
          })
        )

      return { address: redactUrl(first.url), run }
    })
  )
