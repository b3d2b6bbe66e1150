/** Sockets one after another: how long the executor waits between them, what ends it, what is closed at its end. */
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import * as Dialer from "../../src/remote/Dialer.js"
import { DialError } from "../../src/remote/RelaySocket.js"
import { TransportFailed } from "../../src/transport/Transport.js"
import { settle } from "../support/fake.js"

/** A socket that can be lost, and remembers how it was closed. */
const fakeSocket = () => {
  const closed: Array<readonly [code: number, reason: string]> = []
  const socket = {
    closed,
    lose: () => {},
    close: (code: number, reason: string) => {
      closed.push([code, reason])
      socket.lose()
    }
  }
  return socket
}

type FakeSocket = ReturnType<typeof fakeSocket>

/** A running dialer. */
const dialerWith = (waits?: Dialer.Waits) =>
  Effect.gen(function* () {
    const sockets: Array<FakeSocket> = []
    /** What the attempts end with, in order; without one, a socket is opened. */
    const failures: Array<DialError | TransportFailed> = []
    /** When there was an attempt, in milliseconds. */
    const attempts: Array<number> = []
    const fiber = yield* Effect.fork(
      Dialer.run<FakeSocket, never>(() => Effect.void, {
        open: Effect.flatMap(Clock.currentTimeMillis, (now) => {
          attempts.push(now)
          const failure = failures.shift()
          return failure === undefined ? Effect.sync(fakeSocket) : Effect.fail(failure)
        }),
        attach: (socket, { onEnd }) => {
          sockets.push(socket)
          socket.lose = () => onEnd(1006, "")
        },
        ...(waits === undefined ? {} : { waits })
      })
    )
    yield* Effect.repeat(Effect.yieldNow(), { until: () => sockets.length > 0 })
    return { sockets, failures, attempts, fiber }
  })

const dialer = dialerWith()

/** Each wait is between half of its longest and the longest, in seconds. */
const assertWaits = (times: ReadonlyArray<number>, longest: ReadonlyArray<number>) =>
  longest.forEach((seconds, i) => {
    const waitedMs = (times[i + 1] ?? Number.NaN) - (times[i] ?? Number.NaN)
    assert.isTrue(waitedMs >= 500 * seconds && waitedMs <= 1000 * seconds, `${waitedMs} ms, at most ${seconds} s`)
  })

/** Lets time pass, and what is due then happen. */
const advance = (duration: Duration.DurationInput) => Effect.zipRight(TestClock.adjust(duration), settle)

const refused = () => new DialError({ message: "refused", status: undefined })

describe("an executor that reconnects", () => {
  it.effect("waits twice as long after each failure, up to half a minute", () =>
    Effect.gen(function* () {
      const { sockets, failures, attempts, fiber } = yield* dialer
      failures.push(...Array.from({ length: 7 }, refused))
      sockets[0]?.lose()
      yield* advance("5 minutes")
      assert.lengthOf(sockets, 2)
      assertWaits(attempts, [1, 2, 4, 8, 16, 30, 30, 30])
      yield* Fiber.interrupt(fiber)
    })
  )

  it.effect("waits as it is told to", () =>
    Effect.gen(function* () {
      const waits: Dialer.Waits = { first: "500 millis", longest: "5 seconds", jitter: { min: 1, max: 1.5 } }
      const { sockets, failures, attempts, fiber } = yield* dialerWith(waits)
      failures.push(...Array.from({ length: 6 }, refused))
      sockets[0]?.lose()
      yield* advance("1 minute")
      for (const [i, seconds] of [0.5, 1, 2, 4, 5, 5].entries()) {
        const waitedMs = (attempts[i + 1] ?? Number.NaN) - (attempts[i] ?? Number.NaN)
        assert.isTrue(waitedMs >= 1000 * seconds && waitedMs <= 1500 * seconds, `${waitedMs} ms, from ${seconds} s`)
      }
      yield* Fiber.interrupt(fiber)
    })
  )

  it.effect("begins anew after a socket that lasted 20 seconds, not after a shorter one", () =>
    Effect.gen(function* () {
      const { sockets, attempts, fiber } = yield* dialer
      /** When the waits began. */
      const lost: Array<number> = []
      for (const [i, seconds] of [0, 10, 25].entries()) {
        yield* advance(`${seconds} seconds`)
        lost.push(yield* Clock.currentTimeMillis)
        sockets[i]?.lose()
        yield* advance("4 seconds")
      }
      for (const [i, seconds] of [1, 2, 1].entries()) {
        assertWaits([lost[i] ?? Number.NaN, attempts[i + 1] ?? Number.NaN], [seconds])
      }
      yield* Fiber.interrupt(fiber)
    })
  )

  it.effect("ends with what cannot be tried again", () =>
    Effect.gen(function* () {
      const { sockets, failures, fiber } = yield* dialer
      failures.push(new TransportFailed({ message: "taken" }))
      sockets[0]?.lose()
      yield* advance("1 second")
      assert.strictEqual((yield* Effect.flip(Fiber.join(fiber))).message, "taken")
    })
  )

  it.effect("closes its socket at the end, and waits for that", () =>
    Effect.gen(function* () {
      const { sockets, fiber } = yield* dialer
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(sockets[0]?.closed, [[1001, "the executor is shutting down"]])
    })
  )
})
