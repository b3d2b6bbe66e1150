/** Files and directories, as HTTP requests and by the Connect protocol. */
import { Buffer } from "node:buffer"
import { createHash, randomBytes } from "node:crypto"
import { existsSync, mkdirSync, readFileSync, renameSync, statSync, symlinkSync, writeFileSync } from "node:fs"
import { request as httpRequest } from "node:http"
import { join } from "node:path"
import { gzipSync } from "node:zlib"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Entries from "../../src/e2b/Entries.js"
import * as Watchers from "../../src/e2b/Watchers.js"
import { request, serve, stream, unary } from "../support/e2b.js"
import { directory } from "../support/files.js"

const call = (url: string, method: string, given: object) => unary(url, `filesystem.Filesystem/${method}`, given)

const files = (url: string, query: Record<string, string>) => `${url}/files?${new URLSearchParams(query)}`

const octets = { "content-type": "application/octet-stream" }

describe("/files", () => {
  it.scopedLive("stores and gives megabytes, and makes the directories they need", () =>
    Effect.gen(function* () {
      const url = yield* serve()
      const path = join(yield* directory, "a/b/c")
      const body = randomBytes(3_000_000)
      const put = yield* request(files(url, { path }), { method: "POST", headers: octets, body })
      assert.deepStrictEqual(put.body, [{ path, name: "c", type: "file" }])
      assert.isTrue(readFileSync(path).equals(body))
      const got = yield* Effect.promise(async () =>
        Buffer.from(await (await fetch(files(url, { path }))).arrayBuffer())
      )
      assert.isTrue(got.equals(body))
      // Shorter content replaces longer.
      yield* request(files(url, { path }), { method: "POST", headers: octets, body: "x" })
      assert.strictEqual((yield* request(files(url, { path }))).text, "x")
    })
  )

  it.scopedLive("takes forms with several files, with quotes and umlauts in their names, and none", () =>
    Effect.gen(function* () {
      const url = yield* serve()
      const dir = yield* directory
      const names = ["plain", 'say "hü"', "empty", "lines\r\n"]
      const form = new FormData()
      const contents = names.map((name) => (name === "empty" ? "" : `${name}\r\n--x\r\n`.repeat(10_000)))
      for (const [index, name] of names.entries())
        form.append("file", new Blob([contents[index] ?? ""]), join(dir, name))
      form.append("other", "not a file")
      const { body } = yield* request(files(url, {}), { method: "POST", body: form })
      assert.deepStrictEqual(
        body.map(({ path }: { path: string }) => path),
        names.map((name) => join(dir, name))
      )
      for (const [index, name] of names.entries())
        assert.strictEqual(readFileSync(join(dir, name), "utf8"), contents[index])
      assert.deepStrictEqual((yield* request(files(url, {}), { method: "POST", body: new FormData() })).body, [])
      const empty = yield* request(files(url, { path: join(dir, "empty") }))
      assert.strictEqual(empty.headers.get("content-length"), "0")
    })
  )

  it.scopedLive("refuses what it cannot do, with the path", () =>
    Effect.gen(function* () {
      const url = yield* serve()
      const dir = yield* directory
      const post = (init: RequestInit, query: Record<string, string> = { path: join(dir, "f") }) =>
        Effect.map(
          request(files(url, query), { method: "POST", headers: octets, body: "x", ...init }),
          ({ status, body }) => ({
            status,
            ...body
          })
        )
      const missing = yield* request(files(url, { path: join(dir, "none") }))
      assert.strictEqual(missing.status, 404)
      assert.deepStrictEqual(missing.body, {
        code: 404,
        message: `error reading file '${dir}/none': No such file or directory (os error 2)`
      })
      assert.deepInclude((yield* request(files(url, { path: dir }))).body, { message: `path '${dir}' is a directory` })
      assert.deepInclude(yield* post({}, { path: dir }), { status: 400, message: `path '${dir}' is a directory` })
      assert.match((yield* post({}, {})).message, /give the path of the file/)
      assert.match((yield* post({}, { path: "~root/x" })).message, /only one's own home directory/)
      assert.deepInclude(yield* post({}, { path: join(dir, "f"), username: "nobody-here" }), { status: 401 })
      assert.match(
        (yield* post({ headers: { "content-type": "text/plain" } })).message,
        /unsupported content type: text\/plain/
      )
      assert.deepInclude(yield* post({ headers: { ...octets, "x-metadata-a": "b" } }), { status: 501 })
      assert.deepInclude(
        yield* post({ headers: { ...octets, "content-encoding": "gzip" } }, { path: join(dir, "h") }),
        {
          status: 400
        }
      )
      const form = { "content-type": "multipart/form-data; boundary=b" }
      const part = '--b\r\ncontent-disposition: form-data; name="file"; filename="/x"\r\n\r\ncut off'
      assert.match(
        (yield* post({ headers: form, body: part }, { path: join(dir, "g") })).message,
        /ends before its last boundary/
      )
      assert.isFalse(existsSync(join(dir, "f")))
      const zipped = { headers: { ...octets, "content-encoding": "gzip" }, body: gzipSync("zipped") }
      assert.strictEqual((yield* post(zipped)).status, 200)
      assert.strictEqual(readFileSync(join(dir, "f"), "utf8"), "zipped")
    })
  )

  it.scopedLive("an upload that is cut off fails, and the server goes on", () =>
    Effect.gen(function* () {
      const url = yield* serve()
      const path = join(yield* directory, "f")
      yield* Effect.async<void>((resume) => {
        const upload = httpRequest(files(url, { path }), {
          method: "POST",
          headers: { ...octets, "content-length": 1000 }
        })
        upload.on("error", () => resume(Effect.void))
        upload.write("x", () => upload.destroy())
        upload.on("close", () => resume(Effect.void))
      })
      assert.strictEqual((yield* request(`${url}/health`)).status, 204)
    })
  )

  it.scopedLive("signatures permit one operation on one path, until they expire", () =>
    Effect.gen(function* () {
      const token = "e2b_0123"
      const url = yield* serve(token)
      const path = join(yield* directory, "f")
      writeFileSync(path, "content")
      const sign = (operation: string, expiration?: number) => {
        const text = [path, operation, "", token, ...(expiration === undefined ? [] : [expiration])].join(":")
        const signature = `v1_${createHash("sha256").update(text).digest("base64").replaceAll("=", "")}`
        return { path, signature, ...(expiration === undefined ? {} : { signature_expiration: String(expiration) }) }
      }
      const now = Math.floor(Date.now() / 1000)
      const status = (query: Record<string, string>) => Effect.map(request(files(url, query)), ({ status }) => status)
      assert.strictEqual((yield* request(files(url, sign("read")))).text, "content")
      assert.strictEqual(yield* status(sign("read", now + 600)), 200)
      assert.strictEqual(yield* status(sign("read", now - 600)), 401)
      assert.strictEqual(yield* status({ ...sign("read", now - 600), signature_expiration: String(now + 600) }), 401)
      assert.strictEqual(yield* status(sign("write")), 401)
      assert.strictEqual(yield* status({ ...sign("read"), path: `${path}2` }), 401)
      assert.strictEqual(yield* status({ path }), 401)
      const put = yield* request(files(url, sign("write")), { method: "POST", headers: octets, body: "new" })
      assert.strictEqual(put.status, 200)
      assert.strictEqual(readFileSync(path, "utf8"), "new")
    })
  )
})

describe("directories", () => {
  it.scopedLive("are made, listed to a depth, renamed and removed", () =>
    Effect.gen(function* () {
      const url = yield* serve()
      const dir = yield* directory
      const made = yield* call(url, "MakeDir", { path: `${dir}/new/deep` })
      assert.deepInclude(made.body.entry, { name: "deep", type: "FILE_TYPE_DIRECTORY", path: `${dir}/new/deep` })
      assert.strictEqual((yield* call(url, "MakeDir", { path: `${dir}/new` })).body.code, "already_exists")
      writeFileSync(`${dir}/new/deep/f\tile\n`, "12345", { mode: 0o640 })
      symlinkSync("new", `${dir}/link`)
      symlinkSync("nowhere", `${dir}/dangling`)
      const { entries } = (yield* call(url, "ListDir", { path: dir })).body
      const types = Object.fromEntries(entries.map((entry: { name: string; type: string }) => [entry.name, entry.type]))
      assert.deepStrictEqual(types, {
        new: "FILE_TYPE_DIRECTORY",
        link: "FILE_TYPE_DIRECTORY",
        dangling: "FILE_TYPE_UNSPECIFIED"
      })
      const deep = (yield* call(url, "ListDir", { path: `${dir}/link`, depth: 2 })).body.entries
      assert.sameMembers(
        deep.map(({ path }: { path: string }) => path),
        [`${dir}/link/deep`, `${dir}/link/deep/f\tile\n`]
      )
      const { entry } = (yield* call(url, "Stat", { path: `${dir}/new/deep/f\tile\n` })).body
      const { mtimeMs } = statSync(`${dir}/new/deep/f\tile\n`)
      assert.deepInclude(entry, { size: "5", mode: 0o640, permissions: "-rw-r-----", name: "f\tile\n" })
      assert.closeTo(Date.parse(entry.modifiedTime), mtimeMs, 1)
      const link = (yield* call(url, "Stat", { path: `${dir}/link` })).body.entry
      assert.deepInclude(link, { type: "FILE_TYPE_DIRECTORY", symlinkTarget: `${dir}/new`, permissions: "Lrwxrwxrwx" })
      const moved = yield* call(url, "Move", { source: `${dir}/new/deep`, destination: `${dir}/x/y` })
      assert.strictEqual(moved.body.entry.path, `${dir}/x/y`)
      assert.isTrue(existsSync(`${dir}/x/y/f\tile\n`))
      assert.deepStrictEqual((yield* call(url, "Remove", { path: `${dir}/x` })).body, {})
      assert.deepStrictEqual((yield* call(url, "Remove", { path: `${dir}/x` })).body, {})
    })
  )

  it.scopedLive("errors have the code and the path", () =>
    Effect.gen(function* () {
      const url = yield* serve()
      const dir = yield* directory
      writeFileSync(`${dir}/file`, "")
      const error = (method: string, given: object) => Effect.map(call(url, method, given), ({ body }) => body)
      const none = `${dir}/none`
      assert.deepStrictEqual(yield* error("Stat", { path: none }), {
        code: "not_found",
        message: `error getting info of ${none}: No such file or directory`
      })
      assert.strictEqual((yield* error("ListDir", { path: none })).code, "not_found")
      assert.strictEqual((yield* error("Move", { source: none, destination: `${dir}/a/b` })).code, "not_found")
      assert.isFalse(existsSync(`${dir}/a`))
      assert.deepInclude(yield* error("ListDir", { path: `${dir}/file` }), {
        code: "invalid_argument",
        message: `error reading directory ${dir}/file: Not a directory`
      })
      assert.strictEqual((yield* error("MakeDir", { path: `${dir}/file` })).code, "invalid_argument")
      assert.match((yield* error("ListDir", { path: dir, depth: 65 })).message, /the depth is 65, and at most 64/)
      assert.strictEqual((yield* error("Stat", { path: "\0" })).code, "invalid_argument")
      assert.strictEqual((yield* error("Move", { source: `${dir}/file`, destination: "\0" })).code, "invalid_argument")
      // Also with names that programs quote.
      for (const name of ["é", "a\nb"]) {
        const path = join(dir, name)
        const listed = yield* call(url, "ListDir", { path })
        assert.strictEqual(listed.status, 404)
        assert.include(listed.body.message, `error reading directory ${path}: No such file or directory`)
      }
    })
  )
})

describe("watching", () => {
  it.scopedLive("tells what is created and written, as a stream that ends with the directory", () =>
    Effect.gen(function* () {
      const url = yield* serve()
      const dir = yield* directory
      const watch = { path: dir, recursive: true, includeEntry: true }
      const messages = yield* stream(url, "filesystem.Filesystem/WatchDir", watch)
      assert.deepStrictEqual((yield* messages.next)?.body, { start: {} })
      const next = Effect.map(messages.next, (message) => message?.body.filesystem)
      mkdirSync(`${dir}/sub`)
      assert.deepInclude(yield* next, { name: "sub", type: "EVENT_TYPE_CREATE" })
      writeFileSync(`${dir}/sub/f`, "x")
      assert.deepInclude(yield* next, { name: "sub/f", type: "EVENT_TYPE_CREATE" })
      const written = yield* next
      assert.deepInclude(written, { name: "sub/f", type: "EVENT_TYPE_WRITE" })
      assert.strictEqual(written.entry.size, "1")
      yield* call(url, "Remove", { path: dir })
      const events = yield* messages.rest
      assert.strictEqual(events.at(-1)?.body.error.code, "not_found")
    })
  )

  it("compares names, inodes, contents and permissions", () => {
    const entry = (name: string, inode: string, more: Partial<Entries.EntryInfo> = {}): [string, Entries.Entry] => {
      const info = {
        name,
        type: "FILE_TYPE_FILE" as const,
        path: `/d/${name}`,
        size: "1",
        mode: 0o644,
        permissions: "-rw-r--r--",
        owner: "o",
        group: "g",
        modifiedTime: "2026-01-01T00:00:00Z",
        ...more
      }
      return [info.path, { info, isLink: false, inode }]
    }
    const changes = (before: ReadonlyArray<[string, Entries.Entry]>, after: ReadonlyArray<[string, Entries.Entry]>) =>
      Watchers.changesOf(new Map(before), new Map(after), { path: "/d", includeEntry: false }).map(
        ({ name, type }) => `${type.slice("EVENT_TYPE_".length)} ${name}`
      )
    assert.deepStrictEqual(changes([entry("a", "1")], [entry("a", "1")]), [])
    assert.deepStrictEqual(changes([entry("a", "1")], [entry("b", "1")]), ["RENAME a", "CREATE b"])
    assert.deepStrictEqual(changes([entry("a", "1")], [entry("b", "2")]), ["REMOVE a", "CREATE b", "WRITE b"])
    assert.deepStrictEqual(changes([entry("a", "1")], [entry("a", "2")]), ["CREATE a", "WRITE a"])
    assert.deepStrictEqual(changes([], [entry("a", "1", { size: "0" })]), ["CREATE a"])
    assert.deepStrictEqual(changes([entry("a", "1")], [entry("a", "1", { size: "2" })]), ["WRITE a"])
    assert.deepStrictEqual(changes([entry("a", "1")], [entry("a", "1", { permissions: "-rwx------" })]), ["CHMOD a"])
  })

  it.scopedLive("keeps what a watcher is not asked for", () =>
    Effect.gen(function* () {
      const url = yield* serve()
      const dir = yield* directory
      const { watcherId } = (yield* call(url, "CreateWatcher", { path: dir })).body
      // At once, with its content.
      const elsewhere = `${yield* directory}/f`
      writeFileSync(elsewhere, "x")
      renameSync(elsewhere, `${dir}/f`)
      const events = Effect.map(call(url, "GetWatcherEvents", { watcherId }), ({ body }) => body.events)
      const found = yield* Effect.repeat(events, { until: (all: ReadonlyArray<object>) => all.length > 0 })
      assert.deepStrictEqual(found, [
        { name: "f", type: "EVENT_TYPE_CREATE" },
        { name: "f", type: "EVENT_TYPE_WRITE" }
      ])
      assert.deepStrictEqual((yield* call(url, "RemoveWatcher", { watcherId })).body, {})
      assert.strictEqual((yield* call(url, "GetWatcherEvents", { watcherId })).body.code, "not_found")
      assert.strictEqual((yield* call(url, "CreateWatcher", { path: `${dir}/none` })).body.code, "not_found")
    })
  )
})
