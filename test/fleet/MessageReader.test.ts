/** The first messages of a WebSocket connection, however they arrive, and what is left for others. */
import { Buffer } from "node:buffer"
import { PassThrough } from "node:stream"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { bytePair } from "../../src/fleet/LocalSocket.js"
import * as MessageReader from "../../src/fleet/MessageReader.js"
import * as SessionIds from "../../src/fleet/SessionIds.js"

/** A client's frame, masked. */
const frame = (first: number, payload: string, mask = [1, 2, 3, 4]) => {
  const bytes = Buffer.from(payload)
  const head = bytes.length < 126 ? [0x80 | bytes.length] : [0xfe, bytes.length >> 8, bytes.length & 255]
  return Buffer.concat([Buffer.from([first, ...head, ...mask]), bytes.map((byte, i) => byte ^ (mask[i % 4] ?? 0))])
}

const reader = (maxBytes = 1000) => {
  const [own, other] = bytePair()
  return { other, reader: new MessageReader.MessageReader(own, { masked: true, maxBytes }) }
}

it.live("a message in parts, with a ping between, byte by byte; what follows is not read", () =>
  Effect.gen(function* () {
    const { other, reader: read } = reader()
    const rest = frame(0x81, "the next one")
    const all = Buffer.concat([
      frame(0x01, "wh"),
      frame(0x89, "ping"),
      frame(0x00, "o"),
      frame(0x80, " is there? ".repeat(30)),
      rest
    ])
    for (const byte of all) other.write(Buffer.from([byte]))
    assert.strictEqual(yield* read.message, `who${" is there? ".repeat(30)}`)
    const [pong] = yield* Effect.promise(() => other.take(1).toArray())
    assert.deepEqual(pong, Buffer.concat([Buffer.from([0x8a, 4]), Buffer.from("ping")]))
    const left = new PassThrough()
    left.end(read.release())
    assert.isTrue(rest.indexOf(yield* Effect.promise(async () => Buffer.concat(await left.toArray()))) === 0)
  })
)

const faults: ReadonlyArray<readonly [string, Buffer, number]> = [
  ["not masked", Buffer.from([0x81, 1, 65]), 1002],
  ["too long", frame(0x81, "x".repeat(1001)), 1009],
  ["too long in parts", Buffer.concat([frame(0x01, "x".repeat(600)), frame(0x80, "x".repeat(600))]), 1009],
  [
    "a length that is no number of bytes",
    Buffer.from([0x81, 0xff, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0]),
    1009
  ],
  ["reserved bits", frame(0xc1, "x"), 1002],
  ["a part of nothing", frame(0x80, "x"), 1002],
  ["a ping in parts", frame(0x09, "x"), 1002],
  ["not UTF-8", frame(0x81, "x", [0, 0, 0, 0]).fill(0xff, 6), 1007],
  ["closed", frame(0x88, ""), 1000],
  ["endless pings", Buffer.concat(Array.from({ length: 2000 }, () => frame(0x8a, ""))), 1002]
]

for (const [what, bytes, code] of faults) {
  it.live(`refused: ${what}`, () =>
    Effect.gen(function* () {
      const { other, reader: read } = reader()
      other.write(bytes)
      const found = yield* Effect.either(read.message)
      assert.strictEqual(Either.isLeft(found) ? found.left.code : undefined, code)
    })
  )
}

it("the id of a session is its subject's, and of its fleet", () => {
  const ids = SessionIds.make("secret")
  const place = { no: 3, epoch: 7, inner: "a.b c" }
  const id = ids.make(place, "alice")
  assert.deepEqual(ids.open(id, "alice"), place)
  assert.isUndefined(ids.open(id, "bob"))
  assert.isUndefined(SessionIds.make("other").open(id, "alice"))
  for (const wrong of [
    id.replace("3.7", "3.8"),
    id.replace("3.7", "4.7"),
    id.slice(0, -1),
    `${id}A`,
    "",
    "1.2",
    `0${id}`
  ]) {
    assert.isUndefined(ids.open(wrong, "alice"), wrong)
  }
})
