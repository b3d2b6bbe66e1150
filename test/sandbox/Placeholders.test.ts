/** What keeps a missing path from being created, and the servers that share it. */
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Placeholders } from "../../src/sandbox/Placeholders.js"
import { Guard } from "../../src/spawn/Guard.js"
import { at, entry, readRoot, sandbox } from "../support/sandbox.js"
import { eventually, hasBubblewrap, webSocketServer } from "../support/servers.js"

const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "placeholders-"))),
  (dir) => Effect.sync(() => rmSync(dir, { recursive: true }))
)

/** The placeholders of another server. */
const server = Effect.provide(Placeholders, Layer.fresh(Layer.provide(Placeholders.layer, Guard.layerNone)))

describe("a placeholder", () => {
  it.scoped("is there as long as one of its servers needs it, whoever made it", () =>
    Effect.gen(function* () {
      const path = join(yield* folder, ".git")
      for (const firstToGo of [0, 1]) {
        const [one, other] = [yield* server, yield* server]
        const releases = [one.hold([path], []), other.hold([path], [])]
        assert.isTrue(one.has(path))
        assert.isTrue(other.has(path))
        releases[firstToGo]?.()
        assert.isTrue(existsSync(path))
        assert.isTrue(one.has(path))
        releases[1 - firstToGo]?.()
        assert.isFalse(existsSync(path))
        assert.isFalse(one.has(path))
      }
    })
  )

  it.scoped("is counted within a server, and one that was left behind is taken over", () =>
    Effect.gen(function* () {
      const path = join(yield* folder, ".git")
      mkdirSync(path, 0o1755)
      const { hold, has } = yield* server
      assert.isTrue(has(path))
      const first = hold([path], [])
      const second = hold([], [path])
      first()
      first()
      assert.isTrue(has(path))
      second()
      assert.isFalse(existsSync(path))
    })
  )

  it.scoped("is no directory of others, empty or not, and those are left alone", () =>
    Effect.gen(function* () {
      const dir = yield* folder
      const { hold, has } = yield* server
      for (const mode of [0o755, 0o1777, 0o1775]) {
        const path = join(dir, mode.toString(8))
        mkdirSync(path)
        chmodSync(path, mode)
        assert.isFalse(has(path))
        assert.throws(() => hold([path], []), /cannot create a placeholder at .*: File exists/)
        hold([], [path])()
        assert.isTrue(existsSync(path))
      }
    })
  )

  it.scoped("becomes a directory like others once somebody uses it", () =>
    Effect.gen(function* () {
      const path = join(yield* folder, ".git")
      const { hold, has } = yield* server
      const release = hold([path], [])
      writeFileSync(join(path, "config"), "")
      assert.isFalse(has(path))
      release()
      assert.deepStrictEqual(readdirSync(path), ["config"])
      assert.strictEqual(statSync(path).mode & 0o7777, 0o755)
    })
  )
})

/** Clients of two servers; that of the first one has a process in a sandbox that may write a folder. */
const twoServers = Effect.gen(function* () {
  const dir = yield* folder
  const box = sandbox([readRoot, entry(at(dir), "write")])
  const [one, other] = [yield* webSocketServer(), yield* webSocketServer()]
  const [a, b] = [yield* one.connect, yield* other.connect]
  for (const client of [a, b]) yield* client.handshake()
  yield* a.sh("p", "echo up; exec sleep 300", { sandbox: box, cwd: `file://${dir}` })
  yield* a.sees("p", "up")
  return { dir, box, one, a, b }
})

describe.runIf(hasBubblewrap)("two servers with sandboxes on one folder", () => {
  it.scopedLive("the end of one sandbox does not open what the other one protects", () =>
    Effect.gen(function* () {
      const { dir, box, a, b } = yield* twoServers
      yield* b.sh("p", "echo up; read line; mkdir .git; mkdir .git/x && echo broken", {
        sandbox: box,
        cwd: `file://${dir}`,
        pipeStdin: true
      })
      yield* b.sees("p", "up")
      yield* a.ask("process/terminate", { processId: "p" })
      yield* a.closed("p")
      yield* b.write("p", "\n")
      yield* b.closed("p")
      assert.notInclude(b.output("p", "stdout").toString(), "broken")
      yield* eventually("nothing is left", () => readdirSync(dir).length === 0)
    })
  )

  it.scopedLive("nor does the death of a server", () =>
    Effect.gen(function* () {
      const { dir, box, one, a, b } = yield* twoServers
      yield* b.sh("p", "echo up; exec sleep 300", { sandbox: box, cwd: `file://${dir}` })
      yield* b.sees("p", "up")
      const own = yield* folder
      const ownBox = sandbox([readRoot, entry(at(own), "write")])
      yield* a.sh("q", "echo up; exec sleep 300", { sandbox: ownBox, cwd: `file://${own}` })
      yield* a.sees("q", "up")
      one.child.kill("SIGKILL")
      yield* one.exit
      yield* eventually("the guard has removed what it may", () => readdirSync(own).length === 0)
      assert.include(readdirSync(dir), ".git")
      yield* b.ask("process/terminate", { processId: "p" })
      yield* b.closed("p")
      yield* eventually("nothing is left", () => readdirSync(dir).length === 0)
    })
  )
})
