/** What fs/watchMissing waits for, and when it tells. */
import { chmodSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { MemoryFileSystem } from "../../src/testing/MemoryFileSystem.js"
import type * as Memory from "../../src/transport/Memory.js"
import { memoryServer } from "../support/composed.js"
import { directory, refuses } from "../support/files.js"
import { memoryClient, memoryLayer, webSocketServer } from "../support/servers.js"
import type { TestClient } from "../support/TestClient.js"

const params = (watchId: number, missing: ReadonlyArray<string>, present?: string | null) => ({
  watchId,
  missing: missing.map((path) => `file://${path}`),
  ...(present === undefined ? {} : { present })
})

const watches = (client: TestClient, watchId: number, missing: ReadonlyArray<string>, present?: string | null) =>
  Effect.map(client.ask("fs/watchMissing", params(watchId, missing, present)), ({ watching }) => watching)

/** The watches that were told of, in order, each time they were. */
const told = (client: TestClient): ReadonlyArray<number> =>
  client.messages.filter(({ method }) => method === "fs/missingChanged").map(({ params }) => params.watchId)

const changed = (client: TestClient, watchId: number) =>
  client.notified("fs/missingChanged", (params) => params.watchId === watchId)

const test = (
  title: string,
  body: (client: TestClient, dir: string) => Effect.Effect<unknown, unknown, Scope.Scope | Memory.Connector>
) =>
  it.scopedLive(title, () =>
    Effect.gen(function* () {
      const dir = yield* directory
      const context = yield* Layer.build(memoryLayer)
      const client = yield* Effect.provide(memoryClient, context)
      yield* client.handshake()
      yield* Effect.provide(body(client, dir), context)
    })
  )

describe("a watch", () => {
  test("tells once that a file, a directory or a link has come, also by a new name", (client, dir) =>
    Effect.gen(function* () {
      writeFileSync(`${dir}/old`, "")
      const ways: ReadonlyArray<(path: string) => void> = [
        (path) => writeFileSync(path, ""),
        (path) => mkdirSync(path),
        (path) => symlinkSync("nowhere", path),
        (path) => renameSync(`${dir}/old`, path)
      ]
      for (const [i, make] of ways.entries()) {
        assert.isTrue(yield* watches(client, i + 1, [`${dir}/new${i}`, `${dir}/never`]))
        writeFileSync(`${dir}/beside`, "")
        make(`${dir}/new${i}`)
        yield* changed(client, i + 1)
        rmSync(`${dir}/new${i}`, { recursive: true })
      }
      // The watches are over: what comes again is told to nobody, and the next watch works.
      writeFileSync(`${dir}/new0`, "")
      assert.isTrue(yield* watches(client, 9, [`${dir}/last`]))
      writeFileSync(`${dir}/last`, "")
      yield* changed(client, 9)
      assert.deepStrictEqual(told(client), [1, 2, 3, 4, 9])
    }))

  test("tells of the first directory on the way that comes, and of any that goes", (client, dir) =>
    Effect.gen(function* () {
      assert.isTrue(yield* watches(client, 1, [`${dir}/a/b/c`]))
      mkdirSync(`${dir}/a`)
      yield* changed(client, 1)
      assert.isTrue(yield* watches(client, 2, [`${dir}/a/b/c`]))
      rmSync(`${dir}/a`, { recursive: true })
      yield* changed(client, 2)
      mkdirSync(`${dir}/x/y`, { recursive: true })
      assert.isTrue(yield* watches(client, 3, [`${dir}/x/y/z`]))
      renameSync(`${dir}/x`, `${dir}/moved`)
      yield* changed(client, 3)
    }))

  test("tells of what is there, that it has changed, but not of what happens in a directory", (client, dir) =>
    Effect.gen(function* () {
      const [file, folder] = [`${dir}/file`, `${dir}/folder`]
      writeFileSync(file, "")
      mkdirSync(folder)
      const never = [`${dir}/never`]
      const ways: ReadonlyArray<readonly [string, () => void]> = [
        [file, () => writeFileSync(file, "content")],
        [file, () => chmodSync(file, 0o600)],
        [file, () => rmSync(file)],
        [folder, () => chmodSync(folder, 0o700)],
        [folder, () => renameSync(folder, `${folder}2`)]
      ]
      for (const [i, [present, change]] of ways.entries()) {
        assert.isTrue(yield* watches(client, i + 1, never, `file://${present}`))
        if (present === folder) writeFileSync(`${folder}/in${i}`, "")
        // Whatever that was going to tell, it would be told before the answer to this.
        yield* client.ask("fs/readDirectory", { path: dir })
        assert.notInclude(told(client), i + 1)
        change()
        yield* changed(client, i + 1)
      }
      assert.isFalse(yield* watches(client, 9, never, `file://${folder}`), "it is gone")
      assert.isTrue(yield* watches(client, 10, never, null))
    }))

  test("gives way to one of a larger id, and not to one of its own or a smaller one", (client, dir) =>
    Effect.gen(function* () {
      assert.isFalse(yield* watches(client, 0, [`${dir}/a`]))
      assert.isTrue(yield* watches(client, 1, [`${dir}/a`]))
      assert.isTrue(yield* watches(client, 2, [`${dir}/b`]))
      for (const used of [2, 1]) assert.isFalse(yield* watches(client, used, [`${dir}/c`]))
      for (const name of ["a", "c", "b"]) writeFileSync(`${dir}/${name}`, "")
      yield* changed(client, 2)
      assert.isTrue(yield* watches(client, 3, [`${dir}/d`]))
      // Nothing to watch: that is how one is ended.
      assert.isFalse(yield* watches(client, 4, []))
      assert.isFalse(yield* watches(client, 4, [`${dir}/d`]), "an id is used up, whatever was answered")
      writeFileSync(`${dir}/d`, "")
      assert.isTrue(yield* watches(client, 5, [`${dir}/e`]))
      writeFileSync(`${dir}/e`, "")
      yield* changed(client, 5)
      assert.deepStrictEqual(told(client), [2, 5])
    }))

  test("of several in one burst, only the last one waits", (client, dir) =>
    Effect.gen(function* () {
      const ids = [1, 2, 3, 4]
      const requests = ids.map((id) => client.post("fs/watchMissing", params(id, [`${dir}/${id}`])))
      for (const id of requests) yield* client.reply(id)
      assert.isTrue((yield* client.reply(requests[3] ?? 0)).result.watching)
      for (const id of ids) writeFileSync(`${dir}/${id}`, "")
      yield* changed(client, 4)
      assert.deepStrictEqual(told(client), [4])
    }))

  test("is refused where the system does not tell of changes", (client) =>
    Effect.gen(function* () {
      for (const [i, path] of ["/proc/self/none", "/proc/none", "/sys/none"].entries()) {
        assert.isFalse(yield* watches(client, i + 1, [path]), path)
      }
    }))

  test("is refused as such where a client has to look itself", (client, dir) =>
    Effect.gen(function* () {
      writeFileSync(`${dir}/file`, "")
      symlinkSync("nowhere", `${dir}/dangling`)
      const many = (count: number) => Array.from({ length: count }, (_, i) => `${dir}/m${i}`)
      let id = 0
      for (const missing of [
        [`${dir}/file`],
        [`${dir}/none`, `${dir}/file`],
        [`${dir}/dangling`],
        [`${dir}/file/below`],
        [dir],
        ["/"],
        many(65)
      ]) {
        assert.isFalse(yield* watches(client, ++id, missing), missing.join())
      }
      assert.isTrue(yield* watches(client, 100, many(64)))
      for (let i = 0; i < 64; i++) mkdirSync(`${dir}/d${i}`)
      const spread = Array.from({ length: 64 }, (_, i) => `${dir}/d${i}/new`)
      assert.isFalse(yield* watches(client, 101, spread), "too many directories")
      yield* refuses(client, "fs/watchMissing", { watchId: -1, missing: [] }, -32602, /`watchId`/)
      yield* refuses(client, "fs/watchMissing", { watchId: 1 }, -32602, "missing field `missing`")
      yield* refuses(client, "fs/watchMissing", { watchId: 1, missing: ["x"] }, -32602, /`missing.0`/)
    }))

  test("sees what was asked for before it as done, and its answer comes before what it tells", (client, dir) =>
    Effect.gen(function* () {
      client.post("fs/createDirectory", { path: `${dir}/a` })
      assert.isFalse(yield* watches(client, 1, [`${dir}/a`]))
      for (let id = 2; id < 40; id++) {
        const request = client.post("fs/watchMissing", params(id, [`${dir}/${id}`]))
        client.post("fs/createDirectory", { path: `${dir}/${id}` })
        assert.isTrue((yield* client.reply(request)).result.watching)
        yield* changed(client, id)
        const answer = client.messages.findIndex((message) => message.id === request)
        const notification = client.messages.findIndex(({ params }) => params?.watchId === id)
        assert.isBelow(answer, notification)
      }
    }))

  test("is its connection's alone, and ends with it", (client, dir) =>
    Effect.gen(function* () {
      const other = yield* memoryClient
      yield* other.handshake()
      assert.isTrue(yield* watches(client, 1, [`${dir}/a`]))
      assert.isTrue(yield* watches(other, 1, [`${dir}/a`]))
      client.carrier.close()
      yield* client.ended()
      writeFileSync(`${dir}/a`, "")
      yield* changed(other, 1)
      assert.isEmpty(told(client))
    }))

  it.scopedLive("is advertised, and told on WebSocket as well", () =>
    Effect.gen(function* () {
      const dir = yield* directory
      const server = yield* webSocketServer()
      const client = yield* server.connect
      const { environmentInfo } = yield* client.handshake()
      assert.isTrue(environmentInfo.capabilities.fsWatchMissing)
      assert.isTrue(yield* watches(client, 2 ** 53 - 1, [`${dir}/a`]))
      writeFileSync(`${dir}/a`, "")
      assert.deepStrictEqual(yield* changed(client, 2 ** 53 - 1), { watchId: 2 ** 53 - 1 })
    })
  )

  it.scopedLive("of files in memory is none", () =>
    Effect.gen(function* () {
      const layer = memoryServer(MemoryFileSystem.layer())
      const client = yield* Effect.provide(memoryClient, yield* Layer.build(layer))
      yield* client.handshake()
      assert.isFalse(yield* watches(client, 1, ["/a"]))
    })
  )
})
