/**
 * A server in this process: the same handlers and the same order as over a transport, without one. Nothing is written
 * or read as text, and the bytes of output are copied once.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import * as Headers from "@effect/platform/Headers"
import type * as RpcGroup from "@effect/rpc/RpcGroup"
import type { FromServer, RequestId } from "@effect/rpc/RpcMessage"
import * as RpcServer from "@effect/rpc/RpcServer"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Runtime from "effect/Runtime"
import type * as Scope from "effect/Scope"
import { ExecApi } from "../protocol/ExecApi.js"
import { Code, codeOf, type Failure } from "../protocol/Failure.js"
import type { Handlers } from "../session/Handlers.js"
import { CurrentHandshake, Handshake } from "../session/Handshake.js"
import type { Notifier } from "../session/Notifier.js"
import { SessionRegistry } from "../session/SessionRegistry.js"
import * as Api from "./Api.js"
import { ServerError } from "./ClientError.js"
import type { Channel, ChannelEvents, Connector } from "./Connector.js"

type Requests = RpcGroup.Rpcs<typeof ExecApi>

const toNotifier = (notify: ChannelEvents["onNotification"], lifecycle: boolean): Notifier => {
  let stopped = false
  const tell = (notification: Api.Notification) => {
    if (!stopped) notify(notification)
  }
  return {
    onStarted: ({ processId }, pid) => {
      if (lifecycle) tell({ method: "process/started", params: { processId, pid } })
    },
    onFailed: (processId, message) => {
      if (lifecycle) tell({ method: "process/failed", params: { processId, message } })
    },
    onOutput: ({ processId }, seq, stream, bytes) =>
      // Lent for the time of this call only.
      tell({ method: "process/output", params: { processId, seq, stream, chunk: Buffer.from(bytes) } }),
    onRestarted: ({ processId }, seq, attempt, pid) =>
      tell({ method: "process/restarted", params: { processId, seq, attempt, pid } }),
    onExited: ({ processId }, seq, exit, timedOut) => {
      const params = { processId, seq, ...exit, sandboxDenied: false, ...(timedOut ? { timedOut } : {}) }
      tell({ method: "process/exited", params })
    },
    onClosed: ({ processId }, seq) => tell({ method: "process/closed", params: { processId, seq } }),
    onDrain: () => {},
    stop: () => {
      stopped = true
    }
  }
}

const refusal = (cause: Cause.Cause<Failure>): ServerError =>
  Option.match(Cause.failureOption(cause), {
    onNone: () => new ServerError({ code: Code.internal, reason: "internal error" }),
    onSome: (failure) => new ServerError({ code: codeOf(failure), reason: failure.message })
  })

const open = (events: ChannelEvents): Effect.Effect<Channel, never, Scope.Scope | SessionRegistry | Handlers> =>
  Effect.gen(function* () {
    const registry = yield* SessionRegistry
    const handshake = new Handshake(false)
    let notifier: Notifier | undefined

    // Added first, so that it runs last: when no request is under way any more.
    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => {
        notifier?.stop()
        const current = handshake.initialized
        return current === undefined ? Effect.void : registry.detach(current.session, false)
      })
    )

    const onFromServer = (message: FromServer<Requests>): Effect.Effect<void> =>
      Effect.suspend(() => {
        if (message._tag !== "Exit") return Effect.void
        const id = Number(message.requestId)
        if (Exit.isSuccess(message.exit)) {
          events.onAnswer(id, Either.right(message.exit.value))
          return Effect.void
        }
        const { cause } = message.exit
        // Only the end of the client interrupts requests, and nobody waits for answers then.
        if (Cause.isInterruptedOnly(cause)) return Effect.void
        events.onAnswer(id, Either.left(refusal(cause)))
        return Cause.isFailure(cause) ? Effect.void : Effect.logError("a request died of a defect", cause)
      })

    const server = yield* RpcServer.makeNoSerialization(ExecApi, {
      onFromServer,
      disableTracing: true,
      disableClientAcks: true,
      disableFatalDefects: true
    })
    const context = Context.make(CurrentHandshake, handshake)
    const runFork = Runtime.runFork(Runtime.make({ ...(yield* Effect.runtime<never>()), context }))

    return {
      request: (id, { method, params }) => {
        runFork(
          server.write(0, {
            _tag: "Request",
            id: BigInt(id) as RequestId,
            tag: method,
            // Checked by the schema of this very method.
            payload: params as never,
            headers: Headers.empty
          })
        )
      },
      initialized: () => {
        const current = handshake.confirm()
        if (current === undefined) return
        notifier = toNotifier(events.onNotification, current.capabilities.lifecycle === true)
        current.session.advance({ _tag: "ClientReady", notifier })
      }
    } satisfies Channel
  })

/** The way to the server of this process. Its processes end with the client: there is no connection to lose. */
export const connector: Effect.Effect<Connector, never, SessionRegistry | Handlers> = Effect.map(
  Effect.context<SessionRegistry | Handlers>(),
  (context) => ({
    resumable: false,
    prepare: Api.prepareValue,
    open: (events) =>
      Effect.mapInputContext(open(events), (scope: Context.Context<Scope.Scope>) => Context.merge(context, scope))
  })
)
