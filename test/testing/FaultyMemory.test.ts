/** Faults of a transport in memory, under the test's clock. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/TestClock"
import { FakeSpawner } from "../../src/testing/FakeSpawner.js"
import { delayed, FaultyMemory, faithful } from "../../src/testing/FaultyMemory.js"
import * as Script from "../../src/testing/Script.js"
import { serverOn } from "../support/composed.js"
import { settle } from "../support/fake.js"
import { memoryClient } from "../support/servers.js"
import { startParams } from "../support/TestClient.js"

const plan = Script.plan([Script.output(100, "one"), Script.output(200, "two"), Script.exit(300)])

const layer = serverOn(FaultyMemory.layer, FakeSpawner.layerOf(plan))

describe("a faulty transport", () => {
  it.scoped("delivers late and in order, whatever the delays", () =>
    Effect.gen(function* () {
      const faults = yield* FaultyMemory
      const client = yield* memoryClient
      yield* client.handshake()
      // The later one is due first.
      yield* faults.set((direction, _, index) => ({ delay: direction === "toServer" && index === 2 ? 500 : 10 }))
      client.post("environment/status", {})
      client.post("process/list", {})
      const before = client.messages.length
      yield* TestClock.adjust(9)
      yield* settle
      assert.lengthOf(client.messages, before)
      yield* TestClock.adjust(1000)
      yield* settle
      yield* TestClock.adjust(1000)
      yield* settle
      const [first, second] = client.messages.slice(before)
      assert.deepStrictEqual([first?.result, second?.result], [{ status: "ready" }, { processes: [] }])
    }).pipe(Effect.provide(layer))
  )

  it.scoped("loses what it is told to lose, and what is under way when it is cut", () =>
    Effect.gen(function* () {
      const faults = yield* FaultyMemory
      const client = yield* memoryClient
      yield* client.handshake()
      yield* client.ask("process/start", startParams("p", ["program"], {}))
      yield* faults.set((direction, text) =>
        direction === "toClient" && text.includes('"seq":1') ? "drop" : { delay: 0 }
      )
      const before = client.messages.length
      yield* TestClock.adjust(200)
      yield* settle
      const lost = client.messages.slice(before).map(({ params }) => params?.["seq"])
      assert.deepStrictEqual(lost, [2])

      yield* faults.set(delayed(1000))
      yield* TestClock.adjust(100)
      yield* settle
      assert.strictEqual(yield* faults.open, 1)
      yield* faults.cut
      yield* TestClock.adjust(2000)
      yield* settle
      assert.lengthOf(client.messages, before + 1)
      assert.isDefined(client.ending)
      assert.strictEqual(yield* faults.open, 0)
      // Others find a server that works.
      yield* faults.set(faithful)
      const other = yield* memoryClient
      yield* other.handshake()
      client.faults.length = 0
    }).pipe(Effect.provide(layer))
  )
})
