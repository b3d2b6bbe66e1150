/** An executor on an encrypted relay, against a scripted registry and frames made by hand. */
import { Buffer } from "node:buffer"
import { randomUUID } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as KeyPair from "../../../src/remote/noise/KeyPair.js"
import { sealParts } from "../../../src/remote/noise/SymmetricState.js"
import { fakeRelay } from "../../support/fakeRelay.js"
import { connected, Harness, keyOf, noiseExecutor, registered } from "../../support/noise.js"
import { environmentId } from "../../support/relay.js"
import { eventually } from "../../support/servers.js"

const protocolError = "noise_relay_protocol_error"

/** What a client can do wrong, and that its stream is reset for it. */
const violations: ReadonlyArray<readonly [name: string, provoke: (harness: Harness) => void]> = [
  ["a record that was changed", ({ socket, streamId }) => socket.data(streamId, 2, Buffer.alloc(40, 1))],
  [
    "a record sealed with another key",
    ({ socket, streamId }) =>
      socket.data(streamId, 2, Buffer.concat(sealParts(Buffer.alloc(32), 2, [Buffer.from("\0\0\0\u0002{}")])))
  ],
  ["a record 65 ahead", ({ socket, streamId }) => socket.data(streamId, 67, Buffer.alloc(40))],
  ["what is not JSON", (harness) => harness.send("{")],
  ["what is not JSON-RPC", (harness) => harness.send("[]")],
  ["an unknown notification", (harness) => harness.send({ method: "unheard/of", params: {} })]
]

/** What changes nothing on a live stream. */
const ignored: ReadonlyArray<readonly [name: string, send: (harness: Harness) => void]> = [
  [
    "ack",
    ({ socket, streamId }) => socket.frame({ streamId, ack: 9, ackBits: 3, body: { case: "ackFrame", value: {} } })
  ],
  ["resume", ({ socket, streamId }) => socket.frame({ streamId, body: { case: "resume", value: { nextSeq: 7 } } })],
  ["heartbeat", ({ socket, streamId }) => socket.frame({ streamId, body: { case: "heartbeat", value: {} } })],
  ["a text message", ({ socket }) => socket.bytes("hello")],
  ["bytes that are no frame", ({ socket }) => socket.bytes(Buffer.from([255, 255, 255]))],
  [
    "another version",
    ({ socket, streamId }) => socket.frame({ streamId, version: 2, body: { case: "reset", value: { reason: "x" } } })
  ],
  ["no stream id", ({ socket }) => socket.frame({ streamId: " ", body: { case: "reset", value: { reason: "x" } } })],
  ["no body", ({ socket, streamId }) => socket.frame({ streamId })],
  ["an empty record", ({ socket, streamId }) => socket.data(streamId, 2, "")],
  [
    "an empty handshake",
    ({ socket, streamId }) =>
      socket.frame({ streamId, body: { case: "handshake", value: { payload: new Uint8Array() } } })
  ],
  ["a record in segments", ({ socket, streamId }) => socket.data(streamId, 2, "x", 0, 2)],
  ["a record that came before", ({ socket, streamId }) => socket.data(streamId, 0, Buffer.alloc(40))]
]

/** Handshakes that are reset. */
const refusedHandshakes: ReadonlyArray<
  readonly [name: string, make: (socket: Harness["socket"], key: KeyPair.PublicKey) => readonly [Harness, Uint8Array?]]
> = [
  ["of garbage", (socket, key) => [new Harness(socket, key), Buffer.alloc(4000, 1)]],
  ["that are too short", (socket, key) => [new Harness(socket, key), Buffer.alloc(10)]],
  ["for another key", (socket) => [new Harness(socket, KeyPair.generate().public)]],
  ["for another registration", (socket, key) => [new Harness(socket, key, { registration: "other" })]],
  [
    "with an authorization of 4097 bytes",
    (socket, key) => [new Harness(socket, key, { authorization: "x".repeat(4097) })]
  ]
]

describe("an encrypted executor", () => {
  it.scopedLive("registers its key, and serves streams side by side", () =>
    Effect.gen(function* () {
      const { relay, socket, harness } = yield* connected()
      const [request] = relay.requests
      if (request === undefined) return assert.fail("no request")
      assert.strictEqual(request.url, `/cloud/environment/${environmentId}/register`)
      assert.strictEqual(request.headers.authorization, "Bearer executor-token")
      assert.strictEqual(request.headers["content-type"], "application/json")
      assert.deepStrictEqual(Object.keys(JSON.parse(request.body)), ["security_profile", "executor_public_key"])
      assert.strictEqual(request.body.length, 1792)
      assert.match(String(socket.upgrade.headers["x-request-id"]), /^req_[0-9a-f]{32}$/)
      assert.isUndefined(socket.upgrade.headers.authorization)

      const [one, other] = [harness(), harness({ streamId: ` ${"é".repeat(100)} ` })]
      yield* Effect.all([one.shake(), other.shake()], { concurrency: 2 })
      yield* one.initialize()
      yield* other.initialize()
      one.send({
        id: 2,
        method: "process/start",
        params: {
          processId: "p",
          argv: ["head", "-c", "300000", "/dev/zero"],
          cwd: "/",
          env: {},
          tty: false,
          arg0: null
        }
      })
      yield* eventually("the process has ended", () => one.messages().some(({ method }) => method === "process/closed"))
      const bytes = one
        .messages()
        .flatMap(({ method, params }) => (method === "process/output" ? [Buffer.from(params.chunk, "base64")] : []))
      assert.strictEqual(Buffer.concat(bytes).length, 300000)
      assert.isTrue(other.messages().every(({ method }) => method === undefined))
      const validation = relay.requests.find(({ url }) => url?.endsWith("/validate"))
      assert.deepStrictEqual(Object.keys(JSON.parse(validation?.body ?? "{}")), [
        "executor_registration_id",
        "harness_public_key",
        "harness_key_authorization"
      ])
      assert.strictEqual(validation?.headers.authorization, "Bearer executor-token")
    })
  )

  it.scopedLive("resets a stream for what is wrong on it, and no other one", () =>
    Effect.gen(function* () {
      const { harness } = yield* connected()
      const bystander = harness()
      yield* bystander.shake()
      yield* bystander.initialize()
      for (const [name, provoke] of violations) {
        const stream = harness()
        yield* stream.shake()
        yield* stream.initialize()
        provoke(stream)
        assert.strictEqual(yield* stream.reset(), protocolError, name)
      }
      yield* bystander.works(2)
      assert.isFalse(bystander.isReset)
    })
  )

  it.scopedLive("ignores what means nothing", () =>
    Effect.gen(function* () {
      const { socket, harness } = yield* connected()
      const stream = harness()
      yield* stream.shake()
      yield* stream.initialize()
      let id = 2
      for (const [name, send] of ignored) {
        send(stream)
        yield* stream.works(id++)
        assert.isFalse(stream.isReset, name)
      }
      const unknown = randomUUID()
      for (const body of ["resume", "ackFrame", "heartbeat"] as const) {
        socket.frame({ streamId: unknown, body: { case: body, value: {} } })
      }
      socket.frame({ streamId: unknown, body: { case: "reset", value: { reason: "x" } } })
      yield* stream.works(id)
      assert.isUndefined(socket.reset(unknown))
      assert.isFalse(socket.ended)
    })
  )

  it.scopedLive("resets handshakes that fail", () =>
    Effect.gen(function* () {
      const { socket, key, harness } = yield* connected()
      for (const [name, make] of refusedHandshakes) {
        const [stream, payload] = make(socket, key)
        stream.begin(payload)
        assert.strictEqual(yield* stream.reset(), protocolError, name)
      }
      for (const authorization of ["", "x".repeat(4096)]) yield* harness({ authorization }).shake()
    })
  )

  it.scopedLive.each<readonly [name: string, status: number, body: string]>([
    ["a no", 200, '{"valid":false}'],
    ["no answer to the question", 200, "{}"],
    ["what is not JSON", 200, "yes"],
    ["403", 403, ""],
    ["404", 404, ""],
    ["500", 500, ""]
  ])("resets a client about whom the registry says: %s", ([, status, body]) =>
    Effect.gen(function* () {
      const { relay, harness } = yield* connected()
      relay.validations = [{ status, body }]
      const stream = harness()
      stream.begin()
      assert.strictEqual(yield* stream.reset(), protocolError)
    })
  )

  it.scopedLive("tells the client if the registry rejects the executor itself", () =>
    Effect.gen(function* () {
      const { relay, harness } = yield* connected()
      relay.validations = [{ status: 401, body: "" }]
      const stream = harness()
      stream.begin()
      assert.include(yield* stream.finish(), "credential")
      stream.send({ id: 1, method: "environment/status", params: {} })
      relay.validations = [{ status: 200, body: '{"valid":true}' }]
      yield* harness().shake()
    })
  )

  it.scopedLive("answers nothing before the registry has", () =>
    Effect.gen(function* () {
      const { relay, socket, harness } = yield* connected()
      const live = harness()
      yield* live.shake()
      yield* live.initialize()
      relay.validations = ["hang"]
      const pending = [harness(), harness()]
      for (const stream of pending) stream.begin()
      yield* eventually("both are asked about", () => relay.requests.length === 4)
      const [one, other] = pending
      if (one === undefined || other === undefined) return
      for (const body of ["resume", "ackFrame", "heartbeat"] as const) {
        socket.frame({ streamId: one.streamId, body: { case: body, value: {} } })
      }
      yield* live.works(2)
      assert.isFalse(one.isReset)
      // Nothing may come on a stream that is not open. The handshake is void then.
      socket.data(one.streamId, 0, Buffer.alloc(40))
      assert.strictEqual(yield* one.reset(), protocolError)
      other.leave()
      const unknown = randomUUID()
      socket.data(unknown, 0, Buffer.alloc(40))
      yield* eventually("data of an unknown stream is reset", () => socket.reset(unknown) === protocolError)
      yield* live.works(3)
    })
  )

  it.scopedLive("goes on with a stream that gets a second handshake, after a reset", () =>
    Effect.gen(function* () {
      const { harness } = yield* connected()
      const stream = harness()
      yield* stream.shake()
      yield* stream.initialize()
      stream.begin()
      assert.strictEqual(yield* stream.reset(), protocolError)
      yield* stream.works(2)
    })
  )

  it.scopedLive("refuses streams beyond the limit", () =>
    Effect.gen(function* () {
      const { harness } = yield* connected({ maxStreams: 2 })
      const [one, two, three] = [harness(), harness(), harness()]
      yield* one.shake()
      yield* two.shake()
      three.begin()
      assert.include(yield* three.reset(), "limit of 2 streams")
      two.leave()
      const again = harness()
      yield* again.shake()
    })
  )

  it.scopedLive("refuses new handshakes for a while after 8 that failed, and serves what is open", () =>
    Effect.gen(function* () {
      const { relay, key, harness } = yield* connected()
      const live = harness()
      yield* live.shake()
      yield* live.initialize()
      for (let i = 0; i < 8; i++) {
        const bad = harness({ registration: "other" })
        bad.begin()
        yield* bad.reset()
      }
      const good = harness()
      good.begin()
      assert.include(yield* good.reset(), "refused")
      yield* live.works(2)
      // The next socket begins anew.
      live.socket.ws.terminate()
      const next = yield* relay.socket(1)
      yield* new Harness(next, key).shake()
    })
  )

  it.scopedLive("keeps the session of a stream that has ended, for the same id too", () =>
    Effect.gen(function* () {
      const { harness } = yield* connected()
      const first = harness()
      yield* first.shake()
      const { result } = yield* first.initialize()
      first.leave()
      const next = harness()
      yield* next.shake()
      assert.strictEqual((yield* next.initialize(result.sessionId)).result.sessionId, result.sessionId)
    })
  )

  it.scopedLive("hands a session over at once to another stream of the same key alone", () =>
    Effect.gen(function* () {
      const { harness } = yield* connected()
      const own = KeyPair.generate()
      const first = harness({ own })
      yield* first.shake()
      const { sessionId } = (yield* first.initialize()).result
      const stranger = harness()
      yield* stranger.shake()
      assert.strictEqual((yield* stranger.initialize(sessionId)).error.code, -32010)
      const next = harness({ own })
      yield* next.shake()
      assert.strictEqual((yield* next.initialize(sessionId)).result.sessionId, sessionId)
      assert.include(yield* first.reset(), "taken over")
    })
  )

  it.scopedLive("drops a socket with a frame of more than 256 KiB, and comes back with the same key and address", () =>
    Effect.gen(function* () {
      const { relay, key, harness } = yield* connected()
      const stream = harness()
      yield* stream.shake()
      const { sessionId } = (yield* stream.initialize()).result
      stream.socket.bytes(Buffer.alloc(257 * 1024))
      const next = yield* relay.socket(1)
      assert.strictEqual(relay.requests.filter(({ url }) => url?.endsWith("/register")).length, 1)
      const again = new Harness(next, key)
      yield* again.shake()
      assert.strictEqual((yield* again.initialize(sessionId)).result.sessionId, sessionId)
    })
  )

  it.scopedLive("registers again with the same key if the rendezvous refuses it, and survives a refusal of that", () =>
    Effect.gen(function* () {
      const { relay, key, harness } = yield* connected()
      relay.refusals.push(410)
      relay.answers = [{ status: 500, body: "" }, registered(relay, { executor_registration_id: "the next" })]
      relay.refusals.push(401)
      harness().socket.ws.terminate()
      const next = yield* relay.socket(1)
      const registrations = relay.requests.filter(({ url }) => url?.endsWith("/register"))
      assert.strictEqual(registrations.length, 3)
      assert.strictEqual(new Set(registrations.map(({ body }) => body)).size, 1)
      yield* new Harness(next, key, { registration: "the next" }).shake()
    })
  )

  it.scopedLive("ends if it cannot register at all", () =>
    Effect.gen(function* () {
      const relay = yield* fakeRelay(environmentId)
      const refusals = [
        [registered(relay, { environment_id: "other" }), "different environment id"],
        [registered(relay, { security_profile: "p2" }), "unsupported security profile `p2`"],
        [registered(relay, { executor_registration_id: undefined }), "executor_registration_id"]
      ] as const
      for (const [answer, message] of refusals) {
        relay.answers = [answer]
        assert.include(String(yield* Effect.flip(noiseExecutor(relay.url))), message)
      }
    })
  )

  it.scopedLive("speaks the plain relay where the registry does, unless that is forbidden", () =>
    Effect.gen(function* () {
      const relay = yield* fakeRelay(environmentId)
      const failure = yield* Effect.flip(noiseExecutor(relay.url, { profile: "noise" }))
      assert.include(String(failure), "--remote-profile")
      yield* noiseExecutor(relay.url)
      const socket = yield* relay.socket(0)
      yield* socket.handshake(randomUUID())
      assert.lengthOf(
        relay.requests.filter(({ url }) => url?.endsWith("/register")),
        2
      )
      assert.isTrue(keyOf(relay).kem.length > 0)
    })
  )
})
