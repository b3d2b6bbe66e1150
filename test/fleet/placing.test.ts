/** Sessions that are placed by two gateways at once, and by one that dies meanwhile: no place is given twice, none is lost. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { nowhere } from "../support/command.js"
import { fleet, hasPostgres, query } from "../support/fleet.js"
import { connectTo, eventually, launch, type WsServer } from "../support/servers.js"
import type { Json } from "../support/TestClient.js"

const test = (name: string, body: () => Effect.Effect<unknown, unknown, Scope.Scope>) =>
  it.scopedLive(name, body, 120_000)

/** Asks for sessions at all gateways at once. Gives the errors of those that were refused, undefined for the others. */
const askAtOnce = (gateways: ReadonlyArray<Pick<WsServer, "url">>, count: number) =>
  Effect.gen(function* () {
    const clients = yield* Effect.forEach(Array.from({ length: count }), (_, index) =>
      connectTo(gateways[index % gateways.length]?.url ?? "")
    )
    return yield* Effect.forEach(
      clients,
      (client) =>
        Effect.map(
          client.call("initialize", { clientName: "t", resumeSessionId: null }),
          ({ error }: Json): string | undefined => error?.message
        ),
      { concurrency: "unbounded" }
    )
  })

const placed = (errors: ReadonlyArray<string | undefined>) => errors.filter((error) => error === undefined).length

const used = (url: string) =>
  Effect.map(query(url, "select used from fleet_host order by id"), (rows) => rows.map(({ used }) => used))

describe.skipIf(!hasPostgres)("placing", () => {
  test("two gateways at once never exceed the capacity of a host, and leave no place empty", () =>
    Effect.gen(function* () {
      const { database, one, two } = yield* fleet(["h1", "h2"], ["--wait", "2s"], ["--capacity", "5"])
      const errors = yield* askAtOnce([one, two], 30)
      assert.strictEqual(placed(errors), 10)
      for (const error of errors) if (error !== undefined) assert.include(error, "no session could be placed")
      assert.deepEqual(yield* used(database.url), [5, 5])
    }))

  test("two gateways at once never exceed a quota", () =>
    Effect.gen(function* () {
      const { database, one, two } = yield* fleet(["h1", "h2"], ["--quota", "3", "--wait", "2s"])
      const errors = yield* askAtOnce([one, two], 20)
      assert.strictEqual(placed(errors), 3)
      const rows = yield* query(database.url, "select sum(used)::int as used from fleet_quota")
      assert.deepEqual(rows, [{ used: 3 }])
    }))

  test("a place that a gateway had taken when it was killed is free again", () =>
    Effect.gen(function* () {
      const { database, one, two, hosts } = yield* fleet(["h1"], [], ["--capacity", "1"])
      const [host] = hosts
      // The place is taken, and the host does not come to it.
      host?.child.kill("SIGSTOP")
      const victim = yield* connectTo(one.url)
      victim.post("initialize", { clientName: "t", resumeSessionId: null })
      const states = query(database.url, "select state from fleet_session")
      yield* Effect.repeat(states, { until: (rows) => rows[0]?.["state"] === "placing" })
      one.child.kill("SIGKILL")
      host?.child.kill("SIGCONT")
      yield* eventually("the client is cut off", () => victim.ending !== undefined)
      // As if the 20 seconds had passed for which the place is kept.
      yield* query(database.url, "update fleet_session set until = clock_timestamp() where state = 'placing'")
      const next = yield* connectTo(two.url)
      yield* next.handshake()
      assert.deepEqual(yield* used(database.url), [1])
    }))

  test("two hosts that come under one id at once, each to another gateway: one has it", () =>
    Effect.gen(function* () {
      const { database, one, two } = yield* fleet([])
      const twins = yield* Effect.forEach(
        [one, two],
        ({ url }) =>
          launch({
            args: ["--remote", url.replace(/^ws/, "http"), "--environment-id", "twin", "--capacity", "3"],
            env: { ...nowhere, EXEC_SERVER_REMOTE_TOKEN: "host" }
          }),
        { concurrency: 2 }
      )
      const isIn = ({ stderr }: (typeof twins)[number]) => stderr().includes("registered with environment_id")
      const waits = ({ stderr }: (typeof twins)[number]) => stderr().includes("waiting for it")
      yield* eventually("one is in, and the other waits", () => twins.some(isIn) && twins.some(waits), 30_000)
      assert.strictEqual(twins.filter(isIn).length, 1)
      assert.strictEqual(placed(yield* askAtOnce([one, two], 3)), 3)
      assert.deepEqual(yield* query(database.url, "select id, epoch, used from fleet_host"), [
        { id: "twin", epoch: 1, used: 3 }
      ])
    }))
})
