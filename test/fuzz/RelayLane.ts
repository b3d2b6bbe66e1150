/** Relay frames to an executor: right and wrong ones on many streams, beside a stream that behaves. */
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { create, fromBinary, toBinary } from "@bufbuild/protobuf"
import { type WebSocket, WebSocketServer } from "ws"
import { type RelayMessageFrame, RelayMessageFrameSchema } from "../../src/remote/gen/relay_pb.js"
import { type Batch, Fault } from "./Batch.js"
import * as Messages from "./Messages.js"
import * as Mutate from "./Mutate.js"
import { mix, Random } from "./Random.js"
import * as Target from "./Target.js"
import type { Ground } from "./World.js"

const encode = (init: Parameters<typeof create<typeof RelayMessageFrameSchema>>[1]): Buffer =>
  Buffer.from(toBinary(RelayMessageFrameSchema, create(RelayMessageFrameSchema, init)))

const streamIds = ["s0", "s1", "s2", "s3", "", " s", "x".repeat(128), "x".repeat(129), "\u0000", "ü"]

/** A number of a segment: mostly near the beginning, sometimes at an edge. */
const uint32 = (random: Random): number =>
  random.weighted<() => number>([
    [8, () => random.below(6)],
    [2, () => random.pick([31, 32, 33, 65535, 65536, 2 ** 31, 2 ** 32 - 1])]
  ])()

const bodyOf = (random: Random, payload: Buffer): NonNullable<Parameters<typeof encode>[0]>["body"] =>
  random.weighted<() => NonNullable<Parameters<typeof encode>[0]>["body"]>([
    [
      8,
      () => ({
        case: "data",
        value: {
          seq: uint32(random),
          segmentIndex: random.percent(60) ? 0 : uint32(random),
          segmentCount: random.percent(60) ? 1 : uint32(random),
          payload
        }
      })
    ],
    [2, () => ({ case: "ackFrame", value: {} })],
    [2, () => ({ case: "resume", value: { nextSeq: uint32(random) } })],
    [2, () => ({ case: "reset", value: { reason: random.pick(["", "over", "x".repeat(257), "ü"]) } })],
    [1, () => ({ case: "heartbeat", value: {} })],
    [1, () => ({ case: "handshake", value: { payload } })],
    [1, () => ({ case: undefined })]
  ])()

/** One frame; its payload can do no harm, also when it is put together with another one's. */
const frameOf = (random: Random, id: string): Buffer | string => {
  const text = random.percent(70) ? Messages.harmless(id) : Mutate.oddity(random)
  const payload = random.percent(90) ? Buffer.from(text.slice(0, 10_000)) : random.bytes(random.below(20))
  const bytes = encode({
    version: random.percent(95) ? 1 : uint32(random),
    streamId: random.pick(streamIds),
    ack: uint32(random),
    ackBits: uint32(random),
    reliable: random.percent(50),
    acknowledged: random.percent(50),
    body: bodyOf(random, payload) ?? { case: undefined }
  })
  return random.weighted<() => Buffer | string>([
    [70, () => bytes],
    [27, () => Mutate.bytes(random, bytes)],
    [1, () => text.slice(0, 1000)],
    [1, () => Buffer.alloc(0)],
    [1, () => random.bytes(random.below(300))]
  ])()
}

/** A rendezvous with one executor. */
export interface Relay {
  readonly executor: Target.Target
  readonly run: (batch: Batch) => Promise<void>
  readonly end: () => Promise<void>
}

/** Starts an executor and what it registers with. */
export const open = async (ground: Ground): Promise<Relay> => {
  const server = createServer((request, response) => {
    request.resume()
    const url = `ws://127.0.0.1:${(server.address() as AddressInfo).port}/`
    response.end(JSON.stringify({ environment_id: "fuzz", url }))
  })
  let socket: WebSocket | undefined
  const answers = new Set<string>()
  const onFrame = ({ streamId, body }: RelayMessageFrame) => {
    if (body.case !== "data") return
    const { id } = JSON.parse(Buffer.from(body.value.payload).toString())
    answers.add(`${streamId} ${id}`)
  }
  const upgrades = new WebSocketServer({ server, maxPayload: 2 ** 30 })
  upgrades.on("connection", (ws) => {
    socket = ws
    ws.on("error", () => {})
    ws.on("message", (data: Buffer) => onFrame(fromBinary(RelayMessageFrameSchema, data)))
    ws.on("close", () => {
      socket = undefined
    })
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const executor = Target.start(["--remote", base, "--environment-id", "fuzz"], { EXEC_SERVER_REMOTE_TOKEN: "token" })
  await Target.eventually("the executor has dialled in", () => socket !== undefined)

  /** Sends a message on a stream that behaves. */
  const send = (streamId: string, seq: number, payload: Buffer) =>
    socket?.send(
      encode({
        version: 1,
        streamId,
        body: { case: "data", value: { seq, segmentIndex: 0, segmentCount: 1, payload } }
      })
    )
  const ask = async (streamId: string, seq: number, id: number, method: string, params: unknown) => {
    send(streamId, seq, Buffer.from(JSON.stringify({ id, method, params })))
    await Target.eventually(`the answer to ${method} on a stream that behaves`, () =>
      answers.delete(`${streamId} ${id}`)
    )
  }

  const run = async ({ seed, from, to }: Batch): Promise<void> => {
    const good = `good-${from}`
    const world = ground.folder(`r${from}`)
    try {
      await ask(good, 0, -5, "initialize", { clientName: "fuzz", resumeSessionId: null })
      send(good, 1, Buffer.from('{"method":"initialized"}'))
      let seq = 2
      for (let at = from; at < to; at++) {
        const random = new Random(mix(seed, 6, at))
        const id = String(at + 1)
        if (random.percent(30)) {
          // What would end the good stream's connection is left to the others.
          const text = Messages.message(random, id, world)
          if (text.includes(`"id":${id},`)) send(good, seq++, Buffer.from(text))
        } else socket?.send(frameOf(random, id))
        if (socket === undefined) throw new Fault(at, "the executor has ended its socket")
      }
      await ask(good, seq, -6, "environment/status", {})
      for (const streamId of [good, ...streamIds.slice(0, 4)]) {
        socket?.send(encode({ version: 1, streamId, body: { case: "reset", value: { reason: "over" } } }))
      }
      answers.clear()
    } catch (error) {
      throw error instanceof Fault ? error : new Fault(to - 1, `${error}; ${executor.stderr().slice(-2000)}`)
    } finally {
      ground.clear(world)
    }
  }

  const end = async () => {
    try {
      await Target.stop(executor)
      if (/died of a defect|led to a defect/.test(executor.stderr())) {
        throw new Error(`the executor complains: ${executor.stderr().slice(0, 4000)}`)
      }
    } finally {
      executor.child.kill("SIGKILL")
      server.close()
      server.closeAllConnections()
      upgrades.close()
    }
  }
  return { executor, run, end }
}
