/** Shares: tokens for one process, what they permit, and what ends them. */
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as ExecClient from "../../src/client/ExecClient.js"
import { directory } from "../support/files.js"
import { answer } from "../support/raw.js"
import { connectTo, stdioClient, webSocketServer } from "../support/servers.js"
import type { TestClient } from "../support/TestClient.js"
import { attach } from "../support/viewer.js"

/** A server, a client of it with a process `p`, and the handle of its session. */
const sharing = (args: ReadonlyArray<string> = [], script = "echo hello; exec cat") =>
  Effect.gen(function* () {
    const server = yield* webSocketServer({ args })
    const client = yield* server.connect
    yield* client.handshake()
    yield* client.sh("p", script, { pipeStdin: true })
    yield* client.sees("p", "hello")
    const [{ session }] = (yield* client.ask("session/list")).sessions
    const as = (token: string) => connectTo(server.url, { headers: { authorization: `Bearer ${token}` } })
    const joined = (token: string) => Effect.tap(as(token), (client) => client.handshake())
    const status = (token: string) =>
      Effect.map(
        answer(`${server.url.replace("ws", "http")}/`, "GET", { authorization: `Bearer ${token}` }),
        ({ status }) => status
      )
    return { server, client, session, as, joined, status }
  })

const share = (client: TestClient, more: object = {}) =>
  client.ask("share/create", { processId: "p", role: "viewer", expiresInMs: 60_000, ...more })

describe("a share", () => {
  it.scopedLive("of a viewer reads one process, and nothing else", () =>
    Effect.gen(function* () {
      const { client, session, joined } = yield* sharing()
      yield* client.start("other", ["sleep", "1000"])
      const { shareId, token, path, expiresAtMs } = yield* share(client, { label: "for you" })
      assert.match(token, /^share-[\w-]{43}$/)
      assert.strictEqual(path, `/console#share=${token}`)
      assert.closeTo(expiresAtMs, Date.now() + 60_000, 10_000)
      const viewer = yield* joined(token)
      const about = { session, processId: "p" }
      assert.containSubset(yield* viewer.ask("session/grant"), { role: "viewer", scope: about, expiresAtMs })
      const { chunks } = yield* viewer.ask("process/read", about)
      assert.strictEqual(Buffer.from(chunks[0].chunk, "base64").toString(), "hello\n")
      assert.strictEqual((yield* viewer.ask("process/usage", about)).processes, 1)
      for (const [method, params] of [
        ["process/read", { session, processId: "other" }],
        ["process/read", { session: "s-00000000", processId: "p" }],
        ["process/write", { ...about, chunk: "" }],
        ["process/terminate", about],
        ["process/start", { processId: "q", argv: ["true"], cwd: "/", env: {}, tty: false }],
        ["process/list", { session }],
        ["session/list", {}],
        ["session/end", { session }],
        ["usage/watch", { intervalMs: 500 }],
        ["recording/list", {}],
        ["share/create", { ...about, role: "viewer", expiresInMs: 1000 }],
        ["share/list", {}],
        ["share/revoke", { shareId }],
        ["fs/readFile", { path: "/etc/hostname" }],
        ["http/request", { requestId: "r", method: "GET", url: "http://127.0.0.1:1/", headers: [] }]
      ] as const) {
        assert.strictEqual((yield* viewer.call(method, params)).error?.code, -32003, method)
      }
      assert.deepStrictEqual(yield* client.ask("share/list"), {
        shares: [{ shareId, session, processId: "p", role: "viewer", expiresAtMs, label: "for you", viewers: 1 }]
      })
    })
  )

  it.scopedLive("of an operator uses the process as well", () =>
    Effect.gen(function* () {
      const { client, session, joined } = yield* sharing()
      const { token } = yield* share(client, { role: "operator" })
      const operator = yield* joined(token)
      yield* operator.write("p", "typed\n", { session })
      yield* client.sees("p", "typed")
      yield* operator.ask("process/terminate", { session, processId: "p" })
      yield* client.closed("p")
      assert.strictEqual((yield* operator.call("share/list")).error.code, -32003)
    })
  )

  it.scopedLive("that is revoked ends its connections, those without a handshake too, and its token", () =>
    Effect.gen(function* () {
      const { client, as, joined, status } = yield* sharing()
      const { shareId, token } = yield* share(client)
      const [first, second] = [yield* joined(token), yield* as(token)]
      assert.deepStrictEqual(yield* client.ask("share/revoke", { shareId }), {})
      const over = { code: 1008, reason: "the share was revoked" }
      assert.deepStrictEqual(yield* first.ended(), over)
      assert.deepStrictEqual(yield* second.ended(), over)
      assert.strictEqual(yield* status(token), 401)
      const { error } = yield* client.call("share/revoke", { shareId })
      assert.deepStrictEqual(error, { code: -32004, message: `unknown share id ${shareId}` })
      assert.deepStrictEqual(yield* client.ask("share/list"), { shares: [] })
    })
  )

  it.scopedLive("that has expired ends its connections, and its token", () =>
    Effect.gen(function* () {
      const { client, joined, status } = yield* sharing()
      const { token } = yield* share(client, { expiresInMs: 1500 })
      const viewer = yield* joined(token)
      const { code, reason } = yield* viewer.ended()
      assert.deepStrictEqual([code, reason], [1008, "the token has expired; connect again with a new one"])
      assert.strictEqual(yield* status(token), 401)
      assert.deepStrictEqual(yield* client.ask("share/list"), { shares: [] })
    })
  )

  for (const [ending, reason, more] of [
    ["revoked", "the share was revoked", {}],
    ["expired", "the token has expired; connect again with a new one", { expiresInMs: 1500 }]
  ] as const) {
    it.scopedLive(`that is ${ending} tells its attachments before it ends their connection`, () =>
      Effect.gen(function* () {
        const { client, session, joined } = yield* sharing()
        const { shareId, token } = yield* share(client, more)
        const watching = yield* attach(yield* joined(token), "p", { session })
        watching.ack(0)
        yield* watching.sees("hello")
        if (ending === "revoked") yield* client.ask("share/revoke", { shareId })
        assert.deepStrictEqual(yield* watching.client.ended(), { code: 1008, reason })
        assert.deepStrictEqual(watching.of("ended"), [{ attachmentId: watching.id, reason: ending }])
        const [found] = (yield* client.ask("process/list")).processes
        assert.strictEqual(found.viewers, 0)
      })
    )
  }

  it.scopedLive("has as many viewers as it permits", () =>
    Effect.gen(function* () {
      const { client, as, joined } = yield* sharing()
      const { token } = yield* share(client, { maxViewers: 1 })
      const first = yield* joined(token)
      assert.deepStrictEqual(yield* (yield* as(token)).ended(), {
        code: 1008,
        reason: "the share is in use by as many viewers as it permits (maxViewers)"
      })
      first.carrier.close()
      yield* first.ended()
      const [{ viewers }] = (yield* client.ask("share/list")).shares
      assert.isAtMost(viewers, 1)
      yield* Effect.retry(Effect.sandbox(joined(token)), { times: 20 })
    })
  )

  it.scopedLive("is of its process only, not of a later one with the same id", () =>
    Effect.gen(function* () {
      const { client, session, joined, status } = yield* sharing(["--closed-process-retention-ms", "0"])
      const { token } = yield* share(client)
      const viewer = yield* joined(token)
      yield* client.call("process/terminate", { processId: "p" })
      yield* client.closed("p")
      const params = {
        processId: "p",
        argv: ["echo", "secret"],
        cwd: "/tmp",
        env: { PATH: "/usr/bin:/bin" },
        tty: false
      }
      yield* Effect.repeat(client.call("process/start", params), { until: ({ error }) => error === undefined })
      const { error } = yield* viewer.call("process/read", { session, processId: "p" })
      assert.strictEqual(error.message, "unknown process id p")
      assert.strictEqual(yield* status(token), 401)
      assert.deepStrictEqual(yield* client.ask("share/list"), { shares: [] })
    })
  )

  it.scopedLive("leaves no session behind, and none can be resumed", () =>
    Effect.gen(function* () {
      const folder = yield* directory
      const operator = join(folder, "operator")
      writeFileSync(operator, "operator's", { mode: 0o600 })
      const { client, as, joined } = yield* sharing(["--console-token-file", operator])
      const { token } = yield* share(client)
      const viewer = yield* as(token)
      const { error } = yield* viewer.call("initialize", { clientName: "v", resumeSessionId: null, sessionTtlMs: 1000 })
      assert.include(error.message, "sessionTtlMs: a session ends with its connection")
      yield* viewer.handshake()
      const all = yield* joined("operator's")
      assert.lengthOf((yield* all.ask("session/list")).sessions, 3)
      viewer.carrier.close()
      yield* viewer.ended()
      yield* Effect.repeat(all.ask("session/list"), { until: ({ sessions }) => sessions.length === 2 })
    })
  )
})

describe("shares", () => {
  it.scopedLive("are as many as the server says; their tokens are in no log", () =>
    Effect.gen(function* () {
      const folder = yield* directory
      const audit = join(folder, "audit")
      const { client, session, server, status } = yield* sharing([
        ...["--max-shares", "1", "--audit-log", audit, "--log-level", "all"]
      ])
      const { shareId, token } = yield* share(client)
      const { error } = yield* client.call("share/create", { processId: "p", role: "viewer", expiresInMs: 1000 })
      assert.strictEqual(error.message, "the limit maxShares (1) is reached; revoke some with share/revoke")
      // Known, but for nothing that is not about its process.
      assert.strictEqual(yield* status(token), 403)
      assert.strictEqual(yield* status(`${token}x`), 401)
      yield* client.ask("share/revoke", { shareId })
      const entries = readFileSync(audit, "utf8")
      assert.include(entries, `"event":"share.created"`)
      assert.include(entries, `"event":"share.revoked"`)
      assert.include(entries, shareId)
      assert.notInclude(entries + server.stderr(), token.slice(6))
      const unknown = yield* client.call("share/create", { session, processId: "q", role: "viewer", expiresInMs: 1000 })
      assert.strictEqual(unknown.error.message, "unknown process id q")
    })
  )

  it.scopedLive("are refused where nobody could use them", () =>
    Effect.gen(function* () {
      const { client } = yield* stdioClient()
      yield* client.handshake()
      yield* client.start("p", ["sleep", "1000"])
      const { error } = yield* client.call("share/create", { processId: "p", role: "viewer", expiresInMs: 1000 })
      assert.include(error.message, "this server has no shares: nobody could use them")
    })
  )

  it.scopedLive("are made, listed and revoked by the client library", () =>
    Effect.gen(function* () {
      const { url } = yield* webSocketServer()
      const client = yield* ExecClient.connect({ url })
      yield* client.start({ processId: "p", argv: ["sleep", "1000"], cwd: "/tmp", env: { PATH: "/usr/bin:/bin" } })
      const { shareId, token } = yield* client.shares.create("p", { expiresIn: "1 minute", label: "l", maxViewers: 2 })
      const [{ session = "" } = {}] = yield* client.sessions.list
      const viewer = yield* ExecClient.connect({ url, token })
      assert.deepInclude(yield* viewer.usage.process("p", session), { processes: 1 })
      assert.containSubset(yield* client.shares.list, [{ shareId, label: "l", role: "viewer", viewers: 1 }])
      yield* client.shares.revoke(shareId)
      assert.include((yield* viewer.ended).message, "revoked")
    })
  )
})
