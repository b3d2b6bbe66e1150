/** Bytes of sockets, counted when somebody asks and at their end. */
import { EventEmitter } from "node:events"
import type { Socket } from "node:net"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import { Traffic } from "../../src/transport/Traffic.js"

const counted = (name: string) =>
  Effect.map(
    Metric.value(Metric.counter(name, { description: descriptions[name], incremental: true })),
    ({ count }) => count
  )

const descriptions: Record<string, string> = {
  exec_server_received_bytes_total: "Bytes received on WebSocket connections.",
  exec_server_sent_bytes_total: "Bytes sent on WebSocket connections."
}

/** How much both counters have grown since. */
const counters = Effect.gen(function* () {
  const read = Effect.all([counted("exec_server_received_bytes_total"), counted("exec_server_sent_bytes_total")])
  const [received, sent] = yield* read
  return Effect.map(read, ([r, s]) => [r - received, s - sent] as const)
})

class Fake extends EventEmitter {
  bytesRead = 0
  bytesWritten = 0
  writableLength = 0
  get socket() {
    return this as unknown as Socket
  }
}

it.effect("is counted once, however often somebody asks, and to the end", () =>
  Effect.gen(function* () {
    const since = yield* counters
    const traffic = new Traffic()
    const [one, other] = [new Fake(), new Fake()]
    traffic.add(one.socket)
    traffic.add(other.socket)
    Object.assign(one, { bytesRead: 10, bytesWritten: 100 })
    other.bytesRead = 1
    traffic.countAll()
    traffic.countAll()
    assert.deepStrictEqual(yield* since, [11, 100])
    Object.assign(one, { bytesRead: 15, bytesWritten: 150 })
    one.emit("close")
    assert.deepStrictEqual(yield* since, [16, 150])
    // Nobody looks at it any more.
    one.bytesRead = 1000
    one.emit("close")
    traffic.countAll()
    assert.deepStrictEqual(yield* since, [16, 150])
    other.emit("close")
  })
)

it.effect("does not count what waits to be sent, nor what is counted already once more", () =>
  Effect.gen(function* () {
    const since = yield* counters
    const traffic = new Traffic()
    const one = new Fake()
    traffic.add(one.socket)
    Object.assign(one, { bytesWritten: 100, writableLength: 30 })
    traffic.countAll()
    assert.deepStrictEqual(yield* since, [0, 70])
    // More waits than was written since: nothing was sent.
    Object.assign(one, { bytesWritten: 110, writableLength: 60 })
    traffic.countAll()
    assert.deepStrictEqual(yield* since, [0, 70])
    one.writableLength = 0
    traffic.countAll()
    assert.deepStrictEqual(yield* since, [0, 110])
    // Of a socket that is closed the system may know less.
    Object.assign(one, { bytesRead: 5, bytesWritten: 0 })
    traffic.countAll()
    Object.assign(one, { bytesRead: 0, bytesWritten: 120 })
    one.emit("close")
    assert.deepStrictEqual(yield* since, [5, 120])
  })
)
