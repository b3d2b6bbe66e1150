/** A connection whose peer the test controls. */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Connection from "../../src/session/Connection.js"
import type { Ending, Peer, PeerEvents } from "../../src/session/Peer.js"
import { FakeSpawner } from "../../src/testing/FakeSpawner.js"
import { settle } from "./fake.js"
import type { Json } from "./TestClient.js"

/** A peer that records what it is sent. It accepts everything, unless `buffered` is set. */
export class FakePeer {
  readonly sent: Array<Json> = []
  buffered = 0
  isRead = true
  ending: Ending | undefined
  closes = 0
  private events: PeerEvents | undefined
  private nextId = 1

  peerWith(more: Partial<Peer>): Peer {
    return {
      name: "fake",
      grant: { id: "fake" },
      malformedPrefix: "failed to parse JSON-RPC message from fake",
      resumable: true,
      listen: (events) => {
        this.events = events
      },
      send: (text) => this.sent.push(JSON.parse(text)),
      buffered: () => this.buffered,
      pause: () => {
        this.isRead = false
      },
      resume: () => {
        this.isRead = true
      },
      close: (ending) => {
        this.closes++
        this.ending = ending
      },
      ...more
    }
  }

  raw(text: string): void {
    this.events?.onMessage(text)
  }

  malformed(detail: string): void {
    this.events?.onMalformed(detail)
  }

  /** Sends a request; returns its id. */
  post(method: string, params: object = {}): number {
    const id = this.nextId++
    this.raw(JSON.stringify({ id, method, params }))
    return id
  }

  reply(id: number): Json {
    return this.sent.find((message) => message.id === id)
  }

  /** Accepts the buffered bytes, except for `left` of them. */
  drain(left = 0): void {
    this.buffered = left
    this.events?.onDrain()
  }

  end(): void {
    this.events?.onEnd()
  }

  handshake(params: object = { resumeSessionId: null }): void {
    this.post("initialize", { clientName: "test", ...params })
    this.raw('{"method":"initialized"}')
  }
}

/** A served connection, and both of its sides. */
export interface Served {
  readonly peer: FakePeer
  readonly fake: FakeSpawner["Type"]
  readonly serving: Fiber.RuntimeFiber<void>
}

/** Serves a peer until the scope closes. */
export const served = (more: Partial<Peer>) =>
  Effect.gen(function* () {
    const peer = new FakePeer()
    const serving = yield* Effect.forkScoped(Connection.serve(peer.peerWith(more)))
    yield* settle
    return { peer, fake: yield* FakeSpawner, serving }
  })
