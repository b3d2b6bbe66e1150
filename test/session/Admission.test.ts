import { assert, describe, it } from "@effect/vitest"
import { Admission, type Limits } from "../../src/session/Admission.js"
import { RequestBudget, reservedBytes } from "../../src/session/RequestBudget.js"

/** An admission whose messages are requests: "large" ones may be deferred; each is in flight until `finish`. */
const bench = (limits: Partial<Limits> = {}, budget = new RequestBudget()) => {
  const served: Array<string> = []
  const refused: Array<string> = []
  const running = new Map<string, () => void>()
  const peer = { congested: false, blocked: false, paused: false, resumes: 0 }
  const admission: Admission = new Admission(
    {
      isCongested: () => peer.congested,
      isBlocked: () => peer.blocked,
      serve: (text) => {
        if (peer.congested && text.startsWith("large")) return admission.defer(text)
        served.push(text)
        running.set(text, admission.begin(text.length))
      },
      refuse: (text) => refused.push(text),
      pause: () => {
        peer.paused = true
      },
      resume: () => {
        peer.paused = false
        peer.resumes++
      }
    },
    { maxServed: 100, maxInFlight: 100, maxDeferred: 100, maxSize: 1000, ...limits },
    budget
  )
  const receive = (...texts: ReadonlyArray<string>) => {
    for (const text of texts) admission.receive(text)
  }
  const finish = (text: string) => running.get(text)?.()
  return { admission, served, refused, peer, receive, finish }
}

describe("requests in flight", () => {
  it("are limited by count: beyond it the peer is not read, and what still came is served in order", () => {
    const { served, peer, receive, finish } = bench({ maxInFlight: 2 })
    receive("a", "b")
    assert.isFalse(peer.paused)
    receive("c", "d")
    assert.isTrue(peer.paused)
    assert.deepStrictEqual(served, ["a", "b"])
    finish("b")
    assert.deepStrictEqual(served, ["a", "b", "c"])
    assert.isTrue(peer.paused)
    finish("a")
    assert.deepStrictEqual(served, ["a", "b", "c", "d"])
    assert.isFalse(peer.paused)
  })

  it("do not overtake those that came while the peer was too far behind, also before these are looked at", () => {
    const { admission, served, peer, receive } = bench()
    peer.blocked = true
    receive("a")
    peer.blocked = false
    receive("b")
    assert.deepStrictEqual(served, [])
    admission.advance()
    assert.deepStrictEqual(served, ["a", "b"])
    assert.isFalse(peer.paused)
  })

  it("are limited by size: a single larger one is served alone", () => {
    const { served, peer, receive, finish } = bench({ maxSize: 10 })
    const giant = "g".repeat(11)
    receive(giant, "a")
    assert.deepStrictEqual(served, [giant])
    assert.isTrue(peer.paused)
    finish(giant)
    assert.deepStrictEqual(served, [giant, "a"])
    receive("b".repeat(9))
    assert.lengthOf(served, 3)
    receive("c")
    assert.lengthOf(served, 4, "1 + 9 characters are not more than 10")
    receive("d")
    assert.lengthOf(served, 4)
  })

  it("served at a time are limited as well: others wait in order, and the peer is read until there are too many", () => {
    const { served, peer, receive, finish } = bench({ maxServed: 1, maxInFlight: 3 })
    receive("a", "b", "c")
    assert.deepStrictEqual(served, ["a"])
    assert.isFalse(peer.paused)
    receive("d")
    assert.isTrue(peer.paused)
    finish("a")
    assert.deepStrictEqual(served, ["a", "b"])
    finish("b")
    finish("c")
    assert.deepStrictEqual(served, ["a", "b", "c", "d"])
    assert.isFalse(peer.paused)
  })

  it("what waits counts by its size: the peer is read until that is too much", () => {
    const { peer, receive, finish } = bench({ maxServed: 1, maxSize: 10 })
    receive("a", "b".repeat(9))
    assert.isFalse(peer.paused)
    receive("c")
    assert.isTrue(peer.paused)
    finish("a")
    finish("b".repeat(9))
    assert.isFalse(peer.paused)
  })

  it("what was deferred is served one at a time as well", () => {
    const { admission, served, peer, receive, finish } = bench({ maxServed: 1 })
    peer.congested = true
    receive("large 1", "large 2", "small")
    peer.congested = false
    admission.advance()
    assert.deepStrictEqual(served, ["small"])
    finish("small")
    assert.deepStrictEqual(served, ["small", "large 1"])
    finish("large 1")
    assert.deepStrictEqual(served, ["small", "large 1", "large 2"])
  })

  it("nothing passes what is held", () => {
    const { served, receive, finish } = bench({ maxInFlight: 1 })
    receive("a", "b")
    finish("a")
    receive("c")
    assert.deepStrictEqual(served, ["a", "b"])
  })
})

describe("requests for large answers", () => {
  it("wait while the peer is congested, and others pass them", () => {
    const { admission, served, peer, receive } = bench()
    peer.congested = true
    receive("large 1", "small", "large 2")
    assert.deepStrictEqual(served, ["small"])
    assert.isFalse(peer.paused)
    admission.advance()
    assert.deepStrictEqual(served, ["small"])
    peer.congested = false
    admission.advance()
    assert.deepStrictEqual(served, ["small", "large 1", "large 2"])
  })

  it("wait again if the first of them makes the peer congested", () => {
    const { admission, served, peer, receive } = bench({ maxInFlight: 2 })
    peer.congested = true
    receive("large 1", "large 2")
    peer.congested = false
    const { push } = served
    served.push = (text) => {
      peer.congested = true
      return push.call(served, text)
    }
    admission.advance()
    assert.deepStrictEqual(served, ["large 1"])
  })

  it("are limited by count while they wait", () => {
    const { served, peer, receive } = bench({ maxDeferred: 2 })
    peer.congested = true
    receive("large 1", "large 2")
    assert.isFalse(peer.paused)
    receive("small")
    assert.isTrue(peer.paused)
    assert.deepStrictEqual(served, [])
  })

  it("are limited by size while they wait", () => {
    const { admission, served, peer, receive } = bench({ maxSize: 100 })
    peer.congested = true
    const giant = `large ${"x".repeat(100)}`
    receive(giant)
    assert.isFalse(peer.paused)
    receive("small")
    assert.isTrue(peer.paused)
    assert.deepStrictEqual(served, [])
    peer.congested = false
    admission.advance()
    assert.deepStrictEqual(served, [giant])
  })

  it("count as long as they are served, and then no more", () => {
    const { admission, served, peer, receive, finish } = bench({ maxSize: 10 })
    peer.congested = true
    receive("large 12345")
    peer.congested = false
    admission.advance()
    receive("a")
    assert.deepStrictEqual(served, ["large 12345"])
    finish("large 12345")
    receive("b")
    assert.deepStrictEqual(served, ["large 12345", "a", "b"])
  })
})

it("a peer that is far behind is not served at all, until it has caught up", () => {
  const { admission, served, peer, receive } = bench()
  peer.blocked = true
  receive("a")
  assert.isTrue(peer.paused)
  assert.deepStrictEqual(served, [])
  peer.blocked = false
  admission.advance()
  assert.deepStrictEqual(served, ["a"])
  assert.strictEqual(peer.resumes, 1)
  admission.advance()
  assert.strictEqual(peer.resumes, 1, "a peer that is read is not resumed")
})

describe("the end of the connection", () => {
  it("by the peer: what is held is carried out, what only reads is not", () => {
    const { admission, served, peer, receive } = bench({ maxInFlight: 1 })
    peer.congested = true
    receive("large", "a", "b", "c")
    admission.drain()
    assert.deepStrictEqual(served, ["a", "b", "c"])
    peer.congested = false
    admission.advance()
    receive("d")
    assert.deepStrictEqual(served, ["a", "b", "c"])
  })

  it("by the server: nothing more is served, also not what is held", () => {
    const { admission, served, receive, finish } = bench({ maxInFlight: 1 })
    receive("a", "b")
    admission.end()
    finish("a")
    receive("c")
    admission.drain()
    assert.deepStrictEqual(served, ["a"])
  })
})

describe("requests of all connections", () => {
  const large = (name: string) => name.padEnd(reservedBytes, " ")

  it("are refused beyond a budget, except for a little of each connection, whatever becomes of them", () => {
    const budget = new RequestBudget(3 * reservedBytes)
    const limits = { maxServed: 2, maxSize: 100 * reservedBytes }
    const [greedy, other] = [bench(limits, budget), bench(limits, budget)]
    const [a, b, c, d] = [large("a"), large("b"), large("c"), large("d")]
    const names = (texts: ReadonlyArray<string>) => texts.map((text) => text.trim()).join(" ")
    // Two are served, one is held, one is too much.
    greedy.receive(a, b, c, d)
    assert.deepStrictEqual([names(greedy.served), names(greedy.refused)], ["a b", "d"])
    other.receive("x", d)
    assert.deepStrictEqual([names(other.served), names(other.refused)], ["x", "d"])
    greedy.finish(a)
    greedy.finish(b)
    assert.strictEqual(names(greedy.served), "a b c")
    other.receive(d)
    assert.strictEqual(names(other.served), "x d")
  })

  it("are given back when a connection ends, however far they are", () => {
    const budget = new RequestBudget(4 * reservedBytes)
    for (let round = 0; round < 5; round++) {
      const { admission, served, refused, peer, receive, finish } = bench(
        { maxServed: 1, maxSize: 100 * reservedBytes },
        budget
      )
      peer.congested = true
      receive(large("large"))
      peer.congested = false
      receive(large("a"), large("b"), large("c"))
      assert.deepStrictEqual(refused, [])
      admission.end()
      for (const text of served) finish(text)
    }
  })
})
