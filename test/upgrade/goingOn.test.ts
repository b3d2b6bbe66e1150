/** What a server promises beside its processes' output, over upgrades of a real one. */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { version } from "../../src/internal/Package.js"
import { scrape } from "../support/metrics.js"
import { answer } from "../support/raw.js"
import { binary, connectTo, eventually, guardOf, runningWith } from "../support/servers.js"
import { temporary, upgradable, versionBeside } from "../support/upgrades.js"
import { attach } from "../support/viewer.js"

/** Connects again, and resumes a session with these processes. */
const resumed = (url: string, sessionId: string, processIds: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const client = yield* connectTo(url)
    client.capabilities = { exitUsage: true }
    yield* client.resume(sessionId)
    for (const processId of processIds) client.knows(processId)
    return client
  })

/** A server with a client whose session can be resumed. */
const served = (args: ReadonlyArray<string> = []) =>
  Effect.gen(function* () {
    const server = yield* upgradable({ args })
    const client = yield* connectTo(server.url)
    client.capabilities = { exitUsage: true }
    const { sessionId } = yield* client.handshake({ resumeSessionId: null })
    return { server, client, sessionId, again: (...ids: ReadonlyArray<string>) => resumed(server.url, sessionId, ids) }
  })

describe("over an upgrade", () => {
  it.scopedLive("go shares, as long as before and for as many", () =>
    Effect.gen(function* () {
      const { server, client, again } = yield* served()
      yield* client.sh("p", "echo hello; read line; echo got $line; exec sleep 1000", { pipeStdin: true })
      yield* client.sees("p", "hello")
      const share = (more: object) => client.ask("share/create", { processId: "p", role: "viewer", ...more })
      const lasting = yield* share({ expiresInMs: 600_000, maxViewers: 1, label: "for you" })
      const short = yield* share({ expiresInMs: 6000 })
      const created = performance.now()
      const revoked = yield* share({ expiresInMs: 600_000 })
      yield* client.ask("share/revoke", { shareId: revoked.shareId })
      const [{ session }] = (yield* client.ask("session/list")).sessions
      const status = (token: string) =>
        Effect.map(answer(`${server.url}/`, "GET", { authorization: `Bearer ${token}` }), ({ status }) => status)
      const known = yield* status(lasting.token)
      assert.strictEqual(yield* status(revoked.token), 401)
      assert.notStrictEqual(known, 401)

      yield* server.upgrade(yield* versionBeside("9.9.9"))
      const owner = yield* again("p")
      const { shares } = yield* owner.ask("share/list")
      assert.deepStrictEqual(
        shares.map(({ shareId, label }: { shareId: string; label: string }) => [shareId, label]),
        [
          [lasting.shareId, "for you"],
          [short.shareId, null]
        ]
      )
      assert.deepStrictEqual(yield* Effect.forEach([lasting, revoked], ({ token }) => status(token)), [known, 401])
      const as = (token: string) => connectTo(server.url, { headers: { authorization: `Bearer ${token}` } })
      const viewer = yield* as(lasting.token)
      yield* viewer.handshake()
      const seen = yield* attach(viewer, "p", { session })
      seen.ack(0)
      yield* seen.sees("hello")
      yield* owner.write("p", "it\n")
      yield* seen.sees("got it")
      const second = yield* as(lasting.token)
      assert.match(String((yield* second.ended()).reason), /as many viewers as it permits/)
      yield* eventually("the short one has expired", () => performance.now() - created > 6100)
      assert.strictEqual(yield* status(short.token), 401)
    })
  )

  it.scopedLive("counters go on counting", () =>
    Effect.gen(function* () {
      const { server, client, again } = yield* served()
      yield* client.sh("p", "printf 0123456789")
      yield* client.closed("p")
      const [started, starts, output] = [
        "exec_server_processes_started_total",
        'exec_server_requests_total{method="process/start",code="ok"}',
        'exec_server_process_output_bytes_total{stream="stdout"}'
      ]
      const before = yield* scrape(server.url)
      for (const name of [started, starts]) assert.strictEqual(before.get(name), 1, name)
      for (const entry of [yield* versionBeside("9.9.9"), binary]) yield* server.upgrade(entry)
      const next = yield* again()
      yield* next.sh("q", "printf 01234")
      yield* next.closed("q")
      const after = yield* scrape(server.url)
      for (const name of [started, starts]) assert.strictEqual(after.get(name), 2, name)
      assert.strictEqual(after.get(output), (before.get(output) ?? Number.NaN) + 5)
      for (const [name, value] of before) {
        if (/_total\b/.test(name)) assert.isAtLeast(after.get(name) ?? -1, value, name)
      }
    })
  )

  it.scopedLive("processes keep their limits, and what they have used", () =>
    Effect.gen(function* () {
      const { server, client, again } = yield* served()
      const burn = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"
      const limits = { openFiles: 77, nice: 3 }
      const restart = { policy: "always", maxRestarts: 1, withinMs: 600_000, backoffMs: 10, maxBackoffMs: 10 }
      const shown = "ulimit -n; nice"
      yield* client.sh("p", `${burn}; echo burnt; read line; ${shown}`, { pipeStdin: true, limits })
      yield* client.sh("r", `echo ready; read line; ${shown}`, { pipeStdin: true, limits, restart })
      yield* client.sees("p", "burnt")
      yield* client.sees("r", "ready")
      const { cpuMs } = yield* client.ask("process/usage", { processId: "p" })
      yield* server.upgrade(yield* versionBeside("9.9.9"))
      const next = yield* again("p", "r")
      assert.isAtLeast((yield* next.ask("process/usage", { processId: "p" })).cpuMs, cpuMs)
      yield* next.write("p", "go\n")
      const { usage } = yield* next.exited("p")
      assert.isAtLeast(usage.userCpuMs + usage.systemCpuMs, cpuMs)
      assert.isAbove(usage.userCpuMs, 0)
      yield* next.closed("p")
      assert.include(String(next.output("p")), "77\n3\n")
      // Its second run is one of the new version's.
      yield* next.ask("process/closeStdin", { processId: "r" })
      yield* next.closed("r")
      assert.strictEqual(String(next.output("r")).split("77\n3\n").length, 3)
    })
  )

  it.scopedLive("a detached session keeps its deadline", () =>
    Effect.gen(function* () {
      const { server, client } = yield* served(["--detached-session-ttl-ms", "20000"])
      const mark = String(86_400_000 + (server.pid % 100_000))
      yield* client.start("p", ["sleep", mark])
      client.carrier.close()
      yield* client.ended()
      const detached = performance.now()
      for (const next of [yield* versionBeside("9.9.9"), binary]) yield* server.upgrade(next)
      assert.lengthOf(runningWith(mark), 1)
      const upgraded = performance.now()
      yield* eventually("the session has expired", () => runningWith(mark).length === 0, 30_000)
      const [ended, since] = [performance.now() - detached, performance.now() - upgraded]
      assert.isAbove(ended, 19_500)
      assert.isBelow(since, 19_500, "its time began anew")
    })
  )

  it.scopedLive("the same guard ends everything if the server is killed", () =>
    Effect.gen(function* () {
      const { server, client, again } = yield* served(["--cgroup", "none"])
      const mark = String(86_400_000 + (server.pid % 100_000))
      const script = `setsid sh -c 'trap "" TERM HUP; sleep ${mark}; :' & sleep ${mark}; :`
      for (let i = 0; i < 5; i++) yield* client.sh(`before${i}`, script, { tty: true })
      yield* eventually("the trees have grown", () => runningWith(mark).length === 5 * 4)
      const guard = guardOf(server.pid)
      assert.isDefined(guard)
      for (const entry of [yield* versionBeside("9.9.9"), binary]) yield* server.upgrade(entry)
      assert.strictEqual(guardOf(server.pid), guard)
      const next = yield* again()
      for (let i = 0; i < 5; i++) yield* next.sh(`after${i}`, script, { tty: true })
      yield* eventually("the trees have grown", () => runningWith(mark).length === 10 * 4)
      server.child.kill("SIGKILL")
      assert.strictEqual(yield* server.exit, "SIGKILL")
      yield* eventually("nothing survives", () => runningWith(mark).length === 0)
    })
  )

  it.scopedLive("the audit log goes on, and has who asked for it and what came of it", () =>
    Effect.gen(function* () {
      const path = join(yield* temporary, "audit")
      const { server, client, again } = yield* served(["--audit-log", path])
      yield* client.sh("p", "read line; exit 7", { pipeStdin: true })
      yield* server.upgrade(yield* versionBeside("9.9.9"))
      assert.strictEqual((yield* server.ask(yield* versionBeside("9.9.10", "process.exit(3)"))).code, 1)
      const next = yield* again("p")
      yield* next.ask("process/closeStdin", { processId: "p" })
      yield* next.exited("p")
      const entries = readFileSync(path, "utf8")
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line))
      const upgrades = entries.filter(({ event }) => event.startsWith("server."))
      assert.deepStrictEqual(
        upgrades.map(({ event, from, to }) => [event, from, to]),
        [
          ["server.upgrade", version, "9.9.9"],
          ["server.upgraded", version, "9.9.9"],
          ["server.upgrade", "9.9.9", "9.9.10"],
          ["server.upgradeFailed", "9.9.9", "9.9.10"]
        ]
      )
      for (const { sessionId, subject, peer } of upgrades) {
        assert.strictEqual(sessionId, null)
        assert.strictEqual(subject, `local:${process.getuid?.()}`)
        assert.match(peer, /^process \d+$/)
      }
      assert.deepInclude(entries.at(-1), { event: "process.exited", processId: "p", exitCode: 7 })
    })
  )
})
