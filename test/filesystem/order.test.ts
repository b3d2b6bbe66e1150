/** Pipelined requests behave as if they were carried out one after another. */
import { Buffer } from "node:buffer"
import { existsSync, readFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { FileSystem, type Files } from "../../src/filesystem/FileSystem.js"
import { FakeSpawner } from "../../src/testing/FakeSpawner.js"
import { memoryServer } from "../support/composed.js"
import { settle } from "../support/fake.js"
import { base64, directory } from "../support/files.js"
import { eventually, memoryClient, stdioClient, webSocketServer } from "../support/servers.js"
import type { TestClient } from "../support/TestClient.js"

describe("a real server", () => {
  const test = (
    title: string,
    body: (client: TestClient, dir: string) => Effect.Effect<unknown, unknown, Scope.Scope>
  ) =>
    it.scopedLive(title, () =>
      Effect.gen(function* () {
        const dir = yield* directory
        const client = yield* (yield* webSocketServer()).connect
        yield* client.handshake()
        yield* body(client, dir)
      })
    )

  test("a directory, a file in it, and all that follows, sent at once", (client, dir) =>
    Effect.gen(function* () {
      const path = `${dir}/a/b`
      const ids = Array.from({ length: 50 }, (_, round) => {
        const text = `round ${round} ${"x".repeat((round * 7919) % 5000)}`
        return {
          text,
          post: [
            client.post("fs/createDirectory", { path }),
            client.post("fs/writeFile", { path: `${path}/f`, dataBase64: base64(text) }),
            client.post("fs/copy", { sourcePath: `${path}/f`, destinationPath: `${path}/g`, recursive: false }),
            client.post("fs/open", { handleId: "h", path: `${path}/g` })
          ],
          read: client.post("fs/readFile", { path: `${path}/g` }),
          block: client.post("fs/readBlock", { handleId: "h", offset: 0, len: 1048576 }),
          list: client.post("fs/readDirectory", { path }),
          close: client.post("fs/close", { handleId: "h" }),
          remove: client.post("fs/remove", { path: `${dir}/a` }),
          gone: client.post("fs/getMetadata", { path })
        }
      })
      for (const { text, post, read, block, list, close, remove, gone } of ids) {
        for (const id of [...post, close, remove]) assert.isUndefined((yield* client.reply(id)).error)
        assert.strictEqual((yield* client.reply(read)).result.dataBase64, base64(text))
        assert.strictEqual((yield* client.reply(block)).result.chunk, base64(text))
        assert.strictEqual((yield* client.reply(list)).result.entries.length, 2)
        assert.strictEqual((yield* client.reply(gone)).error.code, -32004)
      }
    }))

  test("a long-poll holds up no file, and no file a process", (client, dir) =>
    Effect.gen(function* () {
      yield* client.start("c", ["cat"], { pipeStdin: true })
      const poll = client.post("process/read", { processId: "c", waitMs: 60000 })
      yield* client.ask("fs/writeFile", { path: `${dir}/f`, dataBase64: "eA==" })
      const read = client.post("fs/readFile", { path: `${dir}/f` })
      yield* client.write("c", "x")
      assert.strictEqual((yield* client.reply(poll)).result.chunks[0].chunk, "eA==")
      assert.strictEqual((yield* client.reply(read)).result.dataBase64, "eA==")
      yield* client.ask("process/terminate", { processId: "c" })
    }))

  it.scopedLive("what was received before the end of the connection is carried out, in order", () =>
    Effect.gen(function* () {
      const dir = yield* directory
      const server = yield* webSocketServer()
      for (const params of [{}, { resumeSessionId: null }]) {
        const client = yield* server.connect
        yield* client.handshake(params)
        const name = `${dir}/${Object.keys(params).length}`
        client.post("fs/createDirectory", { path: name })
        for (let i = 0; i < 100; i++) {
          client.post("fs/writeFile", { path: `${name}/f`, dataBase64: base64(`${i}`) })
        }
        client.post("fs/writeFile", { path: `${name}/last`, dataBase64: "" })
        client.carrier.close()
        yield* eventually("the last file is written", () => existsSync(`${name}/last`))
        assert.strictEqual(readFileSync(`${name}/f`, "utf8"), "99")
      }
      const { client, server: stdio } = yield* stdioClient()
      yield* client.handshake()
      client.post("fs/createDirectory", { path: `${dir}/stdio` })
      yield* client.ask("fs/writeFile", { path: `${dir}/stdio/f`, dataBase64: "eA==" })
      client.carrier.close()
      assert.strictEqual(yield* stdio.exit, 0)
      assert.strictEqual(readFileSync(`${dir}/stdio/f`, "utf8"), "x")
    })
  )
})

/** A server whose file system is a mock. */
const serverOf = (mock: Partial<Files>) =>
  memoryServer(Layer.merge(FakeSpawner.layer, Layer.mock(FileSystem, { ...mock, isConfinable: false })))

it.scopedLive("reading requests overlap; a changing one is alone, and nothing overtakes it", () =>
  Effect.gen(function* () {
    const begun: Array<string> = []
    const ends = new Map<string, Deferred.Deferred<void>>()
    const use = (name: string) =>
      Effect.gen(function* () {
        begun.push(name)
        const end = yield* Deferred.make<void>()
        ends.set(name, end)
        yield* Deferred.await(end)
      })
    const finish = (name: string) =>
      Effect.zipRight(Deferred.succeed(ends.get(name) as Deferred.Deferred<void>, undefined), settle)
    const layer = serverOf({
      canonicalize: (path) => Effect.as(use(path.toString()), Buffer.from("/real")),
      remove: (path) => use(path.toString())
    })
    const client = yield* Effect.provide(memoryClient, yield* Layer.build(layer))
    yield* client.handshake()
    const ids = [
      client.post("fs/canonicalize", { path: "/r1" }),
      client.post("fs/canonicalize", { path: "file:///r2" }),
      client.post("fs/remove", { path: "/w" }),
      client.post("fs/canonicalize", { path: "/r3" })
    ]
    yield* settle
    assert.deepStrictEqual(begun, ["/r1", "/r2"])
    assert.deepStrictEqual(yield* client.ask("environment/status"), { status: "ready" })
    yield* finish("/r2")
    yield* finish("/r1")
    assert.deepStrictEqual(begun, ["/r1", "/r2", "/w"])
    yield* finish("/w")
    yield* finish("/r3")
    const paths: Array<string> = []
    for (const id of ids) paths.push((yield* client.reply(id)).result.path)
    assert.deepStrictEqual(paths, ["/real", "file:///real", undefined, "/real"])
  })
)

it.scopedLive("what is interrupted while its client waits is answered", () =>
  Effect.gen(function* () {
    const layer = serverOf({ canonicalize: () => Effect.interrupt, remove: () => Effect.interrupt })
    const client = yield* Effect.provide(memoryClient, yield* Layer.build(layer))
    yield* client.handshake()
    const error = { code: -32603, message: "the request was interrupted" }
    for (const method of ["fs/canonicalize", "fs/remove"]) {
      assert.deepStrictEqual((yield* client.call(method, { path: "/x" })).error, error)
    }
    assert.deepStrictEqual(yield* client.ask("environment/status"), { status: "ready" })
  })
)
