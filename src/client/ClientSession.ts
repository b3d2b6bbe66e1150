/**
 * What outlives a client's connection: its session with the server, and the requests under way.
 *
 * A request goes from the caller straight to the connection, and its answer straight back. When the connection is lost,
 * what may be asked twice waits for the next one and is sent again in the order it was sent first; the rest fails.
 *
 * @since 0.1.0
 */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import type { Capabilities, EnvironmentInfo, Method } from "../protocol/ExecApi.js"
import * as Api from "./Api.js"
import {
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

/** What can be chosen about a session. */
export interface Options {
  /** How the client introduces itself. */
  readonly clientName?: string | undefined
  /** What is asked for beyond the plain protocol. */
  readonly capabilities?: Capabilities | undefined
  /** How long the server may take to answer `initialize`; 10 seconds. */
  readonly initializeTimeout?: Duration.DurationInput | undefined
  /** How long a lost connection is tried to be replaced; 25 seconds, less than servers wait. Zero: not at all. */
  readonly recoverFor?: Duration.DurationInput | undefined
  /** The session to take up again, that an earlier client has left; a new one without it. */
  readonly resumeSessionId?: string | undefined
}

/** Between two attempts to replace a lost connection, in milliseconds. */
const retryMs = 100

/** Requests that may wait for an answer, those nobody waits for any more included. */
const maxUnanswered = 65536

/** Characters of requests that may wait for an answer; a single larger one passes alone. */
const maxUnansweredSize = 67108864

/** A request that was sent, or will be. */
interface Pending {
  readonly prepared: Api.Prepared
  readonly answer: Deferred.Deferred<unknown, ClientError>
  sent: boolean
  /** Nobody waits for the answer any more. */
  abandoned: boolean
}

/** A connection that is in use, or about to be. */
interface Live {
  readonly scope: Scope.CloseableScope
  readonly over: Deferred.Deferred<never, ClientError>
  error: ClientError | undefined
}

/** A session with a server. */
export interface ClientSession {
  /** What the server said of the session. */
  readonly server: Pick<Api.Result<"initialize">, "sessionId" | "capabilities">
  /** What the server serves. */
  readonly features: ServerFeatures.ServerFeatures
  /** What it said of the machine it runs on. */
  readonly environmentInfo: EnvironmentInfo
  /**
   * Sends a request now, or when the connection is back. Interruption gives up the answer, not the request: the
   * protocol has no way to take one back.
   */
  readonly call: Api.Call
  /** The same for what not every server knows: fails with `Unsupported` where the method is unknown. */
  readonly ask: Api.Call
  /** Sends requests one right after the other, and waits for all answers. */
  readonly callAll: <M extends Method>(
    method: M,
    params: ReadonlyArray<Api.Params<M>>
  ) => Effect.Effect<ReadonlyArray<Api.Result<M>>, ClientError>
  /** Hears every notification of one method, in the callback that read it, until the returned function is called. */
  readonly subscribe: <M extends Api.NotificationMethod>(
    method: M,
    listener: (params: Api.NotificationParams<M>) => void
  ) => () => void
  /** Hears every change of the connection's state, likewise. */
  readonly watch: (listener: (state: ConnectionState.State) => void) => () => void
  readonly state: () => ConnectionState.State
  /** Takes nothing from the server, so that it holds up its processes, until the returned function is called. */
  readonly hold: () => () => void
}

/** Opens a session; it ends with the scope. */
export const make = (
  connector: Connector,
  {
    clientName = "exec-server-client",
    capabilities,
    initializeTimeout = "10 seconds",
    recoverFor = "25 seconds",
    resumeSessionId
  }: Options
): Effect.Effect<ClientSession, ClientError, Scope.Scope> =>
  Effect.gen(function* () {
    const initializeTimeoutMs = Duration.toMillis(initializeTimeout)
    const recoverForMs = Duration.toMillis(recoverFor)
    const pending = new Map<number, Pending>()
    const watchers = new Set<(state: ConnectionState.State) => void>()
    const listeners = new Map<string, Set<(params: never) => void>>()
    let state: ConnectionState.State = ConnectionState.State.Connecting()
    let current: Live | undefined
    let unansweredSize = 0
    let holds = 0
    let nextId = 1
    let writeIds = false

    const settle = (id: number, answer: Exit.Exit<unknown, ClientError>) => {
      const request = pending.get(id)
      if (request === undefined) return
      pending.delete(id)
      unansweredSize -= request.prepared.text.length
      Deferred.unsafeDone(request.answer, answer)
    }

    const send = (channel: Channel, id: number, request: Pending) => {
      request.sent = true
      channel.request(id, request.prepared)
    }

    const advance = (event: ConnectionState.Event) => {
      const before = state
      const after = ConnectionState.transition(before, event)
      if (after === before) return
      state = after
      if (after._tag === "Connected" && holds > 0) after.channel.pause()
      for (const [id, request] of Array.from(pending)) {
        if (after._tag === "Connected") send(after.channel, id, request)
        else if (after._tag === "Ended") settle(id, Exit.fail(after.error))
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
      const request = { prepared: prepared.right, answer, sent: false, abandoned: false }
      unansweredSize += size
      pending.set(id, request)
      if (state._tag === "Connected") send(state.channel, id, request)
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

    const handshake = (live: Live, resumeSessionId: string | null) =>
      Effect.gen(function* () {
        const initializeId = nextId++
        const answer = Deferred.unsafeMake<unknown, ClientError>(FiberId.none)
        const events: ChannelEvents = {
          onAnswer: (id, result) => {
            const exit = Either.match(result, { onLeft: Exit.fail, onRight: Exit.succeed })
            if (id === initializeId) Deferred.unsafeDone(answer, exit)
            else settle(id, exit)
          },
          onNotification: ({ method, params }) => {
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
        const asked = { clientName, resumeSessionId, ...(capabilities === undefined ? {} : { capabilities }) }
        const prepared = yield* connector.prepare("initialize", asked)
        channel.request(initializeId, prepared)
        const result = yield* Effect.raceFirst(Deferred.await(answer), Deferred.await(live.over)).pipe(
          Effect.timeoutFail({
            duration: initializeTimeoutMs,
            onTimeout: () => new InitializeTimeout({ afterMs: initializeTimeoutMs })
          })
        )
        // The channel has decoded it as the result of this very method.
        const server = result as Api.Result<"initialize">
        if (resumeSessionId !== null && server.sessionId !== resumeSessionId) {
          const detail = `exec-server initialized an unexpected session ${server.sessionId}`
          return yield* new ProtocolViolation({ detail })
        }
        return { channel, server }
      })

    /** One attempt to be connected: what it leaves behind is a connection in use, or nothing. */
    const connect = (resumeSessionId: string | null) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.gen(function* () {
          const over = yield* Deferred.make<never, ClientError>()
          const live: Live = { scope: yield* Scope.make(), over, error: undefined }
          return yield* restore(handshake(live, resumeSessionId)).pipe(
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

    const recover = (sessionId: string, disconnect: ClientError) => {
      let cause = disconnect
      return connect(sessionId).pipe(
        Effect.tapError((error) =>
          Effect.sync(() => {
            cause = error
          })
        ),
        Effect.retry({ while: isRetryable, schedule: Schedule.spaced(retryMs) }),
        Effect.timeoutFail({ duration: recoverForMs, onTimeout: () => cause }),
        Effect.catchAll((cause) =>
          Effect.sync(() => advance(ConnectionState.Event.GaveUp({ error: new SessionLost({ disconnect, cause }) })))
        )
      )
    }

    const endCurrent = Effect.suspend(() =>
      current === undefined ? Effect.void : Scope.close(current.scope, Exit.void)
    )

    /** Replaces every connection that is lost, until one is not to be replaced. */
    const keepConnected = (sessionId: string) =>
      Effect.gen(function* () {
        while (state._tag !== "Ended" && current !== undefined) {
          yield* Effect.ignore(Deferred.await(current.over))
          yield* endCurrent
          if (state._tag === "Recovering") yield* recover(sessionId, state.disconnect)
        }
      })

    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => {
        advance(ConnectionState.Event.Closed({ error: new TransportClosed({ reason: "the client has ended" }) }))
        return endCurrent
      })
    )
    const server = yield* connect(resumeSessionId ?? null)
    yield* Effect.forkScoped(Effect.interruptible(keepConnected(server.sessionId)))

    // A result was decoded by the schema of the method that was called.
    const call = ((method: Method, params: unknown) =>
      Effect.map(callAll(method, [params]), ([result]) => result)) as Api.Call

    const { features, environmentInfo } = yield* ServerFeatures.detect(server, call).pipe(
      Effect.timeoutFail({
        duration: initializeTimeoutMs,
        onTimeout: () => new InitializeTimeout({ afterMs: initializeTimeoutMs })
      })
    )
    writeIds = features.writeIds

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
      watch: (listener) => add(watchers, listener),
      state: () => state,
      hold
    } satisfies ClientSession
  })
