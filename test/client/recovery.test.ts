/** Lost connections: what goes on, what fails, and when it is over. */
import { type AddressInfo, createConnection, createServer, type Socket } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as ClientError from "../../src/client/ClientError.js"
import { Event, State, transition } from "../../src/client/ConnectionState.js"
import * as ExecClient from "../../src/client/ExecClient.js"
import * as TextChannel from "../../src/client/TextChannel.js"
import { ProcessId } from "../../src/protocol/Ids.js"
import { SessionLimits } from "../../src/session/SessionLimits.js"
import { maxChunkBytes } from "../../src/spawn/ReadBuffer.js"
import { FakeSpawner } from "../../src/testing/FakeSpawner.js"
import { FaultyLink } from "../../src/testing/FaultyLink.js"
import { Connector } from "../../src/transport/Memory.js"
import { failureOf, fill, serverLayer, settle } from "../support/fake.js"
import { webSocketServer } from "../support/servers.js"

const closed = new ClientError.TransportClosed({ reason: "cut" })
const refused = (code: number, reason: string) => new ClientError.ServerError({ code, reason })

/** Every error there is, and whether a lost session is tried again after it. */
const classified: ReadonlyArray<readonly [error: ClientError.ClientError, retryable: boolean]> = [
  [closed, true],
  [new ClientError.ConnectTimeout({ url: "ws://x", afterMs: 1 }), true],
  [new ClientError.InitializeTimeout({ afterMs: 1 }), true],
  [new ClientError.ConnectFailed({ url: "ws://x", reason: "ECONNREFUSED" }), true],
  ...[408, 429, 500, 502, 503, 504].map(
    (status) => [new ClientError.ConnectFailed({ url: "ws://x", reason: `HTTP ${status}`, status }), true] as const
  ),
  ...[200, 301, 400, 401, 403, 404, 426].map(
    (status) => [new ClientError.ConnectFailed({ url: "ws://x", reason: `HTTP ${status}`, status }), false] as const
  ),
  [refused(-32010, "session s is already attached to another connection"), true],
  [refused(-32000, "JSON-RPC transport closed"), true],
  [refused(-32000, "something else"), false],
  [refused(-32600, "unknown session id s"), false],
  [refused(-32600, "session s is already attached to another connection"), true],
  [refused(-32601, "unknown method: initialize"), false],
  [refused(-32602, "missing field"), false],
  [refused(-32603, "internal error"), false],
  [refused(-32004, "not found"), false],
  [new ClientError.ProtocolViolation({ detail: "" }), false],
  [new ClientError.LaunchFailed({ program: "", reason: "" }), false],
  [new ClientError.LaunchTimeout({ afterMs: 1 }), false],
  [new ClientError.AnswerTimeout({ method: "", afterMs: 1 }), false],
  [new ClientError.InvalidRequest({ method: "", detail: "" }), false],
  [new ClientError.TooManyRequests({ limit: "" }), false],
  [new ClientError.Unsupported({ server: "", what: "" }), false],
  [new ClientError.EventsLost({ processId: "", throughSeq: 1 }), false],
  [new ClientError.DuplicateProcess({ processId: "" }), false],
  [new ClientError.SessionLost({ disconnect: closed, cause: closed }), false]
]

const unreachable = new ClientError.ConnectFailed({ url: "ws://x", reason: "ECONNREFUSED" })

describe("the state of a connection", () => {
  const acknowledged = { acknowledgeOutput: () => {}, acknowledge: () => {} }
  const channel = { request: () => {}, initialized: () => {}, ...acknowledged, pause: () => {}, resume: () => {} }
  const states = {
    Connecting: State.Connecting(),
    Connected: State.Connected({ channel }),
    Recovering: State.Recovering({ disconnect: closed }),
    Ended: State.Ended({ error: closed })
  }
  const events = {
    Opened: Event.Opened({ channel }),
    LostForNow: Event.Lost({ error: closed, recoverable: true }),
    LostForGood: Event.Lost({ error: closed, recoverable: false }),
    GaveUp: Event.GaveUp({ error: closed }),
    Closed: Event.Closed({ error: closed })
  }
  const table: { readonly [S in keyof typeof states]: { readonly [E in keyof typeof events]?: keyof typeof states } } =
    {
      Connecting: { Opened: "Connected", GaveUp: "Ended", Closed: "Ended" },
      Connected: { LostForNow: "Recovering", LostForGood: "Ended", Closed: "Ended" },
      Recovering: { Opened: "Connected", GaveUp: "Ended", Closed: "Ended" },
      Ended: {}
    }
  for (const from of Object.keys(states) as Array<keyof typeof states>) {
    it(`from ${from}`, () => {
      for (const event of Object.keys(events) as Array<keyof typeof events>) {
        const after = transition(states[from], events[event])
        assert.strictEqual(after._tag, table[from][event] ?? from, event)
        if (table[from][event] === undefined) assert.strictEqual(after, states[from])
      }
    })
  }
})

/** A client of fake children over a line that can be broken. */
const bench = Effect.gen(function* () {
  const { connect } = yield* Connector
  const { children } = yield* FakeSpawner
  const link = new FaultyLink(connect)
  const client = yield* ExecClient.make(TextChannel.connector(link.open, true))
  const start = (processId: string) =>
    Effect.gen(function* () {
      const process = yield* client.start({ processId, argv: ["program"], cwd: "/", pipeStdin: true })
      yield* settle
      const child = children[children.length - 1]
      return child === undefined ? yield* Effect.dieMessage("the child is missing") : { process, child }
    })
  /** Cuts, and lets what the cut leads to happen. */
  const cut = Effect.zipRight(
    Effect.sync(() => link.cut()),
    settle
  )
  return { link, client, start, cut, children }
})

const pass = (ms: number) => Effect.zipRight(TestClock.adjust(ms), settle)

const test = (title: string, body: Effect.Effect<unknown, unknown, Effect.Effect.Context<typeof bench>>) =>
  it.scoped(title, () => body.pipe(Effect.provide(serverLayer())))

describe("a lost connection", () => {
  test(
    "is replaced: output, exit and close of the time between arrive, once",
    Effect.gen(function* () {
      const { link, start, cut, client } = yield* bench
      const { process, child } = yield* start("p")
      child.emit("stdout", "one ")
      yield* settle
      link.refuse(unreachable)
      yield* cut
      assert.strictEqual((yield* client.state)._tag, "Recovering")
      child.emit("stdout", "two ")
      child.emit("stderr", "three ")
      child.finish(5)
      // The server still holds the old connection, from which the new one takes the session over.
      link.refuse(undefined)
      yield* pass(100)
      assert.strictEqual(link.connections, 2)
      assert.strictEqual((yield* client.state)._tag, "Connected")
      const events = Chunk.toReadonlyArray(yield* Stream.runCollect(process.events))
      assert.deepStrictEqual(
        events.map((event) => [event._tag, event._tag === "Output" ? event.chunk.toString() : ""]),
        [
          ["Output", "one "],
          ["Output", "two "],
          ["Output", "three "],
          ["Exited", ""],
          ["Closed", ""]
        ]
      )
      assert.deepInclude(yield* process.exit, { exitCode: 5, timedOut: undefined })
    })
  )

  test(
    "what may be asked twice waits, and is sent again in its order; what may not fails",
    Effect.gen(function* () {
      const { link, client, start, cut } = yield* bench
      const { process, child } = yield* start("p")
      link.hold()
      const signal = yield* Effect.fork(failureOf(process.signal("SIGUSR1")))
      const plain = yield* Effect.fork(
        failureOf(client.call("process/write", { processId: process.processId, chunk: Buffer.from("lost") }))
      )
      const before = yield* Effect.fork(Effect.all([process.write("a"), process.write("b")], { concurrency: 2 }))
      yield* settle
      yield* cut
      const meanwhile = yield* Effect.fork(Effect.all([process.write("c"), process.closeStdin], { concurrency: 2 }))
      const list = yield* Effect.fork(client.call("process/list", {}))
      yield* settle
      link.flow()
      link.tellServer()
      yield* pass(200)
      yield* Effect.all([Fiber.join(before), Fiber.join(meanwhile), Fiber.join(list)])
      assert.strictEqual(child.written, "abc")
      assert.isTrue(child.stdinEnded)
      assert.deepStrictEqual(child.signals, [])
      assert.deepStrictEqual([yield* Fiber.join(signal), yield* Fiber.join(plain)], [closed, closed])
    })
  )

  test(
    "what only reads files, or the machine, is sent again; what changes files, or belongs to the connection, is not",
    Effect.gen(function* () {
      const { link, client, cut } = yield* bench
      const path = { bytes: Buffer.from("/"), form: "plain" } as const
      const options = {
        maxDepth: 0,
        maxDirectories: 1,
        maxEntries: 1,
        followDirectorySymlinks: false,
        pruneHiddenDirectories: false
      }
      const { call } = client
      const reading: ReadonlyArray<Effect.Effect<unknown, ClientError.ClientError>> = [
        call("fs/getMetadata", { path }),
        call("fs/canonicalize", { path }),
        call("fs/readDirectory", { path }),
        call("fs/walk", { path, options }),
        call("fs/readFile", { path: { ...path, bytes: Buffer.from("/etc/passwd") } }),
        call("environment/info", {}),
        call("environment/status", {})
      ]
      const others: ReadonlyArray<Effect.Effect<unknown, ClientError.ClientError>> = [
        call("fs/readBlock", { handleId: "h", offset: 0, len: 1 }),
        call("fs/open", { handleId: "h", path }),
        call("fs/close", { handleId: "h" }),
        call("fs/remove", { path: { ...path, bytes: Buffer.from("/no/such/file") } })
      ]
      link.hold()
      const read = yield* Effect.forEach(reading, (effect) => Effect.fork(Effect.exit(effect)))
      const other = yield* Effect.forEach(others, (effect) => Effect.fork(failureOf(effect)))
      yield* settle
      yield* cut
      for (const fiber of other) assert.deepStrictEqual(yield* Fiber.join(fiber), closed)
      link.tellServer()
      link.flow()
      yield* pass(200)
      for (const fiber of read) assert.isTrue(Exit.isSuccess(yield* Fiber.join(fiber)))
    })
  )

  test(
    "a write whose answer was lost is not applied again",
    Effect.gen(function* () {
      const { link, start, cut } = yield* bench
      const { process, child } = yield* start("p")
      link.hold()
      const writing = yield* Effect.fork(process.write("once"))
      yield* settle
      link.deliver(1, 0)
      yield* settle
      assert.strictEqual(child.written, "once")
      yield* cut
      link.tellServer()
      link.flow()
      yield* pass(200)
      yield* Fiber.join(writing)
      assert.strictEqual(child.written, "once")
    })
  )

  test(
    "a start whose answer was lost fails, and what it started is terminated",
    Effect.gen(function* () {
      const { link, client, cut, children } = yield* bench
      link.hold()
      const starting = yield* Effect.fork(failureOf(client.start({ processId: "p", argv: ["program"], cwd: "/" })))
      yield* settle
      link.deliver(1, 0)
      yield* settle
      assert.isFalse(children[0]?.exited)
      yield* cut
      assert.deepStrictEqual(yield* Fiber.join(starting), closed)
      link.tellServer()
      link.flow()
      yield* pass(200)
      yield* settle
      assert.isTrue(children[0]?.exited)
    })
  )

  test(
    "a start that nobody waits for any more is terminated when it is there",
    Effect.gen(function* () {
      const { link, client, children } = yield* bench
      link.hold()
      const starting = yield* Effect.fork(client.start({ processId: "p", argv: ["program"], cwd: "/" }))
      yield* settle
      yield* Fiber.interrupt(starting)
      link.flow()
      yield* settle
      yield* settle
      assert.strictEqual(children.length, 1)
      assert.isTrue(children[0]?.exited)
    })
  )

  test(
    "a process of which more was dropped than can be read again fails, and is terminated; others go on",
    Effect.gen(function* () {
      const { link, start, cut } = yield* bench
      const loud = yield* start("loud")
      const quiet = yield* start("quiet")
      loud.child.emit("stdout", "heard")
      yield* settle
      link.refuse(unreachable)
      yield* cut
      for (let i = 0; i < 40; i++) loud.child.emit("stdout", fill(maxChunkBytes))
      quiet.child.emit("stdout", "still there")
      link.refuse(undefined)
      yield* pass(200)
      const error = yield* failureOf(loud.process.exit)
      assert.strictEqual(
        error.message,
        "failed to recover process loud: exec-server protocol error: " +
          "process events are no longer retained while recovering through sequence 41"
      )
      yield* settle
      assert.isTrue(loud.child.exited)
      quiet.child.finish(0)
      const output = Chunk.toReadonlyArray(yield* Stream.runCollect(quiet.process.output))
      assert.strictEqual(Buffer.concat(output).toString(), "still there")
    })
  )

  test(
    "is given up after 25 seconds, with everything that waits for it",
    Effect.gen(function* () {
      const { link, client, start, cut } = yield* bench
      const { process } = yield* start("p")
      link.refuse(unreachable)
      yield* cut
      const waiting = yield* Effect.fork(failureOf(client.call("process/list", {})))
      yield* pass(24_900)
      assert.strictEqual((yield* client.state)._tag, "Recovering")
      assert.isNull(waiting.unsafePoll())
      yield* pass(200)
      const lost = new ClientError.SessionLost({ disconnect: closed, cause: unreachable })
      for (const error of [
        yield* client.ended,
        yield* Fiber.join(waiting),
        yield* failureOf(process.closed),
        yield* failureOf(Stream.runDrain(process.output)),
        yield* failureOf(client.call("process/list", {}))
      ]) {
        assert.deepStrictEqual(error, lost)
      }
    })
  )

  test(
    "an event that does not arrive although the connection holds is read from the server",
    Effect.gen(function* () {
      const { link, start } = yield* bench
      const { process, child } = yield* start("p")
      link.hold()
      child.emit("stdout", "lost ")
      yield* settle
      link.drop(1)
      link.flow()
      child.emit("stdout", "heard")
      yield* settle
      const reader = yield* Effect.fork(Stream.runHead(process.output))
      yield* settle
      assert.isNull(reader.unsafePoll())
      yield* pass(1000)
      const first = yield* Fiber.join(reader)
      assert.strictEqual(first._tag === "Some" ? first.value.toString() : "", "lost ")
      child.finish(0)
      const output = Chunk.toReadonlyArray(yield* Stream.runCollect(process.output))
      assert.strictEqual(Buffer.concat(output).toString(), "lost heard")
    })
  )

  test(
    "what waits for an answer is bounded",
    Effect.gen(function* () {
      const { link, client } = yield* bench
      link.hold()
      const write = client.call("process/write", { processId: ProcessId.make("p"), chunk: Buffer.alloc(30_000_000) })
      const waiting = yield* Effect.fork(write)
      yield* settle
      assert.strictEqual((yield* failureOf(write))._tag, "TooManyRequests")
      link.flow()
      assert.strictEqual((yield* Fiber.join(waiting)).status, "unknownProcess")
      assert.strictEqual((yield* write).status, "unknownProcess")
    })
  )

  for (const [error, retryable] of classified) {
    test(
      `${retryable ? "is tried to be replaced again after" : "is final with"} ${error._tag}: ${error.message}`,
      Effect.gen(function* () {
        assert.strictEqual(ClientError.isRetryable(error), retryable)
        const { link, client, cut } = yield* bench
        link.refuse(error)
        yield* cut
        link.tellServer()
        yield* pass(150)
        assert.strictEqual((yield* client.state)._tag, retryable ? "Recovering" : "Ended")
        link.refuse(undefined)
        yield* pass(100)
        assert.strictEqual((yield* client.state)._tag, retryable ? "Connected" : "Ended")
      })
    )
  }

  it.scoped("is final when the session has expired", () =>
    Effect.gen(function* () {
      const { link, client, cut } = yield* bench
      link.refuse(new ClientError.ConnectTimeout({ url: "ws://x", afterMs: 1 }))
      yield* cut
      link.tellServer()
      yield* pass(5000)
      link.refuse(undefined)
      yield* pass(100)
      const error = yield* client.ended
      assert.strictEqual(error._tag === "SessionLost" ? error.cause._tag : error._tag, "ServerError")
      assert.include(error.message, `unknown session id ${client.sessionId}`)
    }).pipe(
      Effect.provide(
        Layer.provide(
          serverLayer(),
          Layer.unwrapEffect(
            Effect.map(SessionLimits, (limits) =>
              Layer.succeed(SessionLimits, { ...limits, detachedSessionTtlMs: 1000 })
            )
          )
        )
      )
    )
  )

  test(
    "a hundred processes are picked up again at once",
    Effect.gen(function* () {
      const { link, start, cut } = yield* bench
      const all = yield* Effect.forEach(
        Array.from({ length: 100 }, (_, i) => `p${i}`),
        start
      )
      yield* cut
      link.tellServer()
      for (const { child, process } of all) {
        child.emit("stdout", process.processId)
        child.finish(0)
      }
      yield* pass(200)
      for (const { process } of all) {
        const output = Chunk.toReadonlyArray(yield* Stream.runCollect(process.output))
        assert.strictEqual(Buffer.concat(output).toString(), process.processId)
      }
    })
  )
})

/** Passes bytes on to a server, until it is cut. */
const proxy = (url: string) =>
  Effect.gen(function* () {
    const sockets = new Set<Socket>()
    const port = Number(new URL(url).port)
    const server = createServer((near) => {
      const far = createConnection({ host: "127.0.0.1", port })
      for (const socket of [near, far]) {
        sockets.add(socket)
        socket.on("error", () => {})
        socket.on("close", () => sockets.delete(socket))
      }
      near.pipe(far).pipe(near)
    })
    const cut = () => {
      for (const socket of sockets) socket.resetAndDestroy()
    }
    yield* Effect.acquireRelease(
      Effect.async<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
      () =>
        Effect.async<void>((resume) => {
          server.close(() => resume(Effect.void))
          cut()
        })
    )
    return { url: `ws://127.0.0.1:${(server.address() as AddressInfo).port}`, cut }
  })

describe("a lost WebSocket", () => {
  it.scopedLive("a real server, cut ten times while it is written to: every line once, in order, both ways", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer()
      const { url, cut } = yield* proxy(server.url)
      const client = yield* ExecClient.connectWebSocket({ url })
      const process = yield* client.start({
        argv: ["/bin/sh", "-c", "while read line; do echo $line; done; exit 6"],
        cwd: "/tmp",
        pipeStdin: true
      })
      const reading = yield* Effect.fork(Stream.runCollect(process.stdout))
      for (let i = 0; i < 10; i++) {
        const writing = yield* Effect.fork(
          Effect.forEach(
            Array.from({ length: 20 }, (_, k) => i * 20 + k),
            (n) => process.write(`${n}\n`),
            { concurrency: "unbounded", discard: true }
          )
        )
        yield* settle
        cut()
        yield* Fiber.join(writing)
      }
      yield* process.closeStdin
      const text = Buffer.concat(Chunk.toReadonlyArray(yield* Fiber.join(reading))).toString()
      assert.strictEqual(text, Array.from({ length: 200 }, (_, n) => `${n}\n`).join(""))
      assert.strictEqual((yield* process.closed).exitCode, 6)
    })
  )
})
