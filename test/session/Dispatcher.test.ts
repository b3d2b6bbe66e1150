import * as Rpc from "@effect/rpc/Rpc"
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as Scope from "effect/Scope"
import * as Immediate from "../../src/internal/Immediate.js"
import { ExecApi } from "../../src/protocol/ExecApi.js"
import { type Failure, UnknownProcess } from "../../src/protocol/Failure.js"
import { ProcessId } from "../../src/protocol/Ids.js"
import * as Dispatcher from "../../src/session/Dispatcher.js"
import type { Handlers } from "../../src/session/Handlers.js"

class Name extends Context.Reference<Name>()("test/Name", { defaultValue: () => "nobody" }) {}
class Answer extends Context.Tag("test/Answer")<Answer, string>() {}

type Handled = Effect.Effect<object, Failure, Answer>

/** A dispatcher whose only method is `process/closeStdin`, and what asking it leads to. */
const dispatcherOf = (handler: () => Handled | Rpc.Wrapper<Handled>) =>
  Effect.gen(function* () {
    const key = ExecApi.requests.get("process/closeStdin")?.key ?? ""
    const context = Context.make(Answer, "an answer")
    const handlers = Context.unsafeMake(new Map([[key, { handler, context }]])) as unknown as Context.Context<Handlers>
    const services = Context.make(Name, "somebody")
    const dispatcher = yield* Effect.provide(Dispatcher.make(services), handlers)
    yield* Effect.addFinalizer(() => dispatcher.end)
    return (decorate?: Dispatcher.Decorate) => {
      const exits: Array<Dispatcher.RequestExit> = []
      dispatcher.run("process/closeStdin", {}, (exit) => exits.push(exit), decorate)
      return exits
    }
  })

const isInterrupted = (exit: Dispatcher.RequestExit | undefined) =>
  exit !== undefined && Exit.isFailure(exit) && Cause.isInterruptedOnly(exit.cause)

describe("Dispatcher", () => {
  for (const [title, handler] of [
    ["needs no fiber", () => Immediate.make((context) => Exit.succeed({ name: Context.get(context, Name) }))],
    ["runs in one", () => Effect.map(Name, (name) => ({ name }))]
  ] as const) {
    it.scoped(`what ${title} is answered in the turn that asks, by handlers that find the connection`, () =>
      Effect.map(dispatcherOf(handler), (ask) => {
        assert.deepStrictEqual(ask(), [Exit.succeed({ name: "somebody" })])
      })
    )
  }

  it.scoped("handlers find what their layer was made in", () =>
    Effect.map(
      dispatcherOf(() => Effect.map(Answer, (answer) => ({ answer }))),
      (ask) => {
        assert.deepStrictEqual(ask(), [Exit.succeed({ answer: "an answer" })])
      }
    )
  )

  it.scoped("what waits lets others pass, and is answered when it has ended", () =>
    Effect.gen(function* () {
      const gates = [yield* Deferred.make<object>(), yield* Deferred.make<object>()] as const
      let asked = 0
      const ask = yield* dispatcherOf(() => Deferred.await(gates[asked++ === 0 ? 0 : 1]))
      const first = ask()
      const second = ask()
      yield* Deferred.succeed(gates[1], { second: true })
      yield* Effect.yieldNow()
      assert.deepStrictEqual([first, second], [[], [Exit.succeed({ second: true })]])
      yield* Deferred.succeed(gates[0], { first: true })
      yield* Effect.yieldNow()
      assert.deepStrictEqual(first, [Exit.succeed({ first: true })])
    })
  )

  it.scoped("failures and defects are exits, wherever they come from", () =>
    Effect.gen(function* () {
      const failure = new UnknownProcess({ processId: ProcessId.make("p") })
      const bug = new Error("a bug")
      const thrown = (): Effect.Effect<object, Failure> => {
        throw bug
      }
      for (const [handler, expected] of [
        [() => Effect.fail(failure), Exit.fail(failure)],
        [() => Immediate.make(() => Exit.fail(failure)), Exit.fail(failure)],
        [thrown, Exit.die(bug)],
        [() => Immediate.make(thrown), Exit.die(bug)],
        [() => Effect.sync(thrown), Exit.die(bug)]
      ] as const) {
        const ask = yield* dispatcherOf(handler)
        assert.deepStrictEqual(ask(), [expected])
      }
    })
  )

  it.scoped("what is done around a handler is done in its fiber", () =>
    Effect.gen(function* () {
      const ask = yield* dispatcherOf(() =>
        Immediate.make((context) => Exit.succeed({ name: Context.get(context, Name) }))
      )
      const exits = ask((handler) => Effect.provideService(handler, Name, "somebody else"))
      assert.deepStrictEqual(exits, [Exit.succeed({ name: "somebody else" })])
    })
  )

  it.effect("the end of the scope interrupts requests, waits for their ends, and takes no more", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const done: Array<string> = []
      const ask = yield* Scope.extend(
        dispatcherOf(() =>
          Effect.onInterrupt(Effect.never, () =>
            Effect.zipRight(
              Effect.yieldNow(),
              Effect.sync(() => done.push("end"))
            )
          )
        ),
        scope
      )
      const exits = [ask(), ask()]
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(done, ["end", "end"])
      for (const [exit] of exits) assert.isTrue(isInterrupted(exit))
      assert.isTrue(isInterrupted(ask()[0]))
      assert.lengthOf(done, 2)
    })
  )

  it.effect("a handler that may not be interrupted is waited for", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      let done = false
      const whole = Effect.map(Effect.yieldNow(), () => {
        done = true
        return {}
      })
      const ask = yield* Scope.extend(
        dispatcherOf(() => Rpc.uninterruptible(whole)),
        scope
      )
      ask()
      assert.isFalse(done)
      yield* Scope.close(scope, Exit.void)
      assert.isTrue(done)
    })
  )
})

describe("what is told of a request that did not succeed", () => {
  const failure = new UnknownProcess({ processId: ProcessId.make("p") })
  const internal = (message: string) => ({ code: -32603, message })
  for (const [what, cause, refusal, isDefect] of [
    ["a failure: its own code and text", Cause.fail(failure), { code: -32600, message: failure.message }, false],
    ["an interruption: that alone", Cause.interrupt(FiberId.none), internal("the request was interrupted"), false],
    ["a defect: nothing of it", Cause.die(new Error("secret")), internal("internal error"), true],
    [
      "a defect while it was interrupted: nothing of it",
      Cause.sequential(Cause.interrupt(FiberId.none), Cause.die("secret")),
      internal("internal error"),
      true
    ],
    [
      "a failure with a defect after it: the failure",
      Cause.sequential(Cause.fail(failure), Cause.die("secret")),
      { code: -32600, message: failure.message },
      false
    ]
  ] as const) {
    it(`${what}${isDefect ? ", and it is a bug" : ""}`, () => {
      assert.deepStrictEqual(Dispatcher.refusalOf(cause), refusal)
      assert.strictEqual(Dispatcher.isDefect(cause), isDefect)
    })
  }
})
