/** Two streams and a network between them that loses, doubles, delays, reorders and is cut; all of it from a seed. */
import { Buffer } from "node:buffer"
import * as Either from "effect/Either"
import * as RelayFrame from "../../src/remote/RelayFrame.js"
import type { Limits } from "../../src/remote/RelayLimits.js"
import { RelayStream } from "../../src/remote/RelayStream.js"

/** Small, so that windows fill, messages are cut and buffers overflow within a few messages. */
export const smallLimits: Limits = {
  maxStreams: 4,
  segmentBytes: 40,
  maxWholeBytes: 1000,
  maxSegments: 64,
  windowFrames: 8,
  windowBytes: 200,
  maxHeldBytes: 1_000_000,
  handshakeWaitMs: 1000
}

/** A generator of numbers from 0 to 1 (mulberry32). */
export const random = (seed: number) => {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

/** How bad the network is. */
export interface Weather {
  readonly drop: number
  readonly duplicate: number
  readonly maxDelayMs: number
  /** Cuts lose everything sent meanwhile, and everything on its way. */
  readonly cuts: number
}

interface Packet {
  readonly at: number
  readonly order: number
  readonly to: number
  readonly bytes: Uint8Array
}

const streamId = "5b8cf14e-45c4-44c5-8f4d-6cb3ff6b1d6c"

/** What is wrong with a run, or nothing. */
export const run = (seed: number, weather: Weather, messagesEach: number): string | undefined => {
  const chance = random(seed)
  const below = (n: number) => Math.floor(chance() * n)
  const options = (initiator: boolean) => ({
    limits: smallLimits,
    maxMessageBytes: 4096,
    budget: { used: 0 },
    initiator
  })
  let now = 0
  const ends = [new RelayStream(options(true), now), new RelayStream(options(false), now)]
  const sent = [0, 1].map((side) =>
    Array.from(
      { length: messagesEach },
      (_, i) => `${side}/${i}/${"x".repeat(chance() < 0.2 ? below(300) : below(30))}`
    )
  )
  const next = [0, 0]
  const received: ReadonlyArray<Array<string>> = [[], []]
  const pausedUntil = [0, 0]
  const cuts = Array.from({ length: weather.cuts }, () => {
    const from = below(4000)
    return { from, to: from + below(3000) }
  })
  let packets: Array<Packet> = []
  let order = 0
  let fault: string | undefined
  const isCut = (time: number) => cuts.some(({ from, to }) => from <= time && time < to)

  const pump = (side: number) => {
    const end = ends[side]
    if (end === undefined) return
    for (let frame = end.next(now); frame !== undefined; frame = end.next(now)) {
      const bytes = RelayFrame.encode({ streamId, ...frame })
      if (isCut(now)) continue
      const copies = chance() < weather.drop ? 0 : chance() < weather.duplicate ? 2 : 1
      for (let i = 0; i < copies; i++) {
        packets.push({ at: now + 1 + below(weather.maxDelayMs), order: order++, to: 1 - side, bytes })
      }
    }
  }
  const take = (side: number) => {
    const end = ends[side]
    if (end === undefined || now < (pausedUntil[side] ?? 0)) return
    for (let message = end.take(now); message !== undefined; message = end.take(now)) {
      const text = Buffer.from(message).toString()
      const due = sent[1 - side]?.[received[side]?.length ?? 0]
      if (text !== due) fault ??= `seed ${seed}: side ${side} got ${text} where ${due} was due`
      received[side]?.push(text)
      if (chance() < 0.02) pausedUntil[side] = now + below(2000)
      if (now < (pausedUntil[side] ?? 0)) return
    }
  }
  const isDone = () => received[0]?.length === messagesEach && received[1]?.length === messagesEach

  for (let steps = 0; !isDone(); steps++) {
    if (steps > 200_000 || now > 3_600_000) {
      return `seed ${seed}: stuck after ${steps} steps, ${now} ms: ${received[0]?.length}, ${received[1]?.length} of ${messagesEach}`
    }
    for (const side of [0, 1]) {
      // The side that is not the initiator speaks when it has been spoken to.
      const maySend = side === 0 || (received[1]?.length ?? 0) > 0
      for (let burst = below(4); maySend && burst > 0 && (next[side] ?? 0) < messagesEach; burst--) {
        const message = sent[side]?.[next[side] ?? 0] ?? ""
        next[side] = (next[side] ?? 0) + 1
        ends[side]?.send(RelayFrame.message(message))
      }
      pump(side)
    }
    let at = now + 50
    for (const packet of packets) at = Math.min(at, packet.at)
    for (const end of ends) at = Math.min(at, end.deadline ?? at)
    const cut = isCut(at)
    now = Math.max(now + 1, at)
    const due = packets.filter((packet) => packet.at <= now).sort((a, b) => a.at - b.at || a.order - b.order)
    packets = cut ? [] : packets.filter((packet) => packet.at > now)
    for (const { to, bytes } of cut ? [] : due) {
      const frame = RelayFrame.decode(bytes)
      if (Either.isLeft(frame)) return `seed ${seed}: ${frame.left.message}`
      ends[to]?.receive(frame.right, now)
    }
    take(0)
    take(1)
    for (const [side, { ended }] of ends.entries()) {
      if (ended !== undefined) return `seed ${seed}: side ${side} ended: ${ended.reason}`
    }
    if (fault !== undefined) return fault
  }
  return undefined
}
