/** A stream whose socket takes nothing: it ends when it must, and does not keep the processor busy. */
import { setTimeout as sleep } from "node:timers/promises"
import { assert, describe, it } from "@effect/vitest"
import * as Either from "effect/Either"
import { RelayDriver, Turns } from "../../src/remote/RelayDriver.js"
import * as RelayFrame from "../../src/remote/RelayFrame.js"
import type { RelaySocket } from "../../src/remote/RelaySocket.js"
import { RelayStream, type StreamEnd } from "../../src/remote/RelayStream.js"
import { smallLimits } from "./simulation.js"

const congestedBytes = 2 ** 21
const fullBytes = 2 ** 24

const setting = (reliable: boolean) => {
  const sent: Array<RelayFrame.Frame> = []
  const state = { buffered: 0, looks: 0 }
  const socket: RelaySocket = {
    listen: () => {},
    send: (bytes) => sent.push(Either.getOrThrow(RelayFrame.decode(bytes))),
    buffered: () => {
      state.looks++
      return state.buffered
    },
    pause: () => {},
    resume: () => {},
    probe: () => {},
    close: () => {}
  }
  const turns = new Turns(socket)
  const open = (streamId: string) => {
    const ends: Array<StreamEnd> = []
    const options = { limits: smallLimits, maxMessageBytes: 4096, budget: { used: 0 }, initiator: false }
    const driver = new RelayDriver(streamId, new RelayStream(options, performance.now()), turns, {
      onMessage: () => {},
      onDrain: () => {},
      onEnd: (end) => ends.push(end)
    })
    driver.resume()
    const payload = Buffer.from("hello")
    const body = { _tag: "Data", seq: 0, index: 0, count: 1, payload } as const
    driver.receive({ streamId, ack: 0, ackBits: 0, reliable, acknowledged: false, body })
    return { driver, ends }
  }
  const resets = () => sent.flatMap(({ streamId, body }) => (body._tag === "Reset" ? [[streamId, body.reason]] : []))
  return { state, turns, open, sent, resets }
}

describe("on a socket that takes nothing", () => {
  for (const [name, buffered] of [
    ["a congested", congestedBytes],
    ["a full", fullBytes]
  ] as const) {
    it(`a stream that is closed ends within seconds, and the others go on: ${name} one`, async () => {
      const { state, turns, open, sent, resets } = setting(false)
      const [closing, other] = [open("closing"), open("other")]
      state.buffered = buffered
      closing.driver.send(RelayFrame.message("never sent"))
      other.driver.send(RelayFrame.message("later"))
      closing.driver.close("enough")
      await sleep(2000)
      assert.deepStrictEqual(closing.ends, [{ reason: "enough", byPeer: false }])
      assert.lengthOf(other.ends, 0)
      state.buffered = 0
      turns.onDrain()
      assert.deepStrictEqual(resets(), [["closing", "enough"]])
      const messages = sent.flatMap(({ streamId, body }) => (body._tag === "Data" ? [[streamId, body.payload]] : []))
      assert.deepStrictEqual(messages, [["other", new Uint8Array(Buffer.from("later"))]])
    })
  }

  it("an acknowledgement that is due waits for its turn", async () => {
    const { state, turns, open, sent } = setting(true)
    state.buffered = congestedBytes
    const { driver } = open("s")
    const before = state.looks
    await sleep(1000)
    assert.isBelow(state.looks - before, 50)
    state.buffered = 0
    turns.onDrain()
    assert.deepStrictEqual(sent.at(-1)?.body._tag, "Ack")
    driver.stop("the end")
  })
})
