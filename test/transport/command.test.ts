/** What of the transports needs the command, or real processes of a server of its own. */
import { readdirSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { WebSocket } from "ws"
import { folder } from "../support/exposed.js"
import { frame, receives, upgrade } from "../support/raw.js"
import { connectTo, eventually, isAlive, rawSocket, webSocketServer } from "../support/servers.js"
import type { Json } from "../support/TestClient.js"

describe("a lost WebSocket", () => {
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

describe("the command on a unix socket", () => {
  it.scopedLive("prints the address, removes the socket at the end, and replaces that of one that was killed", () =>
    Effect.gen(function* () {
      const parent = yield* folder
      const path = join(parent, "server.sock")
      const listen = `unix://${path}`
      const first = yield* webSocketServer({ listen })
      assert.strictEqual(first.url, listen)
      const sentence = `exec-server listening on ${listen}\n`
      yield* eventually("it is told to people, too", () => first.stderr().startsWith(sentence))
      yield* (yield* connectTo(`ws+unix://${path}:/`)).handshake()
      first.child.kill("SIGKILL")
      assert.strictEqual(yield* first.exit, "SIGKILL")
      assert.deepStrictEqual(readdirSync(parent), ["server.sock"])
      const second = yield* webSocketServer({ listen })
      yield* (yield* connectTo(`ws+unix://${path}:/`)).handshake()
      second.child.kill("SIGTERM")
      assert.strictEqual(yield* second.exit, 0)
      assert.deepStrictEqual(readdirSync(parent), [])
    })
  )
})
