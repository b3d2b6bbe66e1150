/**
 * The transport-independent part of a connection: the handshake, requests, the events of the session's processes, and
 * HTTP exchanges. It takes decoded requests and returns their exits.
 *
 * @since 0.1.0
 */
import type * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { HttpLimits } from "../http/HttpLimits.js"
import * as Verbose from "../internal/Verbose.js"
import type { Capabilities } from "../protocol/ExecApi.js"
import { type Failure, SessionEnding } from "../protocol/Failure.js"
import type { ProcessId } from "../protocol/Ids.js"
import type { EndReason } from "./Attachment.js"
import { Attachments } from "./Attachments.js"
import { type Connection, CurrentConnection } from "./CurrentConnection.js"
import * as Dispatcher from "./Dispatcher.js"
import type { FramePool } from "./FramePool.js"
import type { Handlers } from "./Handlers.js"
import { CurrentHandshake, Handshake, type Initialized, type Offer } from "./Handshake.js"
import { CurrentHttpExchanges, type Deltas, HttpExchanges } from "./HttpExchanges.js"
import type { Requests } from "./MethodCodecs.js"
import type { Notifier } from "./Notifier.js"
import type { OpenConnection } from "./OpenConnection.js"
import type { Ending } from "./Peer.js"
import * as RequestReport from "./RequestReport.js"
import * as SessionMetrics from "./SessionMetrics.js"
import { type Session, SessionRegistry } from "./SessionRegistry.js"
import type { Sink } from "./Sink.js"

/** How long a connection to a lost client may take to release its session, in milliseconds. */
const releaseMs = 2000

/** The differences between kinds of connections. */
export interface Options
  extends Pick<Connection, "peer" | "grant" | "key" | "owner" | "responseBudget" | "maxContentBytes" | "notify"> {
  /** The capabilities that can be granted. */
  readonly offer: Offer
  /** Whether the client can resume its session after the connection ends, if its dialect supports that. */
  readonly resumable: boolean
  /** How long its session retains closed processes, if not as long as the limits say. */
  readonly retentionMs?: number | undefined
  /** Whether the client still responds. Probes it if it was silent. Bounded by a few seconds. */
  readonly isAlive: Effect.Effect<boolean>
  /** Starts to end the connection. */
  readonly end: (ending: Ending) => void
  /** Makes requests that arrive wait. Absent: the client is a part of this server. */
  readonly hold?: (isHeld: boolean) => void
  /** The number of sent bytes that have not left this process. */
  readonly buffered: () => number
  /** Receives the pieces of streamed HTTP bodies. */
  readonly deltas: Deltas
  /** Makes the notifier for process events, for a client with these capabilities. */
  readonly notifierOf: (capabilities: Capabilities, session: Session) => Notifier
  /** Makes what the client is sent about processes and sessions that it watches. */
  readonly sinkOf: (frames: FramePool, capabilities: () => Capabilities) => Sink
  /** Called when no request is in flight any more. Returns fields to log at the end. */
  readonly onEnd: () => { readonly [name: string]: string | number }
}

/** One connection. */
export interface ConnectionCore {
  /** Runs a request. Calls `respond` once, with its exit; if `respond` throws, again with the defect. */
  readonly run: (
    request: RequestReport.Request,
    payload: unknown,
    respond: (exit: Dispatcher.RequestExit) => void
  ) => void
  /** Handles `initialized`. Returns the connection's state the first time; otherwise says what is wrong. */
  readonly confirm: () => Initialized | "repeated" | "too early"
  /** The client has consumed the output of a process up to `seq`. Returns whether it was granted a window. */
  readonly acknowledge: (processId: ProcessId, seq: number) => boolean
  /** The client has shown the output of an attachment up to `seq`. Returns whether it has ever attached. */
  readonly acknowledgeAttachment: (attachmentId: number, seq: number) => boolean
  /** What permitted the attachments has ended: tells why, and ends them. */
  readonly endAttachments: (reason: EndReason) => void
  /** The client accepts data again: resumes reading paused processes and HTTP bodies. */
  readonly onDrain: () => void
  /** Whether the connection is ending: its requests are being interrupted, and their answers are not sent. */
  readonly isLeaving: () => boolean
  /** Why requests are interrupted although it is not ending; undefined if there is nothing to say. */
  readonly interruption: () => string | undefined
  /** Runs an effect that belongs to the connection but is not a request. */
  readonly fork: (effect: Effect.Effect<void>) => void
}

/**
 * Opens a connection. When the scope closes, requests are interrupted and awaited, HTTP exchanges are aborted, and the
 * session is released.
 */
export const make = (
  options: Options,
  scope: Scope.Scope
): Effect.Effect<ConnectionCore, never, SessionRegistry | Handlers> =>
  Effect.gen(function* () {
    const { peer, grant, key, owner, responseBudget, maxContentBytes, notify } = options
    const registry = yield* SessionRegistry
    const handshake = new Handshake(options.offer, grant)
    const client = { peer, subject: grant.id }
    const report = yield* RequestReport.make(client, handshake)
    const ends: Array<Effect.Effect<void>> = []
    const held: Array<readonly [what: string, count: () => number]> = []
    /** Most connections watch nothing. */
    let attachments: Attachments | undefined
    const watched = () => {
      attachments ??= new Attachments(options.sinkOf(registry.frames, () => handshake.initialized?.capabilities ?? {}))
      return attachments
    }
    let notifier: Notifier | undefined
    let leaving = false
    const released = Deferred.unsafeMake<void>(FiberId.none)

    // A token for one session or process has a session only to reach that one.
    const resumable = options.resumable && grant.scope === undefined
    const isResumable = () => handshake.initialized?.dialect === "session" && resumable

    const http = new HttpExchanges(options.deltas, yield* HttpLimits)

    /** Ends the connection in favour of another one. Returns whether the session was released in time. */
    const giveUp = (reason: string) =>
      Effect.suspend(() => {
        // Without resumption the session would end with the connection.
        if (!isResumable()) return Effect.succeed(false)
        options.end({ code: 1008, reason })
        return Effect.map(Effect.timeoutOption(Deferred.await(released), releaseMs), Option.isSome)
      })

    const connection: Connection = {
      peer,
      grant,
      key,
      owner,
      responseBudget,
      maxContentBytes,
      notify,
      attachments: watched,
      resumable,
      retentionMs: options.retentionMs,
      keepsSession: isResumable,
      endIfGone: Effect.suspend(() => (isResumable() ? options.isAlive : Effect.succeed(true))).pipe(
        Effect.flatMap((isAlive) =>
          isAlive ? Effect.succeed(false) : giveUp("the client has resumed the session on another connection")
        )
      ),
      yieldSession: giveUp(SessionEnding.takenOver),
      end: options.end,
      onEnd: (effect) => ends.push(effect),
      holds: (what, count) => held.push([what, count])
    }
    const dispatcher = yield* Dispatcher.make(
      Context.make(CurrentHandshake, handshake).pipe(
        Context.add(CurrentHttpExchanges, http),
        Context.add(CurrentConnection, connection)
      )
    )
    let interruption: string | undefined
    const open: OpenConnection = {
      isResumable,
      isInProcess: options.hold === undefined,
      processes: () => {
        const all = handshake.initialized?.session.supervisor.list() ?? []
        return all.filter((process) => process.info().running).length
      },
      hold: (isHeld) => options.hold?.(isHeld),
      // The names are methods.
      unanswered: () => dispatcher.running.names as ReadonlyArray<Requests["_tag"]>,
      interrupt: (which, reason) => {
        interruption = reason
        dispatcher.running.interrupt((name) => which(name as Requests["_tag"]))
      },
      held: () => [
        ...held.map(([what, count]) => ({ what, count: count() })),
        { what: "HTTP bodies", count: http.open },
        { what: "attachments", count: attachments?.size ?? 0 }
      ],
      buffered: options.buffered,
      end: options.end
    }

    /** When no request is in flight any more. */
    const release = Effect.suspend(() => {
      SessionMetrics.connections.unsafeModify(-1, [])
      notifier?.stop()
      attachments?.close()
      const told = options.onEnd()
      const current = handshake.initialized
      const detached = current === undefined ? Effect.void : registry.detach(current.session, isResumable())
      return ends
        .reduceRight((rest, end) => Effect.zipRight(end, rest), detached)
        .pipe(
          Effect.flatMap(() => {
            Deferred.unsafeDone(released, Exit.void)
            registry.connections.delete(open)
            return Verbose.debug("connection.ended", () => ({ ...client, ...told }))
          })
        )
    })
    SessionMetrics.connected.unsafeUpdate(1, [])
    SessionMetrics.connections.unsafeModify(1, [])
    registry.connections.add(open)
    // One finalizer for all: requests end first, then streamed bodies, and what they belong to comes last.
    yield* Scope.addFinalizer(
      scope,
      Effect.suspend(() => {
        leaving = true
        return Effect.ensuring(Effect.zipRight(dispatcher.end, http.end), release)
      })
    )
    yield* Verbose.debug("connection.opened", () => client)

    const died = (request: RequestReport.Request, cause: Cause.Cause<Failure>) => {
      if (Dispatcher.isDefect(cause)) dispatcher.fork(report.died(request, cause))
    }

    return {
      run: (request, payload, respond) => {
        const onExit = (exit: Dispatcher.RequestExit) => {
          let answered = exit
          try {
            respond(exit)
          } catch (defect) {
            answered = Exit.die(defect)
            respond(answered)
          }
          if (Exit.isFailure(answered)) died(request, answered.cause)
          report.answered(request, answered)
        }
        dispatcher.run(request.method, payload, onExit, report.around(request))
      },
      confirm: () => {
        if (handshake.initialized === undefined) return "too early"
        const current = handshake.confirm()
        if (current === undefined) return "repeated"
        notifier = options.notifierOf(current.capabilities, current.session)
        current.session.advance({ _tag: "ClientReady", notifier })
        return current
      },
      acknowledge: (processId, seq) => {
        notifier?.acknowledge(processId, seq)
        return handshake.initialized?.capabilities.outputWindow !== undefined
      },
      acknowledgeAttachment: (id, seq) => attachments?.acknowledge(id, seq) ?? false,
      endAttachments: (reason) => attachments?.end(reason),
      onDrain: () => {
        notifier?.onDrain()
        attachments?.onDrain()
        http.onDrain()
      },
      isLeaving: () => leaving,
      interruption: () => interruption,
      fork: dispatcher.fork
    }
  })
