/**
 * Peers behind a rendezvous: the executor connects to it, and every relay stream on its socket is a peer. If the socket
 * is lost, its streams end, but their sessions do not, and the executor reconnects.
 *
 * @since 0.1.0
 */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as Runtime from "effect/Runtime"
import * as Schedule from "effect/Schedule"
import * as PlainText from "../internal/PlainText.js"
import { redactUrl } from "../protocol/Redact.js"
import { FramePool } from "../session/FramePool.js"
import type { Peer } from "../session/Peer.js"
import { Transport, TransportFailed } from "../transport/Transport.js"
import { TransportLimits } from "../transport/TransportLimits.js"
import { type EndpointError, RelayEndpoint } from "./RelayEndpoint.js"
import { RelayLimits } from "./RelayLimits.js"
import * as RelayMux from "./RelayMux.js"
import * as RelaySocket from "./RelaySocket.js"

/**
 * The backoff between attempts: from one second, doubling up to half a minute, with 20 % jitter so that executors
 * spread.
 */
const waits = Schedule.exponential("1 second").pipe(Schedule.union(Schedule.spaced("30 seconds")), Schedule.jittered)

/** A socket that lasted this long was served: the waits begin anew after it. In milliseconds. */
const lastingMs = 20_000

/** How long the close handshake with the rendezvous may take, in milliseconds. */
const goodbyeMs = 2000

const sleepNever = Effect.dieMessage("the waits between attempts never end")

/**
 * Peers behind a rendezvous. Building the layer fails without an address. After that, retryable errors are retried.
 *
 * @category layers
 */
export const layer: Layer.Layer<Transport, EndpointError, RelayEndpoint> = Layer.effect(
  Transport,
  Effect.gen(function* () {
    const { url } = yield* RelayEndpoint
    const { maxMessageBytes } = yield* TransportLimits
    const limits = yield* RelayLimits
    const frames = new FramePool()
    const first = yield* url
    // A longer frame ends the socket, a longer message only its stream.
    const longestMessage = Math.max(maxMessageBytes, limits.maxWholeBytes)

    const run = <R>(serve: (peer: Peer) => Effect.Effect<void, never, R>): Effect.Effect<void, TransportFailed, R> =>
      Effect.scoped(
        Effect.gen(function* () {
          let current: RelaySocket.RelaySocket | undefined
          let gone: Effect.Effect<void> = Effect.void
          // Added first, so that it runs last, when every peer was notified.
          yield* Effect.addFinalizer(() =>
            Effect.suspend(() => {
              current?.close(1001, "the executor is shutting down")
              return Effect.asVoid(Effect.timeoutOption(Effect.interruptible(gone), goodbyeMs))
            })
          )
          const fork = yield* FiberSet.makeRuntime<R>()
          const runFork = Runtime.runFork(yield* Effect.runtime<never>())
          const driver = yield* Schedule.driver(waits)
          const wait = Effect.orElse(driver.next(undefined), () => sleepNever)

          const accept: RelayMux.Options["accept"] = (peer, onEnded) => {
            const ended = Effect.async<void>((resume) => onEnded(() => resume(Effect.void)))
            const close = Effect.sync(() => peer.close({ code: 1000, reason: "closed" }))
            fork(Effect.ensuring(serve(peer), Effect.zipRight(close, ended)))
          }

          /** Serves one socket; the inner effect completes with why it ended when the socket is gone. */
          const attach = (socket: RelaySocket.RelaySocket) =>
            Effect.sync(() => {
              const ended = Deferred.unsafeMake<string>(FiberId.none)
              current = socket
              gone = Effect.asVoid(Deferred.await(ended))
              RelayMux.run(socket, {
                limits,
                maxMessageBytes,
                frames,
                accept,
                warn: (message) => runFork(Effect.logWarning(message)),
                onEnd: (code, reason) => {
                  current = undefined
                  const why = reason === "" ? `${code}` : `${code}: ${PlainText.plain(reason)}`
                  Deferred.unsafeDone(ended, Exit.succeed(why))
                }
              })
              return Deferred.await(ended)
            })

          const connect = (address: string) =>
            // If this were interrupted between opening and serving, the socket would have no owner.
            Effect.uninterruptibleMask((restore) =>
              restore(RelaySocket.dial(address, { maxMessageBytes: longestMessage })).pipe(
                Effect.flatMap(attach),
                Effect.flatMap(restore),
                Effect.timed
              )
            ).pipe(
              Effect.tap(([lasted]) => (Duration.toMillis(lasted) < lastingMs ? Effect.void : driver.reset)),
              Effect.flatMap(([, why]) =>
                Effect.logWarning(`the relay socket is gone (${why}); another one will follow`)
              ),
              Effect.catchAll(({ message }) => Effect.logWarning(message))
            )

          /** The next address. An error that cannot be retried, such as another executor's presence, ends the transport. */
          const address: Effect.Effect<string, TransportFailed> = Effect.suspend(() =>
            Effect.zipRight(wait, url).pipe(
              Effect.catchAll(({ message, retryable }) =>
                retryable
                  ? Effect.zipRight(Effect.logWarning(`${message}; registering again`), address)
                  : Effect.fail(new TransportFailed({ message }))
              )
            )
          )

          return yield* Effect.iterate(first, {
            while: () => true,
            body: (next) => Effect.zipRight(connect(next), address)
          })
        })
      ).pipe(Effect.asVoid)

    return { address: redactUrl(first), run }
  })
)
