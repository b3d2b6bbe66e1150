/** Sessions that another version of the server takes over. Their children are fake: they report to whoever listens last. */
import { Buffer } from "node:buffer"
import { appendFileSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import { FileSystem } from "../../src/filesystem/FileSystem.js"
import { HttpRunner } from "../../src/http/HttpRunner.js"
import { CannotFreeze } from "../../src/internal/CannotFreeze.js"
import { ImageWriter } from "../../src/internal/Image.js"
import type { ManagedProcess } from "../../src/process/ManagedProcess.js"
import { OutputBuffer } from "../../src/process/OutputBuffer.js"
import * as ProcessLimits from "../../src/process/ProcessLimits.js"
import * as ExecServer from "../../src/server/ExecServer.js"
import { CurrentConnection, lost } from "../../src/session/CurrentConnection.js"
import * as RecordingStore from "../../src/session/RecordingStore.js"
import type { Options, Session, SessionRegistry } from "../../src/session/SessionRegistry.js"
import * as Shares from "../../src/session/Shares.js"
import { ExitStatus } from "../../src/spawn/Child.js"
import { Spawner } from "../../src/spawn/Spawner.js"
import { FakeSpawner, type Plan, stubborn } from "../../src/testing/FakeSpawner.js"
import { id, params, settle } from "../support/fake.js"
import { directory } from "../support/files.js"
import { type Image, imageOf, registryOf, StoppedClock } from "../support/image.js"
import { eventually } from "../support/servers.js"

/** A version of the server before its replacement, and what follows. */
interface Versions {
  readonly before: SessionRegistry["Type"]
  readonly fake: FakeSpawner["Type"]
  /** Lets time pass before the replacement. */
  readonly pass: (ms: number) => void
  /** Runs in the version before. */
  readonly then: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** A next version, without any sessions. */
  readonly make: Effect.Effect<SessionRegistry["Type"], never, Scope.Scope>
  /** The next version, with this image or one made now. */
  readonly after: (image?: Image) => Effect.Effect<SessionRegistry["Type"], never, Scope.Scope>
}

const sessions = Layer.provide(ExecServer.layerSessions, [FileSystem.layer, HttpRunner.layer, OutputBuffer.layer])

type Body = (versions: Versions) => Effect.Effect<void, unknown, Scope.Scope>

const test = (title: string, body: Body, plan: Plan = {}, limits: Partial<ProcessLimits.Limits> = {}) =>
  it.scoped(title, () =>
    Effect.gen(function* () {
      const services = yield* Layer.build(FakeSpawner.layerOf(plan))
      const layer = sessions.pipe(
        Layer.provide(Layer.succeedContext(services)),
        Layer.provide(Layer.succeed(ProcessLimits.ProcessLimits, { ...ProcessLimits.defaults, ...limits }))
      )
      const stopped = new StoppedClock()
      const then: Versions["then"] = (effect) => Effect.withClock(effect, stopped.clock)
      // Never closed: it would end what is no longer its own.
      const before = yield* then(Scope.extend(registryOf(layer), yield* Scope.make()))
      yield* body({
        before,
        then,
        fake: yield* Effect.provide(FakeSpawner, services),
        pass: (ms) => stopped.pass(ms),
        make: registryOf(layer),
        after: (image = imageOf(before)) =>
          Effect.gen(function* () {
            const next = yield* registryOf(layer)
            yield* next.adopt(image.state, image.reader)
            yield* next.begin
            yield* settle
            return next
          })
      })
    })
  )

const open = ({ before, then }: Versions, options: Options = {}) => then(before.create(options))

const start = ({ then }: Versions, session: Session, processId: string, more: object = {}) =>
  then(Effect.zipLeft(session.supervisor.start(params(processId, more)), settle))

const sessionOf = (registry: SessionRegistry["Type"], { handle }: Session): Session => {
  const found = registry.find(handle)
  assert.isDefined(found)
  return found as Session
}

const processOf = (registry: SessionRegistry["Type"], session: Session, processId: string): ManagedProcess => {
  const found = sessionOf(registry, session).supervisor.find(id(processId))
  assert.isDefined(found)
  return found as ManagedProcess
}

/** The retained output: `1 stdout text`. */
const output = (process: ManagedProcess) =>
  process.retained
    .select(0, Number.POSITIVE_INFINITY)
    .chunks.map(({ seq, stream, chunk }) => `${seq} ${stream} ${chunk}`)

/** How often an event had a wrong number. */
const violations = Effect.map(Metric.snapshot, (pairs) =>
  pairs
    .filter(({ metricKey }) => metricKey.name === "exec_server_invariant_violations_total")
    .reduce((sum, { metricState }) => sum + ("count" in metricState ? Number(metricState.count) : 0), 0)
)

const exited = (code: number) => ExitStatus.Exited({ code })

describe("another version", () => {
  test("goes on with the output, its numbers and the exit", (versions) =>
    Effect.gen(function* () {
      const session = yield* open(versions, { name: "work", clientName: "c" })
      yield* start(versions, session, "p")
      const child = yield* versions.fake.child(0)
      child.emit("stdout", "one\n")
      child.emit("stderr", "two\n")
      yield* settle
      const next = yield* versions.after()
      const found = sessionOf(next, session)
      assert.strictEqual(found.id, session.id)
      assert.deepInclude(found.info(true), { name: "work", clientName: "c", state: "detached", running: 1 })
      const process = processOf(next, session, "p")
      assert.deepInclude(process.info(), { pid: child.pid, running: true, outputBytes: 8 })
      child.emit("stdout", "three\n")
      child.finish(7)
      yield* settle
      assert.deepStrictEqual(output(process), ["1 stdout one\n", "2 stderr two\n", "3 stdout three\n"])
      assert.deepInclude(process.status(), { exited: true, exitCode: 7, closed: true })
      assert.strictEqual(process.lastSeq, 5)
      assert.strictEqual(yield* violations, 0)
    }))

  test("takes nothing before it begins, and an earlier one can take over instead", (versions) =>
    Effect.gen(function* () {
      const session = yield* open(versions)
      yield* start(versions, session, "p")
      const image = imageOf(versions.before)
      const other = yield* registryOf(Layer.provide(sessions, FakeSpawner.layer))
      const failing = yield* Effect.exit(other.adopt(image.state, image.reader))
      // Its spawner does not know the child.
      assert.strictEqual(failing._tag, "Failure")
      const next = yield* versions.after(image)
      const child = yield* versions.fake.child(0)
      child.emit("stdout", "kept")
      yield* settle
      assert.deepStrictEqual(output(processOf(next, session, "p")), ["1 stdout kept"])
    }))

  test("knows what has ended, until its time is over", (versions) =>
    Effect.gen(function* () {
      const session = yield* open(versions)
      yield* start(versions, session, "done")
      const child = yield* versions.fake.child(0)
      child.emit("stdout", "last words")
      child.die("SIGTERM")
      yield* settle
      versions.pass(20_000)
      const next = yield* versions.after()
      const process = processOf(next, session, "done")
      assert.deepInclude(process.status(), { exitCode: 143, signal: "SIGTERM", closed: true })
      assert.deepStrictEqual(output(process), ["1 stdout last words"])
      yield* TestClock.adjust("9 seconds")
      assert.isDefined(sessionOf(next, session).supervisor.find(id("done")))
      yield* TestClock.adjust("1 seconds")
      assert.isUndefined(sessionOf(next, session).supervisor.find(id("done")))
    }))

  test("hears of an exit and of an end of output in either order", (versions) =>
    Effect.gen(function* () {
      const session = yield* open(versions)
      yield* start(versions, session, "exited")
      yield* start(versions, session, "silent")
      const [first, second] = [yield* versions.fake.child(0), yield* versions.fake.child(1)]
      first.exit(exited(3))
      second.endOutput()
      yield* settle
      const next = yield* versions.after()
      const [gone, silent] = [processOf(next, session, "exited"), processOf(next, session, "silent")]
      assert.deepInclude(gone.status(), { exited: true, exitCode: 3, closed: false })
      assert.deepInclude(silent.status(), { exited: false })
      first.emit("stdout", "late")
      first.endOutput()
      second.exit(exited(4))
      yield* settle
      assert.deepStrictEqual(output(gone), ["2 stdout late"])
      assert.isTrue(gone.status().closed)
      assert.deepInclude(silent.status(), { exitCode: 4, closed: true })
      assert.strictEqual(yield* violations, 0)
    }))

  test(
    "passes on input that was not taken, in order and once, and knows the writeIds",
    (versions) =>
      Effect.gen(function* () {
        const session = yield* open(versions)
        yield* start(versions, session, "p", { pipeStdin: true })
        const process = processOf(versions.before, session, "p")
        const child = yield* versions.fake.child(0)
        const write = (to: ManagedProcess, text: string) => to.write(Buffer.from(text), `id ${text}`)
        yield* versions.then(write(process, "taken "))
        child.completeWrites()
        yield* versions.then(write(process, "passed "))
        yield* versions.then(Effect.forkScoped(write(process, "waiting ".repeat(3))))
        yield* settle
        process.closeStdin()
        const next = yield* versions.after()
        const found = processOf(next, session, "p")
        assert.strictEqual(child.written, "taken passed ")
        assert.strictEqual(yield* write(found, "passed "), "accepted")
        const repeated = yield* Effect.fork(write(found, "waiting ".repeat(3)))
        yield* settle
        assert.isFalse(child.stdinEnded)
        child.completeWrites()
        yield* settle
        assert.strictEqual(yield* Fiber.join(repeated), "accepted")
        assert.strictEqual(child.written, `taken passed ${"waiting ".repeat(3)}`)
        assert.strictEqual(child.stdinEnds, 1)
        assert.strictEqual(yield* write(found, "more"), "stdinClosed")
      }),
    { holdWrites: true },
    { stdinQueueBytesPerProcess: 16 }
  )

  test(
    "keeps a time limit and the kill after a graceful termination",
    (versions) =>
      Effect.gen(function* () {
        const session = yield* open(versions, { ttlMs: 3_600_000 })
        yield* start(versions, session, "limited", { timeoutMs: 60_000 })
        yield* start(versions, session, "ended")
        yield* versions.then(session.supervisor.terminate(id("ended"), { type: "graceful", timeoutMs: 30_000 }))
        yield* settle
        versions.pass(20_000)
        const next = yield* versions.after()
        const [limited, ended] = [yield* versions.fake.child(0), yield* versions.fake.child(1)]
        assert.deepStrictEqual(ended.signals, [["SIGTERM", "tree"]])
        yield* TestClock.adjust("9 seconds")
        yield* settle
        assert.lengthOf(ended.signals, 1)
        yield* TestClock.adjust("1 seconds")
        yield* settle
        assert.deepStrictEqual(ended.signals[1], ["SIGKILL", "tree"])
        assert.isFalse(limited.exited)
        yield* TestClock.adjust("30 seconds")
        yield* settle
        assert.deepStrictEqual(limited.signals, [["SIGKILL", "tree"]])
        assert.strictEqual(processOf(next, session, "limited").status().signal, "SIGKILL")
      }),
    { onSignal: stubborn }
  )

  test("restarts what is to be restarted, with the delays and the count of before", (versions) =>
    Effect.gen(function* () {
      const session = yield* open(versions, { ttlMs: 3_600_000 })
      const restart = { policy: "always", maxRestarts: 2, withinMs: 3_600_000, backoffMs: 10_000, maxBackoffMs: 60_000 }
      yield* start(versions, session, "p", { restart, env: { A: "1" } })
      const first = yield* versions.fake.child(0)
      first.finish(1)
      yield* settle
      versions.pass(4000)
      const next = yield* versions.after()
      yield* TestClock.adjust("5 seconds")
      assert.lengthOf(versions.fake.children, 1)
      yield* TestClock.adjust("1 seconds")
      yield* settle
      const second = yield* versions.fake.child(1)
      const { argv, cwd, env, io } = first.spec
      assert.deepStrictEqual(second.spec, { argv, cwd, env, io })
      second.emit("stdout", "again")
      second.finish(2)
      yield* TestClock.adjust("20 seconds")
      yield* settle
      const third = yield* versions.fake.child(2)
      third.finish(3)
      yield* settle
      const process = processOf(next, session, "p")
      assert.deepInclude(process.info(), { restarts: 2, exitCode: 3, running: false })
      // The restarts have the numbers 1 and 3.
      assert.deepStrictEqual(output(process), ["2 stdout again"])
      assert.strictEqual(yield* violations, 0)
    }))

  test("ends a detached session when the version before would have", (versions) =>
    Effect.gen(function* () {
      const session = yield* open(versions, { ttlMs: 60_000 })
      const kept = yield* open(versions, { ttlMs: Number.POSITIVE_INFINITY })
      yield* start(versions, session, "p")
      yield* versions.then(versions.before.detach(session, true))
      yield* versions.then(versions.before.detach(kept, true))
      versions.pass(50_000)
      const next = yield* versions.after()
      const child = yield* versions.fake.child(0)
      yield* TestClock.adjust("9 seconds")
      assert.isFalse(child.exited)
      yield* TestClock.adjust("1 seconds")
      yield* settle
      assert.isUndefined(next.find(session.handle))
      assert.isTrue(child.exited)
      yield* TestClock.adjust("1000 days")
      assert.isDefined(next.find(kept.handle))
    }))

  test("gives clients that were connected their whole time, and ends what nobody can resume", (versions) =>
    Effect.gen(function* () {
      const session = yield* open(versions)
      const old = yield* Effect.provideService(open(versions), CurrentConnection, {
        ...lost("old client", "in process"),
        keepsSession: () => false
      })
      yield* start(versions, session, "p")
      yield* start(versions, old, "q")
      versions.pass(500_000)
      const next = yield* versions.after()
      assert.isUndefined(next.find(old.handle))
      assert.isTrue((yield* versions.fake.child(1)).exited)
      yield* TestClock.adjust("29 seconds")
      const resumed = yield* next.resume(session.id)
      assert.isTrue(resumed.info(true).running === 1)
      yield* TestClock.adjust("1 hours")
      assert.isDefined(next.find(session.handle))
    }))

  test(
    "may be used before it begins: what was left comes first",
    (versions) =>
      Effect.gen(function* () {
        const session = yield* open(versions)
        yield* start(versions, session, "p", { pipeStdin: true })
        yield* versions.then(processOf(versions.before, session, "p").write(Buffer.from("first "), undefined))
        const child = yield* versions.fake.child(0)
        const { state, reader } = imageOf(versions.before)
        const next = yield* versions.make
        yield* next.adopt(state, reader)
        const resumed = yield* next.resume(session.id)
        const process = processOf(next, session, "p")
        const written = yield* Effect.fork(process.write(Buffer.from("second"), undefined))
        yield* settle
        process.closeStdin()
        assert.strictEqual(child.written, "")
        assert.isFalse(child.stdinEnded)
        yield* next.begin
        child.completeWrites()
        assert.strictEqual(yield* Fiber.join(written), "accepted")
        assert.strictEqual(child.written, "first second")
        yield* settle
        assert.isTrue(child.stdinEnded)
        // Its expiry is not waited for.
        yield* TestClock.adjust("1 hours")
        assert.isDefined(next.find(session.handle))
        yield* next.detach(resumed, true)
        yield* TestClock.adjust("29 seconds")
        assert.isDefined(next.find(session.handle))
      }),
    { holdWrites: true }
  )

  test("reads the state of a version that knows less, or more", (versions) =>
    Effect.gen(function* () {
      const session = yield* open(versions)
      yield* start(versions, session, "p")
      const child = yield* versions.fake.child(0)
      child.emit("stdout", "text")
      yield* settle
      const optional = new Set(["failure", "restarts", "strays", "unsent", "forgotten", "parts", "abandoned", "weight"])
      /** Leaves out members with a default, and adds some. */
      const change = (value: unknown): unknown => {
        if (Array.isArray(value)) return value.map(change)
        if (typeof value !== "object" || value === null) return value
        const kept = Object.entries(value).filter(([name]) => !optional.has(name))
        return { ...Object.fromEntries(kept.map(([name, member]) => [name, change(member)])), later: { more: [1] } }
      }
      const next = yield* versions.after(imageOf(versions.before, change))
      assert.deepStrictEqual(output(processOf(next, session, "p")), ["1 stdout text"])
    }))
})

describe("what belongs to sessions", () => {
  it.scopedLive("a recording has all output once, whatever was written of it", () =>
    Effect.gen(function* () {
      const folder = join(yield* directory, "recordings")
      const spawner = Layer.succeedContext(yield* Layer.build(FakeSpawner.layer))
      const versionOf = Effect.gen(function* () {
        const store = yield* Layer.build(RecordingStore.layer(folder))
        const layer = Layer.provide(sessions, [spawner, Layer.succeedContext(store)])
        const registry = yield* registryOf(layer)
        const recordings = yield* Effect.provide(RecordingStore.RecordingStore, store)
        return { registry, recordings: recordings as RecordingStore.Shape }
      })
      const first = yield* Scope.extend(versionOf, yield* Scope.make())
      const session = yield* first.registry.create()
      yield* session.supervisor.start(params("p"))
      yield* settle
      const child = (yield* Effect.provide(FakeSpawner, spawner)).children[0]
      const process = session.supervisor.find(id("p")) as ManagedProcess
      const { recordingId, begin } = Either.getOrThrow(first.recordings.reserve({}))
      yield* begin(session, process, undefined)
      child?.emit("stdout", "whole\n")
      const path = join(folder, `${recordingId}.cast`)
      yield* eventually("it is written", () => readFileSync(path, "utf8").includes("whole"))
      child?.emit("stdout", Buffer.from([0x68, 0xc3]))
      yield* settle
      const image = imageOf(first.registry)
      // The version before was writing: half of a line is in the file.
      const text = readFileSync(path, "utf8")
      appendFileSync(path, '[0.1,"o","hal')
      const state = {
        ...image.state,
        parts: {
          recordings: {
            ended: [],
            active: (image.state.parts.recordings?.active ?? []).map((one) => ({ ...one, writing: '[0, "m", "x"]\n' }))
          }
        }
      }
      const second = yield* versionOf
      yield* second.registry.adopt(state, image.reader)
      yield* second.registry.begin
      const recorded = second.recordings.find(recordingId)
      assert.deepInclude(recorded?.info(), { running: true, processId: "p" })
      assert.strictEqual(recorded?.owner, session.id)
      child?.emit("stdout", Buffer.from([0xa9, 0x0a]))
      child?.finish(5)
      yield* eventually("it has ended", () => second.recordings.find(recordingId)?.info().running === false)
      const now = readFileSync(path, "utf8")
      assert.isTrue(now.startsWith(`${text}[0, "m", "x"]\n`))
      const events = now
        .trim()
        .split("\n")
        .slice(1)
        .map((line) => JSON.parse(line) as ReadonlyArray<unknown>)
      const output = events.filter(([, code]) => code === "o").map(([, , data]) => data)
      assert.strictEqual(output.join(""), "whole\r\nhé\r\n")
      assert.deepStrictEqual(events.at(-1)?.slice(1), ["x", "5"])
      assert.strictEqual(second.recordings.find(recordingId)?.info().bytes, Buffer.byteLength(now))
    })
  )

  it.scoped("a share is valid as long as before, for its process", () =>
    Effect.gen(function* () {
      const spawner = Layer.succeedContext(yield* Layer.build(FakeSpawner.layer))
      const versionOf = Effect.gen(function* () {
        const made = yield* Layer.build(Layer.fresh(Shares.layer()))
        const registry = yield* registryOf(Layer.provide(sessions, [spawner, Layer.succeedContext(made)]))
        return { registry, shares: (yield* Effect.provide(Shares.Shares, made)) as Shares.Shape }
      })
      const first = yield* Scope.extend(versionOf, yield* Scope.make())
      const session = yield* first.registry.create({ ttlMs: 3_600_000 })
      yield* session.supervisor.start(params("p"))
      yield* settle
      const process = session.supervisor.find(id("p")) as ManagedProcess
      const { token, info } = Either.getOrThrow(
        first.shares.create(session, process, { role: "viewer", expiresInMs: 60_000, maxViewers: 1, label: "mine" })
      )
      const { state, reader } = imageOf(first.registry)
      assert.notInclude(JSON.stringify(state), token)
      const second = yield* versionOf
      yield* second.registry.adopt(state, reader)
      yield* second.registry.begin
      assert.deepStrictEqual(second.shares.list(), [info])
      const grant = second.shares.find(token)
      const ended: Array<string> = []
      const share = typeof grant === "object" ? grant.share : undefined
      for (let viewer = 0; viewer < 2; viewer++) share?.enter((reason) => ended.push(reason))
      assert.deepStrictEqual(ended, [Shares.Ending.full])
      assert.isTrue(share?.covers(second.registry.find(session.handle)?.supervisor.find(id("p"))))
      yield* TestClock.adjust("60 seconds")
      assert.strictEqual(second.shares.find(token), "unknown")
    })
  )
})

describe("a state is refused", () => {
  const refusal = (registry: SessionRegistry["Type"]): string => {
    try {
      registry.freeze(new ImageWriter())
    } catch (error) {
      assert.instanceOf(error, CannotFreeze)
      return (error as CannotFreeze).message
    }
    return "not refused"
  }

  test("while a process is being started, and settles with the start", (versions) =>
    Effect.gen(function* () {
      const session = yield* open(versions)
      const ready = yield* Effect.makeLatch()
      versions.fake.next({ before: ready.await })
      const started = yield* Effect.fork(start(versions, session, "p"))
      yield* settle
      assert.strictEqual(refusal(versions.before), "process p is being started")
      const settled = yield* Effect.fork(versions.before.settle(5000))
      yield* TestClock.adjust("5 seconds")
      assert.isFalse(yield* Fiber.join(settled))
      const again = yield* Effect.fork(versions.before.settle(5000))
      yield* ready.open
      yield* Fiber.join(started)
      assert.isTrue(yield* Fiber.join(again))
      assert.strictEqual(refusal(versions.before), "not refused")
    }))

  test("while a session is ending", (versions) =>
    Effect.gen(function* () {
      const session = yield* open(versions)
      yield* start(versions, session, "p")
      const ended = yield* Effect.fork(versions.before.endOne(session))
      yield* Effect.yieldNow()
      assert.strictEqual(refusal(versions.before), "a session is ending")
      yield* Fiber.join(ended)
      assert.isTrue(yield* versions.before.settle(1000))
      assert.strictEqual(refusal(versions.before), "not refused")
    }))

  it.scoped("by a spawner that keeps its children", () =>
    Effect.gen(function* () {
      const registry = yield* registryOf(
        sessions.pipe(
          Layer.provide(
            Layer.map(FakeSpawner.layer, (context) => {
              const { handover: _, ...others } = context.unsafeMap.get(Spawner.key)
              context.unsafeMap.set(Spawner.key, others)
              return context
            })
          )
        )
      )
      const session = yield* registry.create()
      assert.strictEqual(refusal(registry), "not refused")
      yield* session.supervisor.start(params("p"))
      yield* settle
      assert.strictEqual(refusal(registry), "the spawner of this server cannot hand its children over")
    })
  )
})
