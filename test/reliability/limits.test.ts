/** Limits and usage of real processes, over the wire. What only a cgroup enforces is in cgroups.test.ts. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { readRoot, sandbox } from "../support/sandbox.js"
import { hasBubblewrap, webSocketServer } from "../support/servers.js"

const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "limits-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true }))
)

const everything = { openFiles: 57, fileSizeBytes: 5120, coreBytes: 0, cpuSeconds: 7, nice: 6 }

/** Prints the limits that it has, soft and hard. */
const tell = "ulimit -Sn; ulimit -Hn; ulimit -f; ulimit -c; ulimit -t; nice; exit 4"

const lines = (text: string) => text.trim().split(/\r?\n/)

/** In blocks of 512 bytes; the CPU time is the soft limit. */
const told = ["57", "57", "10", "0", "7", "6"]

interface Way {
  readonly title: string
  readonly args?: ReadonlyArray<string>
  readonly more?: object
  readonly needsBubblewrap?: boolean
}

const ways: ReadonlyArray<Way> = [
  { title: "on pipes" },
  { title: "on a terminal", more: { tty: true } },
  { title: "without cgroups", args: ["--cgroup", "none"] },
  { title: "in a namespace", args: ["--contain", "namespace"], needsBubblewrap: true },
  {
    title: "in a namespace, on a terminal",
    args: ["--contain", "namespace"],
    more: { tty: true },
    needsBubblewrap: true
  },
  { title: "in a sandbox", more: { sandbox: sandbox([readRoot]) }, needsBubblewrap: true }
]

describe("limits of each process", () => {
  for (const { title, args = [], more = {}, needsBubblewrap = false } of ways) {
    if (needsBubblewrap && !hasBubblewrap) continue
    it.scopedLive(`are set ${title}, and told what was used`, () =>
      Effect.gen(function* () {
        const server = yield* webSocketServer({ args })
        const client = yield* server.connect
        yield* client.handshake()
        yield* client.sh("p", tell, { limits: everything, ...more })
        assert.deepInclude(yield* client.closed("p"), { exitCode: 4 })
        assert.deepStrictEqual(lines(client.output("p", "tty" in more ? "pty" : "stdout").toString()), told)
        const { usage } = yield* client.ask("process/wait", { processId: "p" })
        assert.isAtLeast(usage.userCpuMs + usage.systemCpuMs, 0)
      })
    )
  }

  it.scopedLive("are set for each restart", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer()
      const client = yield* server.connect
      yield* client.handshake()
      const restart = { policy: "onFailure", maxRestarts: 1, withinMs: 60_000, backoffMs: 1, maxBackoffMs: 1 }
      yield* client.sh("p", "ulimit -n; exit 1", { limits: { openFiles: 43 }, restart })
      yield* client.closed("p")
      assert.deepStrictEqual(lines(client.output("p").toString()), ["43", "43"])
    })
  )

  it.scopedLive("end what exceeds them: a file, CPU time, address space", () =>
    Effect.gen(function* () {
      const dir = yield* folder
      const server = yield* webSocketServer()
      const client = yield* server.connect
      yield* client.handshake()
      yield* client.sh("file", `exec head -c 100000 /dev/zero > ${dir}/f`, { limits: { fileSizeBytes: 5000 } })
      assert.deepInclude(yield* client.closed("file"), { signal: "SIGXFSZ" })
      assert.lengthOf(readFileSync(`${dir}/f`), 5000)
      yield* client.sh("time", "while :; do :; done", { limits: { cpuSeconds: 1 } })
      assert.deepInclude(yield* client.closed("time"), { signal: "SIGXCPU" })
      const { usage } = yield* client.ask("process/wait", { processId: "time" })
      assert.isAtLeast(usage.userCpuMs + usage.systemCpuMs, 500)
      yield* client.sh("space", `exec head -c 1 /dev/zero`, { limits: { addressSpaceBytes: 1048576 } })
      assert.notStrictEqual((yield* client.closed("space")).exitCode, 0)
    })
  )

  it.scopedLive("beyond those of the server, and names that there are not, are refused", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer()
      const client = yield* server.connect
      yield* client.handshake()
      const refused = (limits: object) =>
        Effect.map(
          client.call("process/start", { processId: "p", argv: ["true"], cwd: "/", env: {}, tty: false, limits }),
          ({ error }) => error
        )
      const beyond = yield* refused({ openFiles: 1073741816 })
      assert.strictEqual(beyond.code, -32600)
      assert.match(beyond.message, /^`limits\.openFiles` 1073741816 exceeds the hard limit of this server, \d+; raise/)
      const unknown = yield* refused({ memory: 1 })
      assert.strictEqual(unknown.code, -32602)
      assert.match(unknown.message, /^unknown limit `limits\.memory`; the limits are memoryBytes, cpus, /)
      assert.strictEqual((yield* refused({ cpus: 0 })).code, -32602)
      assert.strictEqual((yield* refused({ nice: -1 })).code, -32602)
    })
  )

  it.scopedLive("that need a cgroup are refused without one, with what to do", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer({ args: ["--cgroup", "none"] })
      const client = yield* server.connect
      yield* client.handshake()
      for (const limits of [{ memoryBytes: 1e9 }, { cpus: 1 }, { pids: 9 }]) {
        const params = { processId: "p", argv: ["true"], cwd: "/", env: {}, tty: false, limits }
        const { error } = yield* client.call("process/start", params)
        assert.strictEqual(error.code, -32600)
        assert.include(error.message, "needs a cgroup, and this server makes none: its setting cgroup is none")
      }
    })
  )
})

describe("the usage in process/exited", () => {
  it.scopedLive("is there for clients that ask for it, and the notification of others is as it was", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer()
      const plain = yield* server.connect
      yield* plain.handshake()
      yield* plain.sh("p", "exit 3")
      const before = ["processId", "seq", "exitCode", "signal", "sandboxDenied"]
      assert.deepStrictEqual(Object.keys(yield* plain.closed("p")), before)
      const asking = yield* server.connect
      asking.capabilities = { exitUsage: true }
      assert.deepStrictEqual((yield* asking.handshake()).capabilities, { exitUsage: true })
      yield* asking.start("p", [process.execPath, "-e", "Buffer.alloc(4e8, 1)"])
      const { usage } = yield* asking.closed("p")
      assert.isAbove(usage.maxRssBytes, 4e8)
      assert.isBelow(usage.maxRssBytes, 2e9)
      assert.isAbove(usage.userCpuMs + usage.systemCpuMs, 20)
      // Less than the server has used is not the server's memory.
      yield* asking.sh("small", "exit 0")
      assert.isNull((yield* asking.closed("small")).usage.maxRssBytes)
    })
  )
})
