/** A server that asks for no token: which programs of this machine may use it. */
import { chmodSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as AuditLog from "../../src/session/AuditLog.js"
import * as Authenticator from "../../src/transport/Authenticator.js"
import { type ExposedOptions, exposed, folder } from "../support/exposed.js"
import { nobody, upgradeAs } from "../support/otherUser.js"
import { answer } from "../support/raw.js"
import { connectTo, eventually, webSocketServer } from "../support/servers.js"

const isRoot = process.getuid?.() === 0

const placeOf = (url: string) => ({ host: "127.0.0.1", port: Number(new URL(url).port) })

/** An in-process server, and the subjects of the sessions that it opens. */
const audited = (options: ExposedOptions) =>
  Effect.gen(function* () {
    const subjects: Array<string> = []
    const audit: AuditLog.Shape = {
      write: ({ subject }, { event }) => {
        if (event === "session.opened") subjects.push(subject)
        return undefined
      }
    }
    const url = yield* exposed({ ...options, audit })
    yield* (yield* connectTo(url)).handshake()
    return { url, subjects }
  })

describe("a client's session", () => {
  it.scopedLive("belongs to its local user where nobody authenticates, and to its subject elsewhere", () =>
    Effect.gen(function* () {
      const own = `local:${process.geteuid?.()}`
      assert.deepStrictEqual((yield* audited({})).subjects, [own])
      assert.deepStrictEqual((yield* audited({ options: { allowLocalUsers: true } })).subjects, [own])
      const authenticate = () => Effect.succeed({ id: "somebody" })
      const closed = yield* audited({ auth: Layer.succeed(Authenticator.Authenticator, { authenticate }) })
      assert.deepStrictEqual(closed.subjects, ["somebody"])
      // Any name may lead to a server that asks for a token.
      assert.strictEqual((yield* answer(`${closed.url}/readyz`, "GET", { host: "names.example" })).status, 200)
      const known = () => Effect.succeed({ id: "known" })
      const open = Layer.succeed(Authenticator.Authenticator, { authenticate: known, isOpen: true })
      assert.deepStrictEqual((yield* audited({ auth: open })).subjects, ["known"])
    })
  )
})

describe.runIf(isRoot)("another user of this machine", () => {
  it.scopedLive("is refused on a port, and told in the log what to do; the server's own user is not", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer()
      assert.strictEqual(yield* upgradeAs(nobody, placeOf(server.url)), "HTTP/1.1 403 Forbidden")
      yield* eventually("that is logged", () => server.stderr().includes("it belongs to user 65534"))
      assert.match(server.stderr(), /this server runs as user 0; pass --allow-local-users, or have clients/)
      const client = yield* server.connect
      yield* client.handshake()
    })
  )

  it.scopedLive("cannot fill the log: only the first refusal is a warning", () =>
    Effect.gen(function* () {
      const lines: Array<string> = []
      const url = yield* exposed({
        log: (level, message) => void lines.push(`${level} ${message.replace(/:\d+:/, ":")}`)
      })
      for (let round = 0; round < 2; round++) {
        assert.strictEqual(yield* upgradeAs(nobody, placeOf(url)), "HTTP/1.1 403 Forbidden")
      }
      assert.strictEqual(yield* upgradeAs(0, placeOf(url)), "HTTP/1.1 101 Switching Protocols")
      const refusals = lines.filter((line) => line.includes("refused 127.0.0.1: it belongs to user 65534"))
      assert.deepStrictEqual(
        refusals.map((line) => line.split(" ", 1)[0]),
        ["WARN", "DEBUG"]
      )
    })
  )

  it.scopedLive("is refused on a unix socket whose mode somebody has changed", () =>
    Effect.gen(function* () {
      const dir = yield* folder
      chmodSync(dir, 0o755)
      const path = join(dir, "socket")
      yield* webSocketServer({ listen: `unix://${path}` })
      chmodSync(path, 0o777)
      assert.strictEqual(yield* upgradeAs(nobody, { path }), "HTTP/1.1 403 Forbidden")
      assert.strictEqual(yield* upgradeAs(0, { path }), "HTTP/1.1 101 Switching Protocols")
    })
  )

  it.scopedLive("may connect where that is allowed, and where clients authenticate", () =>
    Effect.gen(function* () {
      const open = yield* exposed({ options: { allowLocalUsers: true } })
      assert.strictEqual(yield* upgradeAs(nobody, placeOf(open)), "HTTP/1.1 101 Switching Protocols")
      assert.strictEqual((yield* answer(`${open}/readyz`, "GET", { host: "names.example" })).status, 200)
      const auth = Authenticator.layerCapabilityToken({ sha256: "0".repeat(64) })
      assert.strictEqual(yield* upgradeAs(nobody, placeOf(yield* exposed({ auth }))), "HTTP/1.1 401 Unauthorized")
    })
  )

  it.scopedLive("may ask for health, by an address or a name of this machine", () =>
    Effect.gen(function* () {
      const url = yield* exposed({})
      for (const [host, status] of [
        ["localhost", 200],
        ["127.0.0.1:1", 200],
        ["names.example", 403]
      ] as const) {
        assert.strictEqual((yield* answer(`${url}/readyz`, "GET", { host })).status, status, host)
      }
    })
  )
})
