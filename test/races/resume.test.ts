import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import { codeOf } from "../../src/protocol/Failure.js"
import { SessionRegistry } from "../../src/session/SessionRegistry.js"
import { FakeSpawner, immortal } from "../../src/testing/FakeSpawner.js"
import type { Connector } from "../../src/transport/Memory.js"
import { params, serverLayer, settle } from "../support/fake.js"
import { memoryClient } from "../support/servers.js"
import { registryLayer } from "../support/sessions.js"
import type { Json, TestClient } from "../support/TestClient.js"

describe("sessions", () => {
  for (const first of ["resume", "expiry"] as const) {
    it.scoped(`a resume at the very moment of the expiry, the ${first} set up first: one of them wins all of it`, () =>
      Effect.gen(function* () {
        const registry = yield* SessionRegistry
        const fake = yield* FakeSpawner
        const session = yield* registry.create()
        yield* session.supervisor.start(params("p"))
        yield* settle
        const child = yield* fake.child(0)
        const resume = Effect.fork(Effect.delay(Effect.either(registry.resume(session.id)), "30 seconds"))
        const detach = registry.detach(session, true)
        const resuming =
          first === "resume"
            ? yield* Effect.zipLeft(resume, Effect.zipRight(settle, detach))
            : yield* Effect.zipRight(detach, Effect.zipRight(settle, resume))
        yield* settle
        yield* TestClock.adjust("30 seconds")
        const result = yield* Fiber.join(resuming)
        yield* TestClock.adjust("10 minutes")
        if (Either.isRight(result)) {
          assert.strictEqual(session.tag, "Attached")
          assert.deepStrictEqual(child.signals, [])
        } else {
          assert.strictEqual(codeOf(result.left), -32600)
          assert.strictEqual(session.tag, "Ended")
          assert.deepStrictEqual(child.signals, [["SIGKILL", "tree"]])
        }
      }).pipe(Effect.provide(registryLayer()))
    )
  }

  it.scoped("a resume while the expired session is still ending finds no session", () =>
    Effect.gen(function* () {
      const registry = yield* SessionRegistry
      const session = yield* registry.create()
      yield* session.supervisor.start(params("p"))
      yield* registry.detach(session, true)
      yield* TestClock.adjust("30 seconds")
      const result = yield* Effect.either(registry.resume(session.id))
      assert.isTrue(Either.isLeft(result) && codeOf(result.left) === -32600)
      yield* TestClock.adjust("10 seconds")
    }).pipe(Effect.provide(registryLayer({ onSignal: immortal })))
  )

  it.scoped("a second loss of the connection is given its full time again", () =>
    Effect.gen(function* () {
      const registry = yield* SessionRegistry
      const session = yield* registry.create()
      yield* registry.detach(session, true)
      yield* TestClock.adjust("29 seconds")
      yield* registry.resume(session.id)
      yield* registry.detach(session, true)
      yield* TestClock.adjust("29 seconds")
      assert.strictEqual(session.tag, "Detached")
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(session.tag, "Ended")
    }).pipe(Effect.provide(registryLayer()))
  )

  it.scoped("a detach in the middle of the server's end leaves the session to it", () =>
    Effect.gen(function* () {
      const registry = yield* SessionRegistry
      const fake = yield* FakeSpawner
      const session = yield* registry.create()
      yield* session.supervisor.start(params("p"))
      yield* settle
      const ending = yield* Effect.fork(registry.end(2000))
      yield* settle
      yield* registry.detach(session, false)
      const child = yield* fake.child(0)
      // Still within its grace: the loss of the connection must not cut it short.
      assert.deepStrictEqual(child.signals, [["SIGTERM", "tree"]])
      child.die("SIGTERM")
      yield* Fiber.join(ending)
      assert.strictEqual(session.tag, "Ended")
    }).pipe(Effect.provide(registryLayer({ onSignal: immortal })))
  )
})

type Server = Connector | FakeSpawner | Scope.Scope

const test = (title: string, body: Effect.Effect<unknown, unknown, Server>) =>
  it.scoped(title, () => body.pipe(Effect.provide(serverLayer())))

/** A client with a session in which the process `p` runs. */
const withProcess: Effect.Effect<{ readonly client: TestClient; readonly sessionId: string }, never, Server> =
  Effect.gen(function* () {
    const client = yield* memoryClient
    const { sessionId } = yield* client.handshake()
    yield* client.start("p", ["program"])
    yield* settle
    return { client, sessionId }
  })

const resumer = Effect.tap(memoryClient, (client) => client.knows("p"))

const resume = (client: TestClient, resumeSessionId: string): Effect.Effect<Json> =>
  client.call("initialize", { clientName: "test", resumeSessionId })

/** What a session that survived must do: tell its client of events, and keep its process past the expiry. */
const survives = (client: TestClient) =>
  Effect.gen(function* () {
    client.raw('{"method":"initialized"}')
    yield* TestClock.adjust("10 minutes")
    const child = yield* (yield* FakeSpawner).child(0)
    assert.deepStrictEqual(child.signals, [])
    child.emit("stdout", "alive")
    yield* client.sees("p", "alive")
  })

describe("connections", () => {
  test(
    "a resume while the old connection lives gets -32010, and again after its end the session",
    Effect.gen(function* () {
      const { client: old, sessionId } = yield* withProcess
      const client = yield* resumer
      const refused = yield* resume(client, sessionId)
      assert.deepStrictEqual(refused.error, {
        code: -32010,
        message: `session ${sessionId} is already attached to another connection`
      })
      // The older connection is not driven out.
      assert.deepStrictEqual(yield* old.ask("environment/status"), { status: "ready" })
      old.carrier.close()
      yield* old.ended()
      yield* settle
      assert.strictEqual((yield* resume(client, sessionId)).result.sessionId, sessionId)
      yield* survives(client)
    })
  )

  for (const order of ["the end first", "the resume first"] as const) {
    test(
      `a resume in the same turn as the old connection's end, ${order}: the session survives both`,
      Effect.gen(function* () {
        const { client: old, sessionId } = yield* withProcess
        const client = yield* resumer
        old.post("process/read", { processId: "p", waitMs: 3_600_000 })
        yield* settle
        if (order === "the end first") old.carrier.close()
        const request = client.post("initialize", { clientName: "test", resumeSessionId: sessionId })
        if (order === "the resume first") old.carrier.close()
        let reply = yield* client.reply(request)
        if (reply.error !== undefined) {
          assert.strictEqual(reply.error.code, -32010)
          yield* old.ended()
          yield* settle
          reply = yield* resume(client, sessionId)
        }
        assert.strictEqual(reply.result.sessionId, sessionId)
        yield* survives(client)
      })
    )
  }

  test(
    "two resumes at once: one has the session, the other -32010",
    Effect.gen(function* () {
      const { client: old, sessionId } = yield* withProcess
      old.carrier.close()
      yield* old.ended()
      yield* settle
      const clients = [yield* resumer, yield* resumer]
      const replies = yield* Effect.forEach(clients, (client) => resume(client, sessionId), { concurrency: 2 })
      assert.deepStrictEqual(
        replies.map(({ error }) => error?.code),
        [undefined, -32010]
      )
      yield* survives(clients[0] as TestClient)
    })
  )

  test(
    "a resume whose connection ends at once leaves the session to the next one",
    Effect.gen(function* () {
      const { client: old, sessionId } = yield* withProcess
      old.carrier.close()
      yield* old.ended()
      yield* settle
      const hasty = yield* resumer
      hasty.post("initialize", { clientName: "test", resumeSessionId: sessionId })
      hasty.carrier.close()
      yield* hasty.ended()
      yield* settle
      const client = yield* resumer
      assert.strictEqual((yield* resume(client, sessionId)).result?.sessionId, sessionId)
      yield* survives(client)
    })
  )

  test(
    "an initialize whose connection ends at once leaves no session that never expires",
    Effect.gen(function* () {
      const hasty = yield* memoryClient
      yield* settle
      hasty.post("initialize", { clientName: "test", resumeSessionId: null })
      hasty.raw('{"method":"initialized"}')
      hasty.post("process/start", {
        processId: "p",
        argv: ["program"],
        cwd: "/tmp",
        env: {},
        tty: false
      })
      hasty.carrier.close()
      yield* hasty.ended()
      yield* settle
      yield* TestClock.adjust("31 seconds")
      for (const child of (yield* FakeSpawner).children) assert.isTrue(child.exited)
    })
  )

  test(
    "output between a resume's answer and its `initialized` is there to be read, and not sent",
    Effect.gen(function* () {
      const { client: old, sessionId } = yield* withProcess
      old.carrier.close()
      yield* old.ended()
      yield* settle
      const client = yield* resumer
      yield* resume(client, sessionId)
      const child = yield* (yield* FakeSpawner).child(0)
      child.emit("stdout", "between")
      client.raw('{"method":"initialized"}')
      yield* client.ask("environment/status")
      child.emit("stdout", "after")
      yield* client.sees("p", "after")
      assert.strictEqual(client.output("p").toString(), "after")
      const read = yield* client.ask("process/read", { processId: "p" })
      assert.deepStrictEqual(
        read.chunks.map(({ seq }: Json) => seq),
        [1, 2]
      )
    })
  )
})
