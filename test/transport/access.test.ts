/** Who gets through to the server over HTTP, and with what answer. */
import { createHash, createHmac } from "node:crypto"
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Grant from "../../src/session/Grant.js"
import * as Authenticator from "../../src/transport/Authenticator.js"
import { exposed, folder } from "../support/exposed.js"
import { answer, asks, ends, frame, receives, upgrade } from "../support/raw.js"
import { connectTo, eventually, rawSocket } from "../support/servers.js"

const sha256 = createHash("sha256").update("token").digest("hex")
const auth = Authenticator.layerCapabilityToken({ sha256 })
const bearer = "Authorization: Bearer token\r\n"
const initialize = '{"id":1,"method":"initialize","params":{"clientName":"raw"}}'

/** An authenticator that the test decides for. */
const held = Effect.gen(function* () {
  const gate = yield* Deferred.make<Grant.Grant, Authenticator.Unauthorized>()
  let asked = 0
  const authenticate = () =>
    Effect.suspend(() => {
      asked++
      return Deferred.await(gate)
    })
  return { auth: Layer.succeed(Authenticator.Authenticator, { authenticate }), gate, asked: () => asked }
})

describe("with authentication", () => {
  it.scopedLive("everything but health is for those who have a token", () =>
    Effect.gen(function* () {
      const url = yield* exposed({ auth })
      for (const [method, path, without, withToken] of [
        ["GET", "/readyz", 200, 200],
        ["HEAD", "/readyz", 200, 200],
        ["POST", "/readyz", 405, 405],
        ["GET", "/livez", 200, 200],
        ["POST", "/livez", 405, 405],
        ["GET", "/livez?verbose", 200, 200],
        ["GET", "/", 401, 400],
        ["POST", "/", 401, 404],
        ["GET", "/metrics", 401, 404],
        ["GET", "/readyz/x", 401, 404],
        ["GET", "/other", 401, 404]
      ] as const) {
        const what = `${method} ${path}`
        assert.strictEqual((yield* answer(`${url}${path}`, method)).status, without, what)
        const authorization = "Bearer wrong"
        assert.strictEqual((yield* answer(`${url}${path}`, method, { authorization })).status, without, what)
        const right = yield* answer(`${url}${path}`, method, { authorization: "bearer token" })
        assert.strictEqual(right.status, withToken, what)
      }
    })
  )

  it.scopedLive("an upgrade needs a token before anything else; a refusal says which scheme, and ends", () =>
    Effect.gen(function* () {
      const url = yield* exposed({ auth, options: { allowOrigin: ["https://a.example"] } })
      for (const [path, headers, expected] of [
        ["/", "", 401],
        ["/", "Authorization: Bearer wrong\r\n", 401],
        ["/", "Authorization: Basic token\r\n", 401],
        ["/?token=token", "", 401],
        ["/other", "", 401],
        ["/", bearer, 101],
        ["/?query", "authorization: BEARER token\r\n", 101],
        ["/other", bearer, 404],
        ["/", `${bearer}Origin: https://b.example\r\n`, 403],
        ["/", `${bearer}Origin: https://a.example\r\n`, 101],
        ["/", "Origin: https://a.example\r\n", 401],
        ["/readyz", "", 200]
      ] as const) {
        const socket = yield* rawSocket(url)
        const { status, text } = yield* asks(socket, upgrade(path, headers))
        assert.strictEqual(status, expected, `${path} ${headers}`)
        assert.strictEqual(/www-authenticate: bearer\r\n/i.test(text), expected === 401)
        if (expected !== 101) yield* ends(socket)
      }
    })
  )

  it.scopedLive("signed tokens, over the wire, with the first message in the same packet", () =>
    Effect.gen(function* () {
      const secretFile = join(yield* folder, "secret")
      const secret = "x".repeat(40)
      writeFileSync(secretFile, `${secret}\n`)
      const url = yield* exposed({ auth: Authenticator.layerSignedBearerToken({ secretFile }) })
      const token = (exp: number) => {
        const text = [{ alg: "HS256" }, { exp }]
          .map((part) => Buffer.from(JSON.stringify(part)).toString("base64url"))
          .join(".")
        return `Authorization: Bearer ${text}.${createHmac("sha256", secret).update(text).digest("base64url")}\r\n`
      }
      const now = Math.floor(Date.now() / 1000)
      const right = yield* rawSocket(url)
      right.write(Buffer.concat([Buffer.from(upgrade("/", token(now + 1000))), frame(1, initialize)]))
      assert.match(
        (yield* receives(right, (bytes) => bytes.includes('"id":1'))).toString(),
        /^HTTP\/1\.1 101 .*sessionId/s
      )
      const late = yield* asks(yield* rawSocket(url), upgrade("/", token(now - 1000)))
      assert.strictEqual(late.status, 401)
    })
  )
})

describe("while a client is being authenticated", () => {
  it.scopedLive("nothing that it sends is lost, and it is heard in order", () =>
    Effect.gen(function* () {
      const { auth, gate, asked } = yield* held
      const url = yield* exposed({ auth })
      const socket = yield* rawSocket(url)
      socket.write(Buffer.concat([Buffer.from(upgrade()), frame(1, initialize)]))
      yield* eventually("it is being authenticated", () => asked() === 1)
      socket.write(frame(1, '{"method":"initialized"}'))
      socket.write(frame(1, '{"id":2,"method":"environment/status"}'))
      // Whoever asks for health need not wait for it.
      assert.strictEqual((yield* answer(`${url}/readyz`)).status, 200)
      yield* Deferred.succeed(gate, Grant.anonymous)
      const text = (yield* receives(socket, (bytes) => bytes.includes('"id":2'))).toString()
      assert.match(text, /^HTTP\/1\.1 101 .*"id":1,.*"id":2,"result":\{"status":"ready"\}/s)
    })
  )

  it.scopedLive("its reset, or its end, harms nobody, whatever the verdict", () =>
    Effect.gen(function* () {
      for (const expected of [101, 401]) {
        const { auth, gate, asked } = yield* held
        const url = yield* exposed({ auth })
        for (let i = 0; i < 10; i++) {
          const socket = yield* rawSocket(url)
          socket.write(Buffer.concat([Buffer.from(upgrade()), frame(1, initialize)]))
          yield* eventually("it is being authenticated", () => asked() === i + 1)
          if (i % 2 === 0) socket.resetAndDestroy()
          else socket.destroy()
        }
        // The server has seen their ends by the time it answers this.
        assert.strictEqual((yield* answer(`${url}/livez`)).status, 200)
        yield* expected === 101
          ? Deferred.succeed(gate, Grant.anonymous)
          : Deferred.fail(gate, new Authenticator.Unauthorized({ message: "no" }))
        const { status } = yield* asks(yield* rawSocket(url), upgrade())
        assert.strictEqual(status, expected)
      }
    })
  )

  it.scopedLive("it does not wait for ever", () =>
    Effect.gen(function* () {
      const { auth } = yield* held
      const url = yield* exposed({ auth, session: { handshakeTimeoutMs: 100 } })
      const socket = yield* rawSocket(url)
      socket.write(upgrade())
      assert.notInclude((yield* ends(socket)).toString(), " 101 ")
    })
  )

  it.scopedLive("a defect refuses it", () =>
    Effect.gen(function* () {
      const authenticate = () => Effect.die("a bug")
      const url = yield* exposed({ auth: Layer.succeed(Authenticator.Authenticator, { authenticate }) })
      assert.strictEqual((yield* asks(yield* rawSocket(url), upgrade())).status, 500)
      assert.strictEqual((yield* answer(`${url}/`)).status, 500)
    })
  )
})

describe("origins", () => {
  it.scopedLive("a web page gets nowhere unless its origin is allowed, to the letter", () =>
    Effect.gen(function* () {
      const url = yield* exposed({ options: { allowOrigin: ["https://a.example", "http://localhost:3000"] } })
      for (const [origin, allowed] of [
        ["https://a.example", true],
        ["HTTPS://A.example", true],
        ["http://localhost:3000", true],
        ["http://a.example", false],
        ["https://a.example:8443", false],
        ["https://a.example.evil.example", false],
        ["https://xa.example", false],
        ["http://localhost", false],
        ["null", false],
        ["", false],
        [url.replace("ws:", "http:"), false]
      ] as const) {
        const { status } = yield* asks(yield* rawSocket(url), upgrade("/", `Origin: ${origin}\r\n`))
        assert.strictEqual(status, allowed ? 101 : 403, origin)
        for (const path of ["/readyz", "/livez"]) {
          assert.strictEqual((yield* answer(`${url}${path}`, "GET", { origin })).status, allowed ? 200 : 403, origin)
        }
      }
      const twice = upgrade("/", "Origin: https://a.example\r\nOrigin: https://evil.example\r\n")
      assert.strictEqual((yield* asks(yield* rawSocket(url), twice)).status, 403)
    })
  )

  it.scopedLive("what is no web page need not say where it is from", () =>
    Effect.gen(function* () {
      const url = yield* exposed({ options: { allowOrigin: ["https://a.example"] } })
      yield* (yield* connectTo(url)).handshake()
    })
  )
})
