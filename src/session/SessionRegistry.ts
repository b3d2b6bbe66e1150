/**
 * The sessions of a server, by id. A session outlives its connections.
 *
 * @since 0.1.0
 */
import { randomUUID } from "node:crypto"
import type * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as Layer from "effect/Layer"
import * as Runtime from "effect/Runtime"
import * as Scope from "effect/Scope"
import { CannotFreeze } from "../internal/CannotFreeze.js"
import { Deadlines } from "../internal/Deadlines.js"
import type { ImageReader, ImageWriter } from "../internal/Image.js"
import * as Monotonic from "../internal/Monotonic.js"
import { maxTimerMs } from "../internal/Timer.js"
import * as Verbose from "../internal/Verbose.js"
import { ProcessSupervisor, type Supervisor } from "../process/ProcessSupervisor.js"
import { Waiters } from "../process/Waiters.js"
import type { ProcessInfo, SessionInfo } from "../protocol/ExecApi.js"
import { LimitReached, NotAllowed, SessionAttached, SessionEnding, UnknownSession } from "../protocol/Failure.js"
import { SessionId } from "../protocol/Ids.js"
import { Confiner } from "../sandbox/Confiner.js"
import { FileViews, type Views } from "../sandbox/FileViews.js"
import type { SocketOwner } from "../spawn/SocketOwner.js"
import { AuditLog, type Entry, type Who } from "./AuditLog.js"
import { ConsoleEvents } from "./ConsoleEvents.js"
import { type Connection, CurrentConnection, lost } from "./CurrentConnection.js"
import { FramePool } from "./FramePool.js"
import type { Notifier } from "./Notifier.js"
import type { OpenConnection } from "./OpenConnection.js"
import { type Ending, shuttingDown } from "./Peer.js"
import { RequestBudget } from "./RequestBudget.js"
import { SessionEvents } from "./SessionEvents.js"
import { SessionLimits } from "./SessionLimits.js"
import * as SessionMetrics from "./SessionMetrics.js"
import { SessionPlaces } from "./SessionPlaces.js"
import { Event, State, transition } from "./SessionState.js"
import type { PartsState, SessionState, SessionsState } from "./SessionsState.js"

/**
 * A client's processes, and the client's current connection.
 *
 * @category models
 */
export class Session {
  private state: State = State.Attached({ notifier: undefined })
  /** When it expires unless it is resumed, in milliseconds since 1970; infinite if it does not expire. */
  expiresAtMs = Number.POSITIVE_INFINITY
  /** The same as a monotonic time: the system clock may be set. */
  private deadlineMs = Number.POSITIVE_INFINITY
  /** The name that its client gave it. */
  name: string | undefined
  /** The `sessionTtlMs` that its client requested. */
  ttlMs: number | undefined
  private readonly over = Deferred.unsafeMake<void>(FiberId.none)

  constructor(
    readonly id: SessionId,
    /** The public handle. */
    readonly handle: string,
    readonly clientName: string,
    readonly openedAtMs: number,
    /** The subject that it belongs to. */
    readonly subject: string,
    readonly supervisor: Supervisor,
    readonly views: Views,
    /** Buffers for sending its output. */
    readonly frames: FramePool,
    /** The current or last connection. */
    private connection: Connection
  ) {
    SessionMetrics.moved(undefined, this.state._tag)
  }

  /** The actor of its audit entries. */
  get who(): Who {
    return { sessionId: this.id, subject: this.subject, peer: this.connection.peer }
  }

  /** Attaches another connection. */
  attachTo(connection: Connection): void {
    this.connection = connection
  }

  /** Detaches a client that does not respond any more; if `forced`, or for a client with its key, any. Bounded. */
  free(forced: boolean, key: string | undefined): Effect.Effect<void> {
    if (this.state._tag !== "Attached") return Effect.void
    const yields = forced || (key !== undefined && key === this.connection.key)
    return Effect.asVoid(yields ? this.connection.yieldSession : this.connection.endIfGone)
  }

  /** Sets the time of expiry, `ms` from now. */
  expiresIn(ms: number, clock: Clock.Clock): void {
    this.expiresAtMs = clock.unsafeCurrentTimeMillis() + ms
    this.deadlineMs = Monotonic.of(clock) + ms
  }

  /** Its state, for another version of the server. Throws a `CannotFreeze`. */
  freeze(writer: ImageWriter, clock: Clock.Clock): SessionState {
    const { id, handle, clientName, openedAtMs, subject, connection, name, ttlMs, deadlineMs } = this
    const finite = (ms: number): number | null => (Number.isFinite(ms) ? ms : null)
    const attached = this.state._tag === "Attached"
    return {
      ...{ id, handle, clientName, openedAtMs, subject, peer: connection.peer, name },
      ttlMs: ttlMs === undefined ? undefined : finite(ttlMs),
      attached,
      resumable: !attached || connection.keepsSession(),
      leftMs: attached ? undefined : finite(Math.max(0, deadlineMs - Monotonic.of(clock))),
      supervisor: this.supervisor.freeze(writer)
    }
  }

  /** Whether its client asked for the time that it waits. */
  get isKept(): boolean {
    return this.ttlMs !== undefined
  }

  /** Whether it has processes, running or retained. */
  get hasProcesses(): boolean {
    return this.supervisor.list().length > 0
  }

  /** Ends its connection. */
  disconnect(ending: Ending): void {
    this.connection.end(ending)
  }

  /** Its entry in a list; `own`: whether the list is for its own client. */
  info(own: boolean): SessionInfo {
    const processes = this.supervisor.list().map((process) => process.info())
    const isDetached = this.state._tag === "Detached"
    return {
      session: this.handle,
      name: this.name ?? null,
      clientName: this.clientName,
      subject: this.subject,
      peer: this.connection.peer,
      state: isDetached ? "detached" : "attached",
      openedAtMs: this.openedAtMs,
      expiresAtMs: isDetached && this.expiresAtMs < Number.POSITIVE_INFINITY ? this.expiresAtMs : null,
      processes: processes.length,
      running: processes.filter(({ running }) => running).length,
      own
    }
  }

  /** Applies an event; returns whether the state changed. */
  advance(event: Event): boolean {
    const before = this.state
    this.state = transition(before, event)
    if (before._tag !== this.state._tag) SessionMetrics.moved(before._tag, this.state._tag)
    if (before._tag === "Attached" && this.state._tag !== "Attached") before.notifier?.stop()
    if (this.state._tag === "Ended") Deferred.unsafeDone(this.over, Effect.void)
    return this.state !== before
  }

  /** Interrupts an effect when the session ends, which does not wait for that. */
  untilEnd<A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return Effect.raceFirst(effect, Effect.zipRight(Deferred.await(this.over), Effect.interrupt))
  }

  get tag(): State["_tag"] {
    return this.state._tag
  }

  /** The notifier of the connected client. Without one, output is only retained. */
  get notifier(): Notifier | undefined {
    return this.state._tag === "Attached" ? this.state.notifier : undefined
  }
}

/**
 * The properties of a session that its client chooses. Absent ones stay unchanged.
 *
 * @category models
 */
export interface Options {
  /** The name of the client program; only used for a new session. */
  readonly clientName?: string | undefined
  /** A name for the session, unique among the subject's sessions. */
  readonly name?: string | undefined
  /** How long the session waits to be resumed, in milliseconds; infinite: until it is ended. */
  readonly ttlMs?: number | undefined
}

/**
 * Sessions by their ids.
 *
 * @category models
 */
export interface Shape {
  /** Opens a session of the caller's subject, attached to the caller. */
  readonly create: (options?: Options) => Effect.Effect<Session, LimitReached | NotAllowed>
  /**
   * Attaches a detached session to the caller. Sessions of other subjects are unknown, except to operators. A client that
   * does not respond any more is detached first, which takes a few seconds; with `takeover`, any client is.
   */
  readonly resume: (
    id: string,
    options?: Options & { readonly takeover?: boolean }
  ) => Effect.Effect<Session, UnknownSession | SessionAttached | NotAllowed>
  /** The sessions, oldest first. */
  readonly list: () => ReadonlyArray<Session>
  /** A session by its handle. */
  readonly find: (handle: string) => Session | undefined
  /** Ends a session at once, and then its connection. Returns the processes that were running. */
  readonly endOne: (session: Session) => Effect.Effect<ReadonlyArray<ProcessInfo>>
  /** Handles a lost connection: the session waits to be resumed if it may, and otherwise ends. Bounded. */
  readonly detach: (session: Session, mayResume: boolean) => Effect.Effect<void>
  /** Refuses a client that is a process in a sandbox of this server: it could start others without one. */
  readonly admit: (owner: SocketOwner | undefined) => Effect.Effect<void, NotAllowed>
  /** The events of all sessions. */
  readonly console: ConsoleEvents
  /** Buffers for sending output. */
  readonly frames: FramePool
  /** The memory budget for the requests of all connections. */
  readonly requestBudget: RequestBudget
  /** The connections of all clients. */
  readonly connections: Set<OpenConnection>
  /** How long clients may take to complete the handshake. */
  readonly handshakes: Deadlines
  /** Makes sessions whose connections end wait at least this long to be resumed, in milliseconds. */
  readonly waitAtLeast: (ms: number) => void
  /** Stops creating sessions, and stops ending those of lost connections: `end` will. */
  readonly close: Effect.Effect<void>
  /**
   * Ends all sessions, with `graceMs` between SIGTERM and SIGKILL. Bounded by that and two seconds. Returns the
   * processes that were still running.
   */
  readonly end: (graceMs: number) => Effect.Effect<ReadonlyArray<ProcessInfo>>
  /** Waits until no process is being started and no session is ending. Returns false after `waitMs`. */
  readonly settle: (waitMs: number) => Effect.Effect<boolean>
  /**
   * The state of all sessions and processes, for the version of the server that replaces this one. Synchronous, and
   * without effect. Throws a `CannotFreeze` if something cannot be handed over, or not now.
   */
  readonly freeze: (writer: ImageWriter) => SessionsState
  /**
   * Takes over the sessions of the version before; call it once, in a registry without any. It takes nothing from
   * descriptors and waits for no process until `begin`: the version before may have to take over again. Dies if the
   * state cannot be restored.
   */
  readonly adopt: (state: SessionsState, reader: ImageReader) => Effect.Effect<void>
  /** Lets the adopted sessions and processes go on. */
  readonly begin: Effect.Effect<void>
  /** Adds what belongs to sessions, and is handed over with them. */
  readonly include: <Name extends PartName>(part: Part<Name>) => void
}

/** The names of parts. */
type PartName = keyof PartsState

/**
 * Something that belongs to sessions or their processes, and is handed over with them.
 *
 * @category models
 */
export interface Part<Name extends keyof PartsState> {
  readonly name: Name
  /** Its state. Synchronous, and without effect. Throws a `CannotFreeze`. */
  readonly freeze: () => NonNullable<PartsState[Name]>
  /** Takes over the state of the version before, once the sessions are there. */
  readonly adopt: (state: NonNullable<PartsState[Name]>, find: Shape["find"]) => void
  /** Goes on. */
  readonly begin: () => void
}

/**
 * Stands for all sessions in place of a handle.
 *
 * @category constants
 */
export const everySession = "*"

/** Why a session ends. */
type EndReason = Extract<Entry, { readonly event: "session.ended" }>["reason"]

/** Sleeps for any duration, also an infinite one. */
const sleep = (ms: number): Effect.Effect<void> =>
  Effect.suspend(() =>
    ms <= maxTimerMs ? Effect.sleep(ms) : Effect.zipRight(Effect.sleep(maxTimerMs), sleep(ms - maxTimerMs))
  )

const make = Effect.gen(function* () {
  const supervisors = yield* ProcessSupervisor
  const clock = yield* Effect.clock
  const limits = yield* SessionLimits
  const audit = yield* AuditLog
  const fileViews = yield* FileViews
  const confiner = yield* Confiner
  const scope = yield* Effect.scope
  const frames = new FramePool()
  const console = new ConsoleEvents()
  const sessions = new Map<string, { readonly session: Session; readonly scope: Scope.CloseableScope }>()
  const byHandle = new Map<string, Session>()
  /** What takes back the expiry of each detached session. */
  const expiries = new Map<Session, () => void>()
  /** Most clients leave the time that their sessions wait to the server. */
  const usualExpiries = yield* Deadlines.make(limits.detachedSessionTtlMs, scope)
  const fork = Runtime.runFork(yield* Effect.runtime())
  const places = new SessionPlaces<Session>()
  const connections = new Set<OpenConnection>()
  let leastTtlMs = 0
  const parts: Array<{
    readonly freeze: () => PartsState
    readonly adopt: (state: PartsState) => void
    readonly begin: () => void
  }> = []
  let ending = false
  /** The number of sessions that are being ended. */
  let ends = 0
  const waiters = new Waiters()
  /** What lets adopted sessions go on. */
  let begins: ReadonlyArray<Effect.Effect<void>> = []
  /** Whether it was logged that there are `maxSessions`. */
  let isFull = false

  /** Records and logs the new state of a session. */
  const tell = (session: Session, entry: Extract<Entry, { readonly event: `session.${string}` }>) =>
    Effect.suspend(() => {
      audit.write(session.who, entry)
      const { event, ...why } = entry
      if (event !== "session.end") console.tell(() => ({ type: event, session: session.handle }))
      return Verbose.debug(event, () => ({ ...session.who, ...why }))
    })

  /** A session that is resumed or has ended does not wait for its expiry: it would be kept until then. */
  const forgetExpiry = (session: Session) => {
    expiries.get(session)?.()
    expiries.delete(session)
    places.attach(session)
  }

  const endSession = (session: Session, graceMs: number, reason: EndReason) =>
    Effect.suspend((): Effect.Effect<ReadonlyArray<ProcessInfo>> => {
      const entry = sessions.get(session.id)
      if (entry === undefined || !session.advance(Event.Ended())) return Effect.succeed([])
      sessions.delete(session.id)
      byHandle.delete(session.handle)
      places.leave(session)
      ends++
      forgetExpiry(session)
      return tell(session, { event: "session.ended", reason }).pipe(
        Effect.zipRight(session.supervisor.end(graceMs)),
        Effect.zipLeft(Scope.close(entry.scope, Exit.void)),
        Effect.ensuring(
          Effect.sync(() => {
            ends--
            waiters.wake()
          })
        )
      )
    }).pipe(Effect.uninterruptible)

  /** Why a client is refused that is a process in a sandbox of this server; undefined if it is not. */
  const confinedRefusal = (owner: SocketOwner | undefined): NotAllowed | undefined =>
    owner === undefined || !confiner.isConfined(owner)
      ? undefined
      : new NotAllowed({
          message:
            "a process in a sandbox of this server cannot be its client; start it without a sandbox, or connect from " +
            "outside of the sandbox"
        })

  const admit = (owner: SocketOwner | undefined) => Effect.suspend(() => confinedRefusal(owner) ?? Effect.void)

  /** An unused handle. */
  const newHandle = (): string => {
    // Eight random digits. Unlike `randomBytes`, it need not ask the system each time.
    const handle = `s-${randomUUID().slice(0, 8)}`
    return find(handle) === undefined ? handle : newHandle()
  }

  /** Why the options of a session are refused; undefined if they are not. */
  const refusalOf = (connection: Connection, options: Options, session?: Session): NotAllowed | undefined => {
    const { name, ttlMs } = options
    // With 0, every session ends with its connection.
    if (ttlMs !== undefined && ttlMs > 0 && !connection.resumable) {
      const why = connection.grant.scope === undefined ? "on this transport" : "with a token for one session or process"
      return new NotAllowed({ message: `sessionTtlMs: a session ends with its connection ${why}` })
    }
    const { maxSessionTtlMs } = limits
    if (ttlMs !== undefined && maxSessionTtlMs !== undefined && ttlMs > maxSessionTtlMs) {
      return new NotAllowed({ message: `sessionTtlMs may be at most ${maxSessionTtlMs} (maxSessionTtlMs)` })
    }
    const isTaken = ({ session: other }: { readonly session: Session }) =>
      other !== session && other.name === name && other.subject === connection.grant.id
    if (name !== undefined && Array.from(sessions.values()).some(isTaken)) {
      return new NotAllowed({
        message: `another session has the name ${name}; resume or end it, or choose another name`
      })
    }
    return undefined
  }

  const applyTo = (session: Session, { name, ttlMs }: Options) => {
    session.name = name ?? session.name
    session.ttlMs = ttlMs ?? session.ttlMs
  }

  /** Makes place for a session of `subject`, if another one may be ended for that. */
  const makePlace = (subject: string) =>
    Effect.suspend(() => {
      if (sessions.size < limits.maxSessions || ending) return Effect.void
      const found = places.displaced(subject)
      if (found === undefined) return Effect.void
      // Clients must not be able to fill the log.
      const log = isFull ? Effect.logDebug : Effect.logWarning
      isFull = true
      return log("maxSessions is reached: a detached session is ended for a new one").pipe(
        Effect.annotateLogs({ ...found.who }),
        Effect.zipRight(endSession(found, 0, "displaced"))
      )
    })

  /** Makes a session of this connection. */
  const open = (
    of: Pick<SessionState, "id" | "handle" | "clientName" | "openedAtMs" | "subject">,
    connection: Connection
  ) =>
    // Not a child of the registry's scope: its processes are ended, and awaited, before it is closed.
    Effect.flatMap(Scope.make(), (scope) => {
      const events = new SessionEvents(audit, console)
      return Effect.map(supervisors.make(events, scope, connection.retentionMs), (supervisor) => {
        const session = new Session(
          SessionId.make(of.id),
          of.handle,
          of.clientName,
          of.openedAtMs,
          of.subject,
          supervisor,
          fileViews.make(scope),
          frames,
          connection
        )
        events.session = session
        sessions.set(session.id, { session, scope })
        byHandle.set(session.handle, session)
        places.take(session)
        return session
      })
    })

  /** Why there is no place for another session. */
  const noPlace = () =>
    new LimitReached({
      limit: "maxSessions",
      value: limits.maxSessions,
      advice: ending ? "the server is shutting down" : "end some connections, or wait for detached sessions to expire"
    })

  const create = (options: Options = {}) =>
    Effect.flatMap(CurrentConnection, (connection): Effect.Effect<Session, LimitReached | NotAllowed> => {
      const { grant, owner } = connection
      const refusal = confinedRefusal(owner) ?? refusalOf(connection, options)
      if (refusal !== undefined) return refusal
      const opened = Effect.suspend(() => {
        if (sessions.size >= limits.maxSessions || ending) return noPlace()
        const of = {
          id: randomUUID(),
          handle: newHandle(),
          clientName: options.clientName ?? "",
          openedAtMs: clock.unsafeCurrentTimeMillis(),
          subject: grant.id
        }
        return open(of, connection)
      })
      return Effect.zipRight(makePlace(grant.id), opened).pipe(
        Effect.tap((session) => {
          applyTo(session, options)
          return tell(session, { event: "session.opened" })
        })
      )
    }).pipe(Effect.uninterruptible)

  const resume: Shape["resume"] = (id, { takeover = false, ...options } = {}) =>
    Effect.gen(function* () {
      const connection = yield* CurrentConnection
      yield* admit(connection.owner)
      const unknown = new UnknownSession({ sessionId: id })
      const session = sessions.get(id)?.session
      const { id: subject, role, scope } = connection.grant
      const mayResumeAny = role === "operator" && scope === undefined
      if (session === undefined || (session.subject !== subject && !mayResumeAny)) return yield* unknown
      const refusal = refusalOf(connection, options, session)
      if (refusal !== undefined) return yield* refusal
      yield* Effect.interruptible(session.free(takeover, connection.key))
      if (!session.advance(Event.Resumed())) {
        return yield* session.tag === "Ended" ? unknown : new SessionAttached({ sessionId: id })
      }
      forgetExpiry(session)
      session.attachTo(connection)
      applyTo(session, options)
      yield* tell(session, { event: "session.resumed" })
      return session
    }).pipe(Effect.uninterruptible)

  /** Ends a session that was not resumed in time. The state decides: a resumption may come first. */
  const expire = (session: Session) =>
    Effect.suspend(() => {
      if (session.tag !== "Detached") return Effect.void
      // This may be the fiber that `forgetExpiry` would interrupt.
      expiries.delete(session)
      return Effect.asVoid(endSession(session, 0, "expired"))
    })

  /** Does this after some time. Returns what takes it back. */
  const later = (ms: number, effect: Effect.Effect<void>): Effect.Effect<() => void> =>
    ms === limits.detachedSessionTtlMs
      ? usualExpiries.set(() => fork(effect, { scope }))
      : Effect.map(
          Effect.forkIn(Effect.interruptible(Effect.zipRight(sleep(ms), effect)), scope),
          (fiber) => () => fiber.unsafeInterruptAsFork(FiberId.none)
        )

  /** Ends a detached session after this time, unless it is resumed. */
  const expireLater = (session: Session, ms: number) =>
    Effect.suspend(() => {
      session.expiresIn(ms, clock)
      places.detach(session)
      return Effect.map(later(ms, expire(session)), (takeBack) => {
        expiries.set(session, takeBack)
      })
    })

  /** How long a session waits to be resumed, in milliseconds. */
  const ttlOf = ({ ttlMs = limits.detachedSessionTtlMs }: Session) => Math.max(ttlMs, leastTtlMs)

  const detach = (session: Session, mayResume: boolean) =>
    Effect.suspend(() => {
      if (!session.advance(Event.ConnectionLost()) || ending) return Effect.void
      return mayResume
        ? Effect.zipRight(expireLater(session, ttlOf(session)), tell(session, { event: "session.detached" }))
        : Effect.asVoid(endSession(session, 0, "disconnected"))
    })

  const list = () => Array.from(sessions.values(), ({ session }) => session)

  const find = (handle: string) => byHandle.get(handle)

  const endOne = (session: Session) =>
    Effect.tap(endSession(session, 0, "ended"), () =>
      // Delayed, because the caller may be its own client: the response is sent first.
      Effect.sync(() => setImmediate(() => session.disconnect({ code: 1008, reason: SessionEnding.ended })))
    )

  const close = Effect.sync(() => {
    ending = true
  })

  const end = (graceMs: number) =>
    Effect.suspend(() => {
      ending = true
      const found = Array.from(sessions.values())
      const ended = Effect.forEach(found, ({ session }) => endSession(session, graceMs, "shutdown"), {
        concurrency: "unbounded"
      })
      return Effect.map(ended, (all) => {
        // Also clients in this process, which have no transport that ends.
        for (const { session } of found) session.disconnect(shuttingDown)
        return all.flat()
      })
    })

  const settle = (waitMs: number) =>
    Effect.gen(function* () {
      const starts = Effect.forEach(list(), ({ supervisor }) => supervisor.untilSettled(waitMs), {
        concurrency: "unbounded",
        discard: true
      })
      yield* Effect.zip(
        starts,
        waiters.until(() => ends === 0, waitMs),
        { concurrent: true }
      )
      const isStarting = ({ supervisor }: Session) => supervisor.list().some(({ isSettled }) => !isSettled)
      return ends === 0 && !list().some(isStarting)
    })

  const freeze = (writer: ImageWriter): SessionsState => {
    if (ending) throw new CannotFreeze({ message: "the server is shutting down" })
    if (ends > 0) throw new CannotFreeze({ message: "a session is ending" })
    return {
      frozenAtMs: Monotonic.ofMachine(),
      spawner: supervisors.handover?.freeze(writer),
      sessions: list().map((session) => session.freeze(writer, clock)),
      parts: Object.assign({}, ...parts.map((part) => part.freeze()))
    }
  }

  /** Takes over one session. Returns what lets it go on. */
  const adoptOne = (frozen: SessionState, reader: ImageReader, elapsedMs: number) =>
    Effect.gen(function* () {
      const session = yield* open(frozen, lost(frozen.peer, frozen.subject))
      session.name = frozen.name
      session.ttlMs = frozen.ttlMs === null ? Number.POSITIVE_INFINITY : frozen.ttlMs
      session.advance(Event.ConnectionLost())
      const goOn = yield* session.supervisor.adopt(frozen.supervisor, reader, elapsedMs)
      const leftMs =
        frozen.leftMs === undefined ? ttlOf(session) : (frozen.leftMs ?? Number.POSITIVE_INFINITY) - elapsedMs
      const goOnWaiting = frozen.resumable
        ? expireLater(session, Math.max(0, leftMs))
        : Effect.asVoid(Effect.forkIn(endSession(session, 0, "disconnected"), scope))
      // A client may have resumed it already.
      const waits = Effect.suspend(() =>
        session.tag === "Detached" && !expiries.has(session) ? Effect.zipRight(told, goOnWaiting) : Effect.void
      )
      const told = frozen.attached && frozen.resumable ? tell(session, { event: "session.detached" }) : Effect.void
      return { leftMs, goOn: Effect.zipRight(goOn, waits) }
    })

  const adopt: Shape["adopt"] = (state, reader) =>
    Effect.gen(function* () {
      const { handover } = supervisors
      const elapsedMs = Math.max(0, Monotonic.ofMachine() - state.frozenAtMs)
      if (state.spawner !== undefined) handover?.restore(state.spawner)
      const adopted = yield* Effect.forEach(state.sessions, (frozen) => adoptOne(frozen, reader, elapsedMs))
      // They wait in the order in which they expire.
      adopted.sort((a, b) => Number(a.leftMs > b.leftMs) - Number(a.leftMs < b.leftMs))
      begins = [...adopted.map(({ goOn }) => goOn), Effect.sync(() => handover?.begin())]
      for (const part of parts) part.adopt(state.parts)
      begins = [...begins, ...parts.map((part) => Effect.sync(part.begin))]
    }).pipe(Effect.uninterruptible)

  const begin = Effect.suspend(() => {
    const all = begins
    begins = []
    return Effect.all(all, { discard: true })
  })

  yield* Effect.addFinalizer(() => end(0))
  return {
    create,
    resume,
    list,
    find,
    endOne,
    detach,
    admit,
    console,
    frames,
    requestBudget: new RequestBudget(limits.requestBytesTotal),
    connections,
    handshakes: yield* Deadlines.make(limits.handshakeTimeoutMs, scope),
    waitAtLeast: (ms) => {
      leastTtlMs = ms
    },
    close,
    end,
    settle,
    freeze,
    adopt,
    begin,
    include: (part) => {
      parts.push({
        freeze: () => ({ [part.name]: part.freeze() }),
        adopt: (state) => {
          const frozen = state[part.name]
          if (frozen !== undefined) part.adopt(frozen, find)
        },
        begin: part.begin
      })
    }
  } satisfies Shape
})

/**
 * The sessions of a server.
 *
 * @category tags
 */
export class SessionRegistry extends Context.Tag("exec-server/SessionRegistry")<SessionRegistry, Shape>() {
  /** An empty registry. Remaining sessions end with the layer. */
  static readonly layer: Layer.Layer<SessionRegistry, never, ProcessSupervisor> = Layer.scoped(SessionRegistry, make)
}
