/** A writer, a reader, and a network between them that delays, doubles, loses, cuts and forges; all from a seed. */
import { Buffer } from "node:buffer"
import * as Either from "effect/Either"
import { type Fault, RecordReader, RecordWriter, wideBytes } from "../../../src/remote/noise/Records.js"
import { sealParts } from "../../../src/remote/noise/SymmetricState.js"
import { random } from "../simulation.js"

/** How a forger changes a record. */
type Forgery = "bit" | "shorter" | "longer" | "number" | "other" | "plain"

const forgeries: ReadonlyArray<Forgery> = ["bit", "shorter", "longer", "number", "other", "plain"]

interface Packet {
  readonly at: number
  readonly seq: number
  readonly sealed: Buffer
  readonly isForged: boolean
}

/** What became of a run. */
export interface Outcome {
  readonly sent: ReadonlyArray<Buffer>
  readonly received: ReadonlyArray<Buffer>
  readonly fault: Fault | undefined
  /** Whether a forged record came, which the reader had to open. */
  readonly isForged: boolean
  /** Whether records were lost, or came later than the reader waits for. */
  readonly isLossy: boolean
}

const key = Buffer.alloc(32, 7)

/** What the network of a run does. */
export interface Network {
  readonly forges?: boolean
  /** Whether nothing comes after a record. */
  readonly cuts?: boolean
  /** Whether one record never comes. */
  readonly loses?: boolean
}

/** One run. */
export const run = (seed: number, { forges = false, cuts = false, loses = false }: Network): Outcome => {
  const chance = random(seed)
  const below = (n: number) => Math.floor(chance() * n)
  const bytes = (size: number) => Buffer.from(Array.from({ length: size }, () => below(256)))
  const sent = Array.from({ length: 1 + below(12) }, () => bytes(1 + below(chance() < 0.1 ? 400 : 40)))
  const records = chance() < 0.5 ? ownCut(sent, chance() < 0.5) : anyCut(sent, below)
  const cutAt = cuts ? below(records.length + 1) : records.length
  const lost = loses ? below(cutAt) : undefined
  const packets: Array<Packet> = []
  records.slice(0, cutAt).forEach((sealed, seq) => {
    if (seq === lost) return
    const at = seq + below(12)
    packets.push({ at, seq, sealed, isForged: false })
    if (chance() < 0.2) packets.push({ at: at + below(30), seq, sealed, isForged: false })
    if (forges && chance() < 0.2) {
      const kind = forgeries[below(forgeries.length)] ?? "bit"
      packets.push({ at: at + below(9) - 4, ...forge(kind, seq, records, below), isForged: true })
    }
  })
  packets.sort((one, other) => one.at - other.at)
  const reader = new RecordReader(key, { maxMessageBytes: 4096, maxHeldBytes: 1e9, budget: { used: 0 } })
  const received: Array<Buffer> = []
  let fault: Fault | undefined
  for (const { seq, sealed } of packets) {
    const outcome = reader.receive(seq, sealed)
    for (let message = reader.take(); message !== undefined; message = reader.take()) received.push(message)
    if (Either.isLeft(outcome)) {
      fault = outcome.left
      break
    }
  }
  const isLossy = cutAt < records.length || lost !== undefined
  return { sent, received, fault, isForged: packets.some(({ isForged }) => isForged), isLossy }
}

/** The records that the writer makes. */
const ownCut = (sent: ReadonlyArray<Buffer>, isWide: boolean): ReadonlyArray<Buffer> => {
  const writer = new RecordWriter(key)
  if (isWide) writer.widen(wideBytes)
  for (const payload of sent) writer.enqueue({ payload })
  const records: Array<Buffer> = []
  for (let sealed = writer.next(); sealed !== undefined; sealed = writer.next())
    records.push(Buffer.concat(sealed.parts))
  return records
}

/** Records of another writer, which cuts anywhere. */
const anyCut = (sent: ReadonlyArray<Buffer>, below: (n: number) => number): ReadonlyArray<Buffer> => {
  const all = Buffer.concat(
    sent.flatMap((message) => {
      const length = Buffer.alloc(4)
      length.writeUInt32BE(message.length)
      return [length, message]
    })
  )
  const records: Array<Buffer> = []
  for (let at = 0; at < all.length; ) {
    const end = Math.min(all.length, at + 1 + below(30))
    records.push(Buffer.concat(sealParts(key, records.length, [all.subarray(at, end)])))
    at = end
  }
  return records
}

const forge = (
  kind: Forgery,
  seq: number,
  records: ReadonlyArray<Buffer>,
  below: (n: number) => number
): { readonly seq: number; readonly sealed: Buffer } => {
  const sealed = Buffer.from(records[seq] ?? [])
  switch (kind) {
    case "bit": {
      const at = below(sealed.length)
      sealed[at] = (sealed[at] ?? 0) ^ (1 << below(8))
      return { seq, sealed }
    }
    case "shorter":
      return { seq, sealed: sealed.subarray(0, below(sealed.length)) }
    case "longer":
      return { seq, sealed: Buffer.concat([sealed, Buffer.alloc(1 + below(20))]) }
    case "number":
      return { seq: seq + 1 + below(10), sealed }
    case "other":
      return { seq, sealed: Buffer.concat(sealParts(Buffer.alloc(32, 8), seq, [Buffer.from("\0\0\0\u0002{}")])) }
    case "plain":
      return { seq, sealed: Buffer.from("\0\0\0\u0002{}................") }
  }
}
