/** Sandboxed requests on files: each is carried out where only what is allowed is there. */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { base64, directory, refuses } from "../support/files.js"
import { at, entry, readRoot, sandbox } from "../support/sandbox.js"
import { childrenOf, connected, eventually, hasBubblewrap, webSocketServer } from "../support/servers.js"
import { type Json, startParams } from "../support/TestClient.js"

const notFound = "No such file or directory (os error 2)"
const readOnly = "Read-only file system (os error 30)"

const content = ({ dataBase64 }: Json) => Buffer.from(dataBase64, "base64").toString()

const prepared = Effect.gen(function* () {
  const { server, client } = yield* connected()
  const dir = yield* directory
  for (const folder of ["ws", "ws/sub", "private"]) mkdirSync(`${dir}/${folder}`)
  writeFileSync(`${dir}/ws/a`, "hello")
  writeFileSync(`${dir}/private/secret`, "secret")
  return { server, client, dir }
})

describe.runIf(hasBubblewrap)("sandboxed requests on files", () => {
  it.scopedLive("a client that leaves while the first sandbox is made spoils none for others", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer()
      const dir = yield* directory
      writeFileSync(`${dir}/a`, "hello")
      const path = `file://${dir}/a`
      // Some are gone before, some while, and some after bubblewrap is looked for.
      for (const waitMs of [0, 1, 2, 5, 10, 20, 40]) {
        const early = yield* server.connect
        yield* early.handshake()
        early.post("fs/readFile", { path, sandbox: sandbox([readRoot]) })
        early.post("process/start", startParams("p", ["true"], { sandbox: sandbox([readRoot]) }))
        yield* Effect.sleep(waitMs)
        early.carrier.close()
      }
      const client = yield* server.connect
      yield* client.handshake()
      assert.strictEqual(content(yield* client.ask("fs/readFile", { path, sandbox: sandbox([readRoot]) })), "hello")
      yield* client.start("p", ["true"], { sandbox: sandbox([readRoot]) })
      assert.strictEqual((yield* client.closed("p")).exitCode, 0)
    })
  )

  it.scopedLive("nothing, all to read, and a folder to write", () =>
    Effect.gen(function* () {
      const { client, dir } = yield* prepared
      const path = `file://${dir}/ws/a`
      const dataBase64 = base64("new")
      yield* refuses(client, "fs/readFile", { path, sandbox: sandbox([]) }, -32004, notFound)
      const all = sandbox([readRoot])
      assert.strictEqual(content(yield* client.ask("fs/readFile", { path, sandbox: all })), "hello")
      yield* refuses(client, "fs/writeFile", { path, dataBase64, sandbox: all }, -32603, readOnly)
      yield* refuses(client, "fs/remove", { path, sandbox: all }, -32603, readOnly)
      yield* refuses(client, "fs/createDirectory", { path: `${dir}/ws/d`, sandbox: all }, -32603, readOnly)
      const box = sandbox([readRoot, entry(at(`${dir}/ws`), "write"), entry(at(`${dir}/private`), "deny")])
      yield* client.ask("fs/writeFile", { path, dataBase64, sandbox: box })
      yield* client.ask("fs/createDirectory", { path: `${dir}/ws/d/e`, sandbox: box })
      yield* client.ask("fs/copy", {
        sourcePath: path,
        destinationPath: `${dir}/ws/d/b`,
        recursive: false,
        sandbox: box
      })
      assert.deepInclude(yield* client.ask("fs/getMetadata", { path, sandbox: box }), { isFile: true, size: 3 })
      assert.deepStrictEqual(yield* client.ask("fs/canonicalize", { path, sandbox: box }), { path })
      const { entries } = yield* client.ask("fs/readDirectory", { path: `${dir}/ws`, sandbox: box })
      // Protected names are held as long as the worker is there that may write.
      const isOurs = (name: string) => !name.startsWith(".")
      const names = entries.map((found: Json) => found.fileName)
      assert.deepStrictEqual(names.filter(isOurs).sort(), ["a", "d", "sub"])
      const options = { maxDepth: 9, maxDirectories: 9, maxEntries: 9, followDirectorySymlinks: true }
      const walked = yield* client.ask("fs/walk", { path: `${dir}/ws/d`, options, sandbox: box })
      assert.deepStrictEqual(walked.entries, [
        { path: `${dir}/ws/d/b`, kind: "file" },
        { path: `${dir}/ws/d/e`, kind: "directory" }
      ])
      yield* refuses(client, "fs/readFile", { path: `${dir}/private/secret`, sandbox: box }, -32600, /os error 13/)
      yield* client.ask("fs/remove", { path: `${dir}/ws/d`, sandbox: box })
      assert.strictEqual(readFileSync(`${dir}/ws/a`, "utf8"), "new")
      assert.deepStrictEqual(readdirSync(`${dir}/ws`).filter(isOurs), ["a", "sub"])
      yield* eventually("the places are given back", () => readdirSync(`${dir}/ws`).every(isOurs))
    })
  )

  it.scopedLive("open files stay where they were opened, and large contents pass whole", () =>
    Effect.gen(function* () {
      const { client, dir } = yield* prepared
      const box = sandbox([entry(at(`${dir}/ws`), "write")])
      const large = Buffer.alloc(3_000_000, "0123456789")
      yield* client.ask("fs/writeFile", { path: `${dir}/ws/large`, dataBase64: large.toString("base64"), sandbox: box })
      assert.isTrue(large.equals(readFileSync(`${dir}/ws/large`)))
      const back = yield* client.ask("fs/readFile", { path: `${dir}/ws/large`, sandbox: box })
      assert.isTrue(Buffer.from(back.dataBase64, "base64").equals(large))
      yield* client.ask("fs/open", { handleId: "r", path: `${dir}/ws/large`, sandbox: box })
      yield* client.ask("fs/open", { handleId: "w", path: `${dir}/ws/out`, mode: "replace", sandbox: box })
      yield* client.ask("fs/writeBlock", { handleId: "w", offset: 2, chunk: base64("x") })
      const block = yield* client.ask("fs/readBlock", { handleId: "r", offset: 2_999_995, len: 10 })
      assert.deepStrictEqual(block, { chunk: base64("56789"), eof: true })
      for (const handleId of ["r", "w"]) yield* client.ask("fs/close", { handleId })
      assert.strictEqual(readFileSync(`${dir}/ws/out`, "latin1"), "\0\0x")
    })
  )

  it.scopedLive("links, .., and other ways to the root lead nowhere else", () =>
    Effect.gen(function* () {
      const { client, dir } = yield* prepared
      symlinkSync(`${dir}/private/secret`, `${dir}/ws/link`)
      symlinkSync("../private", `${dir}/ws/up`)
      const box = sandbox([entry(at(`${dir}/ws`), "write")])
      const secret = `${dir}/private/secret`
      const paths = ["ws/link", "ws/up/secret", "ws/../private/secret"].map((name) => `${dir}/${name}`)
      for (const path of [
        ...paths,
        secret,
        `/proc/self/root${secret}`,
        `/proc/1/root${secret}`,
        `/proc/self/cwd${secret}`
      ]) {
        yield* refuses(client, "fs/readFile", { path, sandbox: box }, -32004, notFound)
        const { error } = yield* client.call("fs/writeFile", { path, dataBase64: "", sandbox: box })
        assert.isDefined(error, path)
      }
      for (const path of ["/proc/self/mem", "/proc/1/oom_score_adj", "/etc/hostname"]) {
        const { error } = yield* client.call("fs/writeFile", { path, dataBase64: base64("0"), sandbox: box })
        assert.isDefined(error, path)
      }
      // What is in the way is the sandbox's own: a copy of a link is the link.
      yield* client.ask("fs/copy", {
        sourcePath: `${dir}/ws/link`,
        destinationPath: `${dir}/ws/l2`,
        recursive: false,
        sandbox: box
      })
      yield* refuses(client, "fs/readFile", { path: `${dir}/ws/l2`, sandbox: box }, -32004, notFound)
      assert.strictEqual(readFileSync(secret, "utf8"), "secret")
    })
  )

  it.scopedLive("somebody who swaps a file for a link between check and use gains nothing", () =>
    Effect.gen(function* () {
      const { client, dir } = yield* prepared
      const box = sandbox([entry(at(`${dir}/ws`), "write")])
      const swap = `while :; do ln -sfn ../../private/secret ws/sub/f; rm ws/sub/f; echo mine > ws/sub/f; rm ws/sub/f; done 2>/dev/null`
      yield* client.sh("swap", `echo up; ${swap}`, { cwd: `file://${dir}` })
      yield* client.sees("swap", "up")
      for (let i = 0; i < 200; i++) {
        const { result } = yield* client.call("fs/readFile", { path: `${dir}/ws/sub/f`, sandbox: box })
        if (result !== undefined) assert.notInclude(content(result), "secret")
        yield* client.call("fs/writeFile", { path: `${dir}/ws/sub/f`, dataBase64: base64("mine"), sandbox: box })
      }
      yield* client.ask("process/terminate", { processId: "swap" })
      yield* client.closed("swap")
      assert.strictEqual(readFileSync(`${dir}/private/secret`, "utf8"), "secret")
    })
  )

  it.scopedLive(
    "a worker that was killed is replaced, there is one for each sandbox, and none outlives the session",
    () =>
      Effect.gen(function* () {
        const { client, dir, server } = yield* prepared
        const read = (box: object) => client.call("fs/readFile", { path: `${dir}/ws/a`, sandbox: box })
        yield* read(sandbox([readRoot]))
        yield* read(sandbox([readRoot]))
        const [worker = -1, ...others] = childrenOf(server.pid)
        assert.deepStrictEqual(others, [])
        process.kill(worker, "SIGKILL")
        yield* eventually("it is gone", () => childrenOf(server.pid).length === 0)
        assert.strictEqual(content((yield* read(sandbox([readRoot]))).result), "hello")
        // More sandboxes than workers: those not in use make room.
        for (let i = 0; i < 10; i++) {
          mkdirSync(`${dir}/w${i}`)
          assert.isDefined((yield* read(sandbox([readRoot, entry(at(`${dir}/w${i}`), "write")]))).result)
        }
        assert.isAtMost(childrenOf(server.pid).length, 9)
        client.carrier.close()
        yield* client.ended()
        const second = yield* server.connect
        yield* second.handshake({})
        yield* second.ask("fs/readFile", { path: `${dir}/ws/a`, sandbox: sandbox([readRoot]) })
        second.carrier.close()
        yield* second.ended()
        rmSync(`${dir}/w0`, { recursive: true })
        renameSync(`${dir}/ws/a`, `${dir}/ws/b`)
      })
  )
})
