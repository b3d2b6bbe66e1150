/** The way to a server in the same process: what is told when. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as TestClock from "effect/TestClock"
import { prepareValue } from "../../src/client/Api.js"
import * as ExecClient from "../../src/client/ExecClient.js"
import * as InProcess from "../../src/client/InProcess.js"
import type { Method } from "../../src/protocol/ExecApi.js"
import { ProcessId } from "../../src/protocol/Ids.js"
import * as Prometheus from "../../src/server/Prometheus.js"
import { FakeSpawner } from "../../src/testing/FakeSpawner.js"
import { realSessions } from "../support/composed.js"
import { failureOf, serverLayer, settle } from "../support/fake.js"
import { read, type Samples } from "../support/metrics.js"
import { hasBubblewrap } from "../support/servers.js"
import { spanKeeper } from "../support/traces.js"

/** A bare connection, and everything it reports in short. */
const bare = Effect.gen(function* () {
  const heard: Array<string> = []
  const connector = yield* InProcess.connector()
  const channel = yield* connector.open({
    onAnswer: (id, answer) => heard.push(`${id} ${Either.isRight(answer) ? "ok" : answer.left.message}`),
    onNotification: ({ method, params }) => heard.push(`${method} ${"seq" in params ? params.seq : ""}`.trim()),
    onEnd: ({ message }) => heard.push(message)
  })
  let nextId = 1
  const request = (method: Method, params: object) =>
    channel.request(nextId++, Either.getOrThrow(prepareValue(method, params)))
  return { heard, channel, request }
})

const startParams = (processId: string) => ({
  processId: ProcessId.make(processId),
  argv: ["program"],
  cwd: { path: "/", form: "plain" },
  env: {},
  tty: false,
  pipeStdin: true
})

describe("a server in the same process", () => {
  it.scoped("wants the handshake first, as on any connection", () =>
    Effect.gen(function* () {
      const { heard, channel, request } = yield* bare
      request("process/list", {})
      request("initialize", { clientName: "x", resumeSessionId: null })
      request("process/list", {})
      request("initialize", { clientName: "x", resumeSessionId: null })
      channel.initialized()
      request("process/list", {})
      yield* settle
      assert.deepStrictEqual(heard, [
        "1 exec-server rejected request (-32600): client must call initialize before using exec methods",
        "2 ok",
        "3 exec-server rejected request (-32600): client must send initialized before using exec methods",
        "4 exec-server rejected request (-32600): initialize may only be sent once per connection",
        "5 ok"
      ])
    }).pipe(Effect.provide(serverLayer()))
  )

  it.scoped("answers a start before it tells of the process, and tells of its close last", () =>
    Effect.gen(function* () {
      const { heard, channel, request } = yield* bare
      const { children } = yield* FakeSpawner
      request("initialize", { clientName: "x", resumeSessionId: null, capabilities: { lifecycle: true } })
      channel.initialized()
      request("process/start", startParams("p"))
      children[0]?.emit("stdout", "early")
      children[0]?.finish(0)
      yield* settle
      assert.deepStrictEqual(heard, [
        "1 ok",
        "2 ok",
        "process/started",
        "process/output 1",
        "process/exited 2",
        "process/closed 3"
      ])
    }).pipe(Effect.provide(serverLayer()))
  )

  it.scoped("acts on one process in the order of the requests, and lets no wait hold up another request", () =>
    Effect.gen(function* () {
      const { heard, channel, request } = yield* bare
      const { children } = yield* FakeSpawner
      request("initialize", { clientName: "x", resumeSessionId: null })
      channel.initialized()
      const processId = ProcessId.make("p")
      request("process/start", startParams("p"))
      request("process/wait", { processId })
      for (const text of ["a", "b", "c"]) request("process/write", { processId, chunk: Buffer.from(text) })
      request("process/closeStdin", { processId })
      request("process/list", {})
      yield* settle
      assert.strictEqual(children[0]?.written, "abc")
      assert.isTrue(children[0]?.stdinEnded)
      assert.deepStrictEqual(heard.slice().sort(), ["1 ok", "2 ok", "4 ok", "5 ok", "6 ok", "7 ok", "8 ok"])
    }).pipe(Effect.provide(serverLayer()))
  )

  it.scoped("retains closed processes as long as its client asks, or as the limits say", () =>
    Effect.gen(function* () {
      const { children } = yield* FakeSpawner
      const cases: ReadonlyArray<readonly [InProcess.Options, ReadonlyArray<string>]> = [
        [{ retention: 0 }, []],
        [{}, ["p"]]
      ]
      for (const [options, left] of cases) {
        const client = yield* ExecClient.connectInProcess(options)
        const ended = yield* client.start({ processId: "p", argv: ["program"], cwd: "/" })
        children.at(-1)?.finish(0)
        yield* ended.closed
        yield* TestClock.adjust(1)
        yield* settle
        const { processes } = yield* client.call("process/list", {})
        assert.deepStrictEqual(
          processes.map(({ processId }) => String(processId)),
          Array.from(left)
        )
      }
    }).pipe(Effect.provide(serverLayer()))
  )

  it.live("kills the client's processes when the client ends, and tells nothing any more", () =>
    Effect.gen(function* () {
      const { children } = yield* FakeSpawner
      const client = yield* Effect.scoped(
        Effect.tap(ExecClient.connectInProcess(), (client) =>
          client.start({ processId: "p", argv: ["program"], cwd: "/" })
        )
      )
      assert.isTrue(children[0]?.exited)
      assert.strictEqual((yield* client.ended)._tag, "TransportClosed")
      assert.strictEqual((yield* failureOf(client.call("process/list", {})))._tag, "TransportClosed")
    }).pipe(Effect.provide(serverLayer()))
  )

  it.scoped("counts connections and requests, and tells of them, as on any connection", () => {
    const lines: Array<ReadonlyArray<unknown>> = []
    const logger = Logger.make<unknown, void>(({ annotations, message }) => {
      lines.push([...[message].flat(), ...Array.from(annotations)])
    })
    return Effect.gen(function* () {
      const samples = () => read(Prometheus.format(Effect.runSync(Metric.snapshot)))
      const started = 'exec_server_requests_total{method="process/start",code="ok"}'
      const unknown = 'exec_server_requests_total{method="process/wait",code="-32600"}'
      const before = samples()
      const of = (now: Samples, name: string) => (now.get(name) ?? 0) - (before.get(name) ?? 0)
      yield* Effect.scoped(
        Effect.gen(function* () {
          const client = yield* ExecClient.connectInProcess()
          yield* client.start({ processId: "p", argv: ["program"], cwd: "/" })
          yield* failureOf(client.call("process/wait", { processId: ProcessId.make("none") }))
          const now = samples()
          const names = ["exec_server_connections", "exec_server_connections_total", started, unknown]
          assert.deepStrictEqual(
            names.map((name) => of(now, name)),
            [1, 1, 1, 1]
          )
        })
      )
      assert.strictEqual(of(samples(), "exec_server_connections"), 0)
      const told = lines.filter((line) => String(line).includes("in process"))
      const has = (...words: ReadonlyArray<string>) =>
        assert.isTrue(
          told.some((line) => words.every((word) => String(line).includes(word))),
          `${words} in ${told.join("; ")}`
        )
      has("connection.opened")
      has("request", "process/start", "code,ok")
      has("request", "process/wait", "code,-32600")
      has("connection.ended")
    }).pipe(
      Effect.provide(serverLayer()),
      Effect.provide(Logger.replace(Logger.defaultLogger, logger)),
      Logger.withMinimumLogLevel(LogLevel.All)
    )
  })

  it.scoped("gives every request a span, where there is a tracer", () => {
    const { spans, layer } = spanKeeper()
    return Effect.gen(function* () {
      const client = yield* ExecClient.connectInProcess()
      yield* client.start({ processId: "p", argv: ["program"], cwd: "/" })
      const request = spans.find(({ name }) => name === "exec-server.process/start")
      assert.strictEqual(request?.attributes.get("peer"), "in process")
      assert.strictEqual(request?.attributes.get("code"), "ok")
      const spawn = spans.find(({ name }) => name === "ProcessSupervisor.spawn")
      assert.strictEqual(Option.getOrUndefined(spawn?.parent ?? Option.none())?.spanId, request?.spanId)
    }).pipe(Effect.provide(serverLayer()), Effect.provide(layer))
  })

  it.scopedLive.runIf(hasBubblewrap)("says of a process whether its sandbox was in its way", () =>
    Effect.gen(function* () {
      const client = yield* ExecClient.connectInProcess()
      const exitOf = (script: string) =>
        Effect.flatMap(
          client.start({
            argv: ["/bin/sh", "-c", script],
            cwd: "/tmp",
            env: { PATH: "/bin:/usr/bin" },
            sandbox: {
              permissions: {
                type: "managed",
                file_system: {
                  type: "restricted",
                  entries: [{ path: { type: "special", value: { kind: "root" } }, access: "read" }]
                },
                network: "enabled"
              },
              windowsSandboxLevel: "disabled"
            }
          }),
          ({ exit }) => exit
        )
      assert.deepInclude(yield* exitOf("touch /tmp/in-process"), { exitCode: 1, sandboxDenied: true })
      assert.deepInclude(yield* exitOf("exit 3"), { exitCode: 3, sandboxDenied: false })
    }).pipe(Effect.provide(realSessions))
  )

  it.scoped("checks requests as the wire does", () =>
    Effect.gen(function* () {
      const client = yield* ExecClient.connectInProcess()
      const wrong = yield* failureOf(
        client.call("process/resize", { processId: ProcessId.make("p"), rows: 0, cols: 1 })
      )
      assert.deepInclude(wrong, { _tag: "InvalidRequest", method: "process/resize" })
      const unknown = yield* failureOf(client.call("process/read", { processId: ProcessId.make("p") }))
      assert.deepInclude(unknown, { _tag: "ServerError", code: -32600, reason: "unknown process id p" })
    }).pipe(Effect.provide(serverLayer()))
  )
})
