/** Whose connection is cut off when the messages that have not arrived in full are too many bytes together. */
import { assert, it } from "@effect/vitest"
import { UnfinishedMessages } from "../../src/transport/UnfinishedMessages.js"

/** Connections of a server that keeps 100 bytes, and who was cut off. */
const bench = () => {
  const messages = new UnfinishedMessages(100)
  const cut: Array<string> = []
  const reasons: Array<string> = []
  const connection = (name: string) =>
    messages.make((reason) => {
      cut.push(name)
      reasons.push(reason)
    })
  return { cut, reasons, connection }
}

it("the one with the most bytes is cut off, whoever sent last", () => {
  const { cut, reasons, connection } = bench()
  const [small, large, other] = [connection("small"), connection("large"), connection("other")]
  small.grow(10)
  large.grow(60)
  other.grow(30)
  assert.deepStrictEqual(cut, [])
  other.grow(1)
  assert.deepStrictEqual(cut, ["large"])
  assert.match(reasons[0] ?? "", /^the limit unfinishedMessageBytesTotal \(100\) is reached; /)
  // Its bytes are gone with it.
  other.grow(59)
  assert.deepStrictEqual(cut, ["large"])
  other.grow(1)
  assert.deepStrictEqual(cut, ["large", "other"])
})

it("of two with as many bytes, the one that began first", () => {
  const { cut, connection } = bench()
  const [first, second] = [connection("first"), connection("second")]
  first.grow(50)
  second.grow(50)
  second.grow(0)
  assert.deepStrictEqual(cut, [])
  connection("third").grow(1)
  assert.deepStrictEqual(cut, ["first"])
})

it("a message that has arrived counts no more, and one that was something else in part counts the rest", () => {
  const { cut, connection } = bench()
  const [a, b] = [connection("a"), connection("b")]
  a.grow(100)
  a.finish()
  a.finish()
  b.grow(100)
  b.shrink(70)
  a.grow(70)
  assert.deepStrictEqual(cut, [])
  // No more than there was.
  b.shrink(1000)
  a.grow(30)
  assert.deepStrictEqual(cut, [])
  b.grow(1)
  assert.deepStrictEqual(cut, ["a"])
})

it("one that is finished is not cut off, also when it begins again", () => {
  const { cut, connection } = bench()
  const [a, b] = [connection("a"), connection("b")]
  a.grow(90)
  a.shrink(90)
  b.grow(40)
  a.grow(30)
  b.grow(31)
  assert.deepStrictEqual(cut, ["b"])
})
