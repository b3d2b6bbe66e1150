import { Buffer } from "node:buffer"
import { assert, describe, it } from "@effect/vitest"
import type { Body, Frame } from "../../src/remote/RelayFrame.js"
import * as RelayFrame from "../../src/remote/RelayFrame.js"
import { RelayStream, type StreamEnd } from "../../src/remote/RelayStream.js"
import { random, run, smallLimits } from "./simulation.js"

/** How many seeds; `RELAY_SEEDS=100000` for all of them, `RELAY_SEED=7` for one that failed. */
const seeds = Number(process.env["RELAY_SEEDS"] ?? 2000)
const firstSeed = Number(process.env["RELAY_SEED"] ?? 0)

const make = (initiator: boolean, more: { startsAt?: number; maxMessageBytes?: number; maxHeldBytes?: number } = {}) =>
  new RelayStream(
    {
      limits: { ...smallLimits, maxHeldBytes: more.maxHeldBytes ?? smallLimits.maxHeldBytes },
      maxMessageBytes: more.maxMessageBytes ?? 4096,
      budget: { used: 0 },
      initiator,
      ...(more.startsAt === undefined ? {} : { startsAt: more.startsAt })
    },
    0
  )

/** A frame of a peer that only ever sends whole messages and fills in nothing else. */
const plain = (body: Body, more: Partial<Frame> = {}): Frame => ({
  streamId: "s",
  ack: 0,
  ackBits: 0,
  reliable: false,
  acknowledged: false,
  body,
  ...more
})
const data = (seq: number, text: string, index = 0, count = 1): Body => ({
  _tag: "Data",
  seq,
  index,
  count,
  payload: Buffer.from(text)
})
const takeAll = (stream: RelayStream, now = 0) => {
  const texts: Array<string> = []
  for (let message = stream.take(now); message !== undefined; message = stream.take(now)) {
    texts.push(Buffer.from(message).toString())
  }
  return texts
}
const sendAll = (stream: RelayStream, now = 0) => {
  const frames: Array<NonNullable<ReturnType<RelayStream["next"]>>> = []
  for (let frame = stream.next(now); frame !== undefined; frame = stream.next(now)) frames.push(frame)
  return frames
}
const tags = (stream: RelayStream, now = 0) => sendAll(stream, now).map(({ body }) => body._tag)

describe("two of ours", () => {
  it(`every message once and in order over a bad network (${seeds} seeds)`, { timeout: 3_600_000 }, () => {
    for (let seed = firstSeed; seed < firstSeed + (process.env["RELAY_SEED"] === undefined ? seeds : 1); seed++) {
      const fault = run(seed, { drop: 0.1, duplicate: 0.1, maxDelayMs: 30, cuts: seed % 3 }, 30)
      if (fault !== undefined) assert.fail(fault)
    }
  })

  it("a far worse network", () => {
    for (let seed = 0; seed < 200; seed++) {
      const fault = run(seed, { drop: 0.4, duplicate: 0.4, maxDelayMs: 500, cuts: 3 }, 20)
      if (fault !== undefined) assert.fail(fault)
    }
  })

  it("nothing is sent twice when nothing is lost", () => {
    const [a, b] = [make(true), make(false)]
    const seen = new Set<number>()
    for (let now = 0; now < 200; now++) {
      a.send(RelayFrame.message(`message ${now}`))
      for (const frame of sendAll(a, now)) {
        if (frame.body._tag === "Data") {
          assert.isFalse(seen.has(frame.body.seq))
          seen.add(frame.body.seq)
        }
        b.receive({ streamId: "s", ...frame }, now)
      }
      takeAll(b, now)
      for (const frame of sendAll(b, now)) a.receive({ streamId: "s", ...frame }, now)
    }
    assert.isTrue(a.isReliable && b.isReliable)
    assert.isAbove(seen.size, 50)
  })

  it("the window bounds what is on its way, and acknowledgements open it", () => {
    const [a, b] = [make(true), make(false)]
    const pass = (from: RelayStream, to: RelayStream, now: number) => {
      const frames = sendAll(from, now)
      for (const frame of frames) to.receive({ streamId: "s", ...frame }, now)
      return frames.length
    }
    pass(a, b, 0)
    pass(b, a, 0)
    for (let i = 0; i < 100; i++) a.send(RelayFrame.message("x"))
    assert.strictEqual(pass(a, b, 1), smallLimits.windowFrames)
    // Not taken by the receiver: it does not acknowledge, and nothing more comes.
    pass(b, a, 100)
    assert.strictEqual(pass(a, b, 100), 0)
    assert.strictEqual(a.queuedBytes, 100 - smallLimits.windowFrames)
    assert.lengthOf(takeAll(b, 101), smallLimits.windowFrames)
    pass(b, a, 200)
    assert.strictEqual(pass(a, b, 200), smallLimits.windowFrames)
  })

  it("a silent peer is given up, and heartbeats keep a quiet one", () => {
    const [a, b] = [make(true), make(false)]
    for (let now = 0; now <= 600_000; now += 1000) {
      for (const frame of sendAll(a, now)) b.receive({ streamId: "s", ...frame }, now)
      for (const frame of sendAll(b, now)) a.receive({ streamId: "s", ...frame }, now)
    }
    assert.isUndefined(a.ended)
    for (let now = 600_000; now < 700_000; now += 1000) sendAll(a, now)
    assert.deepStrictEqual<StreamEnd | undefined>(a.ended, {
      reason: "nothing was heard for too long",
      byPeer: false
    })
  })

  it("a peer that is not listened to is not given up", () => {
    const [a, b] = [make(true), make(false)]
    for (const frame of sendAll(a)) b.receive({ streamId: "s", ...frame }, 0)
    for (const frame of sendAll(b)) a.receive({ streamId: "s", ...frame }, 0)
    a.listen(false, 0)
    for (let now = 0; now <= 600_000; now += 1000) sendAll(a, now)
    assert.isUndefined(a.ended)
    a.listen(true, 600_000)
    sendAll(a, 680_000)
    assert.isUndefined(a.ended)
    sendAll(a, 690_000)
    assert.isDefined(a.ended)
  })

  it("the end comes after everything that was sent before it", () => {
    const [a, b] = [make(true), make(false)]
    for (const frame of sendAll(a)) b.receive({ streamId: "s", ...frame }, 0)
    for (const frame of sendAll(b)) a.receive({ streamId: "s", ...frame }, 0)
    a.send(RelayFrame.message("last words"))
    a.close("bye", 0)
    for (const frame of sendAll(a)) b.receive({ streamId: "s", ...frame }, 0)
    assert.deepStrictEqual<StreamEnd | undefined>(b.ended, { reason: "bye", byPeer: true })
  })

  it("a stream that the other side does not know is reset at once", () => {
    const b = make(false)
    b.receive(plain(data(7, "x"), { reliable: true, acknowledged: true, ack: 3 }), 0)
    assert.deepStrictEqual(tags(b), ["Reset"])
    assert.isDefined(b.ended)
  })

  it("sequence numbers wrap", () => {
    const b = make(false)
    const reliable = { reliable: true }
    b.receive(plain({ _tag: "Resume", nextSeq: 4294967295 }, reliable), 0)
    for (const seq of [4294967295, 1, 0]) b.receive(plain(data(seq, `${seq}`), reliable), 0)
    assert.deepStrictEqual(takeAll(b), ["4294967295", "0", "1"])
    b.send(RelayFrame.message("answer"))
    assert.deepInclude(sendAll(b)[0], { ack: 1, ackBits: 0 })
  })
})

describe("with a peer that knows no acknowledgements", () => {
  it("answers look like its own, however many, and are neither cut nor repeated", () => {
    const b = make(false)
    b.receive(plain({ _tag: "Resume", nextSeq: 0 }), 0)
    b.receive(plain(data(0, "hello")), 0)
    assert.deepStrictEqual(takeAll(b), ["hello"])
    for (let i = 0; i < 1000; i++) b.send(RelayFrame.message("x".repeat(500)))
    const frames = sendAll(b)
    assert.lengthOf(frames, 1000)
    for (const [seq, frame] of frames.entries()) {
      assert.deepInclude(frame.body, { _tag: "Data", seq, index: 0, count: 1 })
      assert.isFalse(frame.reliable || frame.acknowledged)
    }
    assert.lengthOf(sendAll(b, 1e9), 0)
    assert.isUndefined(b.deadline)
  })

  it("an initiator learns it from the first answer, and repeats no message before", () => {
    const a = make(true)
    for (let i = 0; i < 3; i++) a.send(RelayFrame.message(`${i}`))
    assert.deepStrictEqual(tags(a), ["Resume", "Data", "Data", "Data"])
    for (const now of [1000, 3000, 7000]) assert.deepStrictEqual(tags(a, now), ["Resume"])
    a.receive(plain(data(0, "answer")), 8000)
    assert.deepStrictEqual(takeAll(a), ["answer"])
    for (let i = 0; i < 100; i++) a.send(RelayFrame.message("x"))
    assert.lengthOf(sendAll(a, 8000), 100)
    assert.lengthOf(sendAll(a, 1e9), 0)
  })

  it("its messages are served in order of arrival, whatever their numbers, and twice if they come twice", () => {
    const b = make(false)
    const arrivals = [9, 4, 4294967295, 0, 0]
    for (const seq of arrivals) b.receive(plain(data(seq, `${seq}`)), 0)
    assert.deepStrictEqual(takeAll(b), arrivals.map(String))
    assert.notInclude(tags(b, 1e9), "Reset")
  })

  it("pieces that do not fit together are dropped, and what follows is served", () => {
    for (const piece of [data(1, "x", 0, 2), data(1, "x", 1, 2), data(1, "x", 3, 65), data(1, "x", 0, 65)]) {
      const b = make(false)
      for (const body of [data(0, "a"), piece, data(1, "b"), data(2, "c")]) b.receive(plain(body), 0)
      assert.deepStrictEqual(takeAll(b), ["a", "b", "c"])
      assert.isUndefined(b.ended)
    }
    const b = make(false)
    for (const body of [data(0, "x", 0, 3), data(1, "y", 1, 2), data(5, "l", 0, 2), data(6, "o", 1, 2)]) {
      b.receive(plain(body), 0)
    }
    assert.deepStrictEqual(takeAll(b), ["lo"])
  })

  it("once it has split a message its numbers count: a segment that never comes ends the stream", () => {
    const b = make(false)
    for (const body of [data(0, "a", 0, 2), data(1, "b", 1, 2), data(3, "d")]) b.receive(plain(body), 0)
    assert.deepStrictEqual(takeAll(b), ["ab"])
    assert.notInclude(tags(b, 2000), "Reset")
    assert.include(tags(b, 3000), "Reset")
    assert.deepInclude(b.ended, { reason: "segment 2 is missing" })
  })

  it("a reliable one may count on from where an earlier stream of its ended", () => {
    const reliable = { reliable: true }
    const b = make(false, { startsAt: 5 })
    for (const seq of [6, 5]) b.receive(plain(data(seq, `${seq}`), reliable), 0)
    assert.deepStrictEqual(takeAll(b), ["5", "6"])
    const fresh = make(false, { startsAt: 5 })
    fresh.receive(plain(data(0, "0"), reliable), 0)
    assert.deepStrictEqual(takeAll(fresh), ["0"])
  })
})

describe("with a peer that acknowledges, and says no more than it must", () => {
  it("segments out of order, doubled and split arrive once, and are acknowledged", () => {
    const b = make(false)
    for (const [seq, text, index, count] of [
      [1, "lo", 1, 2],
      [0, "hel", 0, 2],
      [0, "hel", 0, 2],
      [4, "c", 0, 1],
      [2, "a", 0, 1]
    ] as const) {
      b.receive(plain(data(seq, text, index, count)), 0)
    }
    assert.deepStrictEqual(takeAll(b), ["hello", "a"])
    // Bit i stands for ack + 1 + i: 4 is 2 + 1 + 1.
    assert.deepInclude(sendAll(b)[0], { ack: 2, ackBits: 2, body: { _tag: "Ack" } })
    b.receive(plain(data(3, "b")), 1)
    assert.deepStrictEqual(takeAll(b, 1), ["b", "c"])
    assert.deepInclude(sendAll(b, 100)[0], { ack: 4, ackBits: 0 })
  })

  it("once it has acknowledged, what it does not acknowledge is repeated, later and later, and then it is given up", () => {
    const b = make(false)
    b.receive(plain(data(0, "hello")), 0)
    b.send(RelayFrame.message("0"))
    sendAll(b)
    b.receive(plain({ _tag: "Ack" }), 0)
    assert.isTrue(b.isReliable)
    b.send(RelayFrame.message("1"))
    const times: Array<number> = []
    for (let now = 0; b.ended === undefined && now < 1_000_000; now += 100) {
      for (const { body } of sendAll(b, now)) if (body._tag === "Data") times.push(now)
    }
    const waits = times.slice(1).map((time, i) => time - (times[i] ?? 0))
    assert.isAbove(waits.length, 8)
    for (const [i, wait] of waits.entries()) assert.isAtLeast(wait, waits[i - 1] ?? 0)
    assert.strictEqual(b.ended?.reason, "segment 1 was not acknowledged")
  })

  it("bits acknowledge behind a hole, which is filled without waiting", () => {
    const b = make(false)
    b.receive(plain(data(0, "hello")), 0)
    b.send(RelayFrame.message("0"))
    sendAll(b)
    b.receive(plain({ _tag: "Ack" }), 0)
    for (let i = 1; i < 7; i++) b.send(RelayFrame.message(`${i}`))
    sendAll(b)
    b.receive(plain({ _tag: "Ack" }, { ackBits: 0b111110 }), 1)
    assert.deepStrictEqual(
      sendAll(b, 1).map(({ body }) => (body._tag === "Data" ? body.seq : body._tag)),
      [1]
    )
  })
})

describe("peers that break the rules", () => {
  const ends = (stream: RelayStream, frames: ReadonlyArray<Frame>, reason: RegExp) => {
    for (const frame of frames) stream.receive(frame, 0)
    assert.match(stream.ended?.reason ?? "", reason)
    assert.isFalse(stream.ended?.byPeer)
    assert.deepStrictEqual(tags(stream), ["Reset"])
    assert.lengthOf(takeAll(stream), 0)
  }

  it("more segments than allowed, or segments that do not fit together", () => {
    const marked = (body: Body) => plain(body, { reliable: true })
    ends(make(false), [marked(data(0, "x", 0, 65))], /a message of 65 segments is longer than 64/)
    ends(make(false), [marked(data(0, "x", 0, 2)), marked(data(1, "y"))], /segment 0 of 1 came where segment 1/)
    ends(make(false), [marked(data(0, "x", 0, 3)), marked(data(1, "y", 1, 2))], /segment 1 of 2 came where/)
  })

  it("a message that is too long, in one piece or in several", () => {
    const parts = Array.from({ length: 5 }, (_, i) => plain(data(i, "x".repeat(1000), i, 6)))
    ends(make(false), parts, /longer than maxMessageBytes \(4096\)/)
    ends(make(false), [plain(data(0, "x".repeat(4097)))], /longer than maxMessageBytes \(4096\)/)
  })

  it("what is held is bounded, ahead of its turn as well", () => {
    const b = make(false, { maxHeldBytes: 10 })
    for (let seq = 1; seq < 15; seq++) b.receive(plain(data(seq, "x".repeat(300_000)), { reliable: true }), 0)
    assert.match(b.ended?.reason ?? "", /too much was sent/)
  })

  it("anything at all, at random: never more is held than allowed, and nothing throws", () => {
    for (let seed = 0; seed < 300; seed++) {
      const chance = random(seed)
      const below = (n: number) => Math.floor(chance() * n)
      const budget = { used: 0 }
      const limits = { ...smallLimits, maxHeldBytes: 2000 }
      const stream = new RelayStream({ limits, maxMessageBytes: 500, budget, initiator: seed % 2 === 0 }, 0)
      for (let now = 0; now < 300; now++) {
        const bodies: ReadonlyArray<Body> = [
          data(below(20), "x".repeat(1 + below(50)), below(2), 1 + below(3)),
          { _tag: "Ack" },
          { _tag: "Resume", nextSeq: below(4) },
          { _tag: "Heartbeat" }
        ]
        const body = bodies[below(4)] ?? { _tag: "Ack" }
        const more = { ack: below(5), ackBits: below(2 ** 32), reliable: chance() < 0.1, acknowledged: chance() < 0.5 }
        stream.receive(plain(body, more), now * 10)
        if (chance() < 0.3) stream.send(RelayFrame.message("answer"))
        if (chance() < 0.5) takeAll(stream, now * 10)
        sendAll(stream, now * 10)
        assert.isAtMost(budget.used, 2_000_000)
      }
      if (stream.ended !== undefined) assert.strictEqual(budget.used, 0)
    }
  })
})
