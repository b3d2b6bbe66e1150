/** Everything that can be wrong with a server, and what its client says of it. */

import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { createServer as createHttpServer } from "node:http"
import { type AddressInfo, createServer, type Server, type Socket } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { type WebSocket, WebSocketServer } from "ws"
import * as ClientError from "../../src/client/ClientError.js"
import * as ExecClient from "../../src/client/ExecClient.js"
import { failureOf } from "../support/fake.js"
import { binary, eventually, isAlive, webSocketServer } from "../support/servers.js"

const listening = (server: Server): Effect.Effect<string, never, Scope.Scope> => {
  const sockets = new Set<Socket>()
  server.on("connection", (socket) => {
    sockets.add(socket)
    socket.on("error", () => {})
  })
  return Effect.acquireRelease(
    Effect.async<string>((resume) => {
      server.listen(0, "127.0.0.1", () => {
        resume(Effect.succeed(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`))
      })
    }),
    () =>
      Effect.async<void>((resume) => {
        server.close(() => resume(Effect.void))
        for (const socket of sockets) socket.destroy()
      })
  )
}

const initialized = {
  protocolVersion: "exec-server.v0",
  sessionId: "00000000-0000-4000-8000-000000000000",
  environmentInfo: {
    shell: { name: "sh", path: "/bin/sh" },
    executorVersion: "0",
    cwd: null,
    userHomeDir: null,
    platformOs: "linux",
    prependPathDirs: [],
    temporaryDirectories: [],
    tempDir: "file:///tmp",
    capabilities: {}
  },
  capabilities: {}
}

/** A server that shakes hands, and then says what it is told to. */
const scripted = (onRequest: (ws: WebSocket, id: number, method: string) => void, first?: (ws: WebSocket) => void) =>
  Effect.suspend(() => {
    const http = createHttpServer()
    new WebSocketServer({ server: http }).on("connection", (ws) => {
      first?.(ws)
      ws.on("error", () => {})
      ws.on("message", (data) => {
        const { id, method } = JSON.parse(data.toString())
        if (method === "initialize") ws.send(JSON.stringify({ id, result: initialized }))
        else if (id !== undefined) onRequest(ws, id, method)
      })
    })
    return listening(http)
  })

const node = (script: string) => ({ command: process.execPath, args: ["-e", script, "--"] })

/** Shakes hands over stdio, and then does what the script says. */
const shaking = (script: string) =>
  node(
    `require("readline").createInterface({ input: process.stdin }).once("line", (line) => {
      console.log(JSON.stringify({ id: JSON.parse(line).id, result: ${JSON.stringify(initialized)} }))
    }); ${script}`
  )

describe("a server that cannot be reached", () => {
  const failure = (options: Parameters<typeof ExecClient.connectWebSocket>[0]) =>
    failureOf(ExecClient.connectWebSocket(options))

  it.scopedLive("nobody listens", () =>
    Effect.gen(function* () {
      const url = yield* Effect.scoped(listening(createServer()))
      const error = yield* failure({ url })
      assert.deepInclude(error, { _tag: "ConnectFailed", url })
      assert.match(error.message, /^failed to connect to exec-server websocket `ws:.*`: .*ECONNREFUSED/)
    })
  )

  it.scopedLive("what is secret in its address is not told", () =>
    Effect.gen(function* () {
      const url = yield* Effect.scoped(listening(createServer()))
      const secret = `${url.replace("//", "//user:secret@")}/path?token=secret#secret`
      const error = yield* failure({ url: secret })
      assert.deepInclude(error, { _tag: "ConnectFailed", url: `${url}/path` })
      const late = new ClientError.ConnectTimeout({ url: secret, afterMs: 1 })
      const quoted = yield* failure({ url: "ws://user:secret@host:99999/path?token=secret" })
      for (const each of [error, late, quoted]) {
        for (const shown of [each.message, String(each), JSON.stringify(each)]) {
          assert.include(shown, "/path")
          assert.notInclude(shown, "secret")
        }
      }
    })
  )

  it.scopedLive("the address is none", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* failure({ url: "nonsense" }))._tag, "ConnectFailed")
      assert.strictEqual((yield* failure({ url: "file:///tmp" }))._tag, "ConnectFailed")
    })
  )

  it.scopedLive("a web server", () =>
    Effect.gen(function* () {
      const url = yield* listening(createHttpServer((_, response) => response.end("hello")))
      assert.deepInclude(yield* failure({ url }), { _tag: "ConnectFailed", status: 200 })
    })
  )

  it.scopedLive("a server of something else", () =>
    Effect.gen(function* () {
      const url = yield* listening(createServer((socket) => socket.end("SSH-2.0-OpenSSH_9.6\r\n")))
      assert.strictEqual((yield* failure({ url }))._tag, "ConnectFailed")
    })
  )

  it.scopedLive("a server that wants other headers", () =>
    Effect.gen(function* () {
      const http = createHttpServer()
      const sockets = new WebSocketServer({ noServer: true })
      sockets.on("connection", (ws) => ws.on("message", () => ws.send("{")))
      http.on("upgrade", (request, socket, head) => {
        if (request.headers.authorization === "Bearer x")
          sockets.handleUpgrade(request, socket, head, (ws) => sockets.emit("connection", ws))
        else socket.end("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
      })
      const url = yield* listening(http)
      assert.deepInclude(yield* failure({ url }), { _tag: "ConnectFailed", status: 401 })
      const admitted = yield* failure({ url, headers: { authorization: "Bearer x" } })
      assert.strictEqual(admitted._tag, "ProtocolViolation")
    })
  )

  it.scopedLive("a server that does not answer the connection", () =>
    Effect.gen(function* () {
      const url = yield* listening(createServer(() => {}))
      const error = yield* failure({ url, connectTimeout: 100 })
      assert.strictEqual(error.message, `timed out connecting to exec-server websocket \`${url}\` after 100 ms`)
    })
  )

  it.scopedLive("a server that does not answer initialize", () =>
    Effect.gen(function* () {
      const http = createHttpServer()
      new WebSocketServer({ server: http })
      const url = yield* listening(http)
      const error = yield* failure({ url, initializeTimeout: 100 })
      assert.strictEqual(error.message, "timed out waiting for exec-server initialize handshake after 100 ms")
    })
  )

  it.scopedLive("a server that goes away instead of answering", () =>
    Effect.gen(function* () {
      const http = createHttpServer()
      new WebSocketServer({ server: http }).on("connection", (ws) => ws.close(1011, "no room"))
      const url = yield* listening(http)
      const error = yield* failure({ url })
      assert.strictEqual(error.message, "exec-server transport disconnected: closed with code 1011: no room")
    })
  )
})

describe("a server that breaks the protocol", () => {
  const cases: ReadonlyArray<readonly [what: string, reply: (id: number) => string, detail: RegExp]> = [
    ["garbage", () => "garbage", /invalid message/],
    ["a list", () => "[]", /invalid message/],
    ["an answer to nothing", () => '{"id":4711,"result":{}}', /unknown request id 4711/],
    ["an answer under a text id", () => '{"id":"1","result":{}}', /unknown request id "1"/],
    [
      "that it did not understand",
      () => '{"id":-1,"error":{"code":-32600,"message":"what?"}}',
      /unknown request id -1: what/
    ],
    [
      "a result of another shape",
      (id) => `{"id":${id},"result":{"processes":[{}]}}`,
      /result of process\/list.*processId/
    ],
    ["no result", (id) => `{"id":${id},"result":null}`, /result of process\/list/],
    ["a request", () => '{"id":1,"method":"process/list"}', /sent the request process\/list/],
    [
      "a notification of another shape",
      () => '{"method":"process/output","params":{"processId":"p","seq":1,"stream":"stdout","chunk":"%"}}',
      /process\/output is malformed.*chunk/
    ]
  ]
  for (const [what, reply, detail] of cases) {
    it.scopedLive(`says ${what}: everything under way fails with that, and everything after`, () =>
      Effect.gen(function* () {
        const url = yield* scripted((ws, id, method) => {
          if (method === "process/list") ws.send(reply(id))
        })
        const client = yield* ExecClient.connectWebSocket({ url })
        const waiting = yield* Effect.fork(failureOf(client.call("environment/info", {})))
        const error = yield* failureOf(client.call("process/list", {}))
        assert.strictEqual(error._tag, "ProtocolViolation")
        assert.match(error.message, detail)
        assert.strictEqual(yield* Fiber.join(waiting), error)
        assert.strictEqual(yield* client.ended, error)
        assert.strictEqual(yield* failureOf(client.call("process/list", {})), error)
      })
    )
  }

  it.scopedLive("answers twice", () =>
    Effect.gen(function* () {
      const url = yield* scripted((ws, id) => {
        ws.send(`{"id":${id},"result":{"status":"ready"}}`)
        ws.send(`{"id":${id},"result":{"status":"ready"}}`)
      })
      const client = yield* ExecClient.connectWebSocket({ url })
      yield* client.call("environment/status", {})
      assert.strictEqual((yield* client.ended)._tag, "ProtocolViolation")
    })
  )

  it.scopedLive("is heard before it was asked anything", () =>
    Effect.gen(function* () {
      const url = yield* scripted(
        () => {},
        (ws) => ws.send("welcome")
      )
      assert.strictEqual((yield* failureOf(ExecClient.connectWebSocket({ url })))._tag, "ProtocolViolation")
    })
  )

  it.scopedLive("unknown notifications, unknown members and answers nobody waits for any more are none of that", () =>
    Effect.gen(function* () {
      const late: Array<() => void> = []
      const url = yield* scripted((ws, id, method) => {
        const answer = () => ws.send(`{"id":${id},"result":{"status":"ready","more":1},"jsonrpc":"2.0"}`)
        if (late.length === 0) {
          late.push(answer)
          return
        }
        for (const earlier of late) earlier()
        ws.send('{"method":"process/invented","params":{"x":1}}')
        ws.send(`{"id":${id},"error":{"code":-32601,"message":"unknown method: ${method}","data":1}}`)
      })
      const client = yield* ExecClient.connectWebSocket({ url })
      const given = yield* Effect.timeoutOption(client.call("environment/status", {}), 50)
      assert.strictEqual(given._tag, "None")
      yield* eventually("the first request has arrived", () => late.length === 1)
      const refused = yield* failureOf(client.call("environment/status", {}))
      assert.strictEqual(refused.message, "exec-server rejected request (-32601): unknown method: environment/status")
      assert.strictEqual((yield* client.state)._tag, "Connected")
    })
  )
})

describe("a server that goes away", () => {
  it.scopedLive("killed: requests, processes and whoever asks later fail with the reason", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer()
      const client = yield* ExecClient.connectWebSocket({ url: server.url, recoverFor: 300 })
      const process = yield* client.start({ argv: ["sleep", "1000"], cwd: "/tmp", env: { PATH: "/usr/bin:/bin" } })
      const exit = yield* Effect.fork(failureOf(process.exit))
      const events = yield* Effect.fork(failureOf(Stream.runDrain(process.events)))
      const wait = yield* Effect.fork(failureOf(client.call("process/wait", { processId: process.processId })))
      const signal = yield* Effect.fork(failureOf(client.call("process/wait", { processId: process.processId })))
      server.child.kill("SIGKILL")
      const error = yield* client.ended
      assert.strictEqual(error._tag, "SessionLost")
      assert.match(
        error.message,
        /^exec-server transport disconnected: .*; failed to resume exec-server session: failed to connect/
      )
      for (const fiber of [exit, events, wait, signal]) assert.strictEqual(yield* Fiber.join(fiber), error)
      assert.strictEqual(yield* failureOf(process.write("x")), error)
      assert.strictEqual(yield* failureOf(process.collectFor({ duration: 10_000, maxBytes: 10 })), error)
    })
  )

  it.scopedLive("without recovery it is over at once", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer()
      const client = yield* ExecClient.connectWebSocket({ url: server.url, recoverFor: 0 })
      server.child.kill("SIGKILL")
      assert.strictEqual((yield* client.ended)._tag, "TransportClosed")
    })
  )

  it.scopedLive("stopped: its silence is noticed", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer()
      const client = yield* ExecClient.connectWebSocket({ url: server.url, recoverFor: 0, heartbeat: "100 millis" })
      yield* Effect.acquireRelease(
        Effect.sync(() => server.child.kill("SIGSTOP")),
        () => Effect.sync(() => server.child.kill("SIGCONT"))
      )
      assert.include((yield* client.ended).message, "nothing was heard of the server for 200 ms")
    })
  )
})

describe("a server on stdio", () => {
  it.scopedLive("that is not there", () =>
    Effect.gen(function* () {
      const error = yield* failureOf(ExecClient.connectStdio({ command: "/no/such/server" }))
      assert.strictEqual(error._tag, "LaunchFailed")
      assert.match(error.message, /^failed to spawn exec-server: \/no\/such\/server: .*ENOENT/)
      const nul = yield* failureOf(ExecClient.connectStdio({ command: "a\0b" }))
      assert.strictEqual(nul._tag, "LaunchFailed")
    })
  )

  it.scopedLive("that exits at once, or prints something else, or nothing", () =>
    Effect.gen(function* () {
      const exited = yield* failureOf(ExecClient.connectStdio(node("process.exit(3)")))
      assert.strictEqual(exited.message, "exec-server transport disconnected: the server exited with code 3")
      const garbage = yield* failureOf(ExecClient.connectStdio(node("console.log('Welcome!'); process.stdin.resume()")))
      assert.strictEqual(garbage._tag, "ProtocolViolation")
      const silent = yield* failureOf(
        ExecClient.connectStdio({ ...node("process.stdin.resume()"), initializeTimeout: 200 })
      )
      assert.strictEqual(silent._tag, "InitializeTimeout")
    })
  )

  it.scopedLive("that dies: its session is over, whatever else could be recovered", () =>
    Effect.gen(function* () {
      const client = yield* ExecClient.connectStdio(shaking("setInterval(() => {}, 1000)"))
      const waiting = yield* Effect.fork(failureOf(client.call("process/list", {})))
      const dying = yield* ExecClient.connectStdio(
        shaking("process.stdin.once('end', () => {}); setTimeout(() => process.kill(process.pid, 'SIGKILL'), 300)")
      )
      const error = yield* dying.ended
      assert.strictEqual(error.message, "exec-server transport disconnected: the server was killed by SIGKILL")
      assert.isNull(waiting.unsafePoll())
    })
  )

  it.live("that ignores the end of its input, and SIGTERM: it is killed after four seconds, with its group", () =>
    Effect.gen(function* () {
      const script = `
        for (const signal of ["SIGTERM", "SIGHUP", "SIGINT"]) process.on(signal, () => {})
        const { pid } = require("child_process").spawn("sleep", ["1000"], { stdio: "ignore" })
        setInterval(() => {}, 1000)
        require("fs").writeSync(2, "pids " + process.pid + " " + pid + "\\n")
        require("fs").writeFileSync(process.env.PIDS, process.pid + " " + pid)`
      const directory = yield* Effect.sync(() => mkdtempSync(join(tmpdir(), "exec-client-")))
      const file = join(directory, "pids")
      const [took, pids] = yield* Effect.scoped(
        Effect.gen(function* () {
          yield* ExecClient.connectStdio({ ...shaking(script), env: { PIDS: file } })
          yield* eventually("the server runs", () => existsSync(file) && readFileSync(file, "utf8").includes(" "))
          const pids = readFileSync(file, "utf8").split(" ").map(Number)
          assert.isTrue(pids.every(isAlive))
          return pids
        })
      ).pipe(Effect.timed, Effect.ensuring(Effect.sync(() => rmSync(directory, { recursive: true }))))
      assert.isAtLeast(Duration.toMillis(took), 3900)
      for (const pid of pids) yield* eventually(`${pid} is gone`, () => !isAlive(pid))
    })
  )

  it.live("that ignores the end of its input gets SIGTERM, with its group, and time to obey", () =>
    Effect.gen(function* () {
      const script = `
        const wait = "trap 'echo child >> $SAID; exit' TERM; echo ready; while :; do sleep 0.05; done"
        const child = require("child_process").spawn("sh", ["-c", wait], { stdio: ["ignore", "pipe", "inherit"] })
        const say = (text) => require("fs").appendFileSync(process.env.SAID, text + "\\n")
        child.stdout.once("data", () => say("ready"))
        const end = () => { say("server"); process.exit() }
        process.on("SIGTERM", () => (child.exitCode === null ? child.once("exit", end) : end()))`
      const directory = yield* Effect.sync(() => mkdtempSync(join(tmpdir(), "exec-client-")))
      const file = join(directory, "said")
      const said = () => (existsSync(file) ? readFileSync(file, "utf8") : "")
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* ExecClient.connectStdio({ ...shaking(script), env: { SAID: file } })
          yield* eventually("the server runs", () => said() === "ready\n")
        })
      ).pipe(
        Effect.tap(() =>
          // A shell that is just starting sleep has the trap as well.
          assert.match(said(), /^ready\n(child\n)+server\n$/)
        ),
        Effect.ensuring(Effect.sync(() => rmSync(directory, { recursive: true })))
      )
    })
  )

  it.live("that obeys ends at the end of its input, without waiting", () =>
    Effect.gen(function* () {
      const [took] = yield* Effect.timed(
        Effect.scoped(ExecClient.connectStdio({ command: process.execPath, args: [binary] }))
      )
      assert.isBelow(Duration.toMillis(took), 1900)
    })
  )
})

describe("a server of one's own", () => {
  it.scopedLive("that cannot be started, or does not get ready", () =>
    Effect.gen(function* () {
      assert.strictEqual(
        (yield* failureOf(ExecClient.launchLocal({ command: "/no/such/server" })))._tag,
        "LaunchFailed"
      )
      const exits = yield* failureOf(ExecClient.launchLocal(node("process.exit(4)")))
      assert.include(exits.message, "the server exited with code 4")
      const silent = yield* failureOf(
        ExecClient.launchLocal({ ...node("setInterval(() => {}, 1000)"), readyTimeout: 300 })
      )
      assert.strictEqual(silent.message, "exec-server did not become ready within 300 ms")
    })
  )

  it.live("ends with its scope, and what it has started with it", () =>
    Effect.gen(function* () {
      const pids = yield* Effect.scoped(
        Effect.gen(function* () {
          const server = yield* ExecClient.launchLocal({ command: process.execPath, args: [binary] })
          const client = yield* ExecClient.connectWebSocket({ url: server.url })
          const { pid } = yield* client.start({ argv: ["/bin/sleep", "1000"], cwd: "/tmp" })
          return [server.pid, pid]
        })
      )
      for (const pid of pids) yield* eventually(`${pid} is gone`, () => !isAlive(pid))
    })
  )
})
