/** Connections that nobody has accepted yet: how many there may be, and which of them has to go. */
import { EventEmitter } from "node:events"
import type { Server, Socket } from "node:net"
import { afterEach, assert, describe, it } from "@effect/vitest"
import * as PendingConnections from "../../src/transport/PendingConnections.js"

const { maxPending } = PendingConnections

class FakeSocket extends EventEmitter {
  destroyed = false
  constructor(
    readonly remotePort: number,
    readonly remoteAddress = "127.0.0.1"
  ) {
    super()
  }
  destroy() {
    this.destroyed = true
    this.emit("close")
  }
}

const sockets: Array<FakeSocket> = []
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy()
})

const bench = () => {
  const server = new EventEmitter()
  const pending = PendingConnections.make(server as unknown as Server, 2_000_000)
  let port = 0
  const connect = (count: number) =>
    Array.from({ length: count }, () => {
      const socket = new FakeSocket(port++)
      sockets.push(socket)
      server.emit("connection", socket)
      return socket
    })
  const accept = (socket: FakeSocket | undefined) => pending.accepted(socket as unknown as Socket)
  const gone = (sockets: ReadonlyArray<FakeSocket>) => sockets.flatMap(({ destroyed }, i) => (destroyed ? [i] : []))
  return { connect, accept, gone }
}

describe("pending connections", () => {
  it("are as many as the limit; beyond it the oldest has to go", () => {
    const { connect, gone } = bench()
    const first = connect(maxPending)
    assert.deepStrictEqual(gone(first), [])
    connect(2)
    assert.deepStrictEqual(gone(first), [0, 1])
  })

  it("that have ended, or were accepted, take no place, and what was accepted stays", () => {
    const { connect, accept, gone } = bench()
    const first = connect(maxPending)
    first[5]?.destroy()
    accept(first[0])
    connect(2)
    assert.deepStrictEqual(gone(first), [5])
    connect(1)
    assert.deepStrictEqual(gone(first), [1, 5])
  })

  it("under TLS are known by the address at their other end, by all of it", () => {
    const { connect, accept, gone } = bench()
    const first = connect(maxPending)
    accept(new FakeSocket(2, "127.0.0.2"))
    accept(new FakeSocket(maxPending + 100))
    accept(new FakeSocket(0))
    connect(3)
    assert.deepStrictEqual(gone(first), [1, 2])
  })
})
