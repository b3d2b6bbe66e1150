/** Clients of the Model Context Protocol over a process of an executor. */
import { assert, describe, it } from "@effect/vitest"
import { Client } from "@modelcontextprotocol/client"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import { Unsupported } from "../../src/client/ClientError.js"
import * as ExecClient from "../../src/client/ExecClient.js"
import type { RemoteProcess } from "../../src/client/RemoteProcess.js"
import * as ProcessTransport from "../../src/mcp/ProcessTransport.js"
import { nowhere } from "../support/command.js"
import { realSessions } from "../support/composed.js"
import { settle } from "../support/fake.js"
import { eras } from "../support/mcp.js"
import { binary } from "../support/servers.js"

const executor = Effect.map(
  Layer.build(ExecClient.layerInProcess().pipe(Layer.provide(realSessions))),
  Context.get(ExecClient.ExecClient)
)

const env = { PATH: process.env["PATH"] ?? "/usr/bin:/bin", ...nowhere }

/** The transport of a shell script, and what its client is told; `closed` waits for the end. */
const scripted = (script: string, options: ProcessTransport.Options = {}, more: object = {}) =>
  Effect.gen(function* () {
    const client = yield* executor
    const started = yield* client.start({
      argv: ["/bin/sh", "-c", script],
      cwd: "/",
      env,
      pipeStdin: true,
      ...more
    })
    const transport = yield* ProcessTransport.make(started, options)
    const messages: Array<object> = []
    const errors: Array<string> = []
    const end = yield* Deferred.make<void>()
    let closes = 0
    transport.onmessage = (message) => void messages.push(message)
    transport.onerror = ({ message }) => void errors.push(message)
    transport.onclose = () => {
      closes++
      Deferred.unsafeDone(end, Effect.void)
    }
    return { transport, started, messages, errors, closed: Deferred.await(end), closes: () => closes }
  })

const promise = <A>(evaluate: () => Promise<A>) => Effect.promise(evaluate)

const reasonOf = (evaluate: () => Promise<unknown>) =>
  Effect.map(Effect.flip(Effect.tryPromise({ try: evaluate, catch: (error) => error as Error })), (e) => e.message)

describe("the official client", () => {
  for (const [era, mode] of eras) {
    it.scopedLive(`lists and calls the tools of a server on an executor, ${era}`, () =>
      Effect.gen(function* () {
        const { start } = yield* executor
        const server = yield* start({ argv: [process.execPath, binary, "mcp"], cwd: "/", env, pipeStdin: true })
        const transport = yield* ProcessTransport.make(server)
        const client = new Client({ name: "test", version: "1" }, { versionNegotiation: { mode } })
        yield* promise(() => client.connect(transport))
        const { tools } = yield* promise(() => client.listTools())
        assert.include(
          tools.map(({ name }) => name),
          "exec_command"
        )
        const answers = yield* promise(() =>
          Promise.all(
            Array.from({ length: 5 }, (_, i) =>
              client.callTool({ name: "exec_command", arguments: { cmd: `echo answer ${i}` } })
            )
          )
        )
        answers.forEach((answer, i) => {
          assert.include(JSON.stringify(answer), `answer ${i}`)
        })
        yield* promise(() => client.close())
        assert.deepInclude(yield* server.closed, { exitCode: 0, signal: null })
      })
    )
  }
})

describe("messages", () => {
  it.scopedLive("are lines, in both directions, of any size up to the limit", () =>
    Effect.gen(function* () {
      const { transport, messages, errors, closed, started } = yield* scripted("cat")
      yield* promise(() => transport.start())
      const large = { id: 0, text: "ä\n".repeat(500_000) }
      const sent = [large, ...Array.from({ length: 50 }, (_, id) => ({ id, text: "x" }))]
      // Not one after the other: their order is that of the calls.
      yield* promise(() => Promise.all(sent.map((message) => transport.send(message))))
      yield* started.closeStdin
      yield* closed
      assert.deepStrictEqual(messages, sent)
      assert.deepStrictEqual(errors, ["the MCP server has ended with exit code 0"])
    })
  )

  it.scopedLive("that are none are told, and those after them come", () =>
    Effect.gen(function* () {
      const { transport, messages, errors, closed } = yield* scripted(
        `echo starting; echo 5; printf '{"x":"%0100d"}\n' 1; echo; echo '{"id":1}'; printf '{"id":2}\n{"id":3'`,
        { maxMessageBytes: 50 }
      )
      yield* promise(() => transport.start())
      yield* closed
      assert.deepStrictEqual(messages, [{ id: 1 }, { id: 2 }])
      assert.match(errors[0] ?? "", /^a line of the MCP server is no message: /)
      assert.match(errors[1] ?? "", /it is no object/)
      assert.match(errors[2] ?? "", /is lost: the line is longer than maxMessageBytes \(50\)/)
    })
  )

  it.scopedLive("wait only up to the limit for an executor that does not take them", () =>
    Effect.gen(function* () {
      const { transport } = yield* scripted("sleep 60", { maxMessageBytes: 8_000_000 })
      yield* promise(() => transport.start())
      const message = { text: "x".repeat(1_000_000) }
      const sent = Array.from({ length: 20 }, () => transport.send(message))
      for (const one of sent) one.catch(() => {})
      const fate = yield* reasonOf(() => Promise.all(sent))
      assert.match(fate, /more than 8000000 bytes \(maxMessageBytes\) wait to be sent/)
    })
  )
})

describe("the end", () => {
  it.scopedLive("of a server by itself: why, with the end of its stderr; then nothing can be sent", () =>
    Effect.gen(function* () {
      const heard: Array<string> = []
      const { transport, errors, closed, closes } = yield* scripted("echo 'no licence' >&2; exit 3", {
        onStderr: (chunk) => void heard.push(chunk.toString())
      })
      yield* promise(() => transport.start())
      yield* closed
      assert.deepStrictEqual(errors, ["the MCP server has ended with exit code 3: no licence"])
      assert.deepStrictEqual(heard, ["no licence\n"])
      assert.strictEqual(yield* reasonOf(() => transport.send({})), "the MCP server is not connected")
      yield* promise(() => transport.close())
      assert.strictEqual(closes(), 1)
      assert.match(yield* reasonOf(() => transport.start()), /was started already/)
    })
  )

  it.scopedLive("by close: the end of the input, without an error", () =>
    Effect.gen(function* () {
      const { transport, errors, closes, started } = yield* scripted("cat; exit 4")
      yield* promise(() => transport.start())
      yield* promise(() => Promise.all([transport.close(), transport.close()]))
      assert.deepStrictEqual([errors, closes()], [[], 1])
      assert.deepInclude(yield* started.closed, { exitCode: 4 })
    })
  )

  it.scopedLive("of a server with a terminal, whose lines would be echoed", () =>
    Effect.gen(function* () {
      const { transport, errors, closed } = yield* scripted("echo hello; sleep 60", {}, { tty: true })
      yield* promise(() => transport.start())
      yield* closed
      assert.match(errors[0] ?? "", /start it with pipeStdin and without tty/)
    })
  )

  /** A server that does nothing, and what is done to it. */
  const stubborn = (closeStdin: RemoteProcess["closeStdin"] = Effect.void) => {
    const done: Array<string> = []
    const server = {
      events: Stream.never,
      write: () => Effect.void,
      closeStdin: Effect.tap(closeStdin, () => done.push("closeStdin")),
      closed: Effect.never,
      terminate: (mode?: { readonly type: string }) =>
        Effect.sync(() => {
          done.push(`terminate ${mode?.type}`)
          return { running: true }
        })
    }
    return { done, server }
  }

  it.scoped("of a server that does not leave comes by signals, within bounded time", () =>
    Effect.gen(function* () {
      const { done, server } = stubborn()
      const transport = yield* ProcessTransport.make(server)
      const closing = yield* Effect.fork(promise(() => transport.close()))
      yield* settle
      yield* TestClock.adjust(1999)
      assert.deepStrictEqual(done, ["closeStdin"])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(done, ["closeStdin", "terminate graceful"])
      yield* TestClock.adjust(3500)
      yield* Fiber.join(closing)
    })
  )

  it.effect("comes with the scope, and at once where the input cannot be ended", () =>
    Effect.gen(function* () {
      const { done, server } = stubborn(new Unsupported({ server: "this server", what: "end the input" }))
      const fiber = yield* Effect.fork(Effect.scoped(ProcessTransport.make(server)))
      yield* settle
      assert.deepStrictEqual(done, ["terminate graceful"])
      yield* TestClock.adjust(3500)
      yield* Fiber.join(fiber)
    })
  )
})
