/**
 * Serves one peer, from its first message to the end of its connection.
 *
 * Messages pass directly from the transport's callback to the dispatcher, and answers back: a queue and a fiber in
 * between would cost more than most requests.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import type { ParseError } from "effect/ParseResult"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { AckParams, AttachmentAckParams } from "../protocol/Acknowledgements.js"
import { Code, type Failure } from "../protocol/Failure.js"
import { clip, formatParseError } from "../protocol/Schemas.js"
import * as Wire from "../protocol/Wire.js"
import { Admission, limits } from "./Admission.js"
import * as ConnectionCore from "./ConnectionCore.js"
import * as Dispatcher from "./Dispatcher.js"
import * as Grant from "./Grant.js"
import type { Handlers } from "./Handlers.js"
import { toPeer } from "./HttpExchanges.js"
import { decode, routeOf } from "./MethodCodecs.js"
import * as Notifier from "./Notifier.js"
import * as Outbox from "./Outbox.js"
import { type Ending, highWaterBytes, type Peer, shuttingDown } from "./Peer.js"
import { parentOf } from "./RequestReport.js"
import { ResponseBudget } from "./ResponseBudget.js"
import { SessionLimits } from "./SessionLimits.js"
import * as SessionMetrics from "./SessionMetrics.js"
import { SessionRegistry } from "./SessionRegistry.js"
import * as Sink from "./Sink.js"

/** Above this multiple of the high-water mark, small answers wait too. */
const smallAnswerFactor = 4

const decodeAcknowledgement = Schema.decodeUnknownEither(AckParams)
const decodeAttachmentAcknowledgement = Schema.decodeUnknownEither(AttachmentAckParams)

/** Serves a peer. When the scope closes, everything started for it ends. */
const serveIn = (peer: Peer, scope: Scope.Scope) =>
  Effect.gen(function* () {
    const { handshakeTimeoutMs, concurrentRequests } = yield* SessionLimits
    const { requestBudget, handshakes } = yield* SessionRegistry
    /** The handshake is complete, or the connection has ended: the deadline for it is over. */
    let shaken = () => {}
    let ending: Ending | undefined
    let ended = () => {}
    const outbox = Outbox.make(peer, () => onSpace())
    const responseBudget = new ResponseBudget(() => outbox.isSending() || outbox.buffered() > highWaterBytes)

    const { probe } = peer
    const isAlive =
      probe === undefined
        ? Effect.succeed(true)
        : Effect.async<boolean>((resume) => probe((answer) => resume(Effect.succeed(answer))))

    const core = yield* ConnectionCore.make(
      {
        peer: peer.name,
        grant: peer.grant,
        key: peer.key,
        owner: peer.owner,
        offer: { binaryOutput: peer.sendBinary !== undefined, outputWindow: true },
        resumable: peer.resumable,
        responseBudget,
        maxContentBytes: outbox.maxContentBytes,
        notify: (method, params) => outbox.send(Wire.notification(method, params)),
        isAlive,
        end: (ending) => end(ending),
        hold: (isHeld) => admission.hold(isHeld),
        buffered: () => outbox.buffered(),
        deltas: toPeer(outbox),
        sinkOf: (frames, capabilities) => Sink.toPeer(outbox, frames, () => capabilities().binaryOutput === true),
        notifierOf: (capabilities, { frames }) => new Notifier.PeerNotifier(outbox, capabilities, frames),
        onEnd: () => {
          shaken()
          if (ending === undefined) peer.close(shuttingDown)
          outbox.stop()
          const { code, reason } = ending ?? { code: 1001, reason: "" }
          return { code, reason: clip(reason) }
        }
      },
      scope
    )

    const fail = (id: Wire.RequestId, cause: Cause.Cause<Failure>) => {
      // At the end of the connection answers are not sent. Otherwise the request was interrupted because its session or
      // process has ended.
      if (core.isLeaving() && Cause.isInterruptedOnly(cause)) return
      const { code, message } = Dispatcher.refusalOf(cause)
      const interruption = Cause.isInterruptedOnly(cause) ? core.interruption() : undefined
      outbox.send(Wire.failure(id, code, interruption ?? message))
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
      const parent = trace === undefined ? undefined : parentOf(trace)
      const release = admission.begin(size)
      core.run({ id, method: route.tag, arrivedAt: performance.now(), parent }, payload.right, (exit) => {
        if (Exit.isSuccess(exit)) outbox.succeed(id, exit.value, route.encode)
        else fail(id, exit.cause)
        release()
      })
    }

    const onInitialized = () => {
      const confirmed = core.confirm()
      if (confirmed === "too early") {
        return end({ code: 1002, reason: "received `initialized` notification before `initialize`" })
      }
      if (confirmed === "repeated") return
      shaken()
    }

    /** Handles acknowledgements. One that is malformed, or that was not expected, ends the connection. */
    const acknowledging =
      <A>(
        method: string,
        decode: (params: unknown) => Either.Either<A, ParseError>,
        acknowledge: (params: A) => boolean
      ) =>
      (params: unknown) => {
        const found = decode(params)
        if (Either.isLeft(found)) return end({ code: 1002, reason: `${method}: ${formatParseError(found.left)}` })
        if (acknowledge(found.right)) return
        end({ code: 1002, reason: `unexpected notification method: ${method}` })
      }
    const onAcknowledged = acknowledging("process/ack", decodeAcknowledgement, ({ processId, seq }) =>
      core.acknowledge(processId, seq)
    )
    const onAttachmentAcknowledged = acknowledging(
      "attachment/ack",
      decodeAttachmentAcknowledgement,
      ({ attachmentId, seq }) => core.acknowledgeAttachment(attachmentId, seq)
    )

    const malformed = (detail: string) => {
      SessionMetrics.answered("malformed", Code.invalidRequest, 0)
      if (peer.malformedEnds === true) return end({ code: 1002, reason: detail })
      outbox.send(Wire.failure(Wire.malformedId, Code.invalidRequest, `${peer.malformedPrefix}: ${detail}`))
    }

    const receive = (text: string) => {
      const message = Wire.parse(text, Wire.maxRequestValues)
      switch (message._tag) {
        case "Request":
          if (isCongested() && routeOf(message.method)?.isLarge === true) return admission.defer(text)
          return serveRequest(message, text.length)
        case "Notification":
          if (message.method === "initialized") return onInitialized()
          if (message.method === "process/ack") return onAcknowledged(message.params)
          if (message.method === "attachment/ack") return onAttachmentAcknowledged(message.params)
          return end({ code: 1002, reason: `unexpected notification method: ${message.method}` })
        case "Response":
          return end({ code: 1002, reason: `unexpected client response for request id ${message.id}` })
        case "Malformed":
          return malformed(message.detail)
      }
    }

    const refuse = (text: string) => {
      const message = Wire.parse(text, Wire.maxRequestValues)
      if (message._tag !== "Request") return accept(text)
      const { id, method } = message
      SessionMetrics.answered(routeOf(method)?.tag ?? "unknown", Code.invalidRequest, 0)
      outbox.send(Wire.failure(id, Code.invalidRequest, requestBudget.refusal.message))
    }

    /** A defect in handling one message must not crash the server. */
    const accept = (text: string) => {
      try {
        receive(text)
      } catch (defect) {
        core.fork(
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
        refuse,
        pause: peer.pause,
        resume: peer.resume
      },
      { ...limits, maxServed: concurrentRequests },
      requestBudget
    )

    // A peer that never completes the handshake must not hold a connection forever.
    if (peer.resumable) {
      shaken = yield* handshakes.set(() =>
        end({ code: 1008, reason: `no \`initialized\` within handshakeTimeoutMs (${handshakeTimeoutMs})` })
      )
    }

    if (peer.grant.expiresAtMs !== undefined) {
      const endExpired = Effect.sync(() => {
        core.endAttachments("expired")
        end({ code: 1008, reason: "the token has expired; connect again with a new one" })
      })
      yield* Effect.zipRight(Grant.expired(peer.grant.expiresAtMs), endExpired).pipe(
        Effect.interruptible,
        Effect.forkIn(scope)
      )
    }

    if (peer.grant.share !== undefined) {
      const leave = peer.grant.share.enter((reason) => {
        core.endAttachments("revoked")
        end({ code: 1008, reason })
      })
      yield* Scope.addFinalizer(scope, Effect.sync(leave))
    }

    /** The peer has read data: continue waiting work, as far as there is space. */
    const onSpace = () => {
      responseBudget.advance()
      if (!isCongested()) core.onDrain()
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
 * Serves a peer until it disconnects, violates the protocol, or this is interrupted. Then carries out what was
 * received, interrupts waiting requests, and releases the session.
 */
export const serve = (peer: Peer): Effect.Effect<void, never, SessionRegistry | Handlers> =>
  // The scope is passed explicitly: as a service it would cost each connection a copy of the server's context.
  Effect.acquireUseRelease(
    Scope.make(),
    (scope) => serveIn(peer, scope),
    (scope, exit) => Scope.close(scope, exit)
  )
