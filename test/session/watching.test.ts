/** Who is told of what: events of all sessions, the end of tokens, and what stays secret. */
import { Buffer } from "node:buffer"
import { createHmac } from "node:crypto"
import { chmodSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { FakeSpawner } from "../../src/testing/FakeSpawner.js"
import { serverLayer, settle } from "../support/fake.js"
import { directory } from "../support/files.js"
import { served } from "../support/peer.js"
import { connectTo, memoryClient, webSocketServer } from "../support/servers.js"
import type { Json } from "../support/TestClient.js"
import { attach } from "../support/viewer.js"

const secret = "s".repeat(32)

const base64url = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url")

const signed = (claims: object) => {
  const signing = `${base64url({ alg: "HS256", typ: "JWT" })}.${base64url({ exp: 4e9, sub: "someone", ...claims })}`
  return `${signing}.${createHmac("sha256", secret).update(signing).digest("base64url")}`
}

/** A server with signed tokens, and clients with such claims. */
const guarded = Effect.gen(function* () {
  const file = join(yield* directory, "secret")
  writeFileSync(file, secret)
  chmodSync(file, 0o600)
  const { url } = yield* webSocketServer({
    args: [
      ...["--ws-auth", "signed-bearer-token", "--ws-shared-secret-file", file],
      ...["--ws-max-clock-skew-seconds", "0"]
    ]
  })
  const as = (claims: object, params: object = { resumeSessionId: null }) =>
    Effect.gen(function* () {
      const client = yield* connectTo(url, { headers: { authorization: `Bearer ${signed(claims)}` } })
      client.capabilities = { binaryOutput: true }
      const { sessionId } = yield* client.handshake(params)
      return { client, sessionId }
    })
  return { as }
})

const events = ({ messages }: { readonly messages: ReadonlyArray<Json> }) =>
  messages.filter(({ method }) => method === "console/event").map(({ params }) => params)

describe("console/watch", () => {
  it.scopedLive("tells viewers of all sessions, and a client of its own", () =>
    Effect.gen(function* () {
      const { as } = yield* guarded
      const { client: viewer } = yield* as({ role: "viewer" })
      yield* viewer.ask("console/watch")
      yield* viewer.ask("console/watch")
      const { client: owner } = yield* as({ sub: "owner" }, { resumeSessionId: null, name: "build" })
      yield* owner.ask("console/watch")
      const { client: other } = yield* as({ sub: "other" })
      const [{ session }] = (yield* owner.ask("session/list")).sessions
      yield* owner.sh("p", "read line", { tty: true })
      yield* owner.ask("process/resize", { processId: "p", rows: 5, cols: 6 })
      const watched = yield* attach(viewer, "p", { session, name: "me" })
      assert.strictEqual(watched.answer.role, "viewer")
      yield* viewer.ask("attachment/detach", { attachmentId: watched.id })
      yield* owner.write("p", "x\n")
      yield* owner.closed("p")
      yield* viewer.notified("console/event", ({ type }) => type === "process.closed")
      const about = { session, processId: "p" }
      const member = { ...about, attachmentId: watched.id, name: "me", role: "viewer" }
      const ofOwner = [
        { type: "process.resized", ...about, rows: 5, cols: 6 },
        { type: "viewer.joined", ...member },
        { type: "viewer.left", ...member },
        { type: "process.exited", ...about, exitCode: 0, signal: null },
        { type: "process.closed", ...about }
      ]
      const known = (client: { readonly messages: ReadonlyArray<Json> }) =>
        events(client).filter(({ type, session: of }) => of === session && type !== "process.started")
      assert.deepStrictEqual(known(owner), ofOwner)
      assert.deepStrictEqual(known(viewer), [{ type: "session.opened", session }, ...ofOwner])
      assert.isTrue(events(owner).every(({ session: of }) => of === session))
      const [{ session: others }] = (yield* other.ask("session/list")).sessions
      yield* viewer.notified("console/event", ({ session, type }) => session === others && type === "session.opened")
      assert.deepStrictEqual(events(other), [])
    })
  )

  it.scoped("counts the events that its client does not read", () =>
    Effect.gen(function* () {
      const { peer } = yield* served({ grant: { id: "v", role: "viewer" } })
      peer.handshake()
      peer.post("console/watch")
      yield* settle
      peer.buffered = 2 ** 20
      for (let i = 0; i < 3; i++) yield* (yield* memoryClient).handshake()
      assert.lengthOf(events({ messages: peer.sent }), 0)
      peer.drain()
      yield* settle
      assert.deepStrictEqual(events({ messages: peer.sent }), [{ type: "missed", events: 3 }])
      yield* (yield* memoryClient).handshake()
      assert.strictEqual(events({ messages: peer.sent }).at(-1)?.type, "session.opened")
    }).pipe(Effect.provide(serverLayer()))
  )
})

describe("a viewer", () => {
  it.scoped("that does not read from its connection is sent no more, and its process is not held up", () =>
    Effect.gen(function* () {
      const owner = yield* memoryClient
      yield* owner.handshake()
      yield* owner.start("p", ["program"])
      yield* settle
      const [{ session }] = (yield* owner.ask("session/list")).sessions
      const child = yield* (yield* FakeSpawner).child(0)
      const { peer } = yield* served({ grant: { id: "v", role: "viewer" } })
      peer.handshake()
      const asked = { session, processId: "p", from: { type: "live" }, window: 2 ** 22 }
      const id = peer.post("process/attach", asked)
      yield* settle
      const { attachmentId } = peer.reply(id).result
      peer.raw(JSON.stringify({ method: "attachment/ack", params: { attachmentId, seq: 0 } }))
      const outputs = () => peer.sent.filter(({ method }) => method === "attachment/output").length
      child.emit("stdout", "one")
      yield* settle
      assert.strictEqual(outputs(), 1)
      peer.buffered = 2 ** 20
      for (let i = 0; i < 5; i++) {
        child.emit("stdout", "more")
        yield* settle
      }
      assert.deepStrictEqual([outputs(), child.paused], [1, false])
      peer.drain()
      yield* settle
      assert.strictEqual(outputs(), 6)
    }).pipe(Effect.provide(serverLayer()))
  )

  it.scopedLive("of a flood sees every seq, or is told of a skip, beside one that never reads", () =>
    Effect.gen(function* () {
      const { as } = yield* guarded
      const { client: owner } = yield* as({ sub: "owner" })
      yield* owner.sh("p", "read line; head -c 6000000 /dev/zero", { pipeStdin: true })
      const [{ session }] = (yield* owner.ask("session/list")).sessions
      const viewers = yield* Effect.forEach([1, 2, 3, 4, 5], () =>
        Effect.gen(function* () {
          const { client } = yield* as({ role: "viewer" })
          const viewer = yield* attach(client, "p", { session, window: 65_536 })
          viewer.ack(0)
          return viewer
        })
      )
      yield* owner.write("p", "\n")
      const reading = viewers.slice(1)
      for (const viewer of reading) {
        yield* Effect.forkScoped(
          Effect.forever(
            Effect.zipRight(
              settle,
              Effect.sync(() => viewer.ack(viewer.all.at(-1)?.[1].seq ?? 0))
            )
          )
        )
      }
      yield* owner.closed("p")
      assert.strictEqual(owner.output("p").length, 6_000_000)
      for (const viewer of reading) {
        yield* viewer.notified("event", ({ type }) => type === "closed")
        let bytes = 0
        let last = 0
        for (const [kind, { seq, chunk, skippedBytes }] of viewer.all) {
          if (kind !== "output" && kind !== "screen") continue
          if (kind === "output") assert.isAtMost(seq - last, 2)
          bytes += kind === "output" ? Buffer.from(chunk, "base64").length : skippedBytes
          last = seq
        }
        assert.strictEqual(bytes, 6_000_000)
      }
      const [stalled] = viewers
      const sent = stalled?.of("output").reduce((sum, { chunk }) => sum + Buffer.from(chunk, "base64").length, 0)
      assert.isBelow(sent, 200_000)
    })
  )

  it.scopedLive("is told that its token has expired, and nobody is told the ids that resume sessions", () =>
    Effect.gen(function* () {
      const { as } = yield* guarded
      const { client: owner, sessionId } = yield* as({ sub: "owner" })
      yield* owner.sh("p", "echo out; read line", { pipeStdin: true })
      const [{ session }] = (yield* owner.ask("session/list")).sessions
      const exp = Math.ceil(Date.now() / 1000) + 3
      const { client: viewer, sessionId: ofViewer } = yield* as({ role: "viewer", session, processId: "p", exp })
      const { client: operator } = yield* as({ role: "operator", sub: "op" })
      yield* operator.ask("console/watch")
      const watched = yield* attach(viewer, "p", { session })
      watched.ack(0)
      yield* watched.sees("out\n")
      assert.isTrue(viewer.messages.find(({ method }) => method === "attachment/output").binary)
      const joined = yield* attach(operator, "p", { session })
      joined.ack(0)
      assert.strictEqual(joined.answer.role, "operator")
      assert.deepStrictEqual(yield* watched.notified("ended"), { attachmentId: watched.id, reason: "expired" })
      assert.strictEqual((yield* viewer.ended()).code, 1008)
      yield* joined.notified("viewers", ({ viewers }) => viewers.length === 1)
      for (const client of [viewer, operator]) assert.notInclude(JSON.stringify(client.messages), sessionId)
      assert.notInclude(JSON.stringify(operator.messages), ofViewer)
      // The owner is told nothing.
      assert.isFalse(owner.messages.some(({ method }) => /^(attachment|console)/.test(method)))
    })
  )
})
