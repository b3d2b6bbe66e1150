/** A peer on two streams of this process: what it reads and writes, and how either end is the end of it. */
import { PassThrough, Writable } from "node:stream"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import type { Peer, PeerEvents } from "../../src/session/Peer.js"
import * as Stdio from "../../src/transport/Stdio.js"
import { Transport } from "../../src/transport/Transport.js"
import { TransportLimits } from "../../src/transport/TransportLimits.js"
import { settle } from "../support/fake.js"

/** A peer that listens, and what it was told. */
const listening = (peer: Peer) => {
  const told: Array<string> = []
  const events: PeerEvents = {
    onMessage: (text) => told.push(text),
    onMalformed: (detail) => told.push(`malformed: ${detail}`),
    onDrain: () => told.push("drain"),
    onEnd: () => told.push("end")
  }
  peer.listen(events)
  return told
}

const bench = <Output extends Writable>(output: Output, maxMessageBytes = 1000) => {
  const input = new PassThrough()
  const peer = Stdio.makePeer(input, output, maxMessageBytes)
  return { input, output, peer, told: listening(peer) }
}

/** An output that takes nothing until it is told to. */
const stuck = () => {
  let take = () => {}
  const output = new Writable({
    highWaterMark: 1,
    write: (_chunk, _encoding, done) => {
      take = done
    }
  })
  return { output, take: () => take() }
}

describe("a peer on streams", () => {
  it("cannot come back: its end is the end of its session", () => {
    assert.isFalse(bench(new PassThrough()).peer.resumable)
  })

  it.effect("gives lines as they come, and says of what is none why", () =>
    Effect.gen(function* () {
      const { input, told } = bench(new PassThrough(), 10)
      input.write("one\ntw")
      input.write("o\n")
      input.write(`${"x".repeat(11)}\nthree\n`)
      yield* settle
      assert.deepStrictEqual([told[0], told[1], told[3]], ["one", "two", "three"])
      assert.include(told[2], "maxMessageBytes (10)")
    })
  )

  it.effect("is sent a line for each message, also one that comes in parts", () =>
    Effect.gen(function* () {
      const { output, peer } = bench(new PassThrough())
      peer.send("one")
      peer.sendPart?.(Buffer.from("tw"), false)
      peer.sendPart?.(Buffer.from("o"), true)
      yield* settle
      assert.strictEqual(String(output.read()), "one\ntwo\n")
    })
  )

  it.effect("tells how much waits, and when it was taken", () =>
    Effect.gen(function* () {
      const { output, take } = stuck()
      const { peer, told } = bench(output)
      peer.send("four")
      assert.strictEqual(peer.buffered(), 5)
      take()
      yield* settle
      assert.strictEqual(peer.buffered(), 0)
      assert.deepStrictEqual(told, ["drain"])
    })
  )

  it.effect("is not read while it is paused", () =>
    Effect.gen(function* () {
      const { input, peer, told } = bench(new PassThrough())
      peer.pause()
      input.write("one\n")
      yield* settle
      assert.deepStrictEqual(told, [])
      peer.resume()
      yield* settle
      assert.deepStrictEqual(told, ["one"])
    })
  )

  for (const [what, end] of [
    ["its input ends", ({ input }) => input.end()],
    ["its input is closed", ({ input }) => input.destroy()],
    ["its input fails", ({ input }) => input.destroy(new Error("EIO"))],
    ["its output is closed", ({ output }) => output.destroy()],
    ["its output fails", ({ output }) => output.destroy(new Error("EPIPE"))],
    ["it is closed", ({ peer }) => peer.close({ code: 1000, reason: "" })]
  ] as ReadonlyArray<readonly [string, (of: ReturnType<typeof bench<Writable>>) => void]>) {
    it.effect(`is gone once ${what}: that is told once, and nothing is read or sent after it`, () =>
      Effect.gen(function* () {
        const made = bench(new PassThrough())
        const { input, output, peer, told } = made
        end(made)
        yield* settle
        assert.deepStrictEqual(told, ["end"])
        peer.close({ code: 1000, reason: "" })
        peer.send("late")
        peer.sendPart?.(Buffer.from("late"), true)
        if (!input.destroyed && !input.writableEnded) input.write("late\n")
        yield* settle
        assert.deepStrictEqual(told, ["end"])
        assert.isNull(output.read())
      })
    )
  }
})

describe("the transport on streams", () => {
  const run = (output: Writable, serve: (peer: Peer) => Effect.Effect<void>, maxMessageBytes = 1000) =>
    Effect.gen(function* () {
      const input = new PassThrough()
      const limits = Layer.succeed(TransportLimits, { ...(yield* TransportLimits), maxMessageBytes })
      const layer = Stdio.layerStreams(input, output).pipe(Layer.provide(limits))
      const running = yield* Effect.fork(
        Effect.provide(
          Effect.flatMap(Transport, (transport) => transport.run(serve)),
          layer
        )
      )
      yield* settle
      return { input, running }
    })

  it.effect("serves one peer, within the limit, and reads nothing more when it was served", () =>
    Effect.gen(function* () {
      let told: ReadonlyArray<string> = []
      const { input, running } = yield* run(
        new PassThrough(),
        (peer) =>
          Effect.sync(() => {
            told = listening(peer)
          }),
        2
      )
      yield* Fiber.join(running)
      assert.isTrue(input.destroyed)
      yield* settle
      assert.deepStrictEqual(told, ["end"])
    })
  )

  it.effect("waits for what was written to be taken, but for a second at most", () =>
    Effect.gen(function* () {
      const send = (peer: Peer) => Effect.sync(() => peer.send("last"))
      const first = stuck()
      const taken = yield* run(first.output, send)
      assert.isNull(taken.running.unsafePoll())
      assert.isFalse(taken.input.destroyed)
      first.take()
      yield* Fiber.join(taken.running)
      const never = yield* run(stuck().output, send)
      yield* TestClock.adjust("999 millis")
      assert.isNull(never.running.unsafePoll())
      yield* TestClock.adjust("1 millis")
      yield* Fiber.join(never.running)
      assert.isTrue(never.input.destroyed)
    })
  )

  it.effect("waits for nobody whose output is gone", () =>
    Effect.gen(function* () {
      const { output } = stuck()
      const { running } = yield* run(output, (peer) =>
        Effect.sync(() => {
          listening(peer)
          peer.send("last")
          output.destroy()
        })
      )
      yield* Fiber.join(running)
    })
  )
})
