/** Messages over WebSocket: many at a time, in all kinds of sessions, each of which must be answered once. */
import { setTimeout as sleep } from "node:timers/promises"
import { type Batch, Fault, patienceMs } from "./Batch.js"
import { Ledger, type Tally } from "./Ledger.js"
import * as Messages from "./Messages.js"
import { expectationOf, idOfAnswer } from "./Oracle.js"
import { mix, Random } from "./Random.js"
import { frame, RawSocket } from "./RawSocket.js"
import type { Ground } from "./World.js"

/** Params of `initialize`, with their weights; null: none is sent. */
const handshakes = [
  [1, null],
  [5, { clientName: "fuzz" }],
  [5, { clientName: "fuzz", resumeSessionId: null }]
] as const

/** The bytes of a message: one frame, or several, with pings in between. */
const carry = (random: Random, text: string): Buffer => {
  const opcode = random.percent(95) ? 1 : 2
  const bytes = Buffer.from(text)
  if (random.percent(90)) return frame(opcode, bytes)
  const cuts = random.list(4, () => random.below(bytes.length + 1)).sort((a, b) => a - b)
  const edges = [0, ...cuts, bytes.length]
  return Buffer.concat(
    edges
      .slice(1)
      .flatMap((end, i) => [
        frame(i === 0 ? opcode : 0, bytes.subarray(edges[i], end), { fin: i === cuts.length }),
        ...(random.percent(20) ? [frame(9, "ping")] : [])
      ])
  )
}

/** One connection, and what it has been answered. */
class Client {
  readonly ledger: Ledger
  readonly replies = new Map<string, string>()
  private wake = () => {}
  private socket: RawSocket | undefined
  code: number | undefined

  constructor(tally: Tally) {
    this.ledger = new Ledger(tally)
  }

  async open(url: string): Promise<RawSocket> {
    this.socket = await RawSocket.open(url, {
      onText: (text) => {
        if (text.startsWith('{"method":')) JSON.parse(text)
        else {
          const id = idOfAnswer(text)
          if (id?.startsWith('"own')) this.replies.set(id, text)
          else this.ledger.answered(text)
        }
        this.wake()
      },
      onPong: () => {},
      onEnd: (code) => {
        this.code = code
        this.wake()
      }
    })
    return this.socket
  }

  /** Asks under an id of its own; undefined if the connection ends before there is an answer. */
  async ask(name: string, method: string, params?: unknown): Promise<string | undefined> {
    const id = `own ${name}`
    this.socket?.text(JSON.stringify({ id, method, params }))
    const key = JSON.stringify(id)
    return (await this.until(() => this.replies.has(key) || this.code !== undefined))
      ? this.replies.get(key)
      : "nothing"
  }

  /** Whether something came true in time. */
  async until(holds: () => boolean, withinMs = patienceMs): Promise<boolean> {
    const deadline = performance.now() + withinMs
    while (!holds()) {
      const left = deadline - performance.now()
      if (left <= 0) return false
      const waiting = new AbortController()
      await Promise.race([
        new Promise<void>((resolve) => {
          this.wake = resolve
        }),
        sleep(left, undefined, { signal: waiting.signal }).catch(() => {})
      ])
      waiting.abort()
    }
    return true
  }
}

/** Ends all processes until nothing waits for anything any more. */
const settle = async (client: Client, at: number): Promise<void> => {
  const deadline = performance.now() + patienceMs
  for (let round = 0; client.ledger.waiting > 0 && client.code === undefined; round++) {
    const list = await client.ask(`list ${round}`, "process/list")
    if (list === "nothing") throw new Fault(at, "the server answers nothing any more")
    const { result } = JSON.parse(list ?? "{}")
    for (const { processId } of result?.processes ?? []) {
      await client.ask(`end ${round} ${processId}`, "process/terminate", { processId })
    }
    await client.until(() => client.ledger.waiting === 0 || client.code !== undefined, 20)
    if (performance.now() > deadline) {
      throw new Fault(at, `${client.ledger.waiting} unanswered: ${client.ledger.names().slice(0, 5).join("; ")}`)
    }
  }
}

/** Sends frames on one connection until one of them ends it; the number of the next one. */
const runConnection = async (url: string, batch: Batch, first: number, ground: Ground): Promise<number> => {
  const { seed, to } = batch
  const random = new Random(mix(seed, 2, first))
  const client = new Client(ground.tally)
  const socket = await client.open(url)
  const params = random.weighted<object | null>(handshakes)
  if (params !== null) {
    await client.ask("initialize", "initialize", params)
    socket.text('{"method":"initialized"}')
  }
  const world = ground.folder(`m${first}`)
  const check = (at: number) => {
    if (client.ledger.fault !== undefined) throw new Fault(at, client.ledger.fault)
  }
  try {
    for (let at = first; at < to; at++) {
      const frameRandom = new Random(mix(seed, 1, at))
      const text = Messages.message(frameRandom, String(at + 1), world)
      const expectation = expectationOf(text)
      client.ledger.sent(`frame ${at}: ${text.slice(0, 300)}`, expectation)
      socket.write(carry(frameRandom, text))
      check(at)
      if (expectation._tag === "Unsure" && (await client.ask(`sync ${at}`, "environment/status")) === "nothing") {
        throw new Fault(at, `no answer after ${text.slice(0, 300)}`)
      }
      if (expectation._tag === "Close") {
        await client.until(() => client.code !== undefined)
        if (client.code !== 1002)
          throw new Fault(at, `ended with ${client.code} instead of 1002: ${text.slice(0, 300)}`)
      }
      if (client.code !== undefined) {
        if (expectation._tag === "Answer" || client.code !== 1002) {
          throw new Fault(at, `ended with ${client.code} on ${text.slice(0, 300)}`)
        }
        return at + 1
      }
      // Now and then the answers so far are read before more is sent.
      if (frameRandom.percent(5)) await client.until(() => client.ledger.waiting === 0 || client.code !== undefined, 5)
      else if (socket.socket.writableLength > 262_144) await sleep(1)
    }
    await settle(client, to - 1)
    check(to - 1)
    if (random.percent(50)) {
      socket.write(frame(8, Buffer.from([3, 232])))
      await client.until(() => client.code !== undefined)
      if (client.code !== 1000) throw new Fault(to - 1, `a clean close was answered with ${client.code}`)
    }
    return to
  } finally {
    socket.socket.destroy()
    ground.clear(world)
  }
}

/** Sends a batch. */
export const run = async (url: string, batch: Batch, ground: Ground): Promise<void> => {
  for (let at = batch.from; at < batch.to; ) at = await runConnection(url, batch, at, ground)
}
