/**
 * The client's session, which outlives its connections, and the requests in flight.
 *
 * When the connection is lost, idempotent requests wait for the next one and are resent in their original order; the
 * others fail.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import type { Capabilities, EnvironmentInfo, Method } from "../protocol/ExecApi.js"
import type { ProcessId } from "../protocol/Ids.js"
import * as Api from "./Api.js"
import {
  AnswerTimeout,
  type ClientError,
  InitializeTimeout,
  isRetryable,
  ProtocolViolation,
  SessionLost,
  TooManyRequests,
  TransportClosed
} from "./ClientError.js"
import * as ConnectionState from "./ConnectionState.js"
import type { Channel, ChannelEvents, Connector } from "./Connector.js"
import * as ServerFeatures from "./ServerFeatures.js"
import * as Subject from "./Subject.js"

/** Options of a session. */
export interface Options {
  /** The name of the client in `initialize`. */
  readonly clientName?: string | undefined
  /** The optional features to request. */
  readonly capabilities?: Capabilities | undefined
  /** The deadline of `initialize`; 10 seconds. */
  readonly initializeTimeout?: Duration.DurationInput | undefined
  /**
   * The deadline of requests that a server answers soon; a minute. Those whose work has no known size, like `fs/walk`,
   * may take ten times as long, and those that wait for something, like `process/wait`, as long as they like. Time that
   * this client is reconnecting or does not read does not count.
   */
  readonly answerTimeout?: Duration.DurationInput | undefined
  /** How long to reconnect; 25 seconds, less than servers keep a detached session. Zero: not at all. */
  readonly recoverFor?: Duration.DurationInput | undefined
  /** The detached session to resume; without it, a new session is opened. */
  readonly resumeSessionId?: string | undefined
  /** Resume the session even if it is attached, and close its other connection. */
  readonly takeover?: boolean | undefined
  /** A name for the session, unique among those of the same subject. */
  readonly name?: string | undefined
  /**
   * How long the server keeps the session after a lost connection; `forever`: until it is ended. By default, 30 seconds,
   * or what the server's settings say.
   */
  readonly sessionTtl?: Duration.DurationInput | "forever" | undefined
}

/** The delay between reconnection attempts, in milliseconds. */
const retryMs = 100

/** A connection that lasts this long was a success; when it is lost, the client connects again at once. */
const settledMs = 5000

/** The longest delay before connecting again after connections that were of no use, in milliseconds. */
const maxRetryMs = 5000

/** The number of checks for overdue answers within the time limit of an answer. */
const checksPerAnswer = 4

/** The most requests in flight, including those whose caller was interrupted. */
const maxUnanswered = 65536

/**
 * The most requests sent and not answered, to servers of other generations. They serve one after another, and some end a
 * connection on which more than 128 wait.
 */
const maxSentToOthers = 64

/** The most characters of requests in flight; a larger request is accepted only if it is alone. */
const maxUnansweredSize = 67108864

/** A request in flight, sent or waiting for the connection. */
interface Pending {
  readonly prepared: Api.Prepared
  readonly answer: Deferred.Deferred<unknown, ClientError>
  sent: boolean
  /** The number of checks that found it unanswered. */
  checks: number
  /** Whether the caller was interrupted and nobody awaits the response. */
  abandoned: boolean
}

/** The current connection, or one whose handshake is in progress. */
interface Live {
  readonly scope: Scope.CloseableScope
  readonly over: Deferred.Deferred<never, ClientError>
  error: ClientError | undefined
  /** Whether the server answered a request or said something by itself. */
  isUseful: boolean
}

/** A session with a server. */
export interface ClientSession {
  /** The server's result of `initialize`. */
  readonly server: Pick<Api.Result<"initialize">, "sessionId" | "capabilities">
  /** What the server supports. */
  readonly features: ServerFeatures.ServerFeatures
  /** The server's machine. */
  readonly environmentInfo: EnvironmentInfo
  /**
   * Sends a request, now or after reconnecting. Interruption discards the response, but does not cancel the request:
   * the protocol cannot do that.
   */
  readonly call: Api.Call
  /** Like `call`, but fails with `Unsupported` if the server does not know the method. */
  readonly ask: Api.Call
  /** Sends requests back to back, and waits for all responses. */
  readonly callAll: <M extends Method>(
    method: M,
    params: ReadonlyArray<Api.Params<M>>
  ) => Effect.Effect<ReadonlyArray<Api.Result<M>>, ClientError>
  /** Calls a listener synchronously for each notification of one method, until the returned function is called. */
  readonly subscribe: <M extends Api.NotificationMethod>(
    method: M,
    listener: (params: Api.NotificationParams<M>) => void
  ) => () => void
  /** Tells the server that the output of a process was consumed up to `seq`, if there is a connection. */
  readonly acknowledgeOutput: (processId: ProcessId, seq: number) => void
  /** The same of an attachment. */
  readonly acknowledge: (attachmentId: number, seq: number) => void
  /** Calls a listener for each change of the connection's state, until the returned function is called. */
  readonly watch: (listener: (state: ConnectionState.State) => void) => () => void
  readonly state: () => ConnectionState.State
  /**
   * Stops reading from the server (backpressure), so that it pauses its processes, until the returned function is
   * called.
   */
  readonly hold: () => () => void
}

/** Opens a session; the scope ends it. */
export const make = (
  connector: Connector,
  {
    clientName = "exec-server-client",
    capabilities,
    initializeTimeout = "10 seconds",
    answerTimeout = "1 minute",
    recoverFor = "25 seconds",
    resumeSessionId,
    takeover = false,
    name,
    sessionTtl
  }: Options
): Effect.Effect<ClientSession, ClientError, Scope.Scope> =>
  Effect.gen(function* () {
    const initializeTimeoutMs = Duration.toMillis(initializeTimeout)
    const answerTimeoutMs = Duration.toMillis(answerTimeout)
    const recoverForMs = Duration.toMillis(recoverFor)
    const pending = new Map<number, Pending>()
    const watchers = new Set<(state: ConnectionState.State) => void>()
    const listeners = new Map<string, Set<(params: never) => void>>()
    let state: ConnectionState.State = ConnectionState.State.Connecting()
    let current: Live | undefined
    let unansweredSize = 0
    let sentCount = 0
    let maxSent = maxSentToOthers
    let holds = 0
    let nextId = 1
    let writeIds = false

    const settle = (id: number, answer: Exit.Exit<unknown, ClientError>) => {
      const request = pending.get(id)
      if (request === undefined) return
      pending.delete(id)
      unansweredSize -= request.prepared.text.length
      if (request.sent) sentCount--
      Deferred.unsafeDone(request.answer, Exit.isFailure(answer) ? Subject.named(request.prepared, answer) : answer)
      if (state._tag === "Connected") sendWaiting(state.channel)
    }

    const send = (channel: Channel, id: number, request: Pending) => {
      request.sent = true
      request.checks = 0
      sentCount++
      channel.request(id, request.prepared)
    }

    /** Sends what waits for an earlier answer or for the connection, in order. */
    const sendWaiting = (channel: Channel) => {
      if (sentCount === pending.size) return
      for (const [id, request] of pending) {
        if (sentCount >= maxSent) return
        if (!request.sent) send(channel, id, request)
      }
    }

    const advance = (event: ConnectionState.Event) => {
      const before = state
      const after = ConnectionState.transition(before, event)
      if (after === before) return
      state = after
      if (after._tag === "Connected") {
        if (holds > 0) after.channel.pause()
        for (const request of pending.values()) request.sent = false
        sentCount = 0
        sendWaiting(after.channel)
      }
      for (const [id, request] of Array.from(pending)) {
        if (after._tag === "Ended") settle(id, Exit.fail(after.error))
        else if (
          after._tag === "Recovering" &&
          (request.abandoned || (request.sent && !Api.mayRepeat(request.prepared, writeIds)))
        ) {
          settle(id, Exit.fail(after.disconnect))
        }
      }
      for (const watcher of Array.from(watchers)) watcher(after)
    }

    const post = (method: Method, params: unknown): { readonly id: number; readonly answer: Pending["answer"] } => {
      const id = nextId++
      const answer = Deferred.unsafeMake<unknown, ClientError>(FiberId.none)
      const refuse = (error: ClientError) => {
        Deferred.unsafeDone(answer, Exit.fail(error))
        return { id, answer }
      }
      if (state._tag === "Ended") return refuse(state.error)
      const prepared = connector.prepare(method, params)
      if (Either.isLeft(prepared)) return refuse(prepared.left)
      const size = prepared.right.text.length
      if (pending.size >= maxUnanswered) return refuse(new TooManyRequests({ limit: `${maxUnanswered} requests` }))
      if (unansweredSize > 0 && unansweredSize + size > maxUnansweredSize) {
        return refuse(new TooManyRequests({ limit: `${maxUnansweredSize} characters of requests` }))
      }
      const request = { prepared: prepared.right, answer, sent: false, checks: 0, abandoned: false }
      unansweredSize += size
      pending.set(id, request)
      if (state._tag === "Connected" && sentCount < maxSent) send(state.channel, id, request)
      return { id, answer }
    }

    const abandon = (id: number) => {
      const request = pending.get(id)
      if (request === undefined) return
      request.abandoned = true
      if (!request.sent) settle(id, Exit.void)
    }

    const callAll = (method: Method, params: ReadonlyArray<unknown>) =>
      Effect.suspend(() => {
        const posted = params.map((each) => post(method, each))
        return Effect.onInterrupt(
          Effect.forEach(posted, ({ answer }) => Deferred.await(answer)),
          () =>
            Effect.sync(() => {
              for (const { id } of posted) abandon(id)
            })
        )
      })

    /** Fails the requests whose answers are overdue. */
    const failOverdue = () => {
      if (state._tag !== "Connected" || holds > 0) return
      const sent = Array.from(pending).filter(([, { sent }]) => sent)
      const isTaken = sent.some(([, { prepared }]) => Api.takesTurns(prepared) && Api.patienceFor(prepared) > 1)
      for (const [id, request] of sent) {
        const patience = Api.patienceFor(request.prepared)
        if (patience === 1 && isTaken && Api.takesTurns(request.prepared)) continue
        if (++request.checks <= patience * checksPerAnswer) continue
        const { method } = request.prepared
        settle(id, Exit.fail(new AnswerTimeout({ method, afterMs: patience * answerTimeoutMs })))
      }
    }

    const kept = {
      ...(name === undefined ? {} : { name }),
      ...(sessionTtl === undefined
        ? {}
        : { sessionTtlMs: sessionTtl === "forever" ? null : Duration.toMillis(sessionTtl) })
    }

    const handshake = (live: Live, resumeSessionId: string | null, takeover: boolean) =>
      Effect.gen(function* () {
        const initializeId = nextId++
        const answer = Deferred.unsafeMake<unknown, ClientError>(FiberId.none)
        const events: ChannelEvents = {
          onAnswer: (id, result) => {
            const exit = Either.match(result, { onLeft: Exit.fail, onRight: Exit.succeed })
            if (id === initializeId) return Deferred.unsafeDone(answer, exit)
            live.isUseful = true
            settle(id, exit)
          },
          onNotification: ({ method, params }) => {
            live.isUseful = true
            for (const listener of listeners.get(method) ?? []) listener(params as never)
          },
          onEnd: (error) => {
            live.error = error
            Deferred.unsafeDone(live.over, Exit.fail(error))
            const recoverable = connector.resumable && recoverForMs > 0 && isRetryable(error)
            if (live === current) advance(ConnectionState.Event.Lost({ error, recoverable }))
          }
        }
        const channel = yield* Scope.extend(connector.open(events), live.scope)
        const asked = {
          clientName,
          resumeSessionId,
          ...kept,
          ...(takeover ? { takeover } : {}),
          ...(capabilities === undefined ? {} : { capabilities })
        }
        const prepared = yield* connector.prepare("initialize", asked)
        channel.request(initializeId, prepared)
        const result = yield* Effect.raceFirst(Deferred.await(answer), Deferred.await(live.over)).pipe(
          Effect.timeoutFail({
            duration: initializeTimeoutMs,
            onTimeout: () => new InitializeTimeout({ afterMs: initializeTimeoutMs })
          })
        )
        // The cast is safe: the channel decoded it as a result of this method.
        const server = result as Api.Result<"initialize">
        if (resumeSessionId !== null && server.sessionId !== resumeSessionId) {
          const detail = `exec-server initialized an unexpected session ${server.sessionId}`
          return yield* new ProtocolViolation({ detail })
        }
        return { channel, server }
      })

    /** One connection attempt; it leaves a usable connection or nothing. */
    const connect = (resumeSessionId: string | null, takeover: boolean) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.gen(function* () {
          const over = yield* Deferred.make<never, ClientError>()
          const live: Live = { scope: yield* Scope.make(), over, error: undefined, isUseful: false }
          return yield* restore(handshake(live, resumeSessionId, takeover)).pipe(
            Effect.flatMap(({ channel, server }) =>
              Effect.suspend((): Effect.Effect<Api.Result<"initialize">, ClientError> => {
                if (live.error !== undefined) return Effect.fail(live.error)
                current = live
                channel.initialized()
                advance(ConnectionState.Event.Opened({ channel }))
                return Effect.succeed(server)
              })
            ),
            Effect.onError(() => Scope.close(live.scope, Exit.void))
          )
        })
      )

    const recover = (sessionId: string, disconnect: ClientError, withinMs: number, delayMs: number) => {
      let cause = disconnect
      // The server may not have noticed yet that the previous connection is lost.
      return connect(sessionId, true).pipe(
        Effect.tapError((error) =>
          Effect.sync(() => {
            cause = error
          })
        ),
        Effect.retry({ while: isRetryable, schedule: Schedule.spaced(retryMs) }),
        Effect.delay(delayMs),
        Effect.timeoutFail({ duration: withinMs, onTimeout: () => cause }),
        Effect.catchAll((cause) =>
          Effect.sync(() => advance(ConnectionState.Event.GaveUp({ error: new SessionLost({ disconnect, cause }) })))
        )
      )
    }

    const endCurrent = Effect.suspend(() =>
      current === undefined ? Effect.void : Scope.close(current.scope, Exit.void)
    )

    /**
     * Reconnects after each lost connection, until the session ends: at once at first, after a delay if several ended
     * soon, and after growing delays if those were of no use either. All of these together are one attempt to recover.
     */
    const keepConnected = (sessionId: string) =>
      Effect.gen(function* () {
        let brief = 0
        let useless = 0
        let lostAt = 0
        while (state._tag !== "Ended" && current !== undefined) {
          const openedAt = yield* Clock.currentTimeMillis
          yield* Effect.ignore(Deferred.await(current.over))
          const now = yield* Clock.currentTimeMillis
          const isSettled = now - openedAt >= settledMs
          brief = isSettled ? 0 : brief + 1
          useless = isSettled || current.isUseful ? 0 : useless + 1
          if (useless < 2) lostAt = now
          yield* endCurrent
          const pauseMs = Math.min(maxRetryMs, recoverForMs / 5, retryMs * 2 ** Math.max(0, useless - 1))
          if (state._tag === "Recovering") {
            const withinMs = Math.max(0, lostAt + recoverForMs - now)
            yield* recover(sessionId, state.disconnect, withinMs, brief < 2 ? 0 : pauseMs)
          }
        }
      })

    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => {
        advance(ConnectionState.Event.Closed({ error: new TransportClosed({ reason: "the client has ended" }) }))
        return endCurrent
      })
    )
    const server = yield* connect(resumeSessionId ?? null, takeover)
    yield* Effect.forkScoped(Effect.interruptible(keepConnected(server.sessionId)))
    if (Number.isFinite(answerTimeoutMs)) {
      const look = Effect.repeat(Effect.sync(failOverdue), Schedule.spaced(answerTimeoutMs / checksPerAnswer))
      yield* Effect.forkScoped(Effect.interruptible(look))
    }

    // The cast is safe: results are decoded by the schema of their method.
    const call = ((method: Method, params: unknown) =>
      Effect.map(callAll(method, [params]), ([result]) => result)) as Api.Call

    const { features, environmentInfo } = yield* ServerFeatures.detect(server, call).pipe(
      Effect.timeoutFail({
        duration: initializeTimeoutMs,
        onTimeout: () => new InitializeTimeout({ afterMs: initializeTimeoutMs })
      })
    )
    writeIds = features.writeIds
    if (features.extensions) maxSent = maxUnanswered
    // Other servers ignore these members.
    const asksMore = Object.keys(kept).length > 0 || takeover
    yield* ServerFeatures.need(features, features.extensions || !asksMore, "name, keep or take over a session")

    const hold = () => {
      if (holds++ === 0 && state._tag === "Connected") state.channel.pause()
      return () => {
        if (--holds === 0 && state._tag === "Connected") state.channel.resume()
      }
    }

    const add = <A>(set: Set<A>, member: A) => {
      set.add(member)
      return () => void set.delete(member)
    }

    return {
      server,
      features,
      environmentInfo,
      call,
      ask: ServerFeatures.asking(call, features),
      callAll: callAll as ClientSession["callAll"],
      subscribe: (method, listener) => {
        const set = listeners.get(method) ?? new Set()
        listeners.set(method, set)
        return add<(params: never) => void>(set, listener)
      },
      acknowledgeOutput: (processId, seq) => {
        if (state._tag === "Connected") state.channel.acknowledgeOutput(processId, seq)
      },
      acknowledge: (attachmentId, seq) => {
        if (state._tag === "Connected") state.channel.acknowledge(attachmentId, seq)
      },
      watch: (listener) => add(watchers, listener),
      state: () => state,
      hold
    } satisfies ClientSession
  })
