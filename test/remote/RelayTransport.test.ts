/** The executor from the outside: raw frames over a socket that it has dialled. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import type { RelayMessageFrame } from "../../src/remote/gen/relay_pb.js"
import { type FakeRelay, fakeRelay, type RawSocket } from "../support/fakeRelay.js"
import { eventually, isAlive, launch, type Running, residentMb } from "../support/servers.js"
import { startParams } from "../support/TestClient.js"

interface Setting {
  readonly relay: FakeRelay
  readonly server: Running
  readonly socket: RawSocket
}

const setting = (args: ReadonlyArray<string> = []): Effect.Effect<Setting, never, Scope.Scope> =>
  Effect.gen(function* () {
    const relay = yield* fakeRelay("env")
    const server = yield* launch({
      args: ["--remote", relay.url, "--environment-id", "env", ...args],
      env: { EXEC_SERVER_REMOTE_TOKEN: "token" }
    })
    return { relay, server, socket: yield* relay.socket(0) }
  })

/** The beginning of a frame's message. */
const textOf = (body: RelayMessageFrame["body"]) =>
  body.case === "data" ? Buffer.from(body.value.payload.subarray(0, 40)).toString() : ""

const request = (id: number, method: string, params: object = {}) => JSON.stringify({ id, method, params })
const start = (id: number, processId: string, ...argv: ReadonlyArray<string>) =>
  request(id, "process/start", startParams(processId, argv))
const info = (id: number) => request(id, "environment/status")

describe("with a peer that sends whole messages and acknowledges nothing", () => {
  it.scopedLive("it gets data frames alone, counted from 0, however long it is silent", () =>
    Effect.gen(function* () {
      const { socket } = yield* setting()
      socket.frame({ streamId: "s", body: { case: "resume", value: { nextSeq: 0 } } })
      const { result } = yield* socket.handshake("s")
      assert.strictEqual(result.protocolVersion, "exec-server.v0")
      for (let i = 0; i < 600; i++) socket.data("s", 2 + i, info(10 + i))
      socket.data("s", 602, start(2, "p", "echo", "hello"))
      yield* eventually("closed", () => socket.messages("s").some(({ method }) => method === "process/closed"))
      for (const [seq, { streamId, version, body, reliable, acknowledged }] of socket.frames.entries()) {
        assert.deepInclude(
          { streamId, version, reliable, acknowledged },
          {
            streamId: "s",
            version: 1,
            reliable: false,
            acknowledged: false
          }
        )
        assert.strictEqual(body.case, "data")
        if (body.case === "data") assert.deepInclude(body.value, { seq, segmentIndex: 0, segmentCount: 1 })
      }
      assert.isAbove(socket.frames.length, 600)
    })
  )

  it.scopedLive("an answer of many megabytes is one frame", () =>
    Effect.gen(function* () {
      const { socket } = yield* setting(["--retained-output-bytes-per-process", "20000000"])
      yield* socket.handshake("s")
      socket.data("s", 2, start(2, "p", "head", "-c", "12000000", "/dev/zero"))
      yield* eventually("closed", () =>
        socket.frames.some(
          ({ body }) =>
            body.case === "data" && `${Buffer.from(body.value.payload.slice(0, 30))}`.includes("process/closed")
        )
      )
      socket.data("s", 3, request(3, "process/read", { processId: "p" }))
      yield* eventually("the answer", () =>
        socket.frames.some(
          ({ body }) => body.case === "data" && body.value.payload.length > 16_000_000 && body.value.segmentCount === 1
        )
      )
    })
  )

  it.scopedLive("answers of megabytes that were asked for at once are one frame each, and nothing else comes", () =>
    Effect.gen(function* () {
      const { socket } = yield* setting(["--retained-output-bytes-per-process", "4000000"])
      yield* socket.handshake("s")
      socket.data("s", 2, start(2, "p", "head", "-c", "1500000", "/dev/zero"))
      yield* eventually("closed", () => socket.messages("s").some(({ method }) => method === "process/closed"))
      const before = socket.frames.length
      const ids = Array.from({ length: 20 }, (_, i) => 10 + i)
      for (const id of ids) socket.data("s", id - 7, request(id, "process/read", { processId: "p" }))
      yield* eventually("all answers", () => socket.frames.length >= before + ids.length)
      const frames = socket.frames.slice(before)
      assert.deepStrictEqual(
        frames.map(({ body }) => body.case === "data" && [body.value.segmentIndex, body.value.segmentCount]),
        ids.map(() => [0, 1])
      )
      const answers = frames.flatMap(({ body }) =>
        body.case === "data" ? [JSON.parse(Buffer.from(body.value.payload).toString())] : []
      )
      assert.deepStrictEqual(
        answers.map(({ id }) => id),
        ids
      )
      for (const { result } of answers) {
        const bytes = result.chunks.map(({ chunk }: { readonly chunk: string }) => Buffer.from(chunk, "base64").length)
        assert.strictEqual(
          bytes.reduce((sum: number, size: number) => sum + size, 0),
          1_500_000
        )
      }
    })
  )

  it.scopedLive("a violation is answered with a reset, and the next message is served", () =>
    Effect.gen(function* () {
      const { socket } = yield* setting()
      yield* socket.handshake("a")
      yield* socket.handshake("b")
      socket.data("a", 2, '{"method":"no/such"}')
      yield* eventually("the reset", () => socket.reset("a") !== undefined)
      assert.strictEqual(socket.reset("a"), "unexpected notification method: no/such")
      socket.data("a", 3, request(7, "initialize", { clientName: "x", resumeSessionId: null }))
      assert.isDefined((yield* socket.reply("a", 7)).result)
      socket.data("b", 2, info(2))
      assert.isDefined((yield* socket.reply("b", 2)).result)
    })
  )
})

describe("a session whose stream is half-open", () => {
  /** The executor asks a stream that has been silent for a while. */
  const asked = (socket: RawSocket, streamId: string) =>
    socket.frames.filter((frame) => frame.streamId === streamId && frame.body.case === "resume").length

  for (const isAlive of [false, true]) {
    it.scopedLive(`${isAlive ? "stays there if its peer answers" : "is taken over by another stream"}`, () =>
      Effect.gen(function* () {
        const { socket } = yield* setting()
        // What only a peer says that answers.
        socket.frame({ streamId: "a", reliable: true, body: { case: "resume", value: { nextSeq: 0 } } })
        const { result } = yield* socket.handshake("a")
        yield* Effect.sleep(2500)
        const again = yield* Effect.fork(socket.handshake("b", result.sessionId))
        yield* eventually("it is asked", () => asked(socket, "a") > 0)
        if (isAlive) socket.frame({ streamId: "a", reliable: true, body: { case: "heartbeat", value: {} } })
        const reply = yield* Fiber.join(again)
        if (isAlive) return assert.strictEqual(reply.error.code, -32010)
        assert.strictEqual(reply.result.sessionId, result.sessionId)
        yield* eventually("it is told", () => socket.reset("a") !== undefined)
      })
    )
  }
})

describe("streams", () => {
  it.scopedLive("forty at once do not mix; the reset of one leaves the others", () =>
    Effect.gen(function* () {
      const { socket } = yield* setting()
      const names = Array.from({ length: 40 }, (_, i) => `stream-${i}`)
      for (const name of names) yield* socket.handshake(name)
      for (const name of names) socket.data(name, 2, start(2, "p", "sh", "-c", `echo ${name}; read x`))
      for (const name of names) {
        yield* eventually(`output on ${name}`, () => socket.messages(name).some((m) => m.method === "process/output"))
        const chunks = socket
          .messages(name)
          .flatMap(({ params }) => (params?.chunk === undefined ? [] : [params.chunk]))
        assert.strictEqual(Buffer.from(chunks.join(""), "base64").toString(), `${name}\n`)
      }
      socket.frame({ streamId: "stream-0", body: { case: "reset", value: { reason: "done" } } })
      for (const name of names.slice(1)) socket.data(name, 3, info(3))
      for (const name of names.slice(1)) assert.isDefined((yield* socket.reply(name, 3)).result)
      assert.isUndefined(socket.reset("stream-0"))
      // The name is free again, and means a new connection.
      socket.data("stream-0", 0, info(9))
      assert.strictEqual((yield* socket.reply("stream-0", 9)).error.code, -32600)
    })
  )

  it.scopedLive("requests that wait in one hold up no other, however many", () =>
    Effect.gen(function* () {
      const { socket } = yield* setting()
      yield* socket.handshake("busy")
      yield* socket.handshake("quick")
      socket.data("busy", 2, start(2, "p", "sleep", "1000"))
      yield* socket.reply("busy", 2)
      for (let i = 0; i < 6000; i++) {
        socket.data("busy", 3 + i, request(10 + i, "process/read", { processId: "p", afterSeq: 9, waitMs: 600_000 }))
      }
      socket.data("quick", 2, info(2))
      yield* socket.reply("quick", 2)
      assert.lengthOf(
        socket.messages("busy").filter(({ id }) => id >= 10),
        0
      )
    })
  )

  it.scopedLive("out of order, doubled, in segments: each message once, and acknowledged", () =>
    Effect.gen(function* () {
      const { socket } = yield* setting()
      const text = request(1, "initialize", { clientName: "x", resumeSessionId: null })
      const third = Math.ceil(text.length / 3)
      const part = (i: number) => socket.data("s", i, text.slice(i * third, (i + 1) * third), i, 3)
      part(2)
      part(0)
      part(0)
      part(1)
      part(1)
      yield* socket.reply("s", 1)
      yield* eventually("the acknowledgement", () => socket.frames.some(({ ack }) => ack === 2))
      assert.lengthOf(
        socket.messages("s").filter(({ id }) => id === 1),
        1
      )
    })
  )

  it.scopedLive("a peer that acknowledges once gets again what it does not acknowledge", () =>
    Effect.gen(function* () {
      const { socket } = yield* setting()
      yield* socket.handshake("s")
      socket.frame({ streamId: "s", ack: 0, body: { case: "ackFrame", value: {} } })
      socket.data("s", 2, info(2))
      yield* socket.reply("s", 2)
      yield* eventually("the answer again", () => socket.messages("s").filter(({ id }) => id === 2).length > 1)
      socket.frame({ streamId: "s", ack: 1, body: { case: "ackFrame", value: {} } })
      socket.data("s", 3, info(3))
      yield* socket.reply("s", 3)
    })
  )

  it.scopedLive("a segment that is missing for good ends the stream of a peer that splits its messages", () =>
    Effect.gen(function* () {
      const { socket } = yield* setting()
      yield* socket.handshake("s")
      const text = info(2)
      socket.data("s", 2, text.slice(0, 9), 0, 2)
      socket.data("s", 3, text.slice(9), 1, 2)
      yield* socket.reply("s", 2)
      socket.data("s", 5, info(3))
      yield* eventually("the reset", () => socket.reset("s") === "segment 4 is missing")
    })
  )

  it.scopedLive("what a peer that never split a message sends is served, whatever its number", () =>
    Effect.gen(function* () {
      const { socket } = yield* setting()
      yield* socket.handshake("s")
      socket.data("s", 2, "lost", 0, 2)
      for (const [id, seq] of [9, 4, 4294967295, 0, 0].entries()) {
        socket.data("s", seq, info(10 + id))
        yield* socket.reply("s", 10 + id)
      }
    })
  )

  it.scopedLive("10,000 that are opened and reset one after another hold up nobody", () =>
    Effect.gen(function* () {
      const { socket } = yield* setting()
      yield* socket.handshake("s")
      const initialize = request(1, "initialize", { clientName: "x", resumeSessionId: null })
      for (let i = 0; i < 10_000; i++) {
        socket.data(`flood${i}`, 0, initialize)
        socket.frame({ streamId: `flood${i}`, body: { case: "reset", value: { reason: "gone" } } })
      }
      socket.data("s", 2, info(2))
      yield* socket.reply("s", 2)
      const opened = socket.frames.filter(({ streamId }) => streamId.startsWith("flood")).length
      // A stream that was reset in the same piece of input is not opened.
      assert.isBelow(opened, 2000)
    })
  )

  it.scopedLive("one that ends while the socket is not read is told, and the others go on", () =>
    Effect.gen(function* () {
      const { socket } = yield* setting()
      for (const name of ["greedy", "bad", "s"]) yield* socket.handshake(name)
      socket.ws.pause()
      socket.data("greedy", 2, start(2, "p", "head", "-c", "30000000", "/dev/zero"))
      socket.data("bad", 2, '{"method":"no/such"}')
      socket.data("s", 2, info(2))
      // Longer than a stream may take to end.
      yield* Effect.sleep(2500)
      assert.isUndefined(socket.messages("s").find(({ id }) => id === 2))
      socket.ws.resume()
      yield* socket.reply("s", 2)
      yield* eventually("the reset", () => socket.reset("bad") !== undefined)
      yield* eventually("all output", () =>
        socket.of("greedy").some(({ body }) => /process\/closed/.test(textOf(body)))
      )
      assert.isUndefined(socket.reset("greedy"))
      assert.isUndefined(socket.reset("s"))
    })
  )

  it.scopedLive("more streams than allowed are refused", () =>
    Effect.gen(function* () {
      const { socket } = yield* setting()
      for (let i = 0; i < 4096; i++) socket.data(`s${i}`, 0, info(1))
      yield* socket.reply("s4095", 1)
      socket.data("one-more", 0, info(1))
      yield* eventually("the reset", () => socket.reset("one-more") !== undefined)
      assert.match(socket.reset("one-more") ?? "", /^the limit of 4096 streams is reached/)
    })
  )
})

describe("what is no frame", () => {
  it.scopedLive("is dropped with one line in the log, and everything else goes on", () =>
    Effect.gen(function* () {
      const { server, socket } = yield* setting()
      yield* socket.handshake("s")
      const payload = Buffer.from(info(99))
      for (let i = 0; i < 20; i++) {
        socket.bytes("text")
        socket.bytes(Buffer.alloc(0))
        socket.bytes(Buffer.from("garbage"))
        socket.frame({ version: 2, streamId: "x", body: { case: "data", value: { segmentCount: 1, payload } } })
        socket.frame({ streamId: "", body: { case: "data", value: { segmentCount: 1, payload } } })
        socket.frame({ streamId: "x" })
        socket.frame({ streamId: "x", body: { case: "data", value: { segmentCount: 0, payload } } })
        socket.frame({ streamId: "x", body: { case: "data", value: { segmentCount: 1 } } })
        socket.frame({ streamId: "x", body: { case: "reset", value: { reason: "" } } })
        socket.frame({ streamId: "x", body: { case: "handshake", value: { payload } } })
        socket.frame({ streamId: "x", body: { case: "heartbeat", value: {} } })
        socket.frame({ streamId: "x", body: { case: "ackFrame", value: {} } })
      }
      socket.data("s", 2, info(2))
      yield* socket.reply("s", 2)
      assert.lengthOf(
        socket.frames.filter(({ streamId }) => streamId !== "s"),
        0
      )
      const lines = () => server.stderr().match(/.*it is dropped.*/g) ?? []
      yield* eventually("a line for each reason", () => lines().length >= 9)
      assert.lengthOf(lines(), 9)
      assert.match(lines().join("\n"), /unsupported relay message frame version 0/)
    })
  )

  it.scopedLive("messages that are none get an error with id -1, as on every transport", () =>
    Effect.gen(function* () {
      const { socket } = yield* setting()
      yield* socket.handshake("s")
      for (const [i, text] of ["{}", "[]", "hello", Buffer.from([0xff])].entries()) {
        socket.data("s", 2 + i, text)
        yield* eventually("an error", () => socket.messages("s").filter(({ id }) => id === -1).length === i + 1)
      }
      socket.data("s", 6, info(2))
      yield* socket.reply("s", 2)
    })
  )

  it.scopedLive("segments without end: refused by their count, by their size, and never held without bound", () =>
    Effect.gen(function* () {
      const { server, socket } = yield* setting(["--max-message-bytes", "4000000"])
      yield* socket.handshake("s")
      const huge = { segmentCount: 4294967295, payload: Buffer.from("x") }
      socket.frame({ streamId: "huge", reliable: true, body: { case: "data", value: huge } })
      yield* eventually("the reset", () => /segments is longer than/.test(socket.reset("huge") ?? ""))
      const before = residentMb(server.pid)
      const megabyte = Buffer.alloc(1_000_000, "x")
      for (let i = 0; i < 50; i++) {
        for (let seq = 0; seq < 8; seq++) socket.data(`large${i}`, seq, megabyte, seq, 100)
      }
      yield* eventually("the last reset", () => /longer than maxMessageBytes/.test(socket.reset("large49") ?? ""))
      assert.isBelow(residentMb(server.pid) - before, 300)
      socket.data("s", 2, info(2))
      yield* socket.reply("s", 2)
    })
  )
})

describe("a message that is too long", () => {
  it.scopedLive("ends its stream alone, if it comes in one piece", () =>
    Effect.gen(function* () {
      const { socket } = yield* setting(["--max-message-bytes", "1000000"])
      yield* socket.handshake("s")
      yield* socket.handshake("long")
      socket.data("long", 2, Buffer.alloc(20_000_000, "x"))
      yield* eventually("the reset", () => /longer than maxMessageBytes/.test(socket.reset("long") ?? ""))
      socket.data("s", 2, info(2))
      yield* socket.reply("s", 2)
    })
  )

  it.scopedLive("ends its stream alone, if its peer cannot be sent it in pieces", () =>
    Effect.gen(function* () {
      const { socket } = yield* setting(["--retained-output-bytes-per-process", "90000000"])
      yield* socket.handshake("s")
      yield* socket.handshake("long")
      socket.data("long", 2, start(2, "p", "head", "-c", "60000000", "/dev/zero"))
      yield* socket.reply("long", 2)
      socket.data("long", 3, request(3, "process/wait", { processId: "p", until: "closed" }))
      yield* socket.reply("long", 3)
      socket.data("long", 4, request(4, "process/read", { processId: "p", maxBytes: 60_000_000 }))
      yield* eventually("the reset", () => /is longer than .* one piece \(67108864\)/.test(socket.reset("long") ?? ""))
      socket.data("s", 2, info(2))
      yield* socket.reply("s", 2)
    })
  )
})

describe("a lost socket", () => {
  it.scopedLive("another one follows, after a new registration, and sessions can be taken up again", () =>
    Effect.gen(function* () {
      const { relay, socket } = yield* setting()
      const { result } = yield* socket.handshake("s")
      socket.data("s", 2, start(2, "p", "sh", "-c", "echo before; sleep 0.2; echo after; sleep 1000"))
      const { pid } = (yield* socket.reply("s", 2)).result
      socket.ws.terminate()
      const next = yield* relay.socket(1)
      assert.lengthOf(relay.requests, 2)
      const resumed = yield* next.handshake("t", result.sessionId)
      assert.strictEqual(resumed.result.sessionId, result.sessionId)
      next.data("t", 2, request(2, "process/read", { processId: "p", afterSeq: 1, waitMs: 10_000 }))
      const read = yield* next.reply("t", 2)
      assert.strictEqual(Buffer.from(read.result.chunks[0].chunk, "base64").toString(), "after\n")
      next.data("t", 3, request(3, "process/terminate", { processId: "p" }))
      yield* eventually("the process is gone", () => !isAlive(pid))
      // The old stream's name means nothing on the new socket.
      next.data("s", 0, info(3))
      assert.strictEqual((yield* next.reply("s", 3)).error.code, -32600)
    })
  )

  it.scopedLive("without one, sessions end when their time is over", () =>
    Effect.gen(function* () {
      const { relay, socket } = yield* setting(["--detached-session-ttl-ms", "300"])
      yield* socket.handshake("s")
      socket.data("s", 2, start(2, "p", "sleep", "1000"))
      const { pid } = (yield* socket.reply("s", 2)).result
      relay.refusals.push(503, 503, 503)
      socket.ws.close(1000)
      yield* eventually("the process is gone", () => !isAlive(pid))
    })
  )

  it.scopedLive("SIGTERM: every stream is told, everything ends, exit code 0", () =>
    Effect.gen(function* () {
      const { server, socket } = yield* setting()
      yield* socket.handshake("a")
      yield* socket.handshake("b")
      socket.data("a", 2, start(2, "p", "sleep", "1000"))
      const { pid } = (yield* socket.reply("a", 2)).result
      server.child.kill("SIGTERM")
      assert.strictEqual(yield* server.exit, 0)
      yield* eventually("the socket has ended", () => socket.ended)
      for (const name of ["a", "b"]) assert.strictEqual(socket.reset(name), "the server is shutting down")
      assert.isFalse(isAlive(pid))
    })
  )
})
