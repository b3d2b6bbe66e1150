/** Files on a mount that may hang and does not: in a worker, all is as it is elsewhere. */
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { SlowMounts } from "../../src/spawn/SlowMounts.js"
import { memoryServer } from "../support/composed.js"
import { base64, directory } from "../support/files.js"
import { childrenOf, eventually, memoryClient, runningWith } from "../support/servers.js"
import type { Json, TestClient } from "../support/TestClient.js"

/** As if there were a file system of another machine at `dir/slow`. */
const withMount = (dir: string) => {
  const mount = { path: `${dir}/slow`, type: "nfs4" }
  const isWithin = (path: string) => path === mount.path || path.startsWith(`${mount.path}/`)
  const find = (path: string | Buffer) => (isWithin(String(path)) ? mount : undefined)
  return Layer.succeed(SlowMounts, {
    isPresent: () => true,
    find,
    findWithin: (path) => (mount.path.startsWith(`${path}/`) ? mount : find(path))
  })
}

/** The workers of this process. */
const workerPids = () => {
  const own = childrenOf(process.pid)
  return runningWith("fileWorker.js").filter((pid) => own.includes(pid))
}
const workers = () => workerPids().length

/** Stops the worker of a client, as if its mount did not answer. Continues it at the end. */
const stopped = <A>(body: Effect.Effect<A>) =>
  Effect.acquireUseRelease(
    Effect.sync(() => {
      const [pid, ...others] = workerPids()
      assert.isTrue(pid !== undefined && others.length === 0)
      process.kill(pid as number, "SIGSTOP")
      return pid as number
    }),
    () => body,
    (pid) => Effect.sync(() => process.kill(pid, "SIGCONT"))
  )

const test = (title: string, body: (client: TestClient, dir: string) => Effect.Effect<void>) =>
  it.scopedLive(title, () =>
    Effect.gen(function* () {
      const dir = yield* directory
      for (const folder of ["slow", "fast"]) mkdirSync(`${dir}/${folder}`)
      const run = Effect.gen(function* () {
        const client = yield* memoryClient
        yield* client.handshake()
        yield* body(client, dir)
      })
      yield* Effect.provide(Effect.scoped(run), memoryServer(withMount(dir)))
      yield* eventually("no file worker is left", () => workers() === 0)
    })
  )

describe("files on a mount that may hang", () => {
  test("only requests that may get there are in a worker", (client, dir) =>
    Effect.gen(function* () {
      const options = { maxDepth: 9, maxDirectories: 9, maxEntries: 99, followDirectorySymlinks: false }
      yield* client.ask("fs/writeFile", { path: `${dir}/fast/a`, dataBase64: base64("a") })
      yield* client.ask("fs/readFile", { path: `${dir}/fast/a` })
      yield* client.ask("fs/walk", { path: `${dir}/fast`, options })
      yield* client.ask("fs/remove", { path: `${dir}/fast/a` })
      assert.strictEqual(workers(), 0)
      yield* client.ask("fs/walk", { path: dir, options })
      assert.strictEqual(workers(), 1)
    }))

  test("each request does what it does elsewhere", (client, dir) =>
    Effect.gen(function* () {
      const at = (name: string) => `${dir}/slow/${name}`
      yield* client.ask("fs/createDirectory", { path: at("d/e") })
      yield* client.ask("fs/writeFile", { path: at("d/a"), dataBase64: base64("hello") })
      symlinkSync("a", at("d/link"))
      assert.deepStrictEqual(yield* client.ask("fs/readFile", { path: at("d/link") }), { dataBase64: base64("hello") })
      assert.deepInclude(yield* client.ask("fs/getMetadata", { path: at("d/a") }), { isFile: true, size: 5 })
      assert.deepStrictEqual(yield* client.ask("fs/canonicalize", { path: at("d/link") }), { path: at("d/a") })
      const { entries } = yield* client.ask("fs/readDirectory", { path: at("d") })
      assert.deepStrictEqual(entries.map((found: Json) => found.fileName).sort(), ["a", "e", "link"])
      yield* client.ask("fs/copy", { sourcePath: at("d"), destinationPath: `${dir}/fast/d`, recursive: true })
      assert.strictEqual(readFileSync(`${dir}/fast/d/a`, "utf8"), "hello")
      yield* client.ask("fs/open", { handleId: "h", path: at("d/a") })
      const block = { handleId: "h", offset: 1, len: 3 }
      assert.deepStrictEqual(yield* client.ask("fs/readBlock", block), { chunk: base64("ell"), eof: false })
      yield* client.ask("fs/close", { handleId: "h" })
      assert.strictEqual((yield* client.call("fs/readBlock", block)).error.code, -32004)
      yield* client.ask("fs/remove", { path: at("d") })
      assert.isFalse(existsSync(at("d")))
      assert.strictEqual((yield* client.call("fs/readFile", { path: at("d/a") })).error.code, -32004)
      assert.deepStrictEqual(yield* client.ask("fs/watchMissing", { watchId: 1, missing: [at("d/a")] }), {
        watching: false
      })
    }))

  test("requests on both sides keep their order", (client, dir) =>
    Effect.gen(function* () {
      writeFileSync(`${dir}/fast/other`, "other")
      const rounds = Array.from({ length: 20 }, (_, round) => {
        const text = `round ${round} ${"x".repeat(round * 5000)}`
        const [here, there] = [`${dir}/fast/f`, `${dir}/slow/f`]
        const block = { handleId: "h", offset: 0, len: 1048576 }
        return {
          text,
          posted: [
            client.post("fs/writeFile", { path: here, dataBase64: base64(text) }),
            client.post("fs/copy", { sourcePath: here, destinationPath: there, recursive: false }),
            client.post("fs/open", { handleId: "h", path: there })
          ],
          there: client.post("fs/readFile", { path: there }),
          block: client.post("fs/readBlock", block),
          closed: client.post("fs/close", { handleId: "h" }),
          // The same handle, on the other side.
          opened: client.post("fs/open", { handleId: "h", path: `${dir}/fast/other` }),
          other: client.post("fs/readBlock", block),
          last: [client.post("fs/close", { handleId: "h" }), client.post("fs/remove", { path: there })],
          moved: client.post("fs/copy", { sourcePath: here, destinationPath: `${dir}/slow/g`, recursive: false })
        }
      })
      for (const { text, posted, there, block, closed, opened, other, last, moved } of rounds) {
        for (const id of [...posted, closed, opened, ...last, moved]) {
          assert.isUndefined((yield* client.reply(id)).error)
        }
        assert.strictEqual((yield* client.reply(there)).result.dataBase64, base64(text))
        assert.strictEqual((yield* client.reply(block)).result.chunk, base64(text))
        assert.strictEqual((yield* client.reply(other)).result.chunk, base64("other"))
      }
    }))

  test("a request is in a worker only if its reach leads there", (client, dir) =>
    Effect.gen(function* () {
      mkdirSync(`${dir}/fast/empty`)
      // Neither touches what is below.
      assert.isTrue((yield* client.ask("fs/getMetadata", { path: dir })).isDirectory)
      assert.strictEqual((yield* client.call("fs/remove", { path: dir, recursive: false })).error?.code, -32603)
      assert.deepStrictEqual(yield* client.ask("fs/canonicalize", { path: dir }), { path: dir })
      assert.strictEqual(workers(), 0)
      // Its entries may be links.
      yield* client.ask("fs/readDirectory", { path: `${dir}/fast/empty` })
      assert.strictEqual(workers(), 1)
    }))

  test("those that wait there hold up no others", (client, dir) =>
    Effect.gen(function* () {
      const slow = (name: string) => `${dir}/slow/${name}`
      const fast = (name: string) => `${dir}/fast/${name}`
      const block = (handleId: string) => ({ handleId, offset: 0, len: 9 })
      for (const path of [slow("f"), fast("f")]) writeFileSync(path, path)
      yield* client.ask("fs/open", { handleId: "there", path: slow("f") })
      // Ids that were in use there: closed, closed twice, and failed.
      for (const handleId of ["closed", "twice"]) {
        yield* client.ask("fs/open", { handleId, path: slow("f") })
        yield* client.ask("fs/close", { handleId })
      }
      yield* client.ask("fs/close", { handleId: "twice" })
      assert.strictEqual((yield* client.call("fs/open", { handleId: "failed", path: slow("none") })).error.code, -32004)
      // One that is opened twice, of which the second is refused, and closed once.
      yield* client.ask("fs/open", { handleId: "refused", path: slow("f") })
      assert.isDefined((yield* client.call("fs/open", { handleId: "refused", path: fast("f") })).error)
      const waiting = yield* stopped(
        Effect.gen(function* () {
          const requests = [
            client.post("fs/readBlock", block("refused")),
            client.post("fs/writeFile", { path: slow("g"), dataBase64: base64("g") }),
            client.post("fs/readBlock", block("there"))
          ]
          for (const handleId of ["closed", "twice", "failed"]) {
            yield* client.ask("fs/open", { handleId, path: fast("f") })
            assert.strictEqual((yield* client.ask("fs/readBlock", block(handleId))).chunk.length, 12)
          }
          // A copy from one side to the other waits for both, and what follows on either side waits for it.
          requests.push(
            client.post("fs/copy", { sourcePath: fast("f"), destinationPath: slow("copy"), recursive: false }),
            client.post("fs/writeFile", { path: fast("f"), dataBase64: base64("later") })
          )
          yield* client.ask("environment/status")
          for (const id of requests) assert.isFalse(client.hasReply(id))
          return requests
        })
      )
      for (const id of waiting) assert.isUndefined((yield* client.reply(id)).error)
      assert.strictEqual(readFileSync(slow("copy"), "utf8"), fast("f"))
    }))

  test("missing paths there are not watched", (client, dir) =>
    Effect.gen(function* () {
      const [slow, fast] = [`${dir}/slow/none`, `${dir}/fast/none`]
      const isWatching = (watchId: number, params: object) =>
        Effect.map(client.ask("fs/watchMissing", { watchId, ...params }), ({ watching }) => watching)
      assert.isTrue(yield* isWatching(1, { missing: [fast] }))
      assert.isTrue(yield* isWatching(2, { missing: [fast], present: `${dir}/fast` }))
      assert.isFalse(yield* isWatching(3, { missing: [fast, slow] }))
      assert.isFalse(yield* isWatching(4, { missing: [fast], present: `${dir}/slow` }))
    }))
})
