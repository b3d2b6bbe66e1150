import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import type { ProcessSupervisor } from "../../src/process/ProcessSupervisor.js"
import { codeOf } from "../../src/protocol/Failure.js"
import { SessionRegistry } from "../../src/session/SessionRegistry.js"
import { SpawnError } from "../../src/spawn/Child.js"
import { FakeSpawner } from "../../src/testing/FakeSpawner.js"
import {
  type Bench,
  bench,
  bytes,
  failureOf,
  id,
  params,
  serverLayer,
  settle,
  supervisorLayer
} from "../support/fake.js"
import { memoryClient } from "../support/servers.js"
import { registryLayer } from "../support/sessions.js"
import { startParams } from "../support/TestClient.js"

const test = (
  title: string,
  body: (bench: Bench) => Effect.Effect<unknown, unknown, Scope.Scope | ProcessSupervisor | FakeSpawner>
) => it.scoped(title, () => Effect.flatMap(bench, body).pipe(Effect.provide(supervisorLayer())))

/** A process whose spawn waits for `gate`. */
const pending = ({ supervisor, fake }: Bench) =>
  Effect.gen(function* () {
    const gate = yield* Deferred.make<void, SpawnError>()
    fake.next({ before: Deferred.await(gate) })
    const starting = yield* Effect.fork(Effect.either(supervisor.start(params("p", { pipeStdin: true }))))
    yield* settle
    assert.lengthOf(fake.requests, 1)
    assert.lengthOf(fake.children, 0)
    return { gate, starting }
  })

describe("while a spawn is still asynchronous", () => {
  test("its id is taken", (b) =>
    Effect.gen(function* () {
      const { gate, starting } = yield* pending(b)
      const exists = yield* failureOf(b.supervisor.start(params("p")))
      assert.deepStrictEqual([codeOf(exists), exists.message], [-32600, "process p already exists"])
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.join(starting)
    }))

  test("what acts on it waits for it, and then takes effect in the order it came", (b) =>
    Effect.gen(function* () {
      const { gate, starting } = yield* pending(b)
      const write = (text: string) =>
        Effect.fork(b.supervisor.act(id("p"), (found) => found?.write(bytes(text), undefined) ?? Effect.succeed("?")))
      const writes = [yield* write("a"), yield* write("b")]
      const interrupted = yield* write("c")
      yield* settle
      yield* Fiber.interruptFork(interrupted)
      const terminating = yield* Effect.fork(b.supervisor.terminate(id("p"), { type: "force" }))
      yield* settle
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.join(starting)
      assert.deepStrictEqual(yield* Fiber.join(Fiber.all(writes)), ["accepted", "accepted"])
      assert.deepStrictEqual(yield* Fiber.join(terminating), { running: true })
      yield* settle
      assert.strictEqual((yield* b.fake.child(0)).written, "abc")
      assert.deepStrictEqual(b.of("p").at(-1), ["closed", 2])
    }))

  test("what acts on it finds nothing when it fails", (b) =>
    Effect.gen(function* () {
      const { gate, starting } = yield* pending(b)
      const acting = yield* Effect.fork(b.supervisor.act(id("p"), (found) => Effect.succeed(found)))
      const terminating = yield* Effect.fork(b.supervisor.terminate(id("p"), { type: "force" }))
      yield* settle
      yield* Deferred.fail(gate, new SpawnError({ message: "no" }))
      yield* Fiber.join(starting)
      assert.isUndefined(yield* Fiber.join(acting))
      assert.deepStrictEqual(yield* Fiber.join(terminating), { running: false })
    }))

  test("the request that waits for it may be interrupted: the process lives on as if it were not", (b) =>
    Effect.gen(function* () {
      const { gate, starting } = yield* pending(b)
      yield* Fiber.interruptFork(starting)
      yield* settle
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.await(starting)
      yield* settle
      const child = yield* b.fake.child(0)
      assert.isTrue(child.listening)
      child.finish(0)
      assert.deepStrictEqual(b.of("p").at(-1), ["closed", 2])
    }))

  it.scoped("the session's end does not wait for it, and its child does not outlive the session", () =>
    Effect.gen(function* () {
      const registry = yield* SessionRegistry
      const fake = yield* FakeSpawner
      const session = yield* registry.create()
      const gate = yield* Deferred.make<void, SpawnError>()
      fake.next({ before: Deferred.await(gate) })
      const starting = yield* Effect.fork(Effect.either(session.supervisor.start(params("p"))))
      yield* settle
      const ending = yield* Effect.fork(registry.detach(session, false))
      yield* TestClock.adjust("5 seconds")
      yield* Fiber.join(ending)
      assert.strictEqual(session.tag, "Ended")
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.join(starting)
      yield* settle
      assert.isTrue((yield* fake.child(0)).exited)
    }).pipe(Effect.provide(registryLayer()))
  )

  test("a failure that comes late frees the id for a start that comes right after it", (b) =>
    Effect.gen(function* () {
      const { gate, starting } = yield* pending(b)
      const refused = yield* failureOf(b.supervisor.start(params("p")))
      assert.strictEqual(codeOf(refused), -32600)
      yield* Deferred.fail(gate, new SpawnError({ message: "Exec format error (os error 8)" }))
      const first = yield* failureOf(Effect.flatten(Fiber.join(starting)))
      assert.deepStrictEqual([codeOf(first), first.message], [-32603, "Exec format error (os error 8): program"])
      // Without a turn in between: the remains of the first must not take the second with them.
      yield* b.supervisor.start(params("p"))
      yield* settle
      const child = yield* b.fake.child(0)
      child.finish(0)
      assert.deepStrictEqual(
        b.all("p").map(([kind]) => kind),
        ["failed", "started", "exited", "closed"]
      )
    }))

  test("it counts towards maxProcessesPerSession until it fails", (b) =>
    Effect.gen(function* () {
      const { gate, starting } = yield* pending(b)
      assert.lengthOf(b.supervisor.list(), 1)
      assert.deepInclude(b.supervisor.list()[0]?.info(), { pid: null, running: true, exitCode: null })
      yield* Deferred.fail(gate, new SpawnError({ message: "no" }))
      yield* Fiber.join(starting)
      assert.lengthOf(b.supervisor.list(), 0)
    }))
})

describe("from one connection", () => {
  it.scoped("start, write, closeStdin and terminate sent at once take effect in that order", () =>
    Effect.gen(function* () {
      const client = yield* memoryClient
      yield* client.handshake()
      const fake = yield* FakeSpawner
      const start = client.post("process/start", startParams("p", ["program"], { pipeStdin: true }))
      const chunk = bytes("input").toString("base64")
      const write = client.post("process/write", { processId: "p", chunk })
      const close = client.post("process/closeStdin", { processId: "p" })
      const late = client.post("process/write", { processId: "p", chunk })
      const signal = client.post("process/signal", { processId: "p", signal: "SIGUSR1" })
      const terminate = client.post("process/terminate", { processId: "p" })
      assert.strictEqual((yield* client.reply(start)).result?.processId, "p")
      assert.deepStrictEqual((yield* client.reply(write)).result, { accepted: true, status: "accepted" })
      assert.deepStrictEqual((yield* client.reply(close)).result, {})
      assert.deepStrictEqual((yield* client.reply(late)).result, { accepted: false, status: "stdinClosed" })
      assert.deepStrictEqual((yield* client.reply(signal)).result, {})
      assert.deepStrictEqual((yield* client.reply(terminate)).result, { running: true })
      const exited = yield* client.closed("p")
      assert.deepInclude(exited, { exitCode: 137, signal: "SIGKILL" })
      const child = yield* fake.child(0)
      assert.strictEqual(child.written, "input")
      assert.isTrue(child.stdinEnded)
      assert.deepStrictEqual(child.signals, [
        ["SIGUSR1", "group"],
        ["SIGKILL", "tree"]
      ])
    }).pipe(Effect.provide(serverLayer()))
  )

  it.scoped("a child that has ended before the answer to its start is sent is told of after it", () =>
    Effect.gen(function* () {
      const client = yield* memoryClient
      yield* client.handshake({ capabilities: { lifecycle: true } })
      const fake = yield* FakeSpawner
      client.post("process/start", startParams("p", ["program"]))
      const child = yield* fake.child(0)
      child.emit("stdout", "quick")
      child.finish(0)
      yield* client.closed("p")
      const order = client.messages.slice(1).map(({ method }) => method ?? "answer")
      assert.deepStrictEqual(order, ["answer", "process/started", "process/output", "process/exited", "process/closed"])
    }).pipe(Effect.provide(serverLayer()))
  )

  it.scoped("a spawn that fails late is answered, and announced after that", () =>
    Effect.gen(function* () {
      const client = yield* memoryClient
      yield* client.handshake({ capabilities: { lifecycle: true } })
      const fake = yield* FakeSpawner
      const gate = yield* Deferred.make<void, SpawnError>()
      fake.next({ before: Deferred.await(gate) })
      const start = client.post("process/start", startParams("p", ["program"]))
      const write = client.post("process/write", { processId: "p", chunk: "" })
      // Nothing else waits for it.
      assert.deepStrictEqual(yield* client.ask("environment/status"), { status: "ready" })
      yield* Deferred.fail(gate, new SpawnError({ message: "no" }))
      assert.deepStrictEqual((yield* client.reply(start)).error, { code: -32603, message: "no" })
      const written = yield* client.reply(write)
      assert.deepStrictEqual(written.result, { accepted: false, status: "unknownProcess" })
      assert.deepStrictEqual(yield* client.notified("process/failed"), { processId: "p", message: "no" })
      yield* client.start("p", ["program"])
    }).pipe(Effect.provide(serverLayer()))
  )

  it.scoped("the connection ends while the spawn is asynchronous: the session has the process", () =>
    Effect.gen(function* () {
      const client = yield* memoryClient
      const { sessionId } = yield* client.handshake()
      const fake = yield* FakeSpawner
      const gate = yield* Deferred.make<void, SpawnError>()
      fake.next({ before: Deferred.await(gate) })
      client.post("process/start", startParams("p", ["program"]))
      yield* client.ask("environment/status")
      client.carrier.close()
      yield* client.ended()
      yield* settle
      yield* Deferred.succeed(gate, undefined)
      const child = yield* fake.child(0)
      yield* settle
      const next = yield* memoryClient
      next.knows("p")
      yield* next.resume(sessionId)
      yield* next.ask("environment/status")
      child.emit("stdout", "here")
      yield* next.sees("p", "here")
    }).pipe(Effect.provide(serverLayer()))
  )
})
