/** An existing server behind a rendezvous: what is passed on, what happens when either end goes, and what is refused. */
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { type WebSocket, WebSocketServer } from "ws"
import * as ExecClient from "../../src/client/ExecClient.js"
import * as Forward from "../../src/remote/Forward.js"
import type { Peer, PeerEvents } from "../../src/session/Peer.js"
import { command } from "../support/command.js"
import { directory } from "../support/files.js"
import { environmentId, localRendezvous } from "../support/relay.js"
import { eventually, launch, webSocketServer } from "../support/servers.js"

const forwarded = (rendezvous: string, connect: string, ...args: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const target = ["--remote", rendezvous.replace("ws", "http"), "--environment-id", environmentId]
    const running = yield* launch({
      args: ["forward", "--connect", connect, ...target, ...args],
      env: { EXEC_SERVER_REMOTE_TOKEN: "any" }
    })
    yield* eventually("the environment is registered", () => running.stderr().includes("registered"))
    return running
  })

const client = (rendezvous: string, scheme: "noise" | "relay") =>
  ExecClient.connect({ url: `${rendezvous.replace("ws", scheme)}/${environmentId}`, clientName: "test" }).pipe(
    Effect.retry({
      times: 400,
      schedule: Schedule.spaced("25 millis"),
      while: (error) => error._tag === "ConnectFailed" && error.status === 409
    })
  )

const run = (shape: ExecClient.Shape, script: string) =>
  Effect.gen(function* () {
    const started = yield* shape.start({ argv: ["sh", "-c", script], cwd: "/" })
    return (yield* started.communicate()).stdout.head.toString()
  })

/** A server that accepts connections and answers nothing; what it was sent, and the sockets. */
const scripted: Effect.Effect<
  { readonly url: string; readonly server: WebSocketServer; readonly tokens: Array<string | undefined> },
  never,
  Scope.Scope
> = Effect.gen(function* () {
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0 })
  yield* Effect.acquireRelease(
    Effect.async<void>((resume) => void server.once("listening", () => resume(Effect.void))),
    () =>
      Effect.sync(() => {
        for (const ws of server.clients) ws.terminate()
        server.close()
      })
  )
  const tokens: Array<string | undefined> = []
  server.on("connection", (_, request) => tokens.push(request.headers.authorization))
  const address = server.address()
  const port = typeof address === "object" && address !== null ? address.port : 0
  return { url: `ws://127.0.0.1:${port}`, server, tokens }
})

describe("forward", () => {
  for (const [scheme, encrypted] of [
    ["noise", true],
    ["relay", false]
  ] as const) {
    it.scopedLive(`passes on what clients and a server say, ${encrypted ? "encrypted" : "plain"}`, () =>
      Effect.gen(function* () {
        const url = yield* localRendezvous({ encrypted })
        const server = yield* webSocketServer()
        yield* forwarded(url, server.url)
        const shape = yield* client(url, scheme)
        assert.isTrue(shape.capabilities?.binaryOutput)
        const output = yield* run(shape, "head -c 5000000 /dev/zero | tr '\\0' x")
        assert.strictEqual(output, "x".repeat(5_000_000))
        const path = join(yield* directory, "large")
        const bytes = Buffer.from(Array.from({ length: 3_000_000 }, (_, i) => i % 251))
        yield* shape.files.writeFile(path, bytes)
        assert.isTrue(Buffer.from(yield* shape.files.readFile(path)).equals(bytes))
        const others = yield* Effect.all(
          Array.from({ length: 8 }, (_, i) => Effect.flatMap(client(url, scheme), (other) => run(other, `echo ${i}`))),
          { concurrency: 8 }
        )
        assert.deepStrictEqual(
          others,
          others.map((_, i) => `${i}\n`)
        )
      })
    )
  }

  it.scopedLive("turns clients away while the server is down, and serves them when it is back", () =>
    Effect.gen(function* () {
      const url = yield* localRendezvous({ encrypted: true })
      const path = join(yield* directory, "socket")
      const running = yield* forwarded(url, `unix://${path}`)
      const refused = yield* Effect.flip(client(url, "noise"))
      assert.include(refused.message, "the server behind the forwarder cannot be reached")
      assert.notInclude(refused.message, path)
      assert.include(running.stderr(), "ENOENT")
      yield* launch({ args: ["--listen", `unix://${path}`] })
      const shape = yield* client(url, "noise").pipe(
        Effect.retry({ times: 200, schedule: Schedule.spaced("25 millis") })
      )
      assert.strictEqual(yield* run(shape, "echo back"), "back\n")
      assert.include(running.stderr(), "answers again")
    })
  )

  it.scopedLive("shows the server a token, read for each connection, and ends a client for the server's reason", () =>
    Effect.gen(function* () {
      const url = yield* localRendezvous({ encrypted: true })
      const { url: connect, server, tokens } = yield* scripted
      server.on("connection", (ws) => ws.close(1008, "not today"))
      const file = join(yield* directory, "token")
      writeFileSync(file, "first", { mode: 0o600 })
      yield* forwarded(url, connect, "--token-file", file)
      assert.include((yield* Effect.flip(client(url, "noise"))).message, "not today")
      writeFileSync(file, "second")
      yield* Effect.flip(client(url, "noise"))
      assert.deepStrictEqual(tokens, ["Bearer first", "Bearer second"])
    })
  )

  it.scopedLive("ends the connection to the server with the client's", () =>
    Effect.gen(function* () {
      const url = yield* localRendezvous({ encrypted: true })
      const { url: connect, server } = yield* scripted
      yield* forwarded(url, connect)
      const attempt = yield* Effect.fork(client(url, "noise"))
      yield* eventually("the client is passed on", () => server.clients.size === 1)
      attempt.unsafeInterruptAsFork(attempt.id())
      yield* eventually("its connection has ended", () => server.clients.size === 0)
    })
  )

  it.scopedLive("reads from neither end what the other one does not take", () =>
    Effect.gen(function* () {
      const { url, server } = yield* scripted
      const sockets: Array<WebSocket> = []
      let arrived = 0
      server.on("connection", (ws) => {
        sockets.push(ws)
        ws.on("message", () => arrived++)
      })
      let events: PeerEvents | undefined
      let buffered = Number.POSITIVE_INFINITY
      let received = 0
      const flow: Array<string> = []
      const peer: Peer = {
        name: "test",
        malformedPrefix: "",
        resumable: true,
        grant: { id: "test" },
        listen: (given) => {
          events = given
        },
        send: () => received++,
        sendUtf8: () => received++,
        buffered: () => buffered,
        pause: () => flow.push("pause"),
        resume: () => flow.push("resume"),
        close: () => {}
      }
      yield* Effect.fork(Forward.make({ url, headers: Effect.succeed({}), pingIntervalMs: 30_000 })(peer))
      yield* eventually("the peer is passed on", () => events !== undefined)
      const [socket] = sockets
      if (socket === undefined) return yield* Effect.dieMessage("no connection")
      const chunk = Buffer.alloc(1_048_576, 120)
      for (let i = 0; i < 100; i++) socket.send(chunk, { binary: false })
      yield* eventually("the first message", () => received > 0)
      yield* Effect.sleep("300 millis")
      assert.isBelow(received, 5)
      assert.isAbove(socket.bufferedAmount, 50 * chunk.length)
      buffered = 0
      events?.onDrain()
      yield* eventually("all messages", () => received === 100)
      socket.pause()
      const text = chunk.toString()
      for (let i = 0; i < 30; i++) events?.onMessage(text)
      assert.include(flow, "pause")
      assert.notInclude(flow, "resume")
      socket.resume()
      yield* eventually("all was taken", () => arrived === 30 && flow.at(-1) === "resume")
    })
  )

  it.live("refuses what it cannot do, before it registers", () =>
    Effect.gen(function* () {
      const registry = ["--remote", "http://127.0.0.1:1", "--environment-id", "a"]
      const env = { EXEC_SERVER_REMOTE_TOKEN: "any" }
      for (const [args, message, more] of [
        [registry, "--connect is missing", {}],
        [["--connect", "http://x", ...registry], "is not ws://HOST:PORT, wss://HOST or unix:///PATH", {}],
        [["--connect", "ws://x/#y", ...registry], "fragment", {}],
        [["--connect", "ws://127.0.0.1:1"], "--remote is missing", {}],
        [["--connect", "ws://192.0.2.1:1", ...registry], "the token is not sent", { EXEC_SERVER_TOKEN: "secret" }],
        [["--connect", "ws://127.0.0.1:1", "--aws-sigv4", ...registry], "requires --remote-transport direct", {}]
      ] as const) {
        const { code, stderr } = yield* command(["forward", ...args], { env: { ...env, ...more } })
        assert.notStrictEqual(code, 0)
        assert.include(stderr, message)
        assert.notInclude(stderr, "secret")
      }
    })
  )
})
