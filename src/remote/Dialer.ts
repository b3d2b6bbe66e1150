/**
 * Keeps an executor connected: opens a socket, serves it until it is gone, and opens another one after a wait. There is
 * at most one socket at a time. What is the same for each kind of socket is here.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as FiberSet from "effect/FiberSet"
import * as Runtime from "effect/Runtime"
import * as Schedule from "effect/Schedule"
import { Handover } from "../internal/Handover.js"
import * as PlainText from "../internal/PlainText.js"
import type { Peer } from "../session/Peer.js"
import { TransportFailed } from "../transport/Transport.js"
import type { EndpointError } from "./RelayEndpoint.js"
import { DialError } from "./RelaySocket.js"

/** The waits between attempts: from the first, doubling up to the longest. */
export interface Waits {
  readonly first: Duration.DurationInput
  readonly longest: Duration.DurationInput
  /** Each is multiplied by a random number of this range, so that executors spread. */
  readonly jitter: { readonly min: number; readonly max: number }
}

/** The waits of relays. */
export const relayWaits: Waits = { first: "1 second", longest: "30 seconds", jitter: { min: 0.5, max: 1 } }

const scheduleOf = ({ first, longest, jitter }: Waits) =>
  Schedule.exponential(first).pipe(Schedule.union(Schedule.spaced(longest)), Schedule.jitteredWith(jitter))

/** With the milliseconds that it took. `Effect.timed` fails on a test clock that stands between two nanoseconds. */
const timed = Effect.summarized(Clock.currentTimeMillis, (begin, end) => end - begin)

/** A socket that lasted this long was served: the waits begin anew after it. In milliseconds. */
const lastingMs = 20_000

/** How long the close handshake may take, in milliseconds. */
const goodbyeMs = 2000

const sleepNever = Effect.dieMessage("the waits between attempts never end")

/** What serving a socket needs. */
export interface Hooks {
  /** Serves a peer in a fiber. Calls `onEnded` when nothing more can be sent to it. */
  readonly accept: (peer: Peer, onEnded: (ended: () => void) => void) => void
  readonly warn: (message: string) => void
  /** The socket is gone. To be called once, after all of its peers have ended. */
  readonly onEnd: (code: number, reason: string) => void
}

/** Options of a dialer of sockets of type `S`. */
export interface Options<S> {
  /** Opens the next socket. A `DialError` is logged, and followed by another attempt; other failures end the dialer. */
  readonly open: Effect.Effect<S, DialError | TransportFailed>
  /** Serves an open socket. */
  readonly attach: (socket: S, hooks: Hooks) => void
  /** `relayWaits` by default. */
  readonly waits?: Waits
}

/**
 * What a failed registration means to an executor that has served: another attempt, unless it would fail as well, as with
 * another executor in its place.
 */
export const asDialFailure = ({ message, retryable }: EndpointError): DialError | TransportFailed =>
  retryable
    ? new DialError({ message: `${message}; registering again`, status: undefined })
    : new TransportFailed({ message })

/** Serves the peers of one socket after another, until it is interrupted or `open` fails for good. */
export const run = <S extends { readonly close: (code: number, reason: string) => void }, R>(
  serve: (peer: Peer) => Effect.Effect<void, never, R>,
  { open, attach, waits = relayWaits }: Options<S>
): Effect.Effect<void, TransportFailed, R> =>
  Effect.scoped(
    Effect.gen(function* () {
      let current: { readonly socket: S; readonly gone: Effect.Effect<unknown> } | undefined
      // Added first, so that it runs last, when every peer was notified.
      yield* Effect.addFinalizer(() =>
        Effect.suspend(() => {
          if (current === undefined) return Effect.void
          const { socket, gone } = current
          socket.close(1001, "the executor is shutting down")
          return Effect.asVoid(Effect.timeoutOption(Effect.interruptible(gone), goodbyeMs))
        })
      )
      const fork = yield* FiberSet.makeRuntime<R>()
      const runFork = Runtime.runFork(yield* Effect.runtime<never>())
      const driver = yield* Schedule.driver(scheduleOf(waits))
      const wait = Effect.orElse(driver.next(undefined), () => sleepNever)

      const accept: Hooks["accept"] = (peer, onEnded) => {
        const ended = Effect.async<void>((resume) => onEnded(() => resume(Effect.void)))
        const close = Effect.sync(() => peer.close({ code: 1000, reason: "closed" }))
        fork(Effect.ensuring(serve(peer), Effect.zipRight(close, ended)))
      }

      /** Serves one socket; the inner effect completes with why it ended when the socket is gone. */
      const serveSocket = (socket: S) =>
        Effect.sync(() => {
          const ended = Deferred.unsafeMake<string>(FiberId.none)
          const gone = Deferred.await(ended)
          current = { socket, gone }
          attach(socket, {
            accept,
            warn: (message) => runFork(Effect.logWarning(message)),
            onEnd: (code, reason) => {
              current = undefined
              const why = reason === "" ? `${code}` : `${code}: ${PlainText.plain(reason)}`
              Deferred.unsafeDone(ended, Exit.succeed(why))
            }
          })
          return gone
        })

      // If this were interrupted between opening and serving, the socket would have no owner.
      const attempt = Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(restore(open), (socket) => timed(Effect.flatMap(serveSocket(socket), restore)))
      ).pipe(
        Effect.tap(([lastedMs]) => (lastedMs < lastingMs ? Effect.void : driver.reset)),
        Effect.flatMap(([, why]) => Effect.logWarning(`the relay socket is gone (${why}); another one will follow`)),
        Effect.catchTag("DialError", ({ message }) => Effect.logWarning(message))
      )

      const { serving } = yield* Handover
      serving()
      return yield* Effect.forever(Effect.zipRight(attempt, wait))
    })
  )
