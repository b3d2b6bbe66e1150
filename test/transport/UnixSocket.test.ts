import { execFileSync, spawn } from "node:child_process"
import {
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  watch,
  writeFileSync
} from "node:fs"
import { request } from "node:http"
import { createConnection, createServer, type Socket } from "node:net"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { exposed, folder } from "../support/exposed.js"
import { connectTo, eventually } from "../support/servers.js"

const on = (path: string) => exposed({ address: { path } })

const client = (path: string) => connectTo(`ws+unix://${path}:/`)

/** The socket of a server that is dead: it has another name, which its server does not remove. */
const deadSocket = (path: string) =>
  Effect.async<void>((resume) => {
    const server = createServer()
    server.listen(`${path}.tmp`, () => {
      linkSync(`${path}.tmp`, path)
      server.close(() => resume(Effect.void))
    })
  })

/** Why nobody can listen there. */
const whyNot = (path: string) =>
  Effect.map(Effect.either(Effect.scoped(on(path))), (result) =>
    Either.isLeft(result) ? result.left.message : "it listens"
  )

const inUse = (path: string) => `cannot listen on unix://${path}: another server listens there`

describe("a unix socket", () => {
  it.scopedLive("carries the same protocol, for the owner alone, and is gone afterwards", () =>
    Effect.gen(function* () {
      const parent = yield* folder
      const path = join(parent, "server.sock")
      yield* Effect.gen(function* () {
        assert.strictEqual(yield* on(path), `unix://${path}`)
        assert.strictEqual(lstatSync(path).mode & 0o777, 0o600)
        assert.deepStrictEqual(readdirSync(parent), ["server.sock"])
        const peer = yield* client(path)
        yield* peer.handshake()
        assert.deepStrictEqual(yield* peer.ask("environment/status"), { status: "ready" })
        peer.raw("nope")
        const { error } = yield* peer.reply(-1)
        assert.include(error.message, `exec-server websocket unix://${path}: `)
        const ready = yield* Effect.async<number | undefined>((resume) => {
          request({ socketPath: path, path: "/readyz", agent: false }, (response) => {
            response.resume()
            resume(Effect.succeed(response.statusCode))
          }).end()
        })
        assert.strictEqual(ready, 200)
      }).pipe(Effect.scoped)
      assert.deepStrictEqual(readdirSync(parent), [])
    })
  )

  it.scopedLive("of a dead server is replaced", () =>
    Effect.gen(function* () {
      const parent = yield* folder
      const path = join(parent, "server.sock")
      yield* deadSocket(path)
      yield* on(path)
      yield* (yield* client(path)).handshake()
      assert.deepStrictEqual(readdirSync(parent), ["server.sock"])
    })
  )

  it.scopedLive("of a living server is not, and its clients notice nothing", () =>
    Effect.gen(function* () {
      const parent = yield* folder
      const path = join(parent, "server.sock")
      yield* on(path)
      const peer = yield* client(path)
      yield* peer.handshake()
      assert.strictEqual(yield* whyNot(path), inUse(path))
      assert.deepStrictEqual(yield* peer.ask("environment/status"), { status: "ready" })
      yield* (yield* client(path)).handshake()
      assert.deepStrictEqual(readdirSync(parent), ["server.sock"])
    })
  )

  it.scopedLive(
    "of a living server that accepts nobody is not replaced, whether it has room for who waits or not",
    () =>
      Effect.gen(function* () {
        const path = join(yield* folder, "server.sock")
        const script = `require("net").createServer().listen({ path: ${JSON.stringify(path)}, backlog: 1 }, () => console.log())`
        const server = yield* Effect.acquireRelease(
          Effect.sync(() => spawn(process.execPath, ["-e", script], { stdio: ["ignore", "pipe", "ignore"] })),
          (running) => Effect.sync(() => running.kill("SIGKILL"))
        )
        yield* Effect.async<void>((resume) => void server.stdout.once("data", () => resume(Effect.void)))
        server.kill("SIGSTOP")
        yield* eventually("it is stopped", () => / T /.test(readFileSync(`/proc/${server.pid}/stat`, "latin1")))
        assert.strictEqual(yield* whyNot(path), inUse(path))
        const waits = Effect.acquireRelease(
          Effect.async<Socket>((resume) => {
            const socket = createConnection({ path })
            for (const event of ["connect", "error"]) socket.once(event, () => resume(Effect.succeed(socket)))
          }),
          (socket) => Effect.sync(() => socket.destroy())
        )
        yield* Effect.repeat(waits, { until: ({ errored }) => errored !== null, times: 100 })
        assert.strictEqual(yield* whyNot(path), inUse(path))
        assert.isTrue(lstatSync(path).isSocket())
      })
  )

  it.scopedLive("is left alone where it is something else: a file, a folder, a link, a pipe", () =>
    Effect.gen(function* () {
      const parent = yield* folder
      const dead = join(parent, "dead")
      yield* deadSocket(dead)
      const at = (name: string, make: (path: string) => void) => {
        make(join(parent, name))
        return join(parent, name)
      }
      for (const path of [
        at("file", (path) => writeFileSync(path, "precious")),
        at("empty", (path) => writeFileSync(path, "")),
        at("folder", (path) => mkdirSync(path)),
        at("link", (path) => symlinkSync(dead, path)),
        at("dangling", (path) => symlinkSync("nowhere", path)),
        at("pipe", (path) => execFileSync("mkfifo", [path]))
      ]) {
        const before = lstatSync(path)
        assert.strictEqual(
          yield* whyNot(path),
          `cannot listen on unix://${path}: what is there is not a socket, and is left alone`
        )
        const after = lstatSync(path)
        assert.deepStrictEqual([after.ino, after.mode, after.mtimeMs], [before.ino, before.mode, before.mtimeMs])
      }
      assert.strictEqual(readFileSync(join(parent, "file"), "utf8"), "precious")
      assert.deepStrictEqual(readdirSync(parent).sort(), [
        ...["dangling", "dead", "empty", "file", "folder", "link", "pipe"]
      ])
    })
  )

  it.scopedLive("that somebody took away and replaced is not removed at the end", () =>
    Effect.gen(function* () {
      const parent = yield* folder
      for (const replace of [
        (path: string) => Effect.sync(() => writeFileSync(path, "precious")),
        (path: string) => Effect.asVoid(on(path))
      ]) {
        const path = join(parent, "server.sock")
        const scope = yield* Scope.make()
        yield* Scope.extend(on(path), scope)
        rmSync(path)
        yield* replace(path)
        yield* Scope.close(scope, Exit.void)
        assert.isTrue(existsSync(path))
        renameSync(path, `${path}.kept`)
      }
    })
  )

  it.scopedLive("that somebody replaced is told by its inode, and by its time where the inode is the same", () =>
    Effect.gen(function* () {
      const parent = yield* folder
      for (const replace of [
        // Another file of the same time.
        (path: string) => {
          writeFileSync(`${path}.other`, "precious")
          execFileSync("touch", ["-r", path, `${path}.other`])
          renameSync(`${path}.other`, path)
        },
        // Numbers of files are given out again: the same one, of another time.
        (path: string) => execFileSync("touch", ["-d", "2001-01-01", path])
      ]) {
        const path = join(parent, "server.sock")
        yield* Effect.scoped(Effect.tap(on(path), () => replace(path)))
        assert.isTrue(existsSync(path))
        rmSync(path)
      }
    })
  )

  it.scopedLive("that somebody took away is no trouble at the end", () =>
    Effect.gen(function* () {
      const parent = yield* folder
      const path = join(parent, "server.sock")
      yield* Effect.scoped(Effect.tap(on(path), () => rmSync(path)))
      assert.deepStrictEqual(readdirSync(parent), [])
    })
  )

  it.scopedLive("is one server's, however many start at once where a dead one was", () =>
    Effect.gen(function* () {
      for (let round = 0; round < 10; round++) {
        const parent = yield* folder
        const path = join(parent, "server.sock")
        yield* deadSocket(path)
        const started = yield* Effect.forEach(Array(8), () => Effect.either(on(path)), { concurrency: "unbounded" })
        assert.strictEqual(started.filter(Either.isRight).length, 1)
        yield* (yield* client(path)).handshake()
        assert.deepStrictEqual(readdirSync(parent), ["server.sock"])
      }
    })
  )

  it.scopedLive("is made in the folder of its path, and nothing is made beside that folder", () =>
    Effect.gen(function* () {
      const parent = yield* folder
      const inner = join(parent, "inner")
      mkdirSync(inner)
      const seen: Array<string | null> = []
      const watcher = watch(parent, (_, name) => seen.push(name))
      yield* Effect.addFinalizer(() => Effect.sync(() => watcher.close()))
      yield* on(join(inner, "s"))
      yield* (yield* client(join(inner, "s"))).handshake()
      assert.deepStrictEqual(
        seen.filter((name) => name !== "inner"),
        []
      )
    })
  )

  it.scopedLive("may have the longest path that the system takes, of the socket or of where it is made", () =>
    Effect.gen(function* () {
      const parent = yield* folder
      const longest = process.platform === "linux" ? 107 : 103
      const fill = (length: number) => join(parent, "x".repeat(length - parent.length - 1))
      const long = fill(longest)
      yield* on(long)
      yield* (yield* client(long)).handshake()
      const made = fill(longest - "/.123456/s".length)
      mkdirSync(made)
      yield* on(join(made, "s"))
      yield* (yield* client(join(made, "s"))).handshake()
    })
  )

  it.scopedLive("has a path that fits, in a folder that exists", () =>
    Effect.gen(function* () {
      const parent = yield* folder
      const long = join(parent, "x".repeat(200))
      assert.strictEqual(yield* whyNot(long), `cannot listen on unix://${long}: the path is too long for a socket`)
      const longFolder = join(parent, "x".repeat(106 - 2 - parent.length))
      mkdirSync(longFolder)
      assert.include(yield* whyNot(join(longFolder, "s")), "the path is too long for a socket")
      const nowhere = join(parent, "nowhere", "server.sock")
      assert.strictEqual(
        yield* whyNot(nowhere),
        `cannot listen on unix://${nowhere}: No such file or directory (os error 2)`
      )
      assert.deepStrictEqual(readdirSync(parent), [longFolder.slice(parent.length + 1)])
    })
  )
})
