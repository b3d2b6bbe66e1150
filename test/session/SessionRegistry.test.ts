import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import { codeOf } from "../../src/protocol/Failure.js"
import { AuditLog, type Entry, type Who } from "../../src/session/AuditLog.js"
import { CurrentConnection } from "../../src/session/CurrentConnection.js"
import { type Limits, SessionLimits } from "../../src/session/SessionLimits.js"
import { type Session, SessionRegistry } from "../../src/session/SessionRegistry.js"
import { Event, State, transition } from "../../src/session/SessionState.js"
import { ExitStatus } from "../../src/spawn/Child.js"
import { FakeSpawner, immortal, type Plan, stubborn } from "../../src/testing/FakeSpawner.js"
import { failureOf, id, params, settle } from "../support/fake.js"
import { type Heard, listener, registryLayer } from "../support/sessions.js"

type Body = (
  registry: SessionRegistry["Type"],
  fake: FakeSpawner["Type"]
) => Effect.Effect<unknown, unknown, Scope.Scope>

const test = (title: string, body: Body, plan: Plan = {}, limits: Partial<Limits> = {}) =>
  it.scoped(title, () =>
    Effect.gen(function* () {
      yield* body(yield* SessionRegistry, yield* FakeSpawner)
    }).pipe(
      Effect.provide(
        registryLayer(plan).pipe(
          Layer.provide(
            Layer.succeed(SessionLimits, {
              maxSessions: 1024,
              detachedSessionTtlMs: 30_000,
              maxSessionTtlMs: undefined,
              handshakeTimeoutMs: 10_000,
              concurrentRequests: 4096,
              requestBytesTotal: 1_000_000,
              maxViewersPerProcess: 32,
              maxScreens: 64,
              ...limits
            })
          )
        )
      )
    )
  )

/** Says that the client is ready; gives what it hears from now on. */
const ready = (session: Session): ReadonlyArray<Heard> => {
  const { notifier, heard } = listener()
  session.advance(Event.ClientReady({ notifier }))
  return heard
}

const isEnded = (session: Session) => session.tag === "Ended"

describe("transition", () => {
  const { notifier } = listener()
  const attached = State.Attached({ notifier: undefined })
  const detached = State.Detached()
  const ended = State.Ended()
  const table = [
    [attached, Event.ConnectionLost(), "Detached"],
    [attached, Event.Resumed(), "Attached"],
    [attached, Event.ClientReady({ notifier }), "Attached"],
    [attached, Event.Ended(), "Ended"],
    [detached, Event.ConnectionLost(), "Detached"],
    [detached, Event.Resumed(), "Attached"],
    [detached, Event.ClientReady({ notifier }), "Detached"],
    [detached, Event.Ended(), "Ended"],
    [ended, Event.ConnectionLost(), "Ended"],
    [ended, Event.Resumed(), "Ended"],
    [ended, Event.ClientReady({ notifier }), "Ended"]
  ] as const
  for (const [state, event, expected] of table) {
    it(`${state._tag} and ${event._tag}: ${expected}`, () => {
      const next = transition(state, event)
      assert.strictEqual(next._tag, expected)
      if (expected === state._tag && event._tag !== "ClientReady") assert.strictEqual(next, state)
    })
  }

  it("a resumed session has nobody to notify until the client is ready again", () => {
    const next = transition(detached, Event.Resumed())
    assert.deepStrictEqual(next, State.Attached({ notifier: undefined }))
  })
})

describe("create", () => {
  test("gives every session an id of its own, a UUID of version 4", (registry) =>
    Effect.gen(function* () {
      const a = yield* registry.create()
      const b = yield* registry.create()
      for (const { id } of [a, b]) {
        assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
      }
      assert.notStrictEqual(a.id, b.id)
    }))

  test("processes of two sessions may have the same id", (registry) =>
    Effect.gen(function* () {
      const a = yield* registry.create()
      const b = yield* registry.create()
      yield* a.supervisor.start(params("p"))
      yield* b.supervisor.start(params("p"))
    }))

  test(
    "refuses more than maxSessions, detached ones with processes included, and names the limit",
    (registry) =>
      Effect.gen(function* () {
        const a = yield* registry.create()
        const b = yield* registry.create()
        yield* a.supervisor.start(params("p"))
        yield* registry.detach(a, true)
        const failure = yield* failureOf(registry.create())
        assert.strictEqual(codeOf(failure), -32600)
        assert.include(failure.message, "maxSessions")
        yield* registry.detach(b, false)
        yield* registry.create()
      }),
    {},
    { maxSessions: 2 }
  )
})

describe("at maxSessions", () => {
  const as = (subject: string) =>
    Effect.provideServiceEffect(
      CurrentConnection,
      Effect.map(CurrentConnection, (connection) => ({ ...connection, resumable: true, grant: { id: subject } }))
    )
  /** Opens a session of a subject and leaves it. */
  const left = (registry: SessionRegistry["Type"], subject: string, options: { ttlMs?: number; busy?: true } = {}) =>
    Effect.gen(function* () {
      const session = yield* registry.create({ ttlMs: options.ttlMs }).pipe(as(subject))
      if (options.busy) yield* session.supervisor.start(params("p"))
      yield* settle
      yield* registry.detach(session, true)
      return session
    })
  const full = (title: string, body: Body) => test(title, body, {}, { maxSessions: 4 })

  full("those that a client opens and leaves give way, the one that expires next first", (registry) =>
    Effect.gen(function* () {
      const working = yield* registry.create().pipe(as("a"))
      const idle: Array<Session> = []
      for (let i = 0; i < 20; i++) idle.push(yield* left(registry, "a"))
      assert.deepStrictEqual(registry.list(), [working, ...idle.slice(-3)])
    })
  )

  full(
    "of the same subject, those that wait as they were asked to come last, and those with processes stay",
    (registry) =>
      Effect.gen(function* () {
        const busy = yield* left(registry, "a", { busy: true })
        const kept = yield* left(registry, "a", { ttlMs: 1 })
        yield* registry.create().pipe(as("a"))
        const idle = yield* left(registry, "a")
        for (const ended of [idle, kept]) {
          assert.isFalse(isEnded(ended))
          yield* registry.create().pipe(as("a"))
          assert.isTrue(isEnded(ended))
        }
        assert.isFalse(isEnded(busy))
        assert.include((yield* failureOf(registry.create().pipe(as("a")))).message, "maxSessions")
      })
  )

  full("a subject gives way to one with fewer, with what is missed least", (registry, fake) =>
    Effect.gen(function* () {
      const kept = yield* left(registry, "a", { ttlMs: Number.POSITIVE_INFINITY, busy: true })
      const busy = yield* left(registry, "a", { busy: true })
      const asked = yield* left(registry, "a", { ttlMs: 1 })
      yield* registry.create().pipe(as("a"))
      yield* registry.create().pipe(as("b"))
      assert.deepStrictEqual([kept, busy, asked].map(isEnded), [false, false, true])
      yield* registry.create().pipe(as("b"))
      assert.deepStrictEqual([kept, busy].map(isEnded), [false, true])
      assert.deepStrictEqual((yield* fake.child(1)).signals, [["SIGKILL", "tree"]])
      // Now both have two.
      assert.include((yield* failureOf(registry.create().pipe(as("b")))).message, "maxSessions")
      assert.include((yield* failureOf(registry.create().pipe(as("a")))).message, "maxSessions")
      yield* registry.create().pipe(as("c"))
      assert.isTrue(isEnded(kept))
    })
  )

  full("attached ones do not", (registry) =>
    Effect.gen(function* () {
      for (let i = 0; i < 4; i++) yield* registry.create().pipe(as("a"))
      assert.include((yield* failureOf(registry.create().pipe(as("b")))).message, "maxSessions")
    })
  )
})

describe("events", () => {
  test("nobody hears of them before the client is ready", (registry, fake) =>
    Effect.gen(function* () {
      const session = yield* registry.create()
      yield* session.supervisor.start(params("p"))
      yield* settle
      const child = yield* fake.child(0)
      child.emit("stdout", "one")
      const heard = ready(session)
      child.emit("stdout", "two")
      assert.deepStrictEqual(heard, ["output 2"])
    }))

  test("nobody hears of them while the session is detached, and they are retained", (registry, fake) =>
    Effect.gen(function* () {
      const session = yield* registry.create()
      const before = ready(session)
      yield* session.supervisor.start(params("p"))
      yield* settle
      const child = yield* fake.child(0)
      yield* registry.detach(session, true)
      child.emit("stdout", "one")
      child.finish(0)
      assert.deepStrictEqual(before, ["started", "stop"])
      assert.strictEqual(yield* registry.resume(session.id), session)
      const after = ready(session)
      const read = yield* session.supervisor.find(id("p"))?.read(0, 100, 0) ?? Effect.dieMessage("it is gone")
      assert.deepInclude(read, { nextSeq: 4, exited: true, exitCode: 0, closed: true })
      assert.strictEqual(read.chunks[0]?.chunk.toString(), "one")
      assert.deepStrictEqual(after, [])
    }))

  test("a resumed client hears of them after its own `initialized`, the old one never again", (registry, fake) =>
    Effect.gen(function* () {
      const session = yield* registry.create()
      const before = ready(session)
      yield* session.supervisor.start(params("p"))
      yield* settle
      const child = yield* fake.child(0)
      yield* registry.detach(session, true)
      yield* registry.resume(session.id)
      child.emit("stdout", "one")
      const after = ready(session)
      child.emit("stdout", "two")
      assert.deepStrictEqual(before, ["started", "stop"])
      assert.deepStrictEqual(after, ["output 2"])
    }))
})

describe("detach", () => {
  test("of a session that cannot be resumed ends it: its trees are killed at once", (registry, fake) =>
    Effect.gen(function* () {
      const session = yield* registry.create()
      yield* session.supervisor.start(params("p"))
      yield* settle
      yield* registry.detach(session, false)
      assert.deepStrictEqual((yield* fake.child(0)).signals, [["SIGKILL", "tree"]])
      assert.isTrue(isEnded(session))
      const failure = yield* failureOf(registry.resume(session.id))
      assert.strictEqual(codeOf(failure), -32600)
      assert.strictEqual(failure.message, `unknown session id ${session.id}`)
    }))

  for (const ttlMs of [Number.POSITIVE_INFINITY, Number.MAX_SAFE_INTEGER, 2 ** 32]) {
    test(`waits as long as its client asks for: ${ttlMs} ms`, (registry) =>
      Effect.gen(function* () {
        const options = Effect.map(CurrentConnection, (connection) => ({ ...connection, resumable: true }))
        const session = yield* registry.create({ ttlMs }).pipe(Effect.provideServiceEffect(CurrentConnection, options))
        yield* registry.detach(session, true)
        yield* TestClock.adjust(2 ** 32 - 1)
        assert.isFalse(isEnded(session))
        yield* TestClock.adjust(1)
        assert.strictEqual(isEnded(session), ttlMs === 2 ** 32)
      }))
  }

  test("leaves processes running until the time is over, then kills their trees", (registry, fake) =>
    Effect.gen(function* () {
      const session = yield* registry.create()
      yield* session.supervisor.start(params("p"))
      yield* settle
      yield* registry.detach(session, true)
      const child = yield* fake.child(0)
      yield* TestClock.adjust("29 seconds")
      assert.deepStrictEqual(child.signals, [])
      assert.isFalse(isEnded(session))
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(child.signals, [["SIGKILL", "tree"]])
      assert.isTrue(isEnded(session))
      assert.strictEqual(codeOf(yield* failureOf(registry.resume(session.id))), -32600)
    }))

  test(
    "waits as long as configured",
    (registry) =>
      Effect.gen(function* () {
        const session = yield* registry.create()
        yield* registry.detach(session, true)
        yield* TestClock.adjust("89 seconds")
        assert.strictEqual(session.tag, "Detached")
        yield* TestClock.adjust("2 seconds")
        assert.strictEqual(session.tag, "Ended")
      }),
    {},
    { detachedSessionTtlMs: 90_000 }
  )

  test("a second time changes nothing", (registry) =>
    Effect.gen(function* () {
      const session = yield* registry.create()
      yield* registry.detach(session, true)
      yield* registry.detach(session, false)
      assert.strictEqual(session.tag, "Detached")
    }))

  test("of one session leaves the others alone", (registry, fake) =>
    Effect.gen(function* () {
      const a = yield* registry.create()
      const b = yield* registry.create()
      yield* a.supervisor.start(params("p"))
      yield* b.supervisor.start(params("p"))
      yield* settle
      yield* registry.detach(a, false)
      assert.lengthOf((yield* fake.child(0)).signals, 1)
      assert.lengthOf((yield* fake.child(1)).signals, 0)
    }))
})

describe("resume", () => {
  test("gives the same session with its processes, as often as it is detached", (registry, fake) =>
    Effect.gen(function* () {
      const session = yield* registry.create()
      yield* session.supervisor.start(params("p"))
      for (let i = 0; i < 3; i++) {
        yield* registry.detach(session, true)
        yield* TestClock.adjust("20 seconds")
        assert.strictEqual(yield* registry.resume(session.id), session)
      }
      yield* TestClock.adjust("10 minutes")
      assert.strictEqual(session.tag, "Attached")
      assert.deepStrictEqual((yield* fake.child(0)).signals, [])
    }))

  test("of an unknown session fails", (registry) =>
    Effect.gen(function* () {
      const failure = yield* failureOf(registry.resume("nope"))
      assert.strictEqual(codeOf(failure), -32600)
      assert.strictEqual(failure.message, "unknown session id nope")
    }))

  test("of a session of another subject fails as that of an unknown one does, and changes nothing", (registry) =>
    Effect.gen(function* () {
      const as = (id: string) =>
        Effect.provideServiceEffect(
          CurrentConnection,
          Effect.map(CurrentConnection, (connection) => ({ ...connection, grant: { id } }))
        )
      const session = yield* registry.create().pipe(as("alice"))
      for (const isDetached of [false, true]) {
        if (isDetached) yield* registry.detach(session, true)
        const failure = yield* failureOf(registry.resume(session.id).pipe(as("bob")))
        assert.strictEqual(codeOf(failure), -32600)
        assert.strictEqual(failure.message, `unknown session id ${session.id}`)
      }
      assert.strictEqual(session.tag, "Detached")
      assert.strictEqual(yield* registry.resume(session.id).pipe(as("alice")), session)
    }))

  test("of an attached session fails with a code of its own and leaves it attached", (registry) =>
    Effect.gen(function* () {
      const session = yield* registry.create()
      const heard = ready(session)
      const failure = yield* failureOf(registry.resume(session.id))
      assert.strictEqual(codeOf(failure), -32010)
      assert.strictEqual(failure.message, `session ${session.id} is already attached to another connection`)
      assert.strictEqual(session.tag, "Attached")
      assert.isDefined(session.notifier)
      assert.deepStrictEqual(heard, [])
    }))
})

describe("end", () => {
  test(
    "gives the processes of every session their grace, and takes no session in any more",
    (registry, fake) =>
      Effect.gen(function* () {
        const a = yield* registry.create()
        const b = yield* registry.create()
        yield* a.supervisor.start(params("p"))
        yield* b.supervisor.start(params("p"))
        yield* registry.detach(b, true)
        yield* settle
        const ending = yield* Effect.fork(registry.end(2000))
        yield* settle
        for (const child of fake.children) assert.deepStrictEqual(child.signals, [["SIGTERM", "tree"]])
        assert.include((yield* failureOf(registry.create())).message, "shutting down")
        yield* TestClock.adjust("3 seconds")
        yield* Fiber.join(ending)
        for (const child of fake.children) assert.deepStrictEqual(child.signals.at(-1), ["SIGKILL", "tree"])
        assert.isTrue(isEnded(a) && isEnded(b))
      }),
    { onSignal: stubborn }
  )

  test("gives the processes that ran, of all sessions", (registry) =>
    Effect.gen(function* () {
      for (const name of ["a", "b"]) yield* (yield* registry.create()).supervisor.start(params(name))
      yield* settle
      const ran = yield* registry.end(0)
      assert.sameMembers(
        ran.map(({ processId }) => processId),
        ["a", "b"]
      )
      assert.deepStrictEqual(yield* registry.end(0), [])
    }))

  test("of one that has ended by itself meanwhile is none", (registry, fake) =>
    Effect.gen(function* () {
      const session = yield* registry.create()
      yield* session.supervisor.start(params("p"))
      yield* settle
      yield* registry.detach(session, false)
      assert.deepStrictEqual(yield* registry.end(0), [])
      assert.deepStrictEqual((yield* fake.child(0)).signals, [["SIGKILL", "tree"]])
    }))

  test("is ahead once the registry is closed: nobody gets in, and a lost connection ends nothing", (registry, fake) =>
    Effect.gen(function* () {
      const session = yield* registry.create()
      yield* session.supervisor.start(params("p"))
      yield* settle
      yield* registry.close
      assert.include((yield* failureOf(registry.create())).message, "shutting down")
      yield* registry.detach(session, false)
      const child = yield* fake.child(0)
      assert.deepStrictEqual(child.signals, [])
      const ran = yield* registry.end(0)
      assert.lengthOf(ran, 1)
      assert.isTrue(child.exited)
    }))

  test(
    "is bounded where a child does not even die of SIGKILL",
    (registry) =>
      Effect.gen(function* () {
        const session = yield* registry.create()
        yield* session.supervisor.start(params("p"))
        const ending = yield* Effect.fork(registry.end(2000))
        yield* TestClock.adjust("10 seconds")
        yield* Fiber.join(ending)
      }),
    { onSignal: immortal }
  )

  it.scoped("the end of the registry's scope ends every session", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const context = yield* Scope.extend(Layer.build(registryLayer()), scope)
      yield* Effect.gen(function* () {
        const session = yield* (yield* SessionRegistry).create()
        yield* session.supervisor.start(params("p"))
        yield* settle
        yield* Scope.close(scope, Exit.void)
        assert.isTrue(isEnded(session))
        assert.deepStrictEqual((yield* (yield* FakeSpawner).child(0)).signals, [["SIGKILL", "tree"]])
      }).pipe(Effect.provide(context))
    })
  )

  test("of a session leaves nothing that still runs for it", (registry, fake) =>
    Effect.gen(function* () {
      const session = yield* registry.create()
      yield* session.supervisor.start(params("p"))
      yield* settle
      const child = yield* fake.child(0)
      child.exit(ExitStatus.Exited({ code: 0 }))
      child.endOutput()
      yield* settle
      assert.lengthOf(session.supervisor.list(), 1)
      yield* registry.detach(session, false)
      // A closed process that is still retained goes with its session, and its output with it.
      yield* settle
      assert.lengthOf(session.supervisor.list(), 0)
    }))
})

describe("the audit log", () => {
  /** A registry, and what it has recorded. */
  const audited = (title: string, body: (registry: SessionRegistry["Type"], log: Log) => ReturnType<Body>) =>
    it.scoped(title, () => {
      const log: Log = []
      const write = (who: Who, entry: Entry) => void log.push([who, entry])
      return Effect.flatMap(SessionRegistry, (registry) => body(registry, log)).pipe(
        Effect.provide(registryLayer().pipe(Layer.provide(Layer.succeed(AuditLog, { write }))))
      )
    })
  type Log = Array<readonly [Who, Entry]>

  const from = (peer: string) =>
    Effect.provideServiceEffect(
      CurrentConnection,
      Effect.map(CurrentConnection, (connection) => ({ ...connection, peer }))
    )

  audited("has a session from its beginning to its end, and whoever was connected to it", (registry, log) =>
    Effect.gen(function* () {
      const session = yield* registry.create().pipe(from("one"))
      yield* registry.detach(session, true)
      yield* registry.resume(session.id).pipe(from("two"))
      yield* registry.detach(session, true)
      yield* TestClock.adjust("30 seconds")
      const who = (peer: string) => ({ sessionId: session.id, subject: "in process", peer })
      assert.deepStrictEqual(log, [
        [who("one"), { event: "session.opened" }],
        [who("one"), { event: "session.detached" }],
        [who("two"), { event: "session.resumed" }],
        [who("two"), { event: "session.detached" }],
        [who("two"), { event: "session.ended", reason: "expired" }]
      ])
    })
  )

  audited("says why a session has ended", (registry, log) =>
    Effect.gen(function* () {
      yield* registry.detach(yield* registry.create(), false)
      yield* registry.create()
      yield* registry.end(0)
      assert.deepStrictEqual(
        log.flatMap(([, entry]) => (entry.event === "session.ended" ? [entry.reason] : [])),
        ["disconnected", "shutdown"]
      )
    })
  )

  audited("has the restarts and the ends of processes, also of those that end with their session", (registry, log) =>
    Effect.gen(function* () {
      const session = yield* registry.create()
      const heard: Array<string> = []
      session.advance(
        Event.ClientReady({
          notifier: { ...listener().notifier, onRestarted: (_, seq) => void heard.push(`restarted ${seq}`) }
        })
      )
      const restart = { policy: "always", maxRestarts: 3, withinMs: 10_000, backoffMs: 100, maxBackoffMs: 100 }
      const { pid } = yield* session.supervisor.start(params("p", { restart }))
      yield* settle
      const process = session.supervisor.find(id("p"))
      process?.signal("SIGTERM", "tree")
      yield* settle
      yield* TestClock.adjust("1 second")
      yield* settle
      yield* registry.detach(session, false)
      assert.deepStrictEqual(
        log.flatMap(([, entry]) => (entry.event.startsWith("process.") ? [entry] : [])),
        [
          { event: "process.restarted", processId: "p", pid: pid + 1, attempt: 1 },
          { event: "process.exited", processId: "p", exitCode: 137, signal: "SIGKILL", timedOut: false }
        ]
      )
      assert.deepStrictEqual(heard, ["restarted 1"])
    })
  )
})

describe("the sessions that are counted", () => {
  test("are those that are attached and those that are detached", (registry) =>
    Effect.gen(function* () {
      const counted = () =>
        ["attached", "detached"].map((state) => {
          const found = Metric.unsafeSnapshot().find(
            ({ metricKey: { name, tags } }) => name === "exec_server_sessions" && tags[0]?.value === state
          )
          return Number((found?.metricState as unknown as { readonly value: number } | undefined)?.value ?? 0)
        })
      const [attached = 0, detached = 0] = counted()
      const session = yield* registry.create()
      assert.deepStrictEqual(counted(), [attached + 1, detached])
      session.advance(Event.ClientReady({ notifier: listener().notifier }))
      assert.deepStrictEqual(counted(), [attached + 1, detached])
      yield* registry.detach(session, true)
      assert.deepStrictEqual(counted(), [attached, detached + 1])
      yield* registry.resume(session.id)
      assert.deepStrictEqual(counted(), [attached + 1, detached])
      yield* registry.detach(session, false)
      assert.deepStrictEqual(counted(), [attached, detached])
    }))
})
