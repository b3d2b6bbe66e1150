/** What waits at a rendezvous for the clients of one environment, with scripted sockets. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { RelaySocket, SocketEvents } from "../../src/remote/RelaySocket.js"
import { RendezvousRouter } from "../../src/remote/RendezvousRouter.js"
import { eventually } from "../support/servers.js"

/** A socket that keeps what it is sent, until it is told to drain. */
const scripted = () => {
  let events: SocketEvents | undefined
  let queued = 0
  const state = { isPaused: false, closed: undefined as string | undefined }
  const socket: RelaySocket = {
    listen: (given) => {
      events = given
    },
    send: ({ byteLength }) => {
      queued += byteLength
    },
    buffered: () => queued,
    pause: () => {
      state.isPaused = true
    },
    resume: () => {
      state.isPaused = false
    },
    probe: (onAnswer) => onAnswer(true),
    close: (_, reason) => {
      state.closed = reason
    }
  }
  return {
    socket,
    state,
    says: (streamId: string, bytes = 0) => events?.onFrame(frame(streamId, bytes)),
    drain: () => {
      queued = 0
      events?.onDrain()
    }
  }
}

/** A data frame: version, stream id, data with a payload. */
const frame = (streamId: string, bytes: number) => {
  const id = Buffer.from(streamId)
  const length = (n: number) => Buffer.of((n & 0x7f) | 0x80, (n >> 7) & 0x7f)
  const data = Buffer.concat([Buffer.of(0x18, 1, 0x22), length(bytes), Buffer.alloc(bytes)])
  return Buffer.concat([Buffer.of(8, 1, 0x12, id.length), id, Buffer.of(0x2a), length(data.length), data])
}

const environment = () => {
  const limits = {
    maxClientsPerEnvironment: 8,
    maxStreamsPerClient: 8,
    maxQueuedBytesPerClient: 1_000_000,
    maxQueuedBytesPerEnvironment: 20_000
  }
  const router = new RendezvousRouter(
    limits,
    () => {},
    () => {}
  )
  const [executor, worst, other] = [scripted(), scripted(), scripted()]
  router.addExecutor(executor.socket)
  for (const client of [worst, other]) router.addClient(client.socket)
  worst.says("w")
  other.says("o")
  executor.drain()
  executor.says("w", 12_000)
  executor.says("o", 7_000)
  assert.isFalse(executor.state.isPaused)
  executor.says("o", 2_000)
  assert.isTrue(executor.state.isPaused)
  return { executor, worst, other }
}

describe("too much waits for the clients of one environment", () => {
  it("its executor is read again when they have taken some of it", () => {
    const { executor, worst, other } = environment()
    worst.drain()
    assert.isFalse(executor.state.isPaused)
    assert.deepStrictEqual([worst.state.closed, other.state.closed], [undefined, undefined])
  })

  it.live("the client with the most is disconnected if nobody takes anything, and the others go on", () =>
    Effect.gen(function* () {
      const { executor, worst, other } = environment()
      yield* eventually("the worst is cut off", () => worst.state.closed !== undefined)
      assert.strictEqual(worst.state.closed, "too much is waiting to be read")
      assert.isUndefined(other.state.closed)
      assert.isFalse(executor.state.isPaused)
    })
  )
})
