/** Open files: blocks, limits, and that none outlives its connection. */
import { Buffer } from "node:buffer"
import { readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { base64, directory, refuses, shell } from "../support/files.js"
import { eventually, memoryClient, memoryLayer, webSocketServer } from "../support/servers.js"
import type { TestClient } from "../support/TestClient.js"

/** Files below a directory that a process has open. */
const openBelow = (pid: number, dir: string): number =>
  readdirSync(`/proc/${pid}/fd`).filter((fd) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`).startsWith(dir)
    } catch {
      return false
    }
  }).length

interface Server {
  readonly pid: number
  readonly connect: Effect.Effect<TestClient, never, Scope.Scope>
}

const servers: Record<string, Effect.Effect<Server, never, Scope.Scope>> = {
  memory: Effect.map(Layer.build(memoryLayer), (built) => ({
    pid: process.pid,
    connect: Effect.provide(memoryClient, built)
  })),
  WebSocket: webSocketServer()
}

const test = (
  title: string,
  body: (client: TestClient, dir: string, server: Server) => Effect.Effect<unknown, unknown, Scope.Scope>
) => {
  for (const [kind, made] of Object.entries(servers)) {
    it.scopedLive(`${kind}: ${title}`, () =>
      Effect.gen(function* () {
        const dir = yield* directory
        writeFileSync(`${dir}/a.txt`, "hello")
        const server = yield* made
        const client = yield* server.connect
        yield* client.handshake()
        yield* body(client, dir, server)
      })
    )
  }
}

test("blocks of a file that is read", (client, dir) =>
  Effect.gen(function* () {
    const path = `file://${dir}/a.txt`
    const block = (offset: number, len: number) => client.ask("fs/readBlock", { handleId: "h", offset, len })
    assert.deepStrictEqual(yield* client.ask("fs/open", { handleId: "h", path }), { handleId: "h" })
    assert.deepStrictEqual(yield* block(0, 2), { chunk: "aGU=", eof: false })
    assert.deepStrictEqual(yield* block(2, 100), { chunk: "bGxv", eof: true })
    assert.deepStrictEqual(yield* block(5, 10), { chunk: "", eof: true })
    assert.deepStrictEqual(yield* block(50, 10), { chunk: "", eof: true })
    assert.deepStrictEqual(yield* block(0, 5), { chunk: "aGVsbG8=", eof: false })
    assert.deepStrictEqual(yield* block(0, 1048576), { chunk: "aGVsbG8=", eof: true })
    assert.deepStrictEqual(yield* block(2 ** 53 - 1, 1), { chunk: "", eof: true })
    const read = (offset: number, len: number, code: number, message: string | RegExp) =>
      refuses(client, "fs/readBlock", { handleId: "h", offset, len }, code, message)
    const range = "file read block length must be between 1 and 1048576"
    for (const len of [0, 1048577, 100000000]) yield* read(0, len, -32600, range)
    yield* read(-1, 1, -32602, /^invalid number: -1 .*\(field `offset`\)$/)
    yield* read(0.5, 1, -32602, /^invalid number/)
    yield* read(2 ** 63, 1, -32600, `Invalid argument (os error 22): ${dir}/a.txt`)
    const badFile = `Bad file descriptor (os error 9): ${dir}/a.txt`
    yield* refuses(client, "fs/writeBlock", { handleId: "h", offset: 0, chunk: "eA==" }, -32603, badFile)
    assert.deepStrictEqual(yield* client.ask("fs/close", { handleId: "h" }), {})
    assert.deepStrictEqual(yield* client.ask("fs/close", { handleId: "h" }), {})
    assert.deepStrictEqual(yield* client.ask("fs/close", { handleId: "never" }), {})
    yield* read(0, 1, -32004, "unknown file handle `h`")
    yield* refuses(
      client,
      "fs/writeBlock",
      { handleId: "", offset: 0, chunk: "eA==" },
      -32004,
      "unknown file handle ``"
    )
  }))

test("blocks of a file whose content is replaced", (client, dir) =>
  Effect.gen(function* () {
    const write = (offset: number, text: string) =>
      client.call("fs/writeBlock", { handleId: "w", offset, chunk: base64(text) })
    yield* client.ask("fs/open", { handleId: "w", path: `${dir}/new`, mode: "replace" })
    for (const [offset, text] of [
      [0, "hello"],
      [5, " world"],
      [20, "gap"]
    ] as const) {
      assert.deepStrictEqual((yield* write(offset, text)).result, {})
    }
    assert.strictEqual(readFileSync(`${dir}/new`, "utf8"), "hello world\0\0\0\0\0\0\0\0\0gap")
    const range = { code: -32600, message: "file write block length must be between 1 and 1048576" }
    assert.deepStrictEqual((yield* write(0, "")).error, range)
    assert.deepStrictEqual((yield* write(0, "x".repeat(1048577))).error, range)
    assert.deepStrictEqual((yield* write(0, "x".repeat(1048576))).result, {})
    const block = { handleId: "w", offset: 0 }
    yield* refuses(client, "fs/readBlock", { ...block, len: 4 }, -32603, `Bad file descriptor (os error 9): ${dir}/new`)
    yield* refuses(client, "fs/writeBlock", { ...block, chunk: "!" }, -32602, /^Invalid symbol 33, offset 0/)
    yield* client.ask("fs/open", { handleId: "e", path: `${dir}/a.txt`, mode: "replace" })
    assert.strictEqual(readFileSync(`${dir}/a.txt`, "utf8"), "", "it is empty at once")
  }))

test("what cannot be opened, and how many", (client, dir, server) =>
  Effect.gen(function* () {
    shell(dir, "mkdir d; mkfifo fifo; ln -s a.txt link")
    const refused = (handleId: string, last: string, mode: string, code: number, message: string | RegExp) =>
      refuses(client, "fs/open", { handleId, path: `${dir}/${last}`, mode }, code, message)
    const before = openBelow(server.pid, dir)
    yield* refused("x", "d", "read", -32600, `path \`${dir}/d\` is not a file`)
    yield* refused("x", "fifo", "read", -32600, `path \`${dir}/fifo\` is not a file`)
    yield* refused("x", "fifo", "replace", -32600, `path \`${dir}/fifo\` is not a file`)
    yield* refused("x", "nope", "read", -32004, "No such file or directory (os error 2)")
    yield* refused("x", "no/x", "replace", -32004, "No such file or directory (os error 2)")
    yield* refused("x", "d", "replace", -32603, "Is a directory (os error 21)")
    yield* refused("x", "a.txt", "write", -32602, /^unknown variant `write`, expected `read` or `replace`/)
    yield* refused("h".repeat(33), "a.txt", "read", -32600, "file handle ID must not exceed 32 bytes")
    yield* refused("é".repeat(17), "a.txt", "read", -32600, "file handle ID must not exceed 32 bytes")
    assert.strictEqual(openBelow(server.pid, dir), before)

    const open = (handleId: string, last = "a.txt") => client.ask("fs/open", { handleId, path: `${dir}/${last}` })
    assert.deepStrictEqual(yield* open(""), { handleId: "" })
    yield* open("h".repeat(32), "link")
    for (let i = 2; i < 128; i++) yield* open(`${i}`)
    yield* refused("2", "a.txt", "read", -32600, "file handle `2` already exists")
    yield* refused("one more", "a.txt", "read", -32600, "at most 128 file handles may be open per connection")
    assert.strictEqual(openBelow(server.pid, dir), before + 128)
    // They are this connection's alone.
    const other = yield* server.connect
    yield* other.handshake()
    const block = { handleId: "2", offset: 0, len: 1 }
    yield* refuses(other, "fs/readBlock", block, -32004, "unknown file handle `2`")
    yield* other.ask("fs/open", { handleId: "2", path: `${dir}/a.txt` })
    yield* client.ask("fs/close", { handleId: "2" })
    yield* open("one more")
    assert.deepStrictEqual(yield* other.ask("fs/readBlock", block), { chunk: "aA==", eof: false })
  }))

test("open files are closed when their connection ends, also where the session lives on", (client, dir, server) =>
  Effect.gen(function* () {
    for (const params of [{}, { resumeSessionId: null }]) {
      const other = yield* server.connect
      const { sessionId } = yield* other.handshake(params)
      for (let i = 0; i < 100; i++) {
        other.post("fs/open", { handleId: `${i}`, path: `${dir}/a.txt`, mode: "read" })
      }
      yield* other.ask("fs/open", { handleId: "w", path: `${dir}/w`, mode: "replace" })
      assert.strictEqual(openBelow(server.pid, dir), 101)
      // Received before the end: carried out before the file is closed.
      for (let i = 0; i < 50; i++) other.post("fs/writeBlock", { handleId: "w", offset: i * 2, chunk: base64("xy") })
      other.carrier.close()
      yield* eventually("all files are closed", () => openBelow(server.pid, dir) === 0)
      assert.strictEqual(readFileSync(`${dir}/w`, "utf8"), "xy".repeat(50))
      if ("resumeSessionId" in params) {
        const again = yield* server.connect
        yield* again.resume(sessionId)
        const block = { handleId: "1", offset: 0, len: 1 }
        yield* refuses(again, "fs/readBlock", block, -32004, "unknown file handle `1`")
      }
    }
    assert.deepStrictEqual(yield* client.ask("environment/status"), { status: "ready" })
  }))

test("many blocks at a time, and each is the one that was asked for", (client, dir) =>
  Effect.gen(function* () {
    const bytes = Buffer.from(Array.from({ length: 1 << 20 }, (_, i) => (i * 7919) >> 8))
    writeFileSync(`${dir}/blocks`, bytes)
    yield* client.ask("fs/open", { handleId: "b", path: `${dir}/blocks` })
    const len = 4096
    const ids = Array.from({ length: 256 }, (_, i) =>
      client.post("fs/readBlock", { handleId: "b", offset: i * len, len })
    )
    const chunks: Array<Buffer> = []
    for (const id of ids) chunks.push(Buffer.from((yield* client.reply(id)).result.chunk, "base64"))
    assert.isTrue(Buffer.concat(chunks).equals(bytes))
  }))
