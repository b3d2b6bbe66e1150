/** A server under a service manager, over an upgrade: what it is told, and the sockets that it has passed. */
import { randomUUID } from "node:crypto"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as ExecClient from "../../src/client/ExecClient.js"
import { bytesOf } from "../../src/client/HeadTail.js"
import { command } from "../support/command.js"
import { type ManagerOptions, managed } from "../support/manager.js"
import { binary, eventually } from "../support/servers.js"
import { temporary, versionBeside } from "../support/upgrades.js"

const env = { PATH: process.env["PATH"] ?? "" }

/** A server under a manager, which can be upgraded. */
const upgradable = (options: ManagerOptions, listen: string) =>
  Effect.gen(function* () {
    const socket = join(yield* temporary, "control.sock")
    const notify = `@exec-server-${randomUUID()}`
    const server = yield* managed({ notify, ...options }, ["--listen", listen, "--control-socket", socket])
    const { told: ready } = yield* server.hears("READY=1")
    const ask = (entry: string) => command(["upgrade", "--control-socket", socket, "--command", entry])
    const upgrade = (entry: string) =>
      Effect.map(ask(entry), ({ code, stderr }) => assert.strictEqual(code, 0, `${stderr}\n${server.printed()}`))
    /** What the manager was told, the watchdog's answers left out; each with the pid that has told it. */
    const states = () => server.told().filter(({ told }) => told !== "WATCHDOG=1")
    return { ...server, url: ready.replace(/^READY=1\nSTATUS=listening on /, ""), ask, upgrade, states }
  })

/** Microseconds of the clock that a manager compares with. */
const monotonicUs = () => Number(process.hrtime.bigint() / 1000n)

describe("a service manager, over an upgrade", () => {
  it.live("is told when it begins and that the server is ready again, by the same process", () =>
    Effect.gen(function* () {
      const server = yield* upgradable({}, "ws://127.0.0.1:0")
      const from = monotonicUs()
      for (const entry of [yield* versionBeside("9.9.9"), binary]) yield* server.upgrade(entry)
      yield* eventually("the manager has heard all of it", () => server.states().length >= 5)
      const [, ...states] = server.states()
      const ready = `READY=1\nSTATUS=listening on ${server.url}`
      const reloading = /^RELOADING=1\nMONOTONIC_USEC=(\d+)\nSTATUS=another version is about to take over$/
      assert.lengthOf(states, 4)
      for (const index of [0, 2]) {
        const at = Number(reloading.exec(states[index]?.told ?? "")?.[1])
        assert.isAtLeast(at, from, "not the clock of this machine")
        assert.isAtMost(at, monotonicUs())
        assert.strictEqual(states[index + 1]?.told, ready)
      }
      assert.deepStrictEqual(new Set(states.map(({ from }) => from)), new Set([server.pid]))
    }).pipe(Effect.scoped)
  )

  it.live("is told that the server is ready again if the new version fails", () =>
    Effect.gen(function* () {
      const server = yield* upgradable({ env: { WATCHDOG_USEC: "200000" } }, "ws://127.0.0.1:0")
      const { code } = yield* server.ask(yield* versionBeside("9.9.9", "process.exit(3)"))
      assert.strictEqual(code, 1)
      yield* eventually("the manager has heard all of it", () => server.states().length >= 3)
      assert.deepStrictEqual(
        server.states().map(({ told }) => told.split("\n")[0]),
        ["READY=1", "RELOADING=1", "READY=1"]
      )
      const before = server.told().length
      yield* eventually("the watchdog is answered", () => server.told().length > before + 3)
    }).pipe(Effect.scoped)
  )

  it.live("hears from the watchdog again, and no process inherits its variables", () =>
    Effect.gen(function* () {
      const server = yield* upgradable({ env: { WATCHDOG_USEC: "200000" } }, "ws://127.0.0.1:0")
      yield* server.upgrade(yield* versionBeside("9.9.9"))
      yield* eventually("the manager has heard all of it", () => server.states().length >= 3)
      const before = server.told().length
      yield* eventually("the watchdog is answered", () => server.told().length > before + 3)
      assert.deepStrictEqual(server.told().slice(before)[0], { told: "WATCHDOG=1", from: server.pid })
      const client = yield* ExecClient.connectWebSocket({ url: server.url })
      const envPolicy = { inherit: "all", ignoreDefaultExcludes: true, exclude: [], set: {}, includeOnly: [] } as const
      const { stdout } = yield* (yield* client.start({ argv: ["env"], cwd: "/", env: {}, envPolicy })).communicate()
      assert.include(bytesOf(stdout).toString(), "PATH=")
      assert.notMatch(bytesOf(stdout).toString(), /NOTIFY_SOCKET|LISTEN_|WATCHDOG_/)
    }).pipe(Effect.scoped)
  )

  it.live.each([["tcp"], ["unix"]] as const)("has passed a socket that still accepts (%s)", ([kind]) =>
    Effect.gen(function* () {
      const path = join(yield* temporary, "socket")
      // The second of two: the number of the descriptor matters.
      const socket = kind === "tcp" ? { name: "used", tcp: "127.0.0.1" } : { name: "used", unix: path }
      const sockets = [{ name: "other", tcp: "127.0.0.1" }, socket]
      const server = yield* upgradable({ sockets }, "fd://used")
      assert.strictEqual(server.url, kind === "tcp" ? `ws://127.0.0.1:${server.addresses[1]}` : `unix://${path}`)
      const before = yield* ExecClient.connectWebSocket({ url: server.url })
      const cat = yield* before.start({ argv: ["cat"], cwd: "/", env, pipeStdin: true })
      for (const entry of [yield* versionBeside("9.9.9"), binary]) {
        yield* server.upgrade(entry)
        const after = yield* ExecClient.connectWebSocket({ url: server.url })
        const { exit } = yield* (yield* after.start({ argv: ["sh", "-c", "exit 7"], cwd: "/", env })).communicate()
        assert.strictEqual(exit.exitCode, 7)
      }
      const { stdout } = yield* cat.communicate({ input: "still here\n" })
      assert.strictEqual(bytesOf(stdout).toString(), "still here\n")
    }).pipe(Effect.scoped)
  )
})
