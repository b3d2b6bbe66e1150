/** What operators see and change of a fleet: the commands, who may, and the metrics. */
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { command, nowhere, start as startCommand } from "../support/command.js"
import { databases, folder, gateway, host } from "../support/fleet.js"
import { connectTo, eventually } from "../support/servers.js"
import type { Json } from "../support/TestClient.js"

const test = (name: string, body: () => Effect.Effect<unknown, unknown, Scope.Scope>) =>
  it.scopedLive(name, body, 90_000)

const httpOf = (url: string) => url.replace(/^ws/, "http")

describe("operators of a fleet", () => {
  const database = databases()

  const fleetOf = (url: string) => {
    const run = (...args: ReadonlyArray<string>) => command(["fleet", ...args, "--url", url], { env: nowhere })
    const json = (...args: ReadonlyArray<string>) =>
      Effect.map(
        run(...args, "--json"),
        ({ stdout }): ReadonlyArray<Json> =>
          stdout
            .split("\n")
            .filter((line) => line !== "")
            .map((line) => JSON.parse(line))
      )
    return { run, json }
  }

  test("lists hosts, sessions, gateways and who waits; cordons, ends, forgets, and drains", () =>
    Effect.gen(function* () {
      const door = yield* gateway(yield* database, ["--lease", "4s"])
      const { run, json } = fleetOf(door.url)
      const gpu = yield* host(door, "h1", { args: ["--capacity", "1", "--labels", "gpu,eu"] })
      const client = yield* connectTo(door.url)
      yield* client.handshake()
      const table = yield* run("hosts")
      assert.match(
        table.stdout,
        /^ID +STATE +SESSIONS +LABELS +VERSION +EPOCH +LEASE +GATEWAY\nh1 +ready +1\/1 +gpu,eu /
      )
      const [session] = yield* json("sessions", "--host", "h1")
      assert.deepInclude(session, { host: "h1", state: "attached" })
      assert.deepEqual(yield* json("sessions", "--host", "h2"), [])
      const [own] = yield* json("gateways")
      assert.strictEqual(own.url, door.url)

      const waiter = yield* connectTo(`${door.url}/?label=gpu`)
      const asked = waiter.post("initialize", { clientName: "w", resumeSessionId: null })
      const waits: Effect.Effect<Json> = Effect.suspend(() =>
        Effect.flatMap(json("waiting"), ([row]) => (row === undefined ? waits : Effect.succeed(row)))
      )
      assert.deepInclude(yield* waits, { labels: ["gpu"] })
      // Its place is free now, and the one that waits gets it.
      const { code } = yield* run("end", session.key.slice(0, 13))
      assert.strictEqual(code, 0)
      assert.isString((yield* waiter.reply(asked)).result?.sessionId)
      yield* eventually("the session's client is cut off", () => client.ending !== undefined)

      assert.deepEqual(yield* json("cordon", "h1"), [{ host: "h1", state: "cordoned" }])
      assert.match((yield* run("hosts")).stdout, /h1 +cordoned/)
      yield* run("ready", "h1")
      assert.match((yield* run("hosts")).stdout, /h1 +ready/)
      const busy = yield* run("forget", "h1")
      assert.strictEqual(busy.code, 1)
      assert.include(busy.stderr, "h1 has not left, and is not lost")
      yield* run("drain", "h1", "--deadline", "1s")
      assert.strictEqual(yield* gpu.exit, 0)
      const [lost] = yield* json("sessions", "--lost")
      assert.deepInclude(lost, { host: "h1", state: "lost", reason: "its host has left" })
      assert.match((yield* run("sessions", "--lost")).stdout, /lost \d+ s ago/)
      yield* run("forget", "h1")
      assert.deepEqual(yield* json("hosts"), [])
      const unknown = yield* run("cordon", "h9")
      assert.strictEqual(unknown.code, 1)
      assert.include(unknown.stderr, "the fleet has no host h9")
    }))

  test("a quota is set for one subject, and holds at once", () =>
    Effect.gen(function* () {
      const door = yield* gateway(yield* database)
      const { run, json } = fleetOf(door.url)
      yield* host(door, "h1")
      const first = yield* connectTo(door.url)
      yield* first.handshake()
      const [{ subject }] = yield* json("quota")
      assert.deepEqual(yield* json("quota", subject, "--sessions", "1"), [{ subject, sessions: 1 }])
      assert.deepEqual(yield* json("quota"), [{ subject, used: 1, max: 1 }])
      const second = yield* connectTo(door.url)
      const { error }: Json = yield* second.call("initialize", { clientName: "t", resumeSessionId: null })
      assert.include(error.message, "as many sessions as its quota allows")
      yield* run("quota", subject, "--sessions", "default")
      yield* second.handshake()
      assert.include((yield* run("quota", subject, "--sessions", "many")).stderr, "--sessions must be a number")
      const watched = yield* run("quota", subject, "--sessions", "1", "--watch")
      assert.include(watched.stderr, "--watch is for the list of quotas")
    }))

  test("a label of `run` selects the host", () =>
    Effect.gen(function* () {
      const door = yield* gateway(yield* database, ["--wait", "1s"])
      yield* host(door, "h1")
      yield* host(door, "h2", { args: ["--capacity", "2", "--labels", "gpu"], env: { WHERE: "on the gpu" } })
      const runs = yield* command(["run", "--url", door.url, "--label", "gpu", "--", "sh", "-c", "echo $WHERE"])
      assert.strictEqual(runs.stdout, "on the gpu\n")
      const none = yield* command(["run", "--url", door.url, "--label", "tpu", "--", "true"])
      assert.include(none.stderr, "no host with the label tpu is ready")
      const local = yield* command(["run", "--label", "gpu", "--", "true"])
      assert.include(local.stderr, "--label needs the address of a fleet")
    }))

  test("clients may not operate, viewers may look, operators may both; nobody without a token, and no web page", () =>
    Effect.gen(function* () {
      const path = yield* folder
      const file = (name: string) => {
        const at = join(path, name)
        writeFileSync(at, `${name}-0123456789abcdef0123456789abcdef`, { mode: 0o600 })
        return at
      }
      const [client, viewer, operator] = [file("client"), file("viewer"), file("operator")]
      const auth = ["--ws-auth", "capability-token", "--ws-token-file", client]
      const roles = ["--console-token-file", operator, "--console-viewer-token-file", viewer]
      const door = yield* gateway(yield* database, [...auth, ...roles])
      yield* host(door, "h1")
      const { run } = fleetOf(door.url)
      const look = (token: string) => run("hosts", "--token-file", token)
      const change = (token: string) => run("cordon", "h1", "--token-file", token)
      assert.include((yield* run("hosts")).stderr, "the token is missing or wrong")
      assert.include((yield* look(client)).stderr, "the token of a fleet's viewer or operator")
      assert.strictEqual((yield* look(viewer)).code, 0)
      assert.include((yield* change(viewer)).stderr, "the token of a fleet's operator")
      assert.include((yield* look(operator)).stdout, "ready")
      assert.strictEqual((yield* change(operator)).code, 0)
      const status = (headers: Record<string, string>, path = "/fleet/hosts") =>
        Effect.promise(async () => (await fetch(httpOf(door.url) + path, { headers })).status)
      const authorization = "Bearer operator-0123456789abcdef0123456789abcdef"
      assert.strictEqual(yield* status({ authorization }), 200)
      assert.strictEqual(yield* status({ authorization, origin: "https://elsewhere.example" }), 403)
      assert.strictEqual(yield* status({ authorization }, "/fleet/nothing"), 404)
      assert.strictEqual(yield* status({ authorization }, "/fleet/%ff"), 400)
      assert.strictEqual(yield* status({}, "/metrics"), 401)
    }))

  test("the metrics tell of hosts, sessions, placements, resumptions and bytes, and name nobody", () =>
    Effect.gen(function* () {
      const door = yield* gateway(yield* database, ["--quota", "2"])
      yield* host(door, "a-host", { args: ["--capacity", "7"] })
      const run = yield* startCommand(["run", "--url", door.url, "--", "sh", "-c", "echo ready; read line; echo $line"])
      yield* eventually("it runs", () => run.stdout().includes("ready"))
      const second = yield* connectTo(door.url)
      const id: string = (yield* second.handshake()).sessionId
      const third = yield* connectTo(door.url)
      yield* third.call("initialize", { clientName: "t", resumeSessionId: null })
      yield* third.call("initialize", { clientName: "t", resumeSessionId: "nonsense" })
      second.carrier.close()
      const again = yield* connectTo(door.url)
      yield* again.resume(id)
      const text = yield* Effect.promise(async () => (await fetch(`${httpOf(door.url)}/metrics`)).text())
      const value = (sample: string) => {
        const line = text.split("\n").find((line) => line.startsWith(`${sample} `))
        return line === undefined ? undefined : Number(line.slice(sample.length + 1))
      }
      assert.strictEqual(value('exec_fleet_hosts{state="ready"}'), 1)
      assert.strictEqual(value('exec_fleet_hosts{state="lost"}'), 0)
      assert.strictEqual(value("exec_fleet_capacity"), 7)
      assert.strictEqual(value('exec_fleet_sessions{state="attached"}'), 2)
      assert.strictEqual(value("exec_fleet_waiting"), 0)
      assert.strictEqual(value("exec_fleet_place_seconds_count"), 2)
      assert.strictEqual(value('exec_fleet_placements_total{outcome="placed"}'), 2)
      assert.strictEqual(value('exec_fleet_placements_total{outcome="quota"}'), 1)
      assert.strictEqual(value('exec_fleet_resumes_total{outcome="resumed"}'), 1)
      assert.strictEqual(value('exec_fleet_resumes_total{outcome="unknown"}'), 1)
      assert.strictEqual(value('exec_fleet_lost_total{reason="lease"}'), 0)
      assert.strictEqual(value("exec_fleet_database_up"), 1)
      assert.strictEqual(value("exec_fleet_carried"), 2)
      assert.isAbove(value("exec_fleet_lease_remaining_seconds") ?? 0, 5)
      assert.isAbove(value('exec_fleet_bytes_total{direction="out"}') ?? 0, 100)
      assert.notInclude(text, "a-host")
      assert.notInclude(text, "local:")
      run.child.stdin?.end("done\n")
      yield* run.exit
    }))
})
