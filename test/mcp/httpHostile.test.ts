/** What comes to `/mcp` that is no request, comes slowly, or comes in numbers; clients that leave. */
import { existsSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { directory } from "../support/files.js"
import { connectHttp, mcpUrl, modernCall, posting } from "../support/mcp.js"
import { descriptors, eventually, isAlive, rawSocket, webSocketServer } from "../support/servers.js"

const server = (...args: ReadonlyArray<string>) => webSocketServer({ args: ["--mcp", ...args] })

const post = (url: string, body: string | Uint8Array<ArrayBuffer>, headers: Record<string, string> = {}) =>
  Effect.promise(async () => {
    const answered = await fetch(mcpUrl(url), { method: "POST", headers: { ...posting, ...headers }, body })
    return { status: answered.status, body: await answered.text() }
  })

/** The head of a POST whose body is announced with a length. */
const head = (length: number, headers: Record<string, string>) =>
  [
    "POST /mcp HTTP/1.1",
    "Host: 127.0.0.1",
    `Content-Length: ${length}`,
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
    "\r\n"
  ].join("\r\n")

describe("an id", () => {
  it.scopedLive("that a request of the session still has is refused, and that request is answered", () =>
    Effect.gen(function* () {
      const { url } = yield* server()
      const post = (body: object, session: Record<string, string> = {}) =>
        fetch(mcpUrl(url), { method: "POST", headers: { ...posting, ...session }, body: JSON.stringify(body) })
      const initialize = { protocolVersion: "2025-06-18", capabilities: {}, clientInfo: { name: "x", version: "1" } }
      const opened = yield* Effect.promise(() =>
        post({ jsonrpc: "2.0", id: 0, method: "initialize", params: initialize })
      )
      const session = { "mcp-session-id": opened.headers.get("mcp-session-id") ?? "" }
      const folder = yield* directory
      const cmd = `touch ${folder}/runs; while [ ! -e ${folder}/go ]; do sleep 0.05; done; echo done`
      const params = { name: "exec_command", arguments: { cmd } }
      const first = post({ jsonrpc: "2.0", id: 7, method: "tools/call", params }, session)
      yield* eventually("it runs", () => existsSync(join(folder, "runs")))
      const second = yield* Effect.promise(() => post({ jsonrpc: "2.0", id: 7, method: "tools/list" }, session))
      assert.strictEqual(second.status, 400)
      assert.include(yield* Effect.promise(() => second.text()), "Invalid Request: the id 7 is in use")
      writeFileSync(join(folder, "go"), "")
      const answered = yield* Effect.promise(() => first)
      assert.include(yield* Effect.promise(() => answered.text()), "done")
      const again = yield* Effect.promise(() => post({ jsonrpc: "2.0", id: 7, method: "tools/list" }, session))
      assert.strictEqual(again.status, 200)
    })
  )
})

describe("a body", () => {
  it.scopedLive("that is no message is refused, and the server goes on", () =>
    Effect.gen(function* () {
      const { url } = yield* server("--max-message-bytes", "2000000")
      const deep = "[".repeat(500_000)
      const wide = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "ping", params: { x: Array(600_000).fill(1) } })
      for (const [body, why] of [
        ["no message", /not valid JSON/],
        [deep, /recursion limit exceeded/],
        [new Uint8Array([0x22, 0xff, 0x22]), /not valid UTF-8/],
        [wide, /the limit is 500000/],
        ["", /./],
        ["null", /./],
        ["[]", /./],
        ['{"jsonrpc":"2.0"}', /./],
        ['{"jsonrpc":"2.0","id":{},"method":1}', /./],
        [JSON.stringify(Array(1000).fill({ jsonrpc: "2.0", id: 1, method: "initialize", params: {} })), /./]
      ] as const) {
        const refused = yield* post(url, body)
        assert.strictEqual(refused.status, 400, refused.body)
        assert.match(refused.body, why)
        assert.include(refused.body, '"jsonrpc":"2.0"')
      }
      assert.strictEqual((yield* post(url, "{}", { "content-type": "text/plain" })).status, 415)
      const encoded = yield* post(url, "{}", { "content-encoding": "gzip" })
      assert.strictEqual(encoded.status, 415)
      assert.include(encoded.body, "the body must not be encoded, and its content-encoding is gzip")
      // A handshake that is refused opens no session.
      const initialize = { protocolVersion: "2025-06-18", capabilities: {}, clientInfo: { name: "x", version: "1" } }
      const handshake = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "initialize", params: initialize })
      assert.strictEqual((yield* post(url, handshake, { accept: "text/plain" })).status, 406)
      const { call } = yield* connectHttp(url, { pin: "2026-07-28" })
      assert.match((yield* call("exec_command", { cmd: "echo on" })).text, /\non$/)
    })
  )

  it.scopedLive("that is too long is refused: before it comes, if its length is known", () =>
    Effect.gen(function* () {
      const { url } = yield* server("--max-message-bytes", "1000")
      for (const request of [
        head(1001, posting),
        `${head(0, posting).replace(/Content-Length: 0/, "Transfer-Encoding: chunked")}3e9\r\n${"x".repeat(1001)}\r\n`
      ]) {
        const socket = yield* rawSocket(url)
        let received = ""
        socket.on("data", (chunk) => {
          received += chunk
        })
        socket.write(request)
        yield* eventually("it is refused", () => received.includes("the body is longer than maxMessageBytes (1000)"))
        assert.match(received, /^HTTP\/1\.1 413 /)
      }
    })
  )

  it.scopedLive("that does not come is given up, and its connection with it", () =>
    Effect.gen(function* () {
      const { url } = yield* server("--handshake-timeout-ms", "500")
      const socket = yield* rawSocket(url)
      let received = ""
      socket.on("data", (chunk) => {
        received += chunk
      })
      const closed = Effect.async<void>((resume) => {
        socket.once("close", () => resume(Effect.void))
      })
      socket.write(`${head(1000, posting)}{`)
      yield* closed
      assert.match(received, /^HTTP\/1\.1 408 /)
      assert.include(received, "no part of the body has come for 500 ms")
    })
  )

  it.scopedLive("that has come may be answered later than a connection may take to be accepted", () =>
    Effect.gen(function* () {
      const { url } = yield* server("--handshake-timeout-ms", "2000")
      const { call } = yield* connectHttp(url, { pin: "2026-07-28" })
      assert.match((yield* call("exec_command", { cmd: "cat", yield_time_ms: 3000 })).text, /^\[still running/)
    })
  )

  it.scopedLive("takes from the memory for all incomplete messages", () =>
    Effect.gen(function* () {
      const { url } = yield* server("--unfinished-message-bytes-total", "300000")
      const sockets = yield* Effect.all(Array.from({ length: 4 }, () => rawSocket(url)))
      const received = sockets.map((socket) => {
        const got = { text: "" }
        socket.on("data", (chunk) => {
          got.text += chunk
        })
        socket.write(head(1_000_000, posting))
        socket.write("x".repeat(100_000))
        return got
      })
      yield* eventually("one is cut off", () => received.some(({ text }) => text.startsWith("HTTP/1.1 503 ")))
      assert.isTrue(received.some(({ text }) => text.includes("unfinishedMessageBytesTotal")))
    })
  )
})

describe("clients", () => {
  it.scopedLive("beyond --max-connections are told to come later", () =>
    Effect.gen(function* () {
      const { url } = yield* server("--max-connections", "2")
      const folder = yield* directory
      const waiting = ["a", "b"].map((name) => {
        const file = join(folder, name)
        const call = modernCall("exec_command", { cmd: `touch ${file}; cat`, yield_time_ms: 50_000 })
        const abort = new AbortController()
        fetch(mcpUrl(url), { method: "POST", ...call, signal: abort.signal }).catch(() => {})
        return { file, abort }
      })
      yield* eventually("they run", () => waiting.every(({ file }) => existsSync(file)))
      const list = modernCall("list_sessions", {})
      assert.strictEqual((yield* post(url, list.body, list.headers)).status, 503)
      for (const { abort } of waiting) abort.abort()
      const free: Effect.Effect<void> = Effect.flatMap(post(url, list.body, list.headers), ({ status }) =>
        status === 200 ? Effect.void : Effect.delay(free, 50)
      )
      yield* Effect.timeout(free, "20 seconds")
    })
  )

  it.scopedLive("that leave while the first request is prepared do not take it from the next ones", () =>
    Effect.gen(function* () {
      const { url } = yield* server()
      const { headers, body } = modernCall("list_sessions", {})
      for (let i = 0; i < 10; i++) {
        const socket = yield* rawSocket(url)
        socket.end(head(Buffer.byteLength(body), headers) + body)
        socket.destroySoon()
      }
      const { call } = yield* connectHttp(url, { pin: "2026-07-28" })
      assert.strictEqual((yield* call("list_sessions")).text, "[0 commands running, 0 ended]")
    })
  )

  it.scopedLive("that leave end the command that they wait for, and leave nothing open", () =>
    Effect.gen(function* () {
      const { url, pid } = yield* server()
      const { call } = yield* connectHttp(url, { pin: "2026-07-28" })
      yield* call("exec_command", { cmd: "true" })
      const before = descriptors(pid)
      const folder = yield* directory
      const files = Array.from({ length: 5 }, (_, i) => join(folder, String(i)))
      const sockets = yield* Effect.forEach(files, (file) =>
        Effect.map(rawSocket(url), (socket) => {
          const { headers, body } = modernCall("exec_command", {
            cmd: `echo $$ > ${file}; exec sleep 600`,
            yield_time_ms: 50_000
          })
          socket.write(head(Buffer.byteLength(body), headers) + body)
          return socket
        })
      )
      const isThere = (file: string) => existsSync(file) && readFileSync(file, "utf8").endsWith("\n")
      yield* eventually("they run", () => files.every(isThere))
      const pids = files.map((file) => Number(readFileSync(file, "utf8")))
      for (const socket of sockets) socket.destroy()
      yield* eventually("they are gone", () => !pids.some(isAlive))
      // Of five connections, at least one would be seen.
      yield* eventually("the connections are closed", () => descriptors(pid) <= before + 4)
    })
  )
})
