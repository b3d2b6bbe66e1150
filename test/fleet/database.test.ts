/** What gateways do when their database is frozen, cut off without a word, or away when they start. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { command } from "../support/command.js"
import { fleet, gateway, hasPostgres, host, postgres, query, resumed, sessionOf } from "../support/fleet.js"
import { swallowingProxy } from "../support/proxy.js"
import { connectTo, type WsServer } from "../support/servers.js"
import type { Json } from "../support/TestClient.js"

const test = (name: string, body: () => Effect.Effect<unknown, unknown, Scope.Scope>) =>
  it.scopedLive(name, body, 120_000)

/** Asks for a new session until there is a place, which must be soon. */
const placedAgain = ({ url }: Pick<WsServer, "url">) =>
  Effect.gen(function* () {
    const client = yield* connectTo(url)
    const begunAt = Date.now()
    for (;;) {
      const answer: Json = yield* client.call("initialize", { clientName: "t", resumeSessionId: null })
      if (answer.error === undefined) return client
      assert.isBelow(Date.now() - begunAt, 20_000, `no place: ${JSON.stringify(answer.error)}`)
      yield* Effect.sleep("200 millis")
    }
  })

const epochs = (url: string) =>
  Effect.map(query(url, "select epoch from fleet_host order by id"), (rows) => rows.map(({ epoch }) => epoch))

describe.skipIf(!hasPostgres)("a fleet whose database", () => {
  test("is frozen: what is connected goes on, new sessions are refused in time, and nobody is lost", () =>
    Effect.gen(function* () {
      const { database, one, two } = yield* fleet(["h1", "h2"], ["--lease", "5s", "--wait", "3s"])
      const clients = yield* Effect.forEach([one, two], ({ connect }) => connect)
      const ids = yield* Effect.forEach(clients, sessionOf)
      // Without this, the gateways' leases have not held for a lease, and nobody can be lost anyway.
      yield* Effect.sleep("6 seconds")
      yield* database.freeze
      clients[0]?.carrier.close()
      yield* resumed([two, one], ids[0] ?? "", 5000)
      const late = yield* two.connect
      const begunAt = Date.now()
      const refused: Json = yield* late.call("initialize", { clientName: "t", resumeSessionId: null })
      assert.include(refused.error.message, "the directory of the fleet cannot be asked")
      assert.isBelow(Date.now() - begunAt, 15_000)
      yield* Effect.sleep("7 seconds")
      yield* database.thaw
      yield* placedAgain(two)
      yield* Effect.sleep("6 seconds")
      assert.deepEqual(yield* epochs(database.url), [1, 1])
      assert.isUndefined(clients[1]?.ending, "nobody was cut")
    }))

  test("is out of one gateway's reach, without a word: that one goes on, the other places, and it finds back", () =>
    Effect.gen(function* () {
      const database = yield* postgres
      const proxy = yield* swallowingProxy(database.url)
      const cutOff = yield* gateway(database.url.replace(/:\d+\//, `:${new URL(proxy.url).port}/`), ["--wait", "3s"])
      const other = yield* gateway(database.url, ["--wait", "3s"])
      yield* host(cutOff, "h1", { gateways: 2 })
      const client = yield* cutOff.connect
      const id = yield* sessionOf(client)
      yield* proxy.swallow
      client.carrier.close()
      const { client: again } = yield* resumed([cutOff], id, 5000)
      yield* placedAgain(other)
      const late = yield* cutOff.connect
      const refused: Json = yield* late.call("initialize", { clientName: "t", resumeSessionId: null })
      assert.include(refused.error.message, "the directory of the fleet cannot be asked")
      yield* proxy.pass
      yield* placedAgain(cutOff)
      assert.isUndefined(again.ending)
      assert.deepEqual(yield* epochs(database.url), [1])
    }))

  test("is away when a gateway starts: it waits for it, says so, and serves then", () =>
    Effect.gen(function* () {
      const database = yield* postgres
      yield* database.stop
      const starting = yield* Effect.fork(gateway(database.url))
      yield* Effect.sleep("2 seconds")
      yield* database.start
      const door = yield* starting.await.pipe(Effect.flatten)
      assert.include(door.stderr(), "the database does not answer")
      yield* host(door, "h1")
      yield* placedAgain(door)
    }))

  test("does not exist, or refuses the user, is said at once", () =>
    Effect.gen(function* () {
      const database = yield* postgres
      const wrong = database.url.replace("/postgres", "/nowhere")
      const { code, stderr } = yield* command(["gateway", "--listen", "ws://127.0.0.1:0", "--database", wrong])
      assert.strictEqual(code, 1)
      assert.include(stderr, 'database "nowhere" does not exist')
    }))
})
