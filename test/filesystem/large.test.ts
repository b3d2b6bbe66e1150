/** Large files: whole, and at no cost to others. */
import { Buffer } from "node:buffer"
import { createHash } from "node:crypto"
import { appendFileSync, closeSync, openSync, readFileSync, writeSync } from "node:fs"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { WebSocket } from "ws"
import { directory, shell } from "../support/files.js"
import { connectTo, eventually, residentMb, stdioClient, webSocketServer } from "../support/servers.js"

const mib = 1048576

const sha256 = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex")

/** Writes a file of so many MiB, no two blocks the same; gives its digest. */
const makeFile = (path: string, size: number): string => {
  const fd = openSync(path, "w")
  const hash = createHash("sha256")
  const block = Buffer.alloc(mib)
  for (let i = 0; i < size; i++) {
    block.fill(`${i} and `)
    hash.update(block)
    writeSync(fd, block)
  }
  closeSync(fd)
  return hash.digest("hex")
}

/** A connection that counts what it gets and looks at nothing. */
interface RawClient {
  readonly ws: WebSocket
  readonly received: () => number
  /** The length of the longest message. */
  readonly longest: () => number
}

const rawClient = (url: string): Effect.Effect<RawClient, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.async<RawClient>((resume) => {
      let received = 0
      let longest = 0
      const ws = new WebSocket(url, { perMessageDeflate: false, maxPayload: 2 ** 30 })
      ws.once("open", () => {
        ws.send('{"id":1,"method":"initialize","params":{"clientName":"raw","resumeSessionId":null}}')
        ws.send('{"method":"initialized"}')
        resume(Effect.succeed({ ws, received: () => received, longest: () => longest }))
      })
      ws.on("message", (data: Buffer) => {
        received += data.length
        longest = Math.max(longest, data.length)
      })
    }),
    ({ ws }) => Effect.sync(() => ws.terminate())
  )

it.scopedLive("100 MiB through one message, over a WebSocket and stdio, with small answers behind it", () =>
  Effect.gen(function* () {
    const dir = yield* directory
    const path = `${dir}/large`
    const digest = makeFile(path, 100)
    const { client: stdio } = yield* stdioClient()
    for (const client of [yield* connectTo((yield* webSocketServer()).url), stdio]) {
      yield* client.handshake()
      const read = client.post("fs/readFile", { path })
      const after = client.post("fs/getMetadata", { path })
      assert.strictEqual(sha256(Buffer.from((yield* client.reply(read)).result.dataBase64, "base64")), digest)
      assert.strictEqual((yield* client.reply(after)).result.size, 100 * mib)
      client.messages.length = 0
    }
  })
)

it.scopedLive("a client that asks for much and reads nothing costs little memory, and nobody waits for it", () =>
  Effect.gen(function* () {
    const dir = yield* directory
    const path = `${dir}/large`
    makeFile(path, 64)
    const server = yield* webSocketServer()
    const other = yield* server.connect
    yield* other.handshake()
    const { ws, received } = yield* rawClient(server.url)
    ws.pause()
    for (let i = 0; i < 200; i++) {
      ws.send(JSON.stringify({ id: 10 + i, method: "fs/readFile", params: { path } }))
      ws.send(JSON.stringify({ id: 1000 + i, method: "fs/walk", params: { path: dir, options: {} } }))
    }
    for (let i = 0; i < 200; i++) yield* other.ask("fs/getMetadata", { path })
    // 12.5 GiB were asked for.
    assert.isBelow(residentMb(server.pid), 500)
    ws.resume()
    yield* eventually("the first answers come", () => received() > 2 * 64 * mib)
    ws.terminate()
    yield* other.ask("environment/status")
  })
)

it.scopedLive("processes that print while a large answer is on its way wait for it, and not in memory", () =>
  Effect.gen(function* () {
    const dir = yield* directory
    shell(dir, "truncate -s 100M large")
    const server = yield* webSocketServer()
    const { ws, received, longest } = yield* rawClient(server.url)
    const params = { argv: ["yes"], cwd: dir, env: { PATH: "/usr/bin:/bin" }, tty: false }
    ws.send(JSON.stringify({ id: 2, method: "fs/readFile", params: { path: `${dir}/large` } }))
    for (let i = 0; i < 10; i++) {
      ws.send(JSON.stringify({ id: 3 + i, method: "process/start", params: { ...params, processId: `${i}` } }))
    }
    yield* eventually("all of it has come", () => longest() > 100 * mib, 60_000)
    const peak = Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${server.pid}/status`, "utf8"))?.[1]) / 1024
    assert.isBelow(peak, 300)
    const before = received()
    yield* eventually("they go on", () => received() > before + 10 * mib)
  })
)

it.scopedLive("others are answered while a large file is read", () =>
  Effect.gen(function* () {
    const dir = yield* directory
    shell(dir, "truncate -s 300M large")
    const server = yield* webSocketServer()
    const other = yield* server.connect
    yield* other.handshake()
    const { ws, received } = yield* rawClient(server.url)
    ws.send(JSON.stringify({ id: 2, method: "fs/readFile", params: { path: `${dir}/large` } }))
    let answered = 0
    const done = eventually("all of it has come", () => received() > 400_000_000, 60_000)
    yield* Effect.raceFirst(done, Effect.forever(Effect.tap(other.ask("environment/status"), () => answered++)))
    // One that encodes it in one go answers nobody meanwhile.
    assert.isAbove(answered, 50)
  })
)

it.scopedLive("a file that grows while it is read is given as it was at some moment", () =>
  Effect.gen(function* () {
    const dir = yield* directory
    const path = `${dir}/log`
    const client = yield* connectTo((yield* webSocketServer()).url)
    yield* client.handshake()
    let written = ""
    for (let i = 0; i < 50; i++) {
      const id = client.post("fs/readFile", { path })
      for (let j = 0; j < 50; j++) {
        const line = `${i} ${j} ${"x".repeat(500)}\n`
        appendFileSync(path, line)
        written += line
      }
      const { result } = yield* client.reply(id)
      if (result !== undefined) {
        const text = Buffer.from(result.dataBase64, "base64").toString()
        assert.isTrue(written.startsWith(text))
      }
    }
    const { dataBase64 } = yield* client.ask("fs/readFile", { path })
    assert.strictEqual(Buffer.from(dataBase64, "base64").toString(), written)
  })
)
