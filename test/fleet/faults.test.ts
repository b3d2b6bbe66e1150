/** What a fleet on PostgreSQL does when its parts are killed, frozen or away. */
import { type AddressInfo, createConnection, createServer, type Socket } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { start as startCommand } from "../support/command.js"
import { fleet, hasPostgres, query, resumed, sessionOf } from "../support/fleet.js"
import { connectTo, eventually } from "../support/servers.js"
import type { Json } from "../support/TestClient.js"

/** What stands in front of gateways: a new connection goes to the first one that accepts it. */
const balancer = (urls: ReadonlyArray<string>) =>
  Effect.acquireRelease(
    Effect.async<{ readonly url: string; readonly close: () => void }>((resume) => {
      const open = new Set<Socket>()
      const server = createServer({ pauseOnConnect: true }, (client) => {
        open.add(client)
        client.on("error", () => client.destroy())
        const attempt = ([first, ...others]: ReadonlyArray<string>): void => {
          if (first === undefined) return void client.destroy()
          const upstream = createConnection({ host: "127.0.0.1", port: Number(new URL(first).port) })
          upstream.once("error", () => attempt(others))
          upstream.once("connect", () => {
            open.add(upstream)
            upstream.removeAllListeners("error")
            upstream.on("error", () => client.destroy())
            upstream.once("close", () => client.destroy())
            client.once("close", () => upstream.destroy())
            upstream.pipe(client)
            client.pipe(upstream)
          })
        }
        attempt(urls)
      })
      server.listen(0, "127.0.0.1", () => {
        const { port } = server.address() as AddressInfo
        const close = () => {
          server.close()
          for (const socket of open) socket.destroy()
        }
        resume(Effect.succeed({ url: `ws://127.0.0.1:${port}`, close }))
      })
    }),
    ({ close }) => Effect.sync(close)
  )

const test = (name: string, body: () => Effect.Effect<unknown, unknown, Scope.Scope>) =>
  it.scopedLive(name, body, 120_000)

describe.skipIf(!hasPostgres)("a fleet on PostgreSQL", () => {
  test("a gateway is killed: a command that runs through it goes on, and no line is lost or doubled", () =>
    Effect.gen(function* () {
      const { database, one, two } = yield* fleet(["h1", "h2"])
      const { url } = yield* balancer([one.url, two.url])
      const count = "i=0; while [ $i -lt 60 ]; do i=$((i+1)); echo $i; sleep 0.1; done"
      const runs = yield* Effect.forEach([1, 2, 3, 4], () =>
        startCommand(["run", "--url", url, "--", "sh", "-c", count])
      )
      yield* eventually("all of them run", () => runs.every(({ stdout }) => stdout().includes("\n10\n")), 30_000)
      one.child.kill("SIGKILL")
      const wanted = Array.from({ length: 60 }, (_, i) => `${i + 1}\n`).join("")
      for (const { exit, stdout } of runs) {
        assert.strictEqual(yield* exit, 0)
        assert.strictEqual(stdout(), wanted)
      }
      const used = "select id, used from fleet_host order by id"
      assert.deepEqual(
        (yield* query(database.url, used)).map(({ used }) => used),
        [2, 2],
        "by load"
      )
    }))

  test("a gateway is frozen: its sessions are resumed at the other, and nothing moves back after it", () =>
    Effect.gen(function* () {
      const { database, one, two } = yield* fleet(["h1"])
      const client = yield* connectTo(one.url)
      const id = yield* sessionOf(client)
      one.child.kill("SIGSTOP")
      const { ms, client: again } = yield* resumed([two], id, 12_000)
      assert.isBelow(ms, 12_000)
      const fresh = yield* connectTo(two.url)
      yield* fresh.handshake()
      one.child.kill("SIGCONT")
      yield* eventually("the old connection has ended", () => client.ending !== undefined)
      yield* Effect.sleep("2 seconds")
      const rows = yield* query(
        database.url,
        "select g.url, s.state from fleet_session s join fleet_gateway g on g.id = s.gateway"
      )
      assert.deepEqual(rows, [
        { url: two.url, state: "attached" },
        { url: two.url, state: "attached" }
      ])
      assert.isUndefined(again.ending)
    }))

  test("a client that comes to the other gateway with a session that is in use is refused, and moves nothing", () =>
    Effect.gen(function* () {
      const { database, one, two } = yield* fleet(["h1"])
      const first = yield* connectTo(one.url)
      const id = yield* sessionOf(first)
      for (const { url } of [two, one, two]) {
        const second = yield* connectTo(url)
        const { error }: Json = yield* second.call("initialize", { clientName: "t", resumeSessionId: id })
        assert.deepInclude(error, { code: -32010, message: `session ${id} is already attached to another connection` })
      }
      assert.deepEqual(yield* first.ask("environment/status"), { status: "ready" }, "it is served on")
      first.carrier.close()
      const { client: again } = yield* resumed([two], id, 5000)
      const late = yield* connectTo(one.url)
      const { error }: Json = yield* late.call("initialize", { clientName: "t", resumeSessionId: id })
      assert.strictEqual(error.code, -32010)
      const rows = query(database.url, "select state, gateway from fleet_session")
      const names = yield* query(database.url, `select id from fleet_gateway where url = '${two.url}'`)
      yield* Effect.repeat(rows, { until: ([row]) => row?.["gateway"] === names[0]?.["id"] })
      assert.deepEqual(yield* rows, [{ state: "attached", gateway: names[0]?.["id"] }])
      assert.isUndefined(again.ending)
    }))

  test("PostgreSQL is away for longer than a lease: nobody is lost, resumptions work, new sessions wait", () =>
    Effect.gen(function* () {
      const { database, one, two } = yield* fleet(["h1", "h2"], ["--lease", "5s", "--wait", "3s"])
      const clients = yield* Effect.forEach([one, two, one, two], ({ connect }) => connect)
      const ids = yield* Effect.forEach(clients, sessionOf)
      // The gateways' leases must have held for a lease: otherwise nobody could be lost anyway.
      yield* Effect.sleep("6 seconds")
      yield* database.stop
      clients[0]?.carrier.close()
      const { ms } = yield* resumed([two, one], ids[0] ?? "", 5000)
      assert.isBelow(ms, 5000)
      const late = yield* two.connect
      const refused: Json = yield* late.call("initialize", { clientName: "t", resumeSessionId: null })
      assert.include(refused.error.message, "the directory of the fleet cannot be asked")
      yield* Effect.sleep("7 seconds")
      yield* database.start
      const placed = late.post("initialize", { clientName: "t", resumeSessionId: null })
      const answer: Json = yield* late.reply(placed)
      assert.isString(answer.result?.sessionId, JSON.stringify(answer))
      yield* Effect.sleep("6 seconds")
      const epochs = yield* query(database.url, "select epoch from fleet_host")
      assert.deepEqual(epochs, [{ epoch: 1 }, { epoch: 1 }])
      for (const { ending } of clients.slice(1)) assert.isUndefined(ending, "nobody was cut")
    }))

  test("a host is killed: its sessions are lost after a lease, those of others go on", () =>
    Effect.gen(function* () {
      const { one, two, hosts } = yield* fleet(["h1", "h2"], ["--lease", "5s"])
      const clients = yield* Effect.forEach([one, two], ({ connect }) => connect)
      const ids = yield* Effect.forEach(clients, sessionOf)
      yield* Effect.sleep("6 seconds")
      hosts[0]?.child.kill("SIGKILL")
      yield* eventually("one client is cut off", () => clients.some(({ ending }) => ending !== undefined))
      const lost = clients.findIndex(({ ending }) => ending !== undefined)
      const begunAt = Date.now()
      const told: Effect.Effect<Json, never, Scope.Scope> = Effect.gen(function* () {
        const again = yield* two.connect
        again.post("initialize", { clientName: "t", resumeSessionId: ids[lost] })
        yield* eventually("an answer", () => again.hasReply(1) || again.ending !== undefined)
        return again.hasReply(1) ? yield* again.reply(1) : yield* Effect.zipRight(Effect.sleep("200 millis"), told)
      })
      const { error }: Json = yield* told
      assert.strictEqual(error.code, -32600)
      assert.include(error.message, "its host was lost")
      assert.isBelow(Date.now() - begunAt, 12_000)
      assert.isUndefined(clients[1 - lost]?.ending)
    }))
})
