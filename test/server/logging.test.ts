/** What real servers log. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { eventually, launch, webSocketServer } from "../support/servers.js"
import { type Json, startParams, type TestClient } from "../support/TestClient.js"

const traceId = "0af7651916cd43dd8448eb211c80319c"
const traceparent = `00-${traceId}-b7ad6b7169203331-01`

/** The objects of a log, but not the sentence that says where the server listens. */
const lines = (stderr: string): ReadonlyArray<Json> =>
  stderr
    .split("\n")
    .filter((line) => line !== "" && !/^exec-server (listening on|console at) /.test(line))
    .map((line) => JSON.parse(line))

/** Has something secret in everything that a client sends and gets. */
const useSecrets = (client: TestClient) =>
  Effect.gen(function* () {
    const env = { PATH: "/usr/bin:/bin", TOKEN: "hunter2" }
    yield* client.sh("p", "read line; echo $line hunter2", { env, pipeStdin: true })
    yield* client.write("p", "hunter2\n")
    yield* client.sees("p", "hunter2 hunter2")
    yield* client.closed("p")
    yield* client.ask("process/read", { processId: "p" })
    yield* client.call("process/start", startParams("q", ["/no/hunter2", "hunter2"], { env }))
    yield* client.call("process/start", { processId: "q", argv: "hunter2", env: { TOKEN: 7 } })
    yield* client.call("fs/readFile", { path: "/no/hunter2" })
    yield* client.call("http/request", { url: "http://127.0.0.1:1/hunter2", method: "GET" })
    yield* client.call("hunter2")
    client.raw('{"hunter2')
    yield* client.ask("environment/status")
  })

describe("--log-format json", () => {
  it.scopedLive("is one object a line: what happened, to which session, in which trace", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer({ args: ["--log-format", "json", "--log-level", "trace"] })
      const client = yield* server.connect
      const { sessionId } = yield* client.handshake()
      const start = startParams("p", ["/bin/true"])
      client.raw(JSON.stringify({ id: "traced", method: "process/start", params: start, trace: { traceparent } }))
      yield* client.reply("traced")
      client.raw(JSON.stringify({ id: "bad", method: "process/list", trace: { traceparent: 7 } }))
      yield* client.reply("bad")
      yield* client.closed("p")
      client.carrier.close()
      yield* client.ended()
      yield* eventually("the end is logged", () => server.stderr().includes("connection.ended"))
      const log = lines(server.stderr())
      for (const { time, level, peer } of log) {
        assert.strictEqual(new Date(time).toISOString(), time)
        assert.include(["TRACE", "DEBUG"], level)
        assert.match(peer, /^127\.0\.0\.1:\d+$/)
      }
      assert.deepStrictEqual(
        log.filter(({ level }) => level === "DEBUG").map(({ message }) => message),
        ["connection.opened", "session.opened", "session.detached", "connection.ended"]
      )
      const traced = log.find(({ requestId }) => requestId === '"traced"')
      assert.deepInclude(traced, { message: "request", method: "process/start", code: "ok", sessionId, traceId })
      assert.isNumber(traced.ms)
      assert.notProperty(
        log.find(({ requestId }) => requestId === '"bad"'),
        "traceId"
      )
    })
  )

  it.scopedLive("a client that does not keep to the protocol is told of, in few words", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer({ env: { EXEC_SERVER_LOG_FORMAT: "json", EXEC_SERVER_LOG_LEVEL: "debug" } })
      const client = yield* server.connect
      client.raw(JSON.stringify({ method: "x".repeat(60_000) }))
      yield* client.ended()
      yield* eventually("the end is logged", () => server.stderr().includes("connection.ended"))
      const end = lines(server.stderr()).find(({ message }) => message === "connection.ended")
      assert.strictEqual(end.code, 1002)
      assert.match(end.reason, /^unexpected notification method: x/)
      assert.isBelow(end.reason.length, 1000)
    })
  )
})

describe("secrets", () => {
  for (const format of ["json", "text"]) {
    it.scopedLive(`what clients send and get is in no log, at any level: ${format}`, () =>
      Effect.gen(function* () {
        const server = yield* webSocketServer({ args: ["--log-format", format, "--log-level", "all"] })
        const client = yield* server.connect
        yield* client.handshake()
        yield* useSecrets(client)
        server.child.kill("SIGTERM")
        yield* server.exit
        assert.include(server.stderr(), "process/start")
        assert.include(server.stderr(), "session.ended")
        assert.deepStrictEqual(
          server
            .stderr()
            .split("\n")
            .filter((line) => line.includes("hunter2")),
          []
        )
      })
    )
  }
})

describe("--log-level", () => {
  it.scopedLive("counts wherever it stands on the command line", () =>
    Effect.gen(function* () {
      const others = ["--max-sessions", "3"]
      for (const args of [
        ["--log-level", "debug", ...others],
        [...others, "--log-level", "debug"],
        ["--log-level=debug", ...others]
      ]) {
        const server = yield* webSocketServer({ args, env: { EXEC_SERVER_LOG_LEVEL: "none" } })
        yield* server.connect
        yield* eventually("something is logged", () => server.stderr().includes("connection.opened"))
      }
    })
  )

  it.scopedLive("a level that there is not is a usage error", () =>
    Effect.gen(function* () {
      for (const [args, message] of [
        [["--log-level", "loud"], /^Error: --log-level: "loud" is not one of all, trace, /],
        [["--max-sessions", "1", "--log-level=loud"], /^Error: --log-level: "loud" is not one of all, trace, /],
        [["--log-level"], /^--log-level needs a value/],
        [["--log-level=error", "--log-level=debug"], /^--log-level was given twice; give it once/]
      ] as const) {
        const server = yield* launch({ args })
        assert.strictEqual(yield* server.exit, 2)
        assert.match(server.stderr(), message)
      }
    })
  )
})
