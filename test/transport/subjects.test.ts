/** Clients with credentials of different subjects on one server: whose sessions they get, and for how long. */
import { createHmac } from "node:crypto"
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { folder } from "../support/exposed.js"
import { connectTo, webSocketServer } from "../support/servers.js"

const secret = "0123456789abcdef0123456789abcdef"

const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url")

const nowSeconds = () => Math.floor(Date.now() / 1000)

const token = (claims: object) => {
  const text = `${part({ alg: "HS256" })}.${part({ exp: nowSeconds() + 1000, ...claims })}`
  return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`
}

/** A server that takes signed tokens. */
const signed = (args: ReadonlyArray<string> = []) =>
  Effect.gen(function* () {
    const path = yield* folder
    const secretFile = join(path, "secret")
    writeFileSync(secretFile, secret, { mode: 0o600 })
    const auditFile = join(path, "audit")
    const auth = ["--ws-auth", "signed-bearer-token", "--ws-shared-secret-file", secretFile]
    const server = yield* webSocketServer({ args: [...auth, "--audit-log", auditFile, ...args] })
    const connect = (claims: object) => connectTo(server.url, { headers: { authorization: `Bearer ${token(claims)}` } })
    const audit = () =>
      readFileSync(auditFile, "utf8")
        .split("\n")
        .slice(0, -1)
        .map((line) => JSON.parse(line))
    return { server, connect, audit }
  })

const resume = (sessionId: string) => ({ clientName: "test", resumeSessionId: sessionId })

describe("a connection", () => {
  it.scopedLive("ends with its token; a client with a new one of the same subject resumes the session", () =>
    Effect.gen(function* () {
      const { connect } = yield* signed(["--ws-max-clock-skew-seconds", "1"])
      const client = yield* connect({ sub: "alice", exp: nowSeconds() + 2 })
      const { sessionId } = yield* client.handshake({ resumeSessionId: null })
      yield* client.start("p", ["cat"], { pipeStdin: true })
      assert.deepStrictEqual(yield* client.ended(), {
        code: 1008,
        reason: "the token has expired; connect again with a new one"
      })
      const again = yield* connect({ sub: "alice" })
      again.knows("p")
      assert.strictEqual((yield* again.resume(sessionId)).sessionId, sessionId)
      yield* again.write("p", "hello\n")
      yield* again.sees("p", "hello")
    })
  )
})

describe("a session", () => {
  it.scopedLive("is resumed by its subject, with any token; to others it is as unknown as one that never was", () =>
    Effect.gen(function* () {
      const { connect, audit } = yield* signed()
      const alice = yield* connect({ sub: "alice" })
      const { sessionId } = yield* alice.handshake()
      const bob = yield* connect({ sub: "bob" })
      const unknown = (id: string) => ({ code: -32600, message: `unknown session id ${id}` })
      assert.deepStrictEqual((yield* bob.call("initialize", resume(sessionId))).error, unknown(sessionId))
      alice.carrier.close()
      yield* alice.ended()
      assert.deepStrictEqual((yield* bob.call("initialize", resume(sessionId))).error, unknown(sessionId))
      const never = "00000000-0000-4000-8000-000000000000"
      assert.deepStrictEqual((yield* bob.call("initialize", resume(never))).error, unknown(never))
      const again = yield* connect({ sub: "alice", jti: "another token" })
      assert.strictEqual((yield* again.resume(sessionId)).sessionId, sessionId)
      assert.deepStrictEqual(
        audit().map(({ event, subject }) => [event, subject]),
        ["opened", "detached", "resumed"].map((what) => [`session.${what}`, "jwt:alice@"])
      )
    })
  )

  it.scopedLive("belongs, where nobody authenticates, to the user whose process the client is", () =>
    Effect.gen(function* () {
      const auditFile = join(yield* folder, "audit")
      const server = yield* webSocketServer({ args: ["--audit-log", auditFile] })
      yield* (yield* server.connect).handshake()
      assert.strictEqual(JSON.parse(readFileSync(auditFile, "utf8")).subject, `local:${process.geteuid?.()}`)
    })
  )
})
