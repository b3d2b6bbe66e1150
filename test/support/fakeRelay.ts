/** A scripted registry and rendezvous, and a peer that sends raw frames. */
import { Buffer } from "node:buffer"
import { createServer, type IncomingMessage } from "node:http"
import type { AddressInfo } from "node:net"
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type WebSocket, WebSocketServer } from "ws"
import { type RelayMessageFrame, RelayMessageFrameSchema } from "../../src/remote/gen/relay_pb.js"
import { eventually } from "./servers.js"
import type { Json } from "./TestClient.js"

type FrameInit = MessageInitShape<typeof RelayMessageFrameSchema>

/** One answer of the registry. */
export interface Answer {
  readonly status: number
  readonly body: string
  readonly headers?: Record<string, string>
}

/** One request to the registry. */
export interface Registered {
  readonly method: string | undefined
  readonly url: string | undefined
  readonly headers: IncomingMessage["headers"]
  readonly body: string
}

/** An executor's socket, seen from the other side. */
export class RawSocket {
  readonly frames: Array<RelayMessageFrame> = []
  private readonly byStream = new Map<string, Array<RelayMessageFrame>>()
  private readonly parsed = new Map<string, { frames: number; readonly messages: Array<Json> }>()
  ended = false

  constructor(
    readonly ws: WebSocket,
    readonly upgrade: IncomingMessage
  ) {
    ws.on("message", (data: Buffer) => {
      const frame = fromBinary(RelayMessageFrameSchema, data)
      this.frames.push(frame)
      const known = this.byStream.get(frame.streamId)
      if (known === undefined) this.byStream.set(frame.streamId, [frame])
      else known.push(frame)
    })
    ws.on("error", () => {})
    ws.on("close", () => {
      this.ended = true
    })
  }

  /** The frames of one stream, in order of arrival. */
  of(streamId: string): ReadonlyArray<RelayMessageFrame> {
    return this.byStream.get(streamId) ?? []
  }

  /** Forgets the frames of a stream, whose id gets another one. */
  forget(streamId: string): void {
    this.byStream.delete(streamId)
    this.parsed.delete(streamId)
  }

  bytes(bytes: Uint8Array | string): void {
    this.ws.send(bytes)
  }

  frame(init: FrameInit): void {
    this.bytes(toBinary(RelayMessageFrameSchema, create(RelayMessageFrameSchema, { version: 1, ...init })))
  }

  data(streamId: string, seq: number, payload: string | Buffer, segmentIndex = 0, segmentCount = 1): void {
    const value = { seq, segmentIndex, segmentCount, payload: Buffer.from(payload) }
    this.frame({ streamId, body: { case: "data", value } })
  }

  /** The messages of one stream, in order of arrival. Each is parsed once: tests ask again and again. */
  messages(streamId: string): ReadonlyArray<Json> {
    const frames = this.of(streamId)
    const known = this.parsed.get(streamId) ?? { frames: 0, messages: [] }
    this.parsed.set(streamId, known)
    for (; known.frames < frames.length; known.frames++) {
      const body = frames[known.frames]?.body
      if (body?.case === "data") known.messages.push(JSON.parse(Buffer.from(body.value.payload).toString()))
    }
    return known.messages
  }

  reset(streamId: string): string | undefined {
    for (const { body } of this.of(streamId)) {
      if (body.case === "reset") return body.value.reason
    }
    return undefined
  }

  /** Waits for the answer to a request of a stream. */
  reply(streamId: string, id: number): Effect.Effect<Json> {
    const find = () => this.messages(streamId).find((message) => message.id === id)
    return Effect.map(
      eventually(`the reply to ${id} on ${streamId}`, () => find() !== undefined),
      () => find()
    )
  }

  /** `initialize` and `initialized`, as the first two messages of a stream. */
  handshake(streamId: string, resumeSessionId: string | null = null): Effect.Effect<Json> {
    this.data(
      streamId,
      0,
      JSON.stringify({ id: 1, method: "initialize", params: { clientName: "x", resumeSessionId } })
    )
    return Effect.tap(this.reply(streamId, 1), () => this.data(streamId, 1, '{"method":"initialized"}'))
  }
}

/** A registry and rendezvous on one port. */
export interface FakeRelay {
  /** `http://IP:PORT`. */
  readonly url: string
  readonly requests: ReadonlyArray<Registered>
  readonly sockets: ReadonlyArray<RawSocket>
  /** The registry's answers, in order. The last one is repeated. */
  answers: Array<Answer | "hang" | "drop">
  /** The same for questions about clients. */
  validations: Array<Answer | "hang" | "drop">
  /** The statuses that refuse the first upgrades. */
  readonly refusals: Array<number>
  /** Waits for an executor's socket, counted from 0. */
  readonly socket: (index: number) => Effect.Effect<RawSocket>
}

export const fakeRelay = (environmentId: string): Effect.Effect<FakeRelay, never, Scope.Scope> =>
  Effect.gen(function* () {
    const requests: Array<Registered> = []
    const sockets: Array<RawSocket> = []
    const server = createServer()
    yield* Effect.acquireRelease(
      Effect.promise(() => new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))),
      () =>
        Effect.sync(() => {
          server.close()
          server.closeAllConnections()
          for (const { ws } of sockets) ws.terminate()
        })
    )
    const { port } = server.address() as AddressInfo
    const url = `ws://127.0.0.1:${port}/socket?ticket=secret`
    const relay: FakeRelay = {
      url: `http://127.0.0.1:${port}`,
      requests,
      sockets,
      answers: [{ status: 200, body: JSON.stringify({ environment_id: environmentId, url, more: true }) }],
      validations: [{ status: 200, body: '{"valid":true}' }],
      refusals: [],
      socket: (index) =>
        Effect.flatMap(
          eventually(`socket ${index}`, () => sockets.length > index),
          () => {
            const socket = sockets[index]
            return socket === undefined ? Effect.dieMessage("no socket") : Effect.succeed(socket)
          }
        )
    }
    server.on("request", (request, response) => {
      let body = ""
      request.on("data", (chunk) => {
        body += chunk
      })
      request.on("end", () => {
        requests.push({ method: request.method, url: request.url, headers: request.headers, body })
        const answers = request.url?.endsWith("/validate") === true ? relay.validations : relay.answers
        const answer = answers.length > 1 ? answers.shift() : answers[0]
        if (answer === "drop") request.socket.destroy()
        else if (answer !== undefined && answer !== "hang") {
          response.writeHead(answer.status, answer.headers ?? {}).end(answer.body)
        }
      })
    })
    const upgrades = new WebSocketServer({ noServer: true, maxPayload: 2 ** 30 })
    server.on("upgrade", (request, socket, head) => {
      const status = relay.refusals.shift()
      if (status !== undefined) return socket.end(`HTTP/1.1 ${status} No\r\nContent-Length: 0\r\n\r\n`)
      return upgrades.handleUpgrade(request, socket, head, (ws) => sockets.push(new RawSocket(ws, request)))
    })
    return relay
  })
