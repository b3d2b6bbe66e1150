/** What is written to a socket that is full: nothing, and what is owed when it has drained. */
import { Buffer } from "node:buffer"
import { assert, describe, it } from "@effect/vitest"
import { Turns } from "../../src/remote/RelayDriver.js"
import type { RelaySocket } from "../../src/remote/RelaySocket.js"

const full = 2 ** 24

describe("resets on a full socket", () => {
  it("are sent when it has drained, but for ids that are in use again", () => {
    const sent: Array<string> = []
    let buffered = full
    const socket: RelaySocket = {
      listen: () => {},
      send: (bytes) => sent.push(bytes.toString()),
      buffered: () => buffered,
      pause: () => {},
      resume: () => {},
      probe: () => {},
      close: () => {}
    }
    const turns = new Turns(socket)
    for (const id of ["a", "b", "c"]) turns.reset(id, Buffer.from(id))
    turns.renew("b")
    turns.onDrain()
    assert.deepStrictEqual(sent, [])
    buffered = 0
    turns.onDrain()
    turns.onDrain()
    assert.deepStrictEqual(sent, ["a", "c"])
    turns.reset("d", Buffer.from("d"))
    assert.deepStrictEqual(sent, ["a", "c", "d"])
    buffered = full
    for (let i = 0; i < 5000; i++) turns.reset(String(i), Buffer.from("x"))
    buffered = 0
    turns.onDrain()
    assert.lengthOf(sent, 3 + 4096)
  })
})
