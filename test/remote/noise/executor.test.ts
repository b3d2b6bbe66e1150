/** An executor on an encrypted relay, against a scripted registry and frames made by hand. */
import { Buffer } from "node:buffer"
import { randomUUID } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as KeyPair from "../../../src/remote/noise/KeyPair.js"
import { fakeRelay } from "../../support/fakeRelay.js"
import { connected, Harness, keyOf, noiseExecutor, registered } from "../../support/noise.js"
import { ignored, protocolError, refusals, refusedHandshakes, violations } from "../../support/noiseRules.js"
import { environmentId } from "../../support/relay.js"
import { eventually } from "../../support/servers.js"

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

  it.scopedLive.each(refusals)("resets a client about whom the registry says: %s", ([, status, body]) =>
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
      const { harness } = yield* connected({ limits: { maxStreams: 2 } })
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

  it.scopedLive("gives up a registry that does not answer about a client, and refuses handshakes for 10 seconds", () =>
    Effect.gen(function* () {
      const { relay, harness } = yield* connected()
      relay.validations = ["hang"]
      const unanswered = harness()
      unanswered.begin()
      yield* eventually("the registry is asked", () => relay.requests.length === 2)
      relay.validations = [{ status: 200, body: '{"valid":true}' }]
      for (let i = 0; i < 8; i++) {
        const bad = harness({ registration: "other" })
        bad.begin()
        yield* bad.reset()
      }
      const early = harness()
      early.begin()
      assert.include(yield* early.reset(), "refused")
      assert.strictEqual(yield* unanswered.reset(), protocolError)
      // The waits began one after the other: a little later the second one is over, too.
      yield* Effect.retry(
        Effect.suspend(() => {
          const late = harness()
          late.begin()
          return Effect.raceFirst(
            Effect.flatMap(late.reset(), (reason) => Effect.fail(reason)),
            late.finish()
          )
        }),
        { schedule: Schedule.spaced("100 millis"), times: 100 }
      )
    })
  )

  it.scopedLive("serves hundreds of streams that come at once, and hundreds of requests on one", () =>
    Effect.gen(function* () {
      const { harness } = yield* connected()
      const own = KeyPair.generate()
      const streams = Array.from({ length: 300 }, () => harness({ own, ephemeral: own }))
      for (const stream of streams) stream.begin()
      for (const stream of streams) assert.isUndefined(yield* stream.finish())
      const [busy, bystander] = streams
      if (busy === undefined || bystander === undefined) return
      yield* busy.initialize()
      yield* bystander.initialize()
      for (let id = 2; id < 602; id++) busy.send({ id, method: "environment/status", params: {} })
      yield* bystander.works(2)
      for (let id = 2; id < 602; id++) yield* busy.reply(id)
      assert.isFalse(streams.some(({ isReset }) => isReset))
    })
  )

  it.scopedLive("ends the stream that holds the most when too much is held, and no other one", () =>
    Effect.gen(function* () {
      const { harness } = yield* connected({ limits: { maxHeldBytes: 1_000_000 } })
      const [greedy, modest] = [harness(), harness()]
      yield* greedy.shake()
      yield* modest.shake()
      yield* modest.initialize()
      const params = { padding: "x".repeat(100_000) }
      modest.beginMessage(Buffer.from(JSON.stringify({ id: 2, method: "environment/status", params })))
      greedy.beginMessage(Buffer.alloc(2_000_000))
      while (greedy.sendRecord()) {}
      assert.strictEqual(yield* greedy.reset(), protocolError)
      while (modest.sendRecord()) {}
      yield* modest.reply(2)
    })
  )

  it.scopedLive("sends no more than a window to a client that tells what it has consumed", () =>
    Effect.gen(function* () {
      const { socket, harness } = yield* connected()
      const [slow, bystander] = [harness(), harness()]
      for (const stream of [slow, bystander]) {
        yield* stream.shake()
        yield* stream.initialize()
      }
      slow.acknowledge(0)
      yield* eventually("it acknowledges as well", () =>
        socket.frames.some(({ streamId, body }) => streamId === slow.streamId && body.case === "ackFrame")
      )
      const argv = ["head", "-c", "40000000", "/dev/zero"]
      slow.send({ id: 2, method: "process/start", params: { processId: "p", argv, cwd: "/", env: {}, tty: false } })
      yield* eventually("the window is full", () => slow.records.length === 129)
      yield* bystander.works(2)
      assert.lengthOf(slow.records, 129)
      // What was never sent is not acknowledged.
      slow.acknowledge(1_000_000)
      yield* bystander.works(3)
      assert.lengthOf(slow.records, 129)
      yield* eventually("everything has come", () => {
        slow.acknowledge(slow.records.length - 1)
        return slow.messages().some(({ method }) => method === "process/closed")
      })
      const sizes = slow
        .messages()
        .map(({ method, params }) => (method === "process/output" ? Buffer.from(params.chunk, "base64").length : 0))
      assert.strictEqual(
        sizes.reduce((sum, size) => sum + size, 0),
        40_000_000
      )
    })
  )

  it.scopedLive("tells a stream that ends while the socket is not read, and serves the others", () =>
    Effect.gen(function* () {
      const { socket, harness } = yield* connected()
      const [greedy, bad, bystander] = [harness(), harness(), harness()]
      for (const stream of [greedy, bad, bystander]) {
        yield* stream.shake()
        yield* stream.initialize()
      }
      socket.ws.pause()
      const argv = ["head", "-c", "30000000", "/dev/zero"]
      greedy.send({ id: 2, method: "process/start", params: { processId: "p", argv, cwd: "/", env: {}, tty: false } })
      bad.send({ method: "no/such" })
      bystander.send({ id: 2, method: "environment/status", params: {} })
      // Longer than a stream may take to end.
      yield* Effect.sleep(2500)
      assert.isUndefined(bystander.messages().find(({ id }) => id === 2))
      socket.ws.resume()
      yield* bystander.reply(2)
      yield* bad.reset()
      yield* eventually("all output", () => greedy.messages().some(({ method }) => method === "process/closed"))
      assert.isFalse(greedy.isReset || bystander.isReset)
    })
  )

  it.scopedLive("asks the registry about 32 clients at a time, and about others when it has answered", () =>
    Effect.gen(function* () {
      const { relay, harness } = yield* connected()
      relay.validations = ["hang"]
      const own = KeyPair.generate()
      const streams = Array.from({ length: 34 }, () => harness({ own, ephemeral: own }))
      for (const stream of streams) stream.begin()
      const asked = () => relay.requests.length - 1
      yield* eventually("32 are asked about", () => asked() === 32)
      // One that was given up makes room for one.
      streams[0]?.leave()
      yield* eventually("one more is asked about", () => asked() === 33)
      relay.validations = [{ status: 200, body: '{"valid":true}' }]
      streams[1]?.leave()
      assert.isUndefined(yield* (streams[33] ?? harness()).finish())
      assert.strictEqual(asked(), 34)
    })
  )

  it.scopedLive("refuses a handshake that has waited too long for others", () =>
    Effect.gen(function* () {
      const { relay, harness } = yield* connected({ limits: { handshakeWaitMs: 3000 } })
      const live = harness()
      yield* live.shake()
      yield* live.initialize()
      relay.validations = ["hang"]
      const own = KeyPair.generate()
      const streams = Array.from({ length: 34 }, () => harness({ own, ephemeral: own }))
      for (const stream of streams) stream.begin()
      for (const late of streams.slice(32)) assert.include(yield* late.reset(), "too many handshakes wait")
      assert.isFalse(streams.slice(0, 32).some(({ isReset }) => isReset))
      // It does not count as a failure, and its id is free.
      yield* live.works(2)
      relay.validations = [{ status: 200, body: '{"valid":true}' }]
      streams[0]?.leave()
      const again = harness()
      yield* again.shake()
    })
  )

  it.scopedLive("drops frames whose stream id is longer than 1024 bytes", () =>
    Effect.gen(function* () {
      const { harness } = yield* connected()
      const [long, tooLong] = [harness({ streamId: "x".repeat(1024) }), harness({ streamId: "x".repeat(1025) })]
      tooLong.begin()
      yield* long.shake()
      yield* long.initialize()
      assert.lengthOf(tooLong.socket.of(tooLong.streamId), 0)
    })
  )

  it.scopedLive("drops the trace that the original sends beside a record: it is not sealed", () =>
    Effect.gen(function* () {
      const { socket, harness } = yield* connected()
      const stream = harness()
      yield* stream.shake()
      yield* stream.initialize()
      const { streamId } = stream
      const field = (at: number, text: string) => Buffer.from([(at << 3) | 2, text.length, ...Buffer.from(text)])
      const trace = Buffer.concat([field(11, `00-${"a".repeat(32)}-${"b".repeat(16)}-01`), field(12, "a=b")])
      const send = socket.bytes.bind(socket)
      socket.bytes = (bytes) => send(Buffer.concat([Buffer.from(bytes), trace]))
      yield* stream.works(2)
      const frames = socket.of(streamId)
      assert.isFalse(frames.some(({ $unknown }) => ($unknown ?? []).length > 0))
    })
  )

  it.scopedLive("takes the id of a stream that was reset for another one", () =>
    Effect.gen(function* () {
      const { harness } = yield* connected()
      const first = harness()
      yield* first.shake()
      const { sessionId } = (yield* first.initialize()).result
      first.leave()
      first.socket.forget(first.streamId)
      const next = harness({ streamId: first.streamId })
      yield* next.shake()
      assert.strictEqual((yield* next.initialize(sessionId)).result.sessionId, sessionId)
    })
  )

  it.scopedLive("keeps the session of a stream that has ended", () =>
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

  it.scopedLive.each<readonly [status: number]>([[401], [403], [503]])(
    "goes on after a registration that was answered %d once it has served",
    ([status]) =>
      Effect.gen(function* () {
        const { relay, key, harness } = yield* connected()
        yield* harness().shake()
        relay.refusals.push(401, 401)
        relay.answers = [{ status, body: "" }, registered(relay)]
        relay.sockets[0]?.ws.terminate()
        yield* new Harness(yield* relay.socket(1), key).shake()
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
