/** The WebSocket transport from the outside: raw bytes on real sockets, and what HTTP says. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { WebSocket } from "ws"
import { answer, frame, receives, upgrade } from "../support/raw.js"
import { eventually, isAlive, rawSocket, webSocketServer } from "../support/servers.js"
import type { Json } from "../support/TestClient.js"

const connected = Effect.gen(function* () {
  const { url } = yield* webSocketServer()
  const socket = yield* rawSocket(url)
  socket.write(upgrade("/?query=allowed"))
  const head = yield* receives(socket, (bytes) => bytes.includes("\r\n\r\n"))
  assert.match(head.toString(), /^HTTP\/1\.1 101 /)
  assert.notMatch(head.toString(), /permessage-deflate/i)
  return socket
})

describe("WebSocket transport", () => {
  it.scopedLive("HTTP: health, paths, methods, Origin", () =>
    Effect.gen(function* () {
      const { url } = yield* webSocketServer()
      assert.deepStrictEqual(yield* answer(`${url}/readyz`, "GET"), { status: 200, body: "" })
      assert.strictEqual((yield* answer(`${url}/readyz`, "POST")).status, 405)
      assert.strictEqual((yield* answer(`${url}/other`, "GET")).status, 404)
      const plain = yield* answer(`${url}/`, "GET")
      assert.deepStrictEqual(plain, { status: 400, body: "Connection header did not include 'upgrade'" })
      for (const origin of ["null", "http://127.0.0.1", url]) {
        assert.strictEqual((yield* answer(`${url}/readyz`, "GET", { origin })).status, 403)
      }
      for (const [head, status] of [
        [upgrade("/other"), 404],
        [upgrade("/", "Origin: http://evil.example\r\n"), 403]
      ] as const) {
        const socket = yield* rawSocket(url)
        socket.write(head)
        const reply = yield* receives(socket, () => false)
        assert.match(reply.toString(), new RegExp(`^HTTP/1\\.1 ${status} `))
      }
    })
  )

  it.scopedLive("a refused upgrade whose peer resets the connection harms nobody", () =>
    Effect.gen(function* () {
      const { connect, url } = yield* webSocketServer()
      for (let i = 0; i < 60; i++) {
        const socket = yield* rawSocket(url)
        socket.write(upgrade(i % 2 === 0 ? "/other" : "/", "Origin: http://evil.example\r\n"))
        yield* Effect.yieldNow()
        socket.resetAndDestroy()
      }
      yield* (yield* connect).handshake()
    })
  )

  it.scopedLive("v0 dialect: a peer that ends its side and does not read is gone all the same", () =>
    Effect.gen(function* () {
      const { url } = yield* webSocketServer()
      const socket = yield* rawSocket(url)
      socket.write(upgrade("/"))
      yield* receives(socket, (bytes) => bytes.includes("\r\n\r\n"))
      socket.write(frame(1, '{"id":1,"method":"initialize","params":{"clientName":"x"}}'))
      socket.write(frame(1, '{"method":"initialized"}'))
      const argv = '"argv":["yes"],"cwd":"/","env":{},"tty":false'
      socket.write(frame(1, `{"id":2,"method":"process/start","params":{"processId":"p",${argv}}}`))
      const bytes = yield* receives(socket, (all) => all.includes('"pid":'))
      const pid = Number(/"pid":(\d+)/.exec(bytes.toString())?.[1])
      assert.isTrue(isAlive(pid))
      socket.pause()
      yield* Effect.sleep("500 millis")
      socket.end()
      yield* eventually("its process is gone", () => !isAlive(pid))
    })
  )

  it.scopedLive("an offer of compression is not taken up", () =>
    Effect.gen(function* () {
      const { url } = yield* webSocketServer()
      const socket = yield* rawSocket(url)
      socket.write(upgrade("/", "Sec-WebSocket-Extensions: permessage-deflate\r\n"))
      const head = yield* receives(socket, (bytes) => bytes.includes("\r\n\r\n"))
      assert.notMatch(head.toString(), /permessage-deflate/i)
    })
  )

  it.scopedLive("fragments, pings between them, and JSON in a binary frame", () =>
    Effect.gen(function* () {
      const socket = yield* connected
      socket.write(frame(1, '{"id":1,"method":"initialize",', false))
      socket.write(frame(9, "ping"))
      socket.write(frame(0, '"params":{"clientName":"raw"}}'))
      const bytes = yield* receives(socket, (all) => all.includes('"id":1'))
      // A pong with the ping's payload, then the answer as a text frame.
      assert.deepStrictEqual(bytes.subarray(0, 6), Buffer.from([0x8a, 4, ...Buffer.from("ping")]))
      assert.strictEqual(bytes[6], 0x81)
      socket.write(frame(2, '{"id":2,"method":"nope"}'))
      const second = yield* receives(socket, (all) => all.includes('"id":2'))
      assert.strictEqual(second[0], 0x81)
      socket.write(frame(2, Buffer.from([0xff, 0xfe])))
      const third = yield* receives(socket, (all) => all.includes('"id":-1'))
      assert.include(
        third.toString(),
        "failed to parse websocket JSON-RPC message from exec-server websocket 127.0.0.1:"
      )
    })
  )

  it.scopedLive("blank frames are malformed messages", () =>
    Effect.gen(function* () {
      const socket = yield* connected
      for (const blank of ["", "  \n"]) {
        socket.write(frame(1, blank))
        const bytes = yield* receives(socket, (all) => all.includes('"id":-1'))
        assert.include(bytes.toString(), "EOF while parsing a value")
      }
    })
  )

  for (const [what, bytes, code] of [
    ["an unmasked frame", Buffer.from([0x81, 1, 0x78]), 1002],
    ["a reserved opcode", frame(3, "x"), 1002],
    ["a text frame that is not UTF-8", frame(1, Buffer.from([0xff])), 1007]
  ] as const) {
    it.scopedLive(`${what} is answered with close ${code}`, () =>
      Effect.gen(function* () {
        const socket = yield* connected
        socket.write(bytes)
        const reply = yield* receives(socket, (all) => all.length >= 4)
        assert.strictEqual(reply[0], 0x88)
        assert.strictEqual(reply.readUInt16BE(2), code)
      })
    )
  }

  it.scopedLive("a message above maxMessageBytes is answered with close 1009", () =>
    Effect.gen(function* () {
      const { connect } = yield* webSocketServer({ args: ["--max-message-bytes", "1000"] })
      const client = yield* connect
      client.raw("x".repeat(1001))
      assert.strictEqual((yield* client.ended()).code, 1009)
    })
  )

  it.scopedLive("17 MiB in one frame pass", () =>
    Effect.gen(function* () {
      const client = yield* (yield* webSocketServer()).connect
      client.raw(JSON.stringify({ id: 1, method: "nope", params: "x".repeat(17 * 2 ** 20) }))
      assert.strictEqual((yield* client.reply(1)).error.code, -32601)
    })
  )

  it.scopedLive("a clean close is answered with 1000, a violation with 1002 and its reason", () =>
    Effect.gen(function* () {
      const { connect } = yield* webSocketServer()
      const first = yield* connect
      first.carrier.close()
      assert.strictEqual((yield* first.ended()).code, 1000)
      const second = yield* connect
      second.raw('{"method":"nope"}')
      assert.deepStrictEqual(yield* second.ended(), { code: 1002, reason: "unexpected notification method: nope" })
      const third = yield* connect
      third.raw(`{"method":"${"é".repeat(500)}"}`)
      const { code, reason } = yield* third.ended()
      assert.strictEqual(code, 1002)
      assert.match(reason, /^unexpected notification method: é+$/)
    })
  )

  it.scopedLive("v0 dialect: a cut connection ends its processes at once, and nobody else's", () =>
    Effect.gen(function* () {
      const { connect, url } = yield* webSocketServer()
      const other = yield* connect
      yield* other.handshake({})
      const survivor = yield* other.start("p", ["sleep", "1000"])
      const ws = new WebSocket(url)
      yield* Effect.promise(() => new Promise((resolve) => ws.once("open", resolve)))
      const lines: Array<Json> = []
      ws.on("message", (data) => lines.push(JSON.parse(data.toString())))
      ws.send('{"id":1,"method":"initialize","params":{"clientName":"x"}}')
      ws.send('{"method":"initialized"}')
      const params = { processId: "p", argv: ["sleep", "1000"], cwd: "/tmp", env: { PATH: "/bin" }, tty: true }
      ws.send(JSON.stringify({ id: 2, method: "process/start", params }))
      yield* eventually("the process runs", () => lines.length >= 2)
      const { pid } = lines[1].result
      ws.terminate()
      yield* eventually("the process is gone", () => !isAlive(pid))
      assert.isTrue(isAlive(survivor.pid))
      assert.deepInclude(yield* other.ask("process/list"), {})
    })
  )

  it.scopedLive("session dialect: a lost connection is taken up again, and what it missed is read", () =>
    Effect.gen(function* () {
      const { connect, url } = yield* webSocketServer()
      const first = yield* connectAndCut(url)
      const second = yield* connect
      second.knows("p")
      let reply: Json
      for (let attempt = 0; attempt < 100; attempt++) {
        reply = yield* second.call("initialize", { clientName: "x", resumeSessionId: first.sessionId })
        if (reply.error === undefined) break
        assert.strictEqual(reply.error.code, -32010)
        yield* Effect.sleep(20)
      }
      assert.strictEqual(reply.result.sessionId, first.sessionId)
      second.raw('{"method":"initialized"}')
      const read = yield* second.ask("process/read", { processId: "p", afterSeq: 0 })
      assert.strictEqual(Buffer.from(read.chunks[0].chunk, "base64").toString(), "before\n")
      yield* second.write("p", "x\n")
      yield* second.sees("p", "after")
      yield* second.closed("p")
      const third = yield* connect
      const busy = yield* third.call("initialize", { clientName: "x", resumeSessionId: first.sessionId })
      assert.deepStrictEqual(busy.error, {
        code: -32010,
        message: `session ${first.sessionId} is already attached to another connection`
      })
    })
  )

  it.scopedLive("session dialect: a session that nobody comes back to ends, with its processes", () =>
    Effect.gen(function* () {
      const { connect, url } = yield* webSocketServer({ args: ["--detached-session-ttl-ms", "100"] })
      const { pid, sessionId } = yield* connectAndCut(url)
      yield* eventually("the process is gone", () => !isAlive(pid))
      const client = yield* connect
      const { error } = yield* client.call("initialize", { clientName: "x", resumeSessionId: sessionId })
      assert.deepStrictEqual(error, { code: -32600, message: `unknown session id ${sessionId}` })
    })
  )
})

/** A client of the session dialect that starts a process, sees its first line, and is cut off. */
const connectAndCut = (url: string) =>
  Effect.gen(function* () {
    const ws = new WebSocket(url)
    yield* Effect.promise(() => new Promise((resolve) => ws.once("open", resolve)))
    const lines: Array<Json> = []
    ws.on("message", (data) => lines.push(JSON.parse(data.toString())))
    ws.send('{"id":1,"method":"initialize","params":{"clientName":"x","resumeSessionId":null}}')
    ws.send('{"method":"initialized"}')
    const argv = ["/bin/sh", "-c", "echo before; read x; echo after"]
    const params = { processId: "p", argv, cwd: "/tmp", env: {}, tty: false, pipeStdin: true }
    ws.send(JSON.stringify({ id: 2, method: "process/start", params }))
    yield* eventually("its first output came", () => lines.some((line) => line.method === "process/output"))
    ws.terminate()
    return { sessionId: lines[0].result.sessionId as string, pid: lines[1].result.pid as number }
  })
