/**
 * Connects to a server in this process: the same handlers and the same order as over a transport, but without encoding;
 * output is copied once.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import * as LateLimits from "../internal/LateLimits.js"
import type { Capabilities } from "../protocol/ExecApi.js"
import * as ConnectionCore from "../session/ConnectionCore.js"
import * as Dispatcher from "../session/Dispatcher.js"
import type { Handlers } from "../session/Handlers.js"
import { exitedParams, type Notifier } from "../session/Notifier.js"
import { OutputPauses } from "../session/OutputPauses.js"
import { ResponseBudget } from "../session/ResponseBudget.js"
import { SessionRegistry } from "../session/SessionRegistry.js"
import * as Api from "./Api.js"
import { ServerError, TransportClosed } from "./ClientError.js"
import type { Channel, ChannelEvents, Connector } from "./Connector.js"

/** Who such a client is in logs, spans and the audit log, and what its session keeps. */
export interface Options {
  /** The name of its connection; `in process` by default. */
  readonly peer?: string | undefined
  /** The subject that its session belongs to; `in process` by default. */
  readonly subject?: string | undefined
  /** How long processes can be asked about after their close; the server's `closedProcessRetentionMs` by default. */
  readonly retention?: Duration.DurationInput | undefined
}

const inProcess = "in process"

/** Converts notifications to events. While `isHeld`, processes are not read (backpressure). */
const toNotifier = (
  notify: ChannelEvents["onNotification"],
  capabilities: Capabilities,
  isHeld: () => boolean
): Notifier => {
  const { lifecycle, outputWindow } = capabilities
  let stopped = false
  const pauses = new OutputPauses(outputWindow)
  const tell = (notification: Api.Notification) => {
    if (!stopped) notify(notification)
  }
  return {
    onStarted: ({ processId }, pid) => {
      if (lifecycle === true) tell({ method: "process/started", params: { processId, pid } })
    },
    onFailed: (processId, message) => {
      if (lifecycle === true) tell({ method: "process/failed", params: { processId, message } })
    },
    onOutput: (process, seq, stream, bytes) => {
      const { processId } = process
      // Copy: the buffer is valid only during this call.
      tell({ method: "process/output", params: { processId, seq, stream, chunk: Buffer.from(bytes) } })
      if (!stopped) pauses.sent(process, seq, bytes.length, isHeld())
    },
    onRestarted: ({ processId }, seq, attempt, pid) =>
      tell({ method: "process/restarted", params: { processId, seq, attempt, pid } }),
    onExited: (process, seq, exit, timedOut) =>
      tell({ method: "process/exited", params: exitedParams(process, seq, exit, timedOut, capabilities) }),
    onClosed: (process, seq) => {
      pauses.forget(process)
      tell({ method: "process/closed", params: { processId: process.processId, seq } })
    },
    acknowledge: (processId, seq) => pauses.acknowledge(processId, seq),
    onDrain: () => pauses.drained(),
    stop: () => {
      stopped = true
      pauses.stop()
    }
  }
}

/** The same callbacks, of which none is called after `onEnd`. */
const untilEnd = (events: ChannelEvents): ChannelEvents => {
  let hasEnded = false
  return {
    onAnswer: (id, answer) => {
      if (!hasEnded) events.onAnswer(id, answer)
    },
    onNotification: (notification) => {
      if (!hasEnded) events.onNotification(notification)
    },
    onEnd: (error) => {
      if (hasEnded) return
      hasEnded = true
      events.onEnd(error)
    }
  }
}

const open = (
  { peer = inProcess, subject = inProcess, retention }: Options,
  given: ChannelEvents
): Effect.Effect<Channel, never, Scope.Scope | SessionRegistry | Handlers> =>
  Effect.gen(function* () {
    const events = untilEnd(given)
    let held = false
    const core = yield* ConnectionCore.make(
      {
        peer,
        grant: { id: subject },
        offer: { binaryOutput: false, outputWindow: true },
        resumable: false,
        retentionMs: retention === undefined ? undefined : Duration.toMillis(retention),
        responseBudget: new ResponseBudget(() => false),
        maxContentBytes: Number.POSITIVE_INFINITY,
        notify: (method, params) =>
          // The cast is safe: the parameters of these notifications are the same in JSON.
          events.onNotification({ method, params } as Api.Notification),
        isAlive: Effect.succeed(true),
        end: ({ reason }) => events.onEnd(new TransportClosed({ reason })),
        buffered: () => 0,
        deltas: {
          send: (params) => events.onNotification({ method: "http/request/bodyDelta", params }),
          buffered: () => (held ? Number.POSITIVE_INFINITY : 0)
        },
        // The client's types are those of its notifications together.
        sinkOf: () => ({
          output: (attachmentId, seq, stream, chunk) =>
            events.onNotification({ method: "attachment/output", params: { attachmentId, seq, stream, chunk } }),
          notify: (method, params) => events.onNotification({ method, params } as Api.Notification),
          isCongested: () => held
        }),
        notifierOf: (capabilities) => toNotifier(events.onNotification, capabilities, () => held),
        onEnd: () => ({})
      },
      yield* Effect.scope
    )

    return {
      request: (id, { method, params }) => {
        const request = { id: String(id), method, arrivedAt: performance.now(), parent: undefined }
        core.run(request, params, (exit) => {
          if (Exit.isSuccess(exit)) return events.onAnswer(id, Either.right(exit.value))
          const { code, message: reason } = Dispatcher.refusalOf(exit.cause)
          events.onAnswer(id, Either.left(new ServerError({ code, reason })))
        })
      },
      initialized: () => {
        core.confirm()
      },
      acknowledgeOutput: (processId, seq) => void core.acknowledge(processId, seq),
      acknowledge: (attachmentId, seq) => core.acknowledgeAttachment(attachmentId, seq),
      pause: () => {
        held = true
      },
      resume: () => {
        held = false
        core.onDrain()
      }
    } satisfies Channel
  })

/** Connects to the server in this process. Processes end with the client, which does not connect again. */
export const connector = (options: Options = {}): Effect.Effect<Connector, never, SessionRegistry | Handlers> =>
  Effect.gen(function* () {
    const context = yield* Effect.context<SessionRegistry | Handlers>()
    yield* LateLimits.refuse("sessions", Context.get(context, SessionRegistry))
    return {
      resumable: false,
      prepare: Api.prepareValue,
      open: (events) =>
        Effect.mapInputContext(open(options, events), (scope: Context.Context<Scope.Scope>) =>
          Context.merge(context, scope)
        )
    }
  })
