/**
 * Serves one peer, from its first message to the end of its connection.
 *
 * Messages go from the transport's callback straight to the dispatcher, and answers straight back: a queue and a fiber
 * between them would cost more than most requests.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as Scope from "effect/Scope"
import { HttpLimits } from "../http/HttpLimits.js"
import { Code, type Failure } from "../protocol/Failure.js"
import { clip } from "../protocol/Schemas.js"
import * as Wire from "../protocol/Wire.js"
import { Admission, limits } from "./Admission.js"
import { AnswerRoom } from "./AnswerRoom.js"
import { CurrentConnection } from "./CurrentConnection.js"
import * as Dispatcher from "./Dispatcher.js"
import type { Handlers } from "./Handlers.js"
import { CurrentHandshake, Handshake } from "./Handshake.js"
import { CurrentHttpExchanges, HttpExchanges, toPeer } from "./HttpExchanges.js"
import * as Notifier from "./Notifier.js"
import * as Outbox from "./Outbox.js"
import { type Ending, highWaterBytes, type Peer } from "./Peer.js"
import * as RequestReport from "./RequestReport.js"
import { decode, type Route, routeOf } from "./Routes.js"
import { SessionLimits } from "./SessionLimits.js"
import * as SessionMetrics from "./SessionMetrics.js"
import { SessionRegistry } from "./SessionRegistry.js"
import * as Tracing from "./Tracing.js"

/** How many times over the high-water mark even small answers stop. */
const smallAnswerFactor = 4

/** A request that is being served. */
interface Request extends RequestReport.Request {
  readonly id: Wire.RequestId
  readonly route: Route
}

/** Serves a peer; when the scope closes, what was begun for it ends. */
const serveIn = (peer: Peer, scope: Scope.Scope) =>
  Effect.gen(function* () {
    const registry = yield* SessionRegistry
    const { handshakeTimeoutMs, concurrentRequests } = yield* SessionLimits
    const handshake = new Handshake(peer.sendBinary !== undefined)
    const report = yield* RequestReport.make(peer.name, handshake)
    let notifier: Notifier.Notifier | undefined
    let ending: Ending | undefined
    let leaving = false
    let ended = () => {}
    const ends: Array<Effect.Effect<void>> = []
    const outbox = Outbox.make(peer, () => onSpace())
    const room = new AnswerRoom(() => outbox.isSending() || outbox.buffered() > highWaterBytes)

    SessionMetrics.connected.unsafeUpdate(1, [])
    SessionMetrics.connections.unsafeModify(1, [])
    // Added first, so that it runs last: when no request is under way any more.
    yield* Scope.addFinalizer(
      scope,
      Effect.suspend(() => {
        SessionMetrics.connections.unsafeModify(-1, [])
        if (ending === undefined) peer.close({ code: 1001, reason: "the server is shutting down" })
        notifier?.stop()
        outbox.stop()
        const current = handshake.initialized
        const detached =
          current === undefined
            ? Effect.void
            : registry.detach(current.session, current.dialect === "session" && peer.resumable)
        const { code, reason } = ending ?? { code: 1001, reason: "" }
        return Effect.all(ends, { discard: true }).pipe(
          Effect.zipRight(detached),
          Effect.zipRight(
            Effect.logDebug("connection.ended").pipe(
              Effect.annotateLogs({ peer: peer.name, code, reason: clip(reason) })
            )
          )
        )
      })
    )
    yield* Effect.logDebug("connection.opened").pipe(Effect.annotateLogs("peer", peer.name))

    // Before the dispatcher, so that its requests are interrupted first.
    const http = new HttpExchanges(toPeer(outbox), yield* HttpLimits)
    yield* Scope.addFinalizer(scope, http.end)

    const dispatcher = yield* Dispatcher.make(
      Context.make(CurrentHandshake, handshake).pipe(
        Context.add(CurrentHttpExchanges, http),
        Context.add(CurrentConnection, {
          peer: peer.name,
          room,
          maxContentBytes: outbox.maxContentBytes,
          notify: (method, params) => outbox.send(Wire.notification(method, params)),
          onEnd: (effect) => ends.push(effect)
        })
      ),
      scope
    )
    // Added last, so that it runs first: from here on the end of the connection interrupts requests.
    yield* Scope.addFinalizer(
      scope,
      Effect.sync(() => {
        leaving = true
      })
    )

    const fail = (request: Request, cause: Cause.Cause<Failure>) => {
      // At the end of the connection nobody waits for answers; otherwise what it was about has ended under it.
      if (leaving && Cause.isInterruptedOnly(cause)) return
      const { code, message } = Dispatcher.refusalOf(cause)
      outbox.send(Wire.failure(request.id, code, message))
      if (Dispatcher.isDefect(cause)) dispatcher.fork(report.died(request, cause))
    }

    const answer = (request: Request, exit: Dispatcher.RequestExit) => {
      let answered = exit
      try {
        if (Exit.isSuccess(exit)) outbox.succeed(request.id, exit.value, request.route.encode)
      } catch (defect) {
        answered = Exit.die(defect)
      }
      if (Exit.isFailure(answered)) fail(request, answered.cause)
      report.answered(request, answered)
    }

    const end = (reason: Ending) => {
      if (ending !== undefined) return
      ending = reason
      admission.end()
      peer.close(reason)
      ended()
    }

    const serveRequest = ({ id, method, params, trace }: Extract<Wire.Message, { _tag: "Request" }>, size: number) => {
      const route = routeOf(method)
      if (route === undefined) {
        SessionMetrics.answered("unknown", Code.methodNotFound, 0)
        return outbox.send(Wire.failure(id, Code.methodNotFound, `unknown method: ${clip(method)}`))
      }
      const payload = decode(route, params)
      if (Either.isLeft(payload)) {
        SessionMetrics.answered(route.tag, Code.invalidParams, 0)
        return outbox.send(Wire.failure(id, Code.invalidParams, payload.left))
      }
      const parent = trace === undefined ? undefined : Tracing.parentOf(trace)
      const request = { id, method: route.tag, route, arrivedAt: performance.now(), parent }
      const release = admission.begin(size)
      const onExit = (exit: Dispatcher.RequestExit) => {
        answer(request, exit)
        release()
      }
      dispatcher.run(route.tag, payload.right, onExit, report.around(request))
    }

    const onInitialized = () => {
      if (handshake.initialized === undefined) {
        return end({ code: 1002, reason: "received `initialized` notification before `initialize`" })
      }
      const current = handshake.confirm()
      if (current === undefined) return
      deadline?.unsafeInterruptAsFork(FiberId.none)
      deadline = undefined
      notifier = Notifier.make(outbox, current.capabilities)
      current.session.advance({ _tag: "ClientReady", notifier })
    }

    const malformed = (detail: string) => {
      SessionMetrics.answered("malformed", Code.invalidRequest, 0)
      outbox.send(Wire.failure(Wire.malformedId, Code.invalidRequest, `${peer.malformedPrefix}: ${detail}`))
    }

    const receive = (text: string) => {
      const message = Wire.parse(text)
      switch (message._tag) {
        case "Request":
          if (isCongested() && routeOf(message.method)?.isLarge === true) return admission.defer(text)
          return serveRequest(message, text.length)
        case "Notification":
          if (message.method === "initialized") return onInitialized()
          return end({ code: 1002, reason: `unexpected notification method: ${message.method}` })
        case "Response":
          return end({ code: 1002, reason: `unexpected client response for request id ${message.id}` })
        case "Malformed":
          return malformed(message.detail)
      }
    }

    /** A bug in what a message leads to must not end the server that others use. */
    const accept = (text: string) => {
      try {
        receive(text)
      } catch (defect) {
        dispatcher.fork(
          Effect.logError("a message led to a defect", Cause.die(defect)).pipe(Effect.annotateLogs("peer", peer.name))
        )
        malformed("internal error")
      }
    }

    const isCongested = () => outbox.buffered() > highWaterBytes
    const admission = new Admission(
      {
        isCongested,
        isBlocked: () => outbox.buffered() > smallAnswerFactor * highWaterBytes,
        serve: accept,
        pause: peer.pause,
        resume: peer.resume
      },
      { ...limits, maxServed: concurrentRequests }
    )

    // Whoever never gets as far as a session must not hold a connection for ever.
    let deadline = peer.resumable
      ? yield* Effect.sync(() => {
          end({ code: 1008, reason: `no \`initialized\` within handshakeTimeoutMs (${handshakeTimeoutMs})` })
        }).pipe(Effect.delay(handshakeTimeoutMs), Effect.interruptible, Effect.forkIn(scope))
      : undefined

    /** The peer has taken something: whoever waited for that may go on, as far as there is space. */
    const onSpace = () => {
      room.look()
      if (!isCongested()) {
        notifier?.onDrain()
        http.onDrain()
      }
      admission.advance()
    }

    yield* Effect.async<void>((resume) => {
      ended = () => resume(Effect.void)
      peer.listen({
        onMessage: (text) => admission.receive(text),
        onMalformed: malformed,
        onDrain: () => {
          outbox.onDrain()
          onSpace()
        },
        onEnd: () => {
          admission.drain()
          ending ??= { code: 1000, reason: "" }
          ended()
        }
      })
    })
  })

/**
 * Serves a peer until it is gone, breaks the protocol, or this is interrupted; then carries out what was received,
 * interrupts what waits, and gives the session back.
 */
export const serve = (peer: Peer): Effect.Effect<void, never, SessionRegistry | Handlers> =>
  // The scope is not among the services: a connection would keep a copy of the server's, for this one more.
  Effect.acquireUseRelease(
    Scope.make(),
    (scope) => serveIn(peer, scope),
    (scope, exit) => Scope.close(scope, exit)
  )
