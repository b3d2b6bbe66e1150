// A test of an application that drives a terminal, without a terminal and without waiting: the child follows a script,
// and its five seconds pass on the test clock.
import { strictEqual } from "node:assert"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import * as TestContext from "effect/TestContext"
import { ExecClient, HeadTail } from "exec-server/client"
import { ExecServer, NodeServices } from "exec-server/server"
import { FakeSpawner, Script } from "exec-server/testing"

/** The code under test: answers a password prompt, and returns what the program printed. */
const logIn = (password: string) =>
  Effect.gen(function* () {
    const client = yield* ExecClient.ExecClient
    const login = yield* client.start({ argv: ["login"], cwd: "/", tty: true, size: { rows: 5, cols: 40 } })
    yield* login.collectFor({ duration: "2 seconds", maxBytes: 1000 })
    yield* login.write(`${password}\n`)
    const { exit, terminal } = yield* login.communicate()
    return { exitCode: exit.exitCode, said: HeadTail.bytesOf(terminal).toString() }
  })

const children = FakeSpawner.layerOf(
  Script.plan([
    Script.output("1 second", "Password: "),
    Script.output("5 seconds", "Welcome\r\n"),
    Script.exit("5 seconds")
  ])
)

const test = Effect.gen(function* () {
  const fake = yield* FakeSpawner.FakeSpawner
  const result = yield* Effect.fork(logIn("secret"))
  const child = yield* fake.child(0)
  yield* TestClock.adjust("2 seconds")
  yield* TestClock.adjust("3 seconds")
  const { exitCode, said } = yield* Fiber.join(result)
  strictEqual(child.spec.io._tag, "Pty")
  // The input, ended by ^D.
  strictEqual(child.written.split("\n")[0], "secret")
  strictEqual(said, "Password: Welcome\r\n")
  strictEqual(exitCode, 0)
  yield* Effect.sync(() => console.log("passed: 5 seconds of a terminal, in no time"))
})

// The layer provided first wins: the fake children replace the real ones.
const layer = ExecClient.layerInProcess().pipe(
  Layer.provide(ExecServer.layerSessions),
  Layer.provideMerge(children),
  Layer.provide(NodeServices.layer)
)

NodeRuntime.runMain(test.pipe(Effect.provide(layer), Effect.provide(TestContext.TestContext)))
