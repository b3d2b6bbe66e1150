import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { UnknownSession } from "../../src/protocol/Failure.js"
import type { Facts } from "../../src/protocol/MethodFacts.js"
import { anonymous } from "../../src/session/Grant.js"
import { Handshake } from "../../src/session/Handshake.js"
import { SessionRegistry } from "../../src/session/SessionRegistry.js"
import { failureOf, settle } from "../support/fake.js"
import { registryLayer } from "../support/sessions.js"

const message = (effect: Effect.Effect<unknown, { readonly message: string }>) =>
  Effect.map(failureOf(effect), (failure) => failure.message)

const facts: Facts = { family: "exec", access: "use", repeatable: "never", largeAnswer: false }

/** A connection that can be granted nothing. */
const nothing = { binaryOutput: false, outputWindow: false }

const test = (
  title: string,
  body: (handshake: Handshake, open: ReturnType<SessionRegistry["Type"]["create"]>) => Effect.Effect<unknown, unknown>
) =>
  it.scoped(title, () =>
    Effect.flatMap(SessionRegistry, ({ create }) => body(new Handshake(nothing, anonymous), create())).pipe(
      Effect.provide(registryLayer())
    )
  )

describe("Handshake", () => {
  test("says what is missing before each step, by the family of the method", (handshake, open) =>
    Effect.gen(function* () {
      for (const family of ["exec", "http", "environment info"] as const) {
        assert.strictEqual(
          handshake.refusal("m", { ...facts, family })?.message,
          `client must call initialize before using ${family} methods`
        )
      }
      assert.isUndefined(handshake.refusal("m", { ...facts, family: "handshake" }))
      assert.isUndefined(handshake.confirm())
      yield* handshake.initialize({}, open)
      for (const family of ["exec", "http", "environment info"] as const) {
        assert.strictEqual(
          handshake.refusal("m", { ...facts, family })?.message,
          `client must send initialized before using ${family} methods`
        )
      }
      assert.strictEqual(handshake.confirm(), handshake.initialized)
      assert.isUndefined(handshake.refusal("m", facts))
      assert.isUndefined(handshake.confirm())
      assert.isUndefined(handshake.refusal("m", facts))
    }))

  test("initialize is done once, and a second one changes nothing", (handshake, open) =>
    Effect.gen(function* () {
      const first = yield* handshake.initialize({}, open)
      const refused = yield* message(handshake.initialize({}, Effect.dieMessage("opened twice")))
      assert.strictEqual(refused, "initialize may only be sent once per connection")
      assert.strictEqual(handshake.initialized, first)
    }))

  test("one that fails does not count", (handshake, open) =>
    Effect.gen(function* () {
      const unknown = new UnknownSession({ sessionId: "x" })
      assert.strictEqual(yield* message(handshake.initialize({}, unknown)), "unknown session id x")
      assert.isUndefined(handshake.initialized)
      yield* handshake.initialize({}, open)
    }))

  test("a second one while the first is under way is refused", (handshake, open) =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      const first = yield* Effect.fork(handshake.initialize({}, Effect.zipRight(Deferred.await(gate), open)))
      yield* settle
      assert.include(yield* message(handshake.initialize({}, Effect.dieMessage("opened twice"))), "only be sent once")
      yield* Deferred.succeed(gate, undefined)
      assert.strictEqual(yield* Fiber.join(first), handshake.initialized)
    }))

  test("grants what is asked for and known, and decides the dialect", (handshake, open) =>
    Effect.gen(function* () {
      const params = { resumeSessionId: null, capabilities: { lifecycle: true } }
      const { capabilities, dialect } = yield* handshake.initialize(params, open)
      assert.deepStrictEqual(capabilities, { lifecycle: true })
      assert.strictEqual(dialect, "session")
      const v0 = yield* new Handshake(nothing, anonymous).initialize({}, open)
      assert.deepStrictEqual(v0.capabilities, {})
      assert.strictEqual(v0.dialect, "v0")
      const declined = yield* new Handshake(nothing, anonymous).initialize({ capabilities: { lifecycle: false } }, open)
      assert.notStrictEqual(declined.capabilities.lifecycle, true)
    }))

  test("grants binary output to whoever asks for it, where it can be had", (_, open) =>
    Effect.gen(function* () {
      const granted = (takesBinary: boolean, binaryOutput: boolean) =>
        Effect.map(
          new Handshake({ ...nothing, binaryOutput: takesBinary }, anonymous).initialize(
            { capabilities: { binaryOutput } },
            open
          ),
          ({ capabilities }) => capabilities
        )
      assert.deepStrictEqual(yield* granted(true, true), { binaryOutput: true })
      for (const [takesBinary, asked] of [
        [true, false],
        [false, true],
        [false, false]
      ] as const) {
        assert.deepStrictEqual(yield* granted(takesBinary, asked), {})
      }
    }))
})
