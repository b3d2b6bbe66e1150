/** An encrypted executor with a scripted registry, and the client's end of its streams, frame by frame. */
import { Buffer } from "node:buffer"
import { randomUUID } from "node:crypto"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Handshake from "../../src/remote/noise/Handshake.js"
import * as KeyPair from "../../src/remote/noise/KeyPair.js"
import { RecordReader, RecordWriter } from "../../src/remote/noise/Records.js"
import { sealParts } from "../../src/remote/noise/SymmetricState.js"
import * as Registration from "../../src/remote/Registration.js"
import { type Limits, RelayLimits } from "../../src/remote/RelayLimits.js"
import { RemoteAuth } from "../../src/remote/RemoteAuth.js"
import * as RemoteTransport from "../../src/remote/RemoteTransport.js"
import * as ExecServer from "../../src/server/ExecServer.js"
import { realSessions } from "./composed.js"
import { type FakeRelay, fakeRelay, type RawSocket } from "./fakeRelay.js"
import { environmentId } from "./relay.js"
import { eventually } from "./servers.js"
import type { Json } from "./TestClient.js"

export const registrationId = "a-registration"

/** The answer of a registry that knows the encrypted relay. */
export const registered = (relay: FakeRelay, more: object = {}) => ({
  status: 200,
  body: JSON.stringify({
    environment_id: environmentId,
    url: `${relay.url.replace("http", "ws")}/socket?role=environment&ticket=1`,
    security_profile: "noise_hybrid_ik_v1",
    executor_registration_id: registrationId,
    ...more
  })
})

/** The client's end of one stream. */
export class Harness {
  private readonly handshake: Handshake.Initiated
  private writer: RecordWriter | undefined
  private reader: RecordReader | undefined
  private sendKey: Buffer | undefined
  private readonly received: Array<Json> = []
  private read = 0

  constructor(
    readonly socket: RawSocket,
    executor: KeyPair.PublicKey,
    {
      own = KeyPair.generate(),
      ephemeral = KeyPair.generate(),
      streamId = randomUUID() as string,
      authorization = "let me in" as string | Uint8Array,
      registration = registrationId
    } = {}
  ) {
    this.streamId = streamId
    this.handshake = Handshake.initiate(
      { environmentId, registrationId: registration, streamId },
      own,
      executor,
      authorization,
      { ephemeral }
    )
  }

  readonly streamId: string

  /** The first message of the handshake. */
  get hello(): Buffer {
    return this.handshake.message
  }

  begin(payload: Uint8Array = this.hello): void {
    this.socket.frame({ streamId: this.streamId, body: { case: "resume", value: {} } })
    this.socket.frame({ streamId: this.streamId, body: { case: "handshake", value: { payload } } })
  }

  private get answer(): Buffer | undefined {
    for (const { body } of this.socket.of(this.streamId)) {
      if (body.case === "handshake") return Buffer.from(body.value.payload)
    }
    return undefined
  }

  /** Waits for the answer. A text says why the handshake failed. */
  finish(): Effect.Effect<string | undefined> {
    return Effect.map(
      eventually("the handshake is answered", () => this.answer !== undefined),
      () => {
        const keys = this.handshake.finish(this.answer ?? Buffer.alloc(0))
        if (Either.isLeft(keys)) return keys.left
        this.sendKey = keys.right.send
        this.writer = new RecordWriter(keys.right.send)
        this.reader = new RecordReader(keys.right.receive, {
          maxMessageBytes: 1e9,
          maxHeldBytes: 1e9,
          budget: { used: 0 }
        })
        return undefined
      }
    )
  }

  /** A whole handshake, which must succeed. */
  shake(): Effect.Effect<void> {
    this.begin()
    return Effect.map(this.finish(), (fault) => assert.isUndefined(fault))
  }

  send(message: unknown): void {
    const text = typeof message === "string" ? message : JSON.stringify(message)
    this.writer?.enqueue({ payload: Buffer.from(text) })
    while (this.sendRecord()) {}
  }

  /** Sends one record with this plaintext, which is the stream's last. */
  sendPlaintext(plaintext: Buffer): void {
    if (this.writer === undefined || this.sendKey === undefined) return
    const { nextSeq } = this.writer
    this.socket.data(this.streamId, nextSeq, Buffer.concat(sealParts(this.sendKey, nextSeq, [plaintext])))
  }

  /** Begins a message, of which `sendRecord` sends the rest. */
  beginMessage(payload: Buffer): void {
    this.writer?.enqueue({ payload })
    this.sendRecord()
  }

  /** Sends the next record; false if there is nothing to send. */
  sendRecord(): boolean {
    const record = this.writer?.next()
    if (record !== undefined) this.socket.data(this.streamId, record.seq, Buffer.concat(record.parts))
    return record !== undefined
  }

  /** Everything received so far. */
  messages(): ReadonlyArray<Json> {
    const frames = this.socket.of(this.streamId)
    for (; this.reader !== undefined && this.read < frames.length; this.read++) {
      const frame = frames[this.read]
      if (frame?.body.case !== "data") continue
      const { seq, payload } = frame.body.value
      assert.isTrue(Either.isRight(this.reader.receive(seq, Buffer.from(payload))))
      for (let message = this.reader.take(); message !== undefined; message = this.reader.take()) {
        this.received.push(JSON.parse(message.toString()))
      }
    }
    return this.received
  }

  /** Says that it has consumed all records up to this one. */
  acknowledge(seq: number): void {
    this.socket.frame({ streamId: this.streamId, ack: seq, body: { case: "ackFrame", value: {} } })
  }

  /** The numbers of the records received so far. */
  get records(): ReadonlyArray<number> {
    return this.socket.of(this.streamId).flatMap(({ body }) => (body.case === "data" ? [body.value.seq] : []))
  }

  reply(id: number): Effect.Effect<Json> {
    const find = () => this.messages().find((message) => message.id === id)
    return Effect.map(
      eventually(`the reply to ${id}`, () => find() !== undefined),
      () => find()
    )
  }

  initialize(resumeSessionId: string | null = null): Effect.Effect<Json> {
    this.send({ id: 1, method: "initialize", params: { clientName: "x", resumeSessionId } })
    return Effect.tap(this.reply(1), () => this.send({ method: "initialized", params: {} }))
  }

  /** Whether the stream answers. */
  works(id: number): Effect.Effect<Json> {
    this.send({ id, method: "environment/status", params: {} })
    return this.reply(id)
  }

  /** Waits for the end of the stream; returns the reason. */
  reset(): Effect.Effect<string> {
    return Effect.map(
      eventually("the stream is reset", () => this.isReset),
      () => this.socket.reset(this.streamId) ?? ""
    )
  }

  get isReset(): boolean {
    return this.socket.reset(this.streamId) !== undefined
  }

  /** Ends the stream from this side. */
  leave(): void {
    this.socket.frame({ streamId: this.streamId, body: { case: "reset", value: { reason: "gone" } } })
  }
}

/** An executor in this process. */
export const noiseExecutor = (
  url: string,
  options: Partial<RemoteTransport.Options> & { readonly limits?: Partial<Limits> } = {}
): Effect.Effect<void, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const target = yield* Registration.parseTarget(url.replace(/^ws/, "http"), environmentId)
    const variables = { EXEC_SERVER_REMOTE_TOKEN: "executor-token" }
    const { limits: changed, ...rest } = options
    const limits = yield* RelayLimits
    yield* Layer.build(
      ExecServer.layerServe.pipe(
        Layer.provide([realSessions, RemoteTransport.layer({ target, onRegistered: () => Effect.void, ...rest })]),
        Layer.provide(RemoteAuth.layerBearer({ tokenFile: undefined, variables, insecure: false })),
        Layer.provide(Layer.succeed(RelayLimits, { ...limits, ...changed }))
      )
    )
  })

/** The key that an executor has registered. */
export const keyOf = (relay: FakeRelay, index = 0): KeyPair.PublicKey =>
  Either.getOrThrow(KeyPair.decode(JSON.parse(relay.requests[index]?.body ?? "{}").executor_public_key))

/** An executor connected to a scripted registry. */
export const connected = (options: { readonly limits?: Partial<Limits> } = {}) =>
  Effect.gen(function* () {
    const relay = yield* fakeRelay(environmentId)
    relay.answers = [registered(relay)]
    yield* noiseExecutor(relay.url, options)
    const socket = yield* relay.socket(0)
    const key = keyOf(relay)
    const harness = (more: ConstructorParameters<typeof Harness>[2] = {}) => new Harness(socket, key, more)
    return { relay, socket, key, harness }
  })
