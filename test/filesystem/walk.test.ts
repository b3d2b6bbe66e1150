/** What fs/walk finds, and how far it goes. */
import { chmodSync } from "node:fs"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { directory, refuses, shell } from "../support/files.js"
import { memoryClient, memoryLayer } from "../support/servers.js"
import type { Json } from "../support/TestClient.js"

const wide = { maxDepth: 10, maxDirectories: 100, maxEntries: 100, followDirectorySymlinks: false }

type Walk = (last: string, more?: object) => Effect.Effect<Json>

const test = (title: string, body: (walk: Walk, dir: string) => Effect.Effect<unknown, unknown, Scope.Scope>) =>
  it.scopedLive(title, () =>
    Effect.gen(function* () {
      const dir = yield* directory
      shell(
        dir,
        `mkdir -p .hid a/b/c empty; touch .hid/x a/b/c/f top; ln -s a la; ln -s top ltop; ln -s nowhere dangling; mkfifo fifo`
      )
      const client = yield* Effect.provide(memoryClient, yield* Layer.build(memoryLayer))
      yield* client.handshake()
      const walk = (last: string, more: object = {}) =>
        Effect.map(client.call("fs/walk", { path: `file://${dir}${last}`, options: { ...wide, ...more } }), (reply) => {
          if (reply.error !== undefined) return reply.error
          const { entries, errors, truncated } = reply.result
          const short = (path: string) => path.slice(`file://${dir}/`.length)
          return {
            entries: entries.map(({ path, kind }: Json) => short(path) + (kind === "directory" ? "/" : "")),
            errors: errors.map(({ path, message }: Json) => [short(path), message]),
            truncated
          }
        })
      yield* body(walk, dir)
      const path = `${dir}/top`
      yield* refuses(client, "fs/walk", { path }, -32602, "missing field `options`")
      const { maxDepth: _, ...some } = wide
      yield* refuses(client, "fs/walk", { path, options: some }, -32602, "missing field `maxDepth` in `options`")
      const plain = yield* client.ask("fs/walk", { path: `${dir}/a`, options: { ...wide, maxDepth: 0 } })
      assert.deepStrictEqual(plain.entries, [{ path: `${dir}/a/b`, kind: "directory" }])
    })
  )

const found = (...entries: ReadonlyArray<string>) => ({ entries, errors: [], truncated: false })
const top = [".hid/", "a/", "empty/", "top"]
const all = [...top, ".hid/x", "a/b/", "a/b/c/", "a/b/c/f"]

test("level by level, sorted, without links and special files", (walk) =>
  Effect.gen(function* () {
    assert.deepStrictEqual(yield* walk(""), found(...all))
    assert.deepStrictEqual(yield* walk("/a/"), found("a/b/", "a/b/c/", "a/b/c/f"))
  }))

test("a followed link is listed once, and what it leads to is listed once", (walk, dir) =>
  Effect.gen(function* () {
    const follow = { followDirectorySymlinks: true }
    const linked = [".hid/", "a/", "empty/", "la/", "top", ".hid/x", "a/b/", "a/b/c/", "a/b/c/f"]
    assert.deepStrictEqual(yield* walk("", follow), found(...linked))
    assert.deepStrictEqual(yield* walk("/la", follow), found("la/b/", "la/b/c/", "la/b/c/f"))
    shell(dir, "ln -s ../../.. a/b/c/up; ln -s . a/b/self")
    const looped = yield* walk("", follow)
    assert.isFalse(looped.truncated)
    assert.includeMembers(looped.entries, ["a/b/c/up/", "a/b/self/"])
    assert.strictEqual(looped.entries.length, linked.length + 2)
  }))

test("depth", (walk) =>
  Effect.gen(function* () {
    assert.deepStrictEqual(yield* walk("", { maxDepth: 0 }), found(...top))
    assert.deepStrictEqual(yield* walk("", { maxDepth: 1 }), found(...top, ".hid/x", "a/b/"))
    assert.deepStrictEqual(yield* walk("", { maxDepth: 3 }), found(...all))
  }))

test("entries and directories", (walk) =>
  Effect.gen(function* () {
    assert.deepStrictEqual(yield* walk("", { maxEntries: 2 }), { ...found(".hid/", "a/"), truncated: true })
    assert.deepStrictEqual(yield* walk("", { maxEntries: 8 }), found(...all))
    assert.deepStrictEqual(yield* walk("", { maxEntries: 7 }), { ...found(...all.slice(0, 7)), truncated: true })
    assert.deepStrictEqual(yield* walk("", { maxDirectories: 1 }), { ...found(...top), truncated: true })
    const three = { ...found(...top, ".hid/x", "a/b/"), truncated: true }
    assert.deepStrictEqual(yield* walk("", { maxDirectories: 3 }), three)
    assert.deepStrictEqual(yield* walk("", { maxDirectories: 6 }), found(...all))
    assert.isTrue((yield* walk("", { maxDirectories: 5 })).truncated)
    const zero = { code: -32600, message: "filesystem walk limits must be greater than zero" }
    assert.deepStrictEqual(yield* walk("", { maxDirectories: 0 }), zero)
    assert.deepStrictEqual(yield* walk("", { maxEntries: 0 }), zero)
    assert.strictEqual((yield* walk("", { maxEntries: -1 })).code, -32602)
  }))

test("hidden directories, if they are pruned, are listed and not entered", (walk, dir) =>
  Effect.gen(function* () {
    shell(dir, "mkdir -p .hid/deep empty/.in/x; touch .file empty/.in/y; ln -s .hid visible; ln -s empty .link")
    const prune = { pruneHiddenDirectories: true }
    const first = [".file", ".hid/", "a/", "empty/", "top"]
    assert.deepStrictEqual(yield* walk("", prune), found(...first, "a/b/", "empty/.in/", "a/b/c/", "a/b/c/f"))
    // What a link shows under a name that is not hidden is listed there; a hidden link is not entered.
    assert.deepStrictEqual(
      yield* walk("", { ...prune, followDirectorySymlinks: true }),
      found(
        ...[".file", ".hid/", ".link/", "a/", "empty/", "la/", "top", "visible/"],
        ...["a/b/", "empty/.in/", "visible/deep/", "visible/x", "a/b/c/", "a/b/c/f"]
      )
    )
    // The directory that was asked for is entered, whatever its name.
    assert.deepStrictEqual(yield* walk("/.hid", prune), found(".hid/deep/", ".hid/x"))
    const entered = [...first, ".hid/deep/", ".hid/x"]
    const { entries } = yield* walk("", { pruneHiddenDirectories: false })
    assert.deepStrictEqual(entries.slice(0, entered.length), entered)
    assert.strictEqual((yield* walk("", { pruneHiddenDirectories: null })).code, -32602)
  }))

test("what goes further than a walk may is refused", (walk) =>
  Effect.gen(function* () {
    const maxima = { maxDepth: 64, maxDirectories: 10_000, maxEntries: 50_000 }
    assert.deepStrictEqual(yield* walk("", maxima), found(...all))
    const message = "filesystem walk limits exceed maximums: depth=64, directories=10000, entries=50000"
    for (const [limit, maximum] of Object.entries(maxima)) {
      assert.deepStrictEqual(yield* walk("", { [limit]: maximum + 1 }), { code: -32600, message }, limit)
      assert.deepStrictEqual(yield* walk("/nope", { [limit]: maximum + 1 }), { code: -32600, message }, limit)
    }
  }))

test("a root that is no directory has nothing in it; one that is missing is an error", (walk, dir) =>
  Effect.gen(function* () {
    assert.deepStrictEqual(yield* walk("/top"), found())
    assert.deepStrictEqual(yield* walk("/la"), found())
    assert.deepStrictEqual(yield* walk("/nope"), {
      code: -32004,
      message: `No such file or directory (os error 2): ${dir}/nope`
    })
  }))

test("a directory that cannot be read is told, and the rest is listed", (walk, dir) =>
  Effect.gen(function* () {
    // A path too long for the system, which stops also those who may read everything.
    const name = "n".repeat(250)
    shell(dir, `rm -rf .hid empty a/b; mkdir a/b; for i in $(seq 17); do mkdir ${name}; cd ${name}; done`)
    chmodSync(dir, 0o755)
    const { entries, errors, truncated } = yield* walk("", { maxDepth: 30 })
    assert.isFalse(truncated)
    assert.include(entries, "top")
    assert.strictEqual(errors.length, 1)
    assert.strictEqual(errors[0][1], "File name too long (os error 36)")
  }))
