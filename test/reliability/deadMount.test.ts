/** A file system that does not answer: whoever touches it waits in vain, and nobody else. */
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { maxStuck } from "../../src/spawn/SessionWaits.js"
import { deadMount, noDeadMount } from "../support/deadMount.js"
import { at, entry, readRoot, sandbox } from "../support/sandbox.js"
import { childrenOf, eventually, hasBubblewrap, isAlive, webSocketServer } from "../support/servers.js"

import { startParams, type TestClient } from "../support/TestClient.js"

const why = noDeadMount === undefined ? "" : ` (not here: ${noDeadMount})`

describe.runIf(noDeadMount === undefined)(`a file system that does not answer${why}`, { concurrent: true }, () => {
  for (const mode of ["unread", "read"] as const) {
    it.scopedLive(`${mode}: starts on it fail by name, others go on, and the server ends in time`, () =>
      Effect.gen(function* () {
        const dead = yield* deadMount(mode)
        const script = join(dead.folder, "script")
        writeFileSync(script, `#!${dead.mount}/interpreter\n`)
        chmodSync(script, 0o755)
        symlinkSync(dead.mount, join(dead.folder, "link"))
        const server = yield* webSocketServer({ under: dead.under })
        const client = yield* server.connect
        const other = yield* server.connect
        yield* client.handshake()
        yield* other.handshake()
        const start = (processId: string, argv: ReadonlyArray<string>, cwd: string, tty = false) =>
          client.post("process/start", { processId, argv, cwd, env: { PATH: `${dead.folder}/link:/bin` }, tty })
        const posted = [
          start("cwd", ["/bin/true"], dead.mount),
          start("link", ["/bin/true"], join(dead.folder, "link")),
          start("tty", ["/bin/true"], dead.mount, true),
          start("program", [`${dead.mount}/program`], "/"),
          start("path", ["true"], "/"),
          start("interpreter", [script], "/")
        ]
        yield* other.start("fine", ["/bin/echo", "on"])
        assert.deepInclude(yield* other.closed("fine"), { exitCode: 0 })
        yield* client.start("own", ["/bin/echo", "on"])
        assert.deepInclude(yield* client.closed("own"), { exitCode: 0 })

        const messages: Array<string> = []
        for (const id of posted) {
          const { error } = yield* client.reply(id)
          messages.push(error?.message)
        }
        const hangs = `did not answer within 10 s: its file system (fuse.dead at ${dead.mount}) hangs`
        for (const i of [0, 1, 2]) assert.include(messages[i], `the working directory`)
        assert.include(messages[0], `the working directory ${dead.mount} ${hangs}`)
        assert.include(messages[3], `the program path ${dead.mount}/program ${hangs}`)
        assert.include(messages[4], `the program path ${dead.folder}/link/true ${hangs}`)
        assert.include(messages[5], "the program did not start within 10 s: a file system hangs that it needs")

        yield* other.start("still", ["/bin/echo", "on"])
        assert.deepInclude(yield* other.closed("still"), { exitCode: 0 })

        const since = Date.now()
        server.child.kill("SIGTERM")
        assert.strictEqual(yield* server.exit, 0)
        assert.isBelow(Date.now() - since, 8000)
      })
    )
  }

  it.scopedLive("requests on files there fail by name, and hold up no others", () =>
    Effect.gen(function* () {
      const dead = yield* deadMount("unread")
      symlinkSync(dead.mount, join(dead.folder, "link"))
      const links = join(dead.folder, "links")
      mkdirSync(links)
      symlinkSync(`${dead.mount}/x`, join(links, "x"))
      const server = yield* webSocketServer({ under: dead.under })
      const client = yield* server.connect
      const other = yield* server.connect
      yield* client.handshake()
      yield* other.handshake()
      const uri = (path: string) => `file://${path}`
      const there = uri(`${dead.mount}/x`)
      const options = { maxDepth: 9, maxDirectories: 9, maxEntries: 99, followDirectorySymlinks: true }
      const hanging = [
        ...Array.from({ length: 6 }, (_, i) => client.post("fs/readFile", { path: uri(`${dead.mount}/${i}`) })),
        client.post("fs/getMetadata", { path: uri(`${dead.folder}/link/x`) }),
        client.post("fs/walk", { path: uri(dead.mount), options }),
        client.post("fs/open", { handleId: "h", path: there })
      ]
      const unopened = client.post("fs/readBlock", { handleId: "h", offset: 0, len: 1 })
      const since = Date.now()
      const file = uri(`${dead.folder}/file`)
      for (const who of [client, other]) {
        yield* who.ask("fs/writeFile", { path: file, dataBase64: "YQ==" })
        assert.deepStrictEqual(yield* who.ask("fs/readFile", { path: file }), { dataBase64: "YQ==" })
        const watched = { watchId: 1, missing: [there] }
        assert.deepStrictEqual(yield* who.ask("fs/watchMissing", watched), { watching: false })
      }
      yield* client.ask("fs/open", { handleId: "live", path: file })
      yield* client.ask("fs/close", { handleId: "live" })
      // Long before the dead one is given up.
      assert.isBelow(Date.now() - since, 8000)

      const name = `its file system (fuse.dead at ${dead.mount}) hangs`
      for (const id of hanging) {
        const { error } = yield* client.reply(id)
        assert.strictEqual(error?.code, -32603)
        assert.include(error?.message, name)
      }
      assert.strictEqual((yield* client.reply(unopened)).error?.code, -32004)

      // What gets there only on its way.
      const tree = client.post("fs/copy", {
        sourcePath: uri(dead.folder),
        destinationPath: uri(`${dead.folder}-copy`),
        recursive: false
      })
      assert.notInclude((yield* client.reply(tree)).error?.message, "hangs")
      const listing = other.post("fs/readDirectory", { path: uri(links) })
      const walking = other.post("fs/walk", { path: uri(dead.folder), options })
      assert.include((yield* other.reply(listing)).error?.message, "did not answer within 10 s")
      assert.include((yield* other.reply(walking)).error?.message, name)
      yield* client.ask("fs/getMetadata", { path: file })

      const last = Date.now()
      const workers = childrenOf(server.pid)
      assert.isNotEmpty(workers)
      server.child.kill("SIGTERM")
      assert.strictEqual(yield* server.exit, 0)
      assert.isBelow(Date.now() - last, 8000)
      yield* dead.abort
      yield* eventually("no file worker is left", () => !workers.some(isAlive))
    })
  )

  it.scopedLive.runIf(hasBubblewrap)("sandboxes and containment on it hold up nobody", () =>
    Effect.gen(function* () {
      const dead = yield* deadMount("unread")
      for (const args of [[], ["--contain", "namespace"]]) {
        const server = yield* webSocketServer({ under: dead.under, args })
        const client = yield* server.connect
        const other = yield* server.connect
        yield* client.handshake()
        yield* other.handshake()
        const env = { PATH: "/bin" }
        const inside = sandbox([readRoot, entry(at(`${dead.mount}/ws`), "write")])
        // What a sandbox protects in writable folders may lead there as well.
        const folders = ["pointer", "link"].map((name) => join(dead.folder, `${name}${args.length}`))
        const [pointer = "", link = ""] = folders
        for (const folder of folders) mkdirSync(folder)
        writeFileSync(join(pointer, ".git"), `gitdir: ${dead.mount}/repository\n`)
        symlinkSync(`${dead.mount}/x`, join(link, ".codex"))
        const writing = (folder: string) => ({ sandbox: sandbox([readRoot, entry(at(folder), "write")]) })
        const start = (processId: string, more: object) =>
          client.post("process/start", { processId, argv: ["true"], cwd: "/", env, tty: false, ...more })
        const started = [
          start("cwd", { cwd: dead.mount, ...(args.length === 0 ? { sandbox: sandbox([readRoot]) } : {}) }),
          start("root", { sandbox: inside }),
          start("pointer", writing(pointer)),
          start("link", writing(link)),
          start("path", { env: { PATH: `${dead.mount}:/bin` }, sandbox: sandbox([readRoot]) }),
          client.post("fs/readFile", { path: `file://${dead.mount}/ws/x`, sandbox: inside })
        ]
        const since = Date.now()
        yield* other.ask("fs/getMetadata", { path: "file:///" })
        assert.isBelow(Date.now() - since, 8000)
        for (const id of started) {
          const { error } = yield* client.reply(id)
          assert.strictEqual(error?.code, -32603)
          assert.include(error?.message, `its file system (fuse.dead at ${dead.mount}) hangs`)
        }
        const last = Date.now()
        start("late", { cwd: dead.mount, sandbox: sandbox([readRoot]) })
        yield* client.ask("fs/getMetadata", { path: "file:///" })
        server.child.kill("SIGTERM")
        assert.strictEqual(yield* server.exit, 0)
        assert.isBelow(Date.now() - last, 8000)
      }
    })
  )

  it.scopedLive("SIGTERM ends a server whose starts and file requests wait", () =>
    Effect.gen(function* () {
      const dead = yield* deadMount("read")
      const server = yield* webSocketServer({ under: dead.under })
      const client = yield* server.connect
      yield* client.handshake()
      const start = (processId: string, more: object) =>
        client.post("process/start", { processId, argv: ["/bin/true"], cwd: dead.mount, env: {}, tty: false, ...more })
      start("p", {})
      start("t", { tty: true })
      client.post("fs/writeFile", { path: `file://${dead.mount}/x`, dataBase64: "" })
      client.post("fs/open", { handleId: "h", path: `file://${dead.mount}/x` })
      yield* client.ask("fs/getMetadata", { path: "file:///" })
      const since = Date.now()
      server.child.kill("SIGTERM")
      assert.strictEqual(yield* server.exit, 0)
      assert.isBelow(Date.now() - since, 8000)
    })
  )

  it.scopedLive(
    "a session is taken up again while a start of it waits, and starts are answered before their events",
    () =>
      Effect.gen(function* () {
        const dead = yield* deadMount("read")
        const server = yield* webSocketServer({ under: dead.under })
        const first = yield* server.connect
        const { sessionId } = yield* first.handshake()
        first.post("process/start", { processId: "p", argv: ["/bin/true"], cwd: dead.mount, env: {}, tty: false })
        yield* first.ask("fs/getMetadata", { path: "file:///" })
        first.carrier.close()
        const second = yield* server.connect
        const since = Date.now()
        yield* second.resume(sessionId)
        assert.isBelow(Date.now() - since, 5000)
        for (let i = 0; i < 20; i++) second.post("process/start", startParams(`q${i}`, ["/bin/echo", "on"]))
        for (let i = 0; i < 20; i++) yield* second.closed(`q${i}`)
      })
  )

  it.scopedLive("of starts and workers that hang there is a limit, for a session and for the server", () =>
    Effect.gen(function* () {
      const dead = yield* deadMount("read")
      const server = yield* webSocketServer({ under: dead.under })
      const connect = Effect.tap(server.connect, (client) => client.handshake())
      const start = (client: TestClient, processId: string, cwd: string) =>
        client.post("process/start", { processId, argv: ["/bin/true"], cwd, env: {}, tty: false })
      const errorOf = (client: TestClient, id: number) =>
        Effect.map(client.reply(id), ({ error }): string | undefined => error?.message)
      const clients = yield* Effect.all([connect, connect, connect, connect])
      const posted = clients.flatMap((client) =>
        Array.from({ length: maxStuck }, (_, i) => [client, start(client, `p${i}`, dead.mount)] as const)
      )
      // Each worker hangs once; the next request needs another one.
      const ask = (client: TestClient) => client.post("fs/getMetadata", { path: `file://${dead.mount}/x` })
      for (let i = 0; i < 4; i++) {
        for (const [client, id] of clients.map((client) => [client, ask(client)] as const)) {
          assert.include(yield* errorOf(client, id), "hangs")
        }
      }
      for (const client of clients) {
        assert.include(
          yield* errorOf(client, ask(client)),
          "the limit file workers of a session that hang (4) is reached"
        )
      }
      const another = yield* connect
      const limit = "the limit file workers of a server that hang (16) is reached"
      assert.include(yield* errorOf(another, ask(another)), limit)
      yield* another.ask("fs/getMetadata", { path: "file:///" })

      for (const [client, id] of posted) assert.include(yield* errorOf(client, id), "hangs")
      const own = "8 starts of this session wait for file systems that do not answer"
      for (const client of clients) assert.include(yield* errorOf(client, start(client, "more", "/")), own)
      const all = "32 starts of this server wait for file systems that do not answer"
      assert.include(yield* errorOf(another, start(another, "there", dead.mount)), all)
      assert.isUndefined(yield* errorOf(another, start(another, "elsewhere", "/")))

      yield* dead.abort
      yield* eventually("all that was held has ended", () => !childrenOf(server.pid).some(isAlive))
      for (const client of clients) assert.notInclude(yield* errorOf(client, ask(client)), "limit")
      yield* clients[0].start("again", ["/bin/true"])
    })
  )
})
