/**
 * WebSocket frames of every shape, right and wrong, below what a library would let through; and requests to be
 * upgraded that are none.
 */
import { createConnection } from "node:net"
import { upgrade } from "../support/raw.js"
import { type Batch, Fault, patienceMs } from "./Batch.js"
import * as Messages from "./Messages.js"
import { idOfAnswer } from "./Oracle.js"
import { mix, Random } from "./Random.js"
import { frame, RawSocket } from "./RawSocket.js"
import { maxMessageBytes } from "./Target.js"

/** What has to come back. */
type Outcome =
  | { readonly _tag: "Answer"; readonly id: string }
  | { readonly _tag: "Pong"; readonly payload: Buffer }
  /** A close frame with one of these codes; 1006: none at all. */
  | { readonly _tag: "Close"; readonly codes: ReadonlyArray<number> }

interface Case {
  /** What is written, piece by piece. */
  readonly pieces: ReadonlyArray<Buffer>
  readonly outcome: Outcome
  /** The connection is cut after that: by a last packet, or by a reset. */
  readonly cut?: "end" | "reset"
}

const closes = (...codes: ReadonlyArray<number>): Outcome => ({ _tag: "Close", codes })

/** A request's bytes cut into frames at any place, within a character too. */
const fragments = (random: Random, text: string, more: ReadonlyArray<Buffer>): Buffer => {
  const bytes = Buffer.from(text)
  const cuts = random.list(8, () => random.below(bytes.length + 1)).sort((a, b) => a - b)
  return Buffer.concat(
    [...cuts, bytes.length].flatMap((end, i) => [
      frame(i === 0 ? 1 : 0, bytes.subarray(cuts[i - 1] ?? 0, end), { fin: i === cuts.length }),
      ...(i < cuts.length ? more : [])
    ])
  )
}

const inPieces = (random: Random, bytes: Buffer): ReadonlyArray<Buffer> => {
  const size = random.pick([1, 2, 7, 1000])
  return Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) => bytes.subarray(i * size, (i + 1) * size))
}

const badUtf8 = ["ff", "c0af", "eda080", "f4908080", "e282", "80", "f8888080"].map((hex) => Buffer.from(hex, "hex"))

const closeFrame = (code: number, reason: Buffer | string = "") => {
  const head = Buffer.alloc(2)
  head.writeUInt16BE(code)
  return frame(8, Buffer.concat([head, Buffer.from(reason)]))
}

const makers: ReadonlyArray<(random: Random, id: string) => Case> = [
  function reservedBits(random, id) {
    const reserved = 1 + random.below(7)
    return { pieces: [frame(random.pick([1, 2, 9]), Messages.harmless(id), { reserved })], outcome: closes(1002) }
  },
  function unknownOpcode(random) {
    return { pieces: [frame(random.pick([3, 4, 5, 6, 7, 11, 12, 13, 14, 15]), "x")], outcome: closes(1002) }
  },
  function unmasked(random, id) {
    return {
      pieces: [frame(random.pick([1, 2, 8, 9, 10]), Messages.harmless(id), { masked: false })],
      outcome: closes(1002)
    }
  },
  function fragmentedControl(random) {
    return { pieces: [frame(random.pick([8, 9, 10]), "", { fin: false })], outcome: closes(1002) }
  },
  function longControl(random) {
    return { pieces: [frame(random.pick([8, 9, 10]), Buffer.alloc(126))], outcome: closes(1002) }
  },
  function continuationOfNothing(random) {
    return { pieces: [frame(0, "x", { fin: random.percent(50) })], outcome: closes(1002) }
  },
  function messageWithinMessage(random) {
    return { pieces: [frame(1, "{", { fin: false }), frame(random.pick([1, 2]), "}")], outcome: closes(1002) }
  },
  function textOfBadUtf8(random) {
    const bad = random.pick(badUtf8)
    const pieces = random.percent(50)
      ? [frame(1, Buffer.concat([Buffer.from('{"a":"'), bad]))]
      : [frame(1, bad.subarray(0, 1), { fin: false }), frame(0, bad.subarray(1))]
    return { pieces, outcome: closes(1007) }
  },
  function binaryOfBadUtf8(random) {
    return { pieces: [frame(2, random.pick(badUtf8))], outcome: { _tag: "Answer", id: "-1" } }
  },
  function tooLong(random) {
    const claims = random.pick([
      BigInt(maxMessageBytes + 1),
      2n ** 31n,
      2n ** 32n,
      2n ** 53n,
      2n ** 63n,
      2n ** 64n - 1n
    ])
    return { pieces: [frame(1, "", { claims, lengthBytes: 8 })], outcome: closes(1009) }
  },
  function tooLongInFragments() {
    const half = Buffer.alloc(maxMessageBytes / 2 + 1, " ")
    return { pieces: [frame(1, half, { fin: false }), frame(0, half)], outcome: closes(1009) }
  },
  function justNotTooLong(random, id) {
    const bytes = Buffer.from(Messages.harmless(id).padEnd(maxMessageBytes))
    return { pieces: [frame(random.pick([1, 2]), bytes)], outcome: { _tag: "Answer", id } }
  },
  function closeWithCode(random) {
    const code = random.pick([1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1014, 3000, 4999])
    const reason = random.pick(["", "bye", "x".repeat(123)])
    return { pieces: [closeFrame(code, reason)], outcome: closes(code) }
  },
  function closeWithoutCode() {
    return { pieces: [frame(8, "")], outcome: closes(1000, 1005) }
  },
  function closeWithBadCode(random) {
    const code = random.pick([0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535])
    return { pieces: [closeFrame(code)], outcome: closes(1002) }
  },
  function closeWithHalfACode() {
    return { pieces: [frame(8, "x")], outcome: closes(1002) }
  },
  function closeWithBadReason(random) {
    return { pieces: [closeFrame(1000, random.pick(badUtf8))], outcome: closes(1007) }
  },
  function ping(random) {
    const payload = random.bytes(random.pick([0, 1, 124, 125]))
    return { pieces: inPieces(random, frame(9, payload)), outcome: { _tag: "Pong", payload } }
  },
  function unasked(random, id) {
    return { pieces: [frame(10, random.bytes(5)), frame(1, Messages.harmless(id))], outcome: { _tag: "Answer", id } }
  },
  function inFragments(random, id) {
    const text = `{"id":${id},"method":"environment/status","ü":"💥"}`
    const more = random.pick([[], [frame(9, "ping")], [frame(10, "")], [frame(0, "", { fin: false })]])
    return { pieces: inPieces(random, fragments(random, text, more)), outcome: { _tag: "Answer", id } }
  },
  function lengthOfMoreBytes(random, id) {
    const lengthBytes = random.pick([2, 8] as const)
    return { pieces: [frame(1, Messages.harmless(id), { lengthBytes })], outcome: { _tag: "Answer", id } }
  },
  function empty(random) {
    return { pieces: [frame(random.pick([1, 2]), "")], outcome: { _tag: "Answer", id: "-1" } }
  },
  function nothingAfterHalfAFrame(random, id) {
    const bytes = frame(1, Messages.harmless(id))
    return {
      pieces: [bytes.subarray(0, 1 + random.below(bytes.length - 1))],
      outcome: closes(1006),
      cut: random.pick(["end", "reset"] as const)
    }
  },
  function resetAfterRequests(random, id) {
    const pieces = random.list(50, () => frame(1, Messages.harmless(id)))
    return { pieces, outcome: closes(1006), cut: "reset" }
  }
]

const junk: ReadonlyArray<(random: Random) => Buffer | string> = [
  (random) => random.bytes(1 + random.below(200)),
  () => "GET / HTTP/1.1\r\n\r\n",
  () => upgrade().replace("Version: 13", "Version: 12"),
  () => upgrade().replace(/Sec-WebSocket-Key: .*\r\n/, ""),
  () => upgrade().replace(/Sec-WebSocket-Key: .*\r\n/, "Sec-WebSocket-Key: x\r\n"),
  () => upgrade("/other"),
  () => upgrade("/", "Origin: http://example.com\r\n"),
  () => upgrade("/", `X: ${"x".repeat(100_000)}\r\n`),
  () => upgrade("/", "X y\r\n"),
  () => upgrade().replace("GET", "POST"),
  () => upgrade("/", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
  () => "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
  () => "GET /readyz HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\nabc",
  () => "GET //../.. HTTP/1.1\r\nHost: x\r\n\r\n",
  () => "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
]

/** Something that asks for no WebSocket: it is answered with a refusal or cut off, and in any case over soon. */
const knock = (url: string, random: Random): Promise<string | undefined> =>
  new Promise((resolve) => {
    const { hostname, port } = new URL(url)
    const socket = createConnection({ host: hostname, port: Number(port) })
    let answer = ""
    const timer = setTimeout(() => {
      socket.destroy()
      resolve("the server does not end a connection that asked for nothing it has")
    }, patienceMs)
    socket.on("error", () => {})
    socket.on("data", (chunk) => {
      answer += chunk.toString("latin1")
    })
    socket.once("close", () => {
      clearTimeout(timer)
      resolve(/^HTTP\/1\.1 101/.test(answer) ? `upgraded: ${answer}` : undefined)
    })
    socket.end(random.pick(junk)(random))
  })

const matches = (outcome: Outcome, seen: { answer?: string; pong?: Buffer; code?: number }): boolean | undefined => {
  switch (outcome._tag) {
    case "Answer":
      return seen.answer === undefined ? undefined : seen.answer === outcome.id
    case "Pong":
      return seen.pong === undefined ? undefined : seen.pong.equals(outcome.payload)
    case "Close":
      return seen.code === undefined ? undefined : outcome.codes.includes(seen.code)
  }
}

/** Plays one case on a connection of its own; a sentence if it goes wrong. */
const play = (url: string, name: string, { pieces, outcome, cut }: Case): Promise<string | undefined> =>
  new Promise((resolve, reject) => {
    const seen: { answer?: string; pong?: Buffer; code?: number } = {}
    const timer = setTimeout(() => done(`waited in vain for ${JSON.stringify(outcome)}`), patienceMs)
    let raw: RawSocket | undefined
    const done = (fault?: string) => {
      clearTimeout(timer)
      raw?.socket.destroy()
      resolve(fault === undefined ? undefined : `${name}: ${fault}`)
    }
    const look = () => {
      const match = matches(outcome, seen)
      if (match === true) done()
      else if (match === false || seen.code !== undefined) {
        done(`saw ${JSON.stringify(seen)} instead of ${JSON.stringify(outcome)}`)
      }
    }
    RawSocket.open(url, {
      onText: (text) => {
        if (cut !== undefined) return
        seen.answer = idOfAnswer(text) ?? text
        look()
      },
      onPong: (payload) => {
        // Pings between fragments have pongs too.
        if (outcome._tag !== "Pong") return
        seen.pong = payload
        look()
      },
      onEnd: (code) => {
        seen.code = code
        look()
      }
    }).then((opened) => {
      raw = opened
      for (const piece of pieces) opened.write(piece)
      if (cut === "end") opened.socket.end()
      if (cut === "reset") opened.socket.resetAndDestroy()
    }, reject)
  })

/** Plays a batch of cases. */
export const run = async (url: string, { seed, from, to }: Batch): Promise<void> => {
  for (let at = from; at < to; at++) {
    const random = new Random(mix(seed, 3, at))
    const make = random.pick(makers)
    const fault = random.percent(10)
      ? await knock(url, random)
      : await play(url, make.name, make(random, String(at + 1)))
    if (fault !== undefined) throw new Fault(at, fault)
  }
}
