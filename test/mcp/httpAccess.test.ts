/** Who may use `/mcp`, what belongs to whom, and when it ends. */
import { createHmac } from "node:crypto"
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { directory } from "../support/files.js"
import { connectHttp, idIn, mcpUrl, modernCall, posting } from "../support/mcp.js"
import { readRoot, sandbox } from "../support/sandbox.js"
import { connectTo, eventually, hasBubblewrap, runningWith, webSocketServer } from "../support/servers.js"

const secret = "a secret of thirty-two bytes, at least"

/** A signed token with these claims. */
const signed = (claims: object) => {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url")
  const content = `${part({ alg: "HS256" })}.${part({ exp: Math.floor(Date.now() / 1000) + 3600, ...claims })}`
  return `${content}.${createHmac("sha256", secret).update(content).digest("base64url")}`
}

const server = (...args: ReadonlyArray<string>) => webSocketServer({ args: ["--mcp", ...args] })

/** A server whose clients have signed tokens. */
const signedServer = (...args: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const file = join(yield* directory, "secret")
    writeFileSync(file, secret, { mode: 0o600 })
    return yield* server("--ws-auth", "signed-bearer-token", "--ws-shared-secret-file", file, ...args)
  })

const newMark = () => `600.${Math.floor(Math.random() * 1e9)}`

interface Answered {
  readonly status: number
  readonly body: string
  readonly session: string
}

/** A request to `/mcp` whose answer comes to an end. */
const ask = (url: string, method: string, headers: Record<string, string> = {}, body = "") =>
  Effect.promise(async (): Promise<Answered> => {
    const answered = await fetch(mcpUrl(url), { method, headers, ...(body === "" ? {} : { body }) })
    const session = answered.headers.get("mcp-session-id") ?? ""
    return { status: answered.status, body: await answered.text(), session }
  })

const bearer = (token: string) => ({ authorization: `Bearer ${token}` })

const initialize = {
  jsonrpc: "2.0",
  id: 0,
  method: "initialize",
  params: { protocolVersion: "2025-06-18", capabilities: {}, clientInfo: { name: "raw", version: "1" } }
}

/** Opens a session of the older era; returns what asks in it. */
const opened = (url: string, headers: Record<string, string> = {}) =>
  Effect.gen(function* () {
    const { status, session } = yield* ask(url, "POST", { ...posting, ...headers }, JSON.stringify(initialize))
    assert.strictEqual(status, 200)
    assert.notStrictEqual(session, "")
    const inSession = { ...posting, ...headers, "mcp-session-id": session }
    let id = 0
    return {
      session,
      end: ask(url, "DELETE", inSession),
      call: (name: string, given: object) =>
        ask(
          url,
          "POST",
          inSession,
          JSON.stringify({ jsonrpc: "2.0", id: ++id, method: "tools/call", params: { name, arguments: given } })
        )
    }
  })

describe("a request", () => {
  it.scopedLive("is refused without /mcp being turned on, or with what the protocol does not have", () =>
    Effect.gen(function* () {
      const off = yield* webSocketServer()
      assert.strictEqual((yield* ask(off.url, "POST", posting, "{}")).status, 404)
      const { url } = yield* server()
      for (const method of ["PUT", "OPTIONS", "PATCH"]) assert.strictEqual((yield* ask(url, method)).status, 405)
      // What listens to the server's own messages needs a session.
      for (const method of ["GET", "DELETE"]) {
        assert.strictEqual((yield* ask(url, method, { accept: "text/event-stream" })).status, 405)
      }
    })
  )

  it.scopedLive("needs a token where the server does, an allowed origin, and a role that may use the server", () =>
    Effect.gen(function* () {
      const viewer = join(yield* directory, "viewer")
      writeFileSync(viewer, "viewer-token", { mode: 0o600 })
      const { url } = yield* signedServer("--console-viewer-token-file", viewer)
      const { headers, body } = modernCall("list_sessions", {})
      const statusOf = (more: Record<string, string>) =>
        Effect.map(ask(url, "POST", { ...headers, ...more }, body), ({ status }) => status)
      assert.strictEqual(yield* statusOf({}), 401)
      assert.strictEqual(yield* statusOf(bearer("wrong")), 401)
      assert.strictEqual(yield* statusOf(bearer(signed({ sub: "a" }))), 200)
      assert.strictEqual(yield* statusOf(bearer(signed({ sub: "a", role: "operator" }))), 200)
      for (const origin of ["https://example.com", "http://localhost:3000", "null"]) {
        assert.strictEqual(yield* statusOf({ ...bearer(signed({ sub: "a" })), origin }), 403)
      }
      const scoped = { sub: "a", role: "operator", session: "s-00000000", processId: "p" }
      for (const token of ["viewer-token", signed({ sub: "a", role: "viewer" }), signed(scoped)]) {
        const refused = yield* ask(url, "POST", { ...headers, ...bearer(token) }, body)
        assert.strictEqual(refused.status, 403)
        assert.match(refused.body, /^this token may only .* \(\/mcp needs operator\)\n$/)
      }
    })
  )

  it.scopedLive.skipIf(!hasBubblewrap)("of a process in a sandbox of the server is refused", () =>
    Effect.gen(function* () {
      const { url, connect } = yield* server()
      const client = yield* connect
      yield* client.handshake()
      const call = modernCall("exec_command", { cmd: "echo escaped" })
      const script = `
        fetch(${JSON.stringify(mcpUrl(url))}, ${JSON.stringify({ method: "POST", ...call })})
          .then(async (answered) => console.log(answered.status, await answered.text()))`
      yield* client.ask("process/start", {
        processId: "inside",
        argv: [process.execPath, "-e", script],
        cwd: "/",
        env: {},
        tty: false,
        sandbox: sandbox([readRoot], {}, "enabled")
      })
      yield* client.closed("inside")
      const output = client.output("inside", "stdout").toString()
      assert.match(output, /^403 a process in a sandbox of this server cannot be its client/)
    })
  )
})

describe("what a subject has started", () => {
  it.scopedLive("is kept by /mcp once it has ended, and not by the server too", () =>
    Effect.gen(function* () {
      const operator = join(yield* directory, "operator")
      writeFileSync(operator, "operator-token", { mode: 0o600 })
      const { url } = yield* signedServer("--console-token-file", operator)
      const session = yield* opened(url, bearer(signed({ sub: "a" })))
      const count = 20
      const calls = Array.from({ length: count }, (_, i) => session.call("exec_command", { cmd: `seq ${i} 30000` }))
      for (const { body } of yield* Effect.all(calls, { concurrency: 4 })) assert.include(body, "[exit code 0")
      const client = yield* connectTo(url, { headers: { authorization: "Bearer operator-token" } })
      yield* client.handshake()
      // Without its word they would be retained for 30 s.
      yield* Effect.map(client.ask("process/list", { session: "*" }), ({ processes }) => processes.length).pipe(
        Effect.repeat({ until: (left) => left === 0, schedule: Schedule.spaced(20) }),
        Effect.timeout("10 seconds")
      )
      const { body } = yield* session.call("list_sessions", {})
      assert.include(body, `[0 commands running, ${count} ended]`)
    })
  )

  it.scopedLive("is no other's: neither its commands nor its sessions", () =>
    Effect.gen(function* () {
      const audit = join(yield* directory, "audit")
      const { url } = yield* signedServer("--audit-log", audit)
      const [ann, bob] = [signed({ sub: "ann" }), signed({ sub: "bob" })]
      const ofAnn = yield* connectHttp(url, { pin: "2026-07-28" }, ann)
      const ofBob = yield* connectHttp(url, { pin: "2026-07-28" }, bob)
      const started = yield* ofAnn.call("exec_command", { cmd: "sleep 600", yield_time_ms: 0 })
      const session_id = idIn(started.text)
      const said = yield* ofBob.call("kill_session", { session_id })
      assert.strictEqual(said.text, `[failed: there is no session ${session_id}; running: none]`)
      assert.strictEqual((yield* ofBob.call("list_sessions")).text, "[0 commands running, 0 ended]")
      // Another client of the same subject, in the other era, is at home there.
      const again = yield* connectHttp(url, "legacy", signed({ sub: "ann", jti: "2" }))
      assert.match((yield* again.call("list_sessions")).text, new RegExp(`session_id ${session_id}: .*sleep 600`))

      const session = yield* opened(url, bearer(ann))
      const stolen = { ...posting, ...bearer(bob), "mcp-session-id": session.session }
      for (const [method, body] of [
        ["POST", JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tools/list" })],
        ["DELETE", ""]
      ] as const) {
        assert.strictEqual((yield* ask(url, method, stolen, body)).status, 404)
      }
      assert.strictEqual((yield* session.call("list_sessions", {})).status, 200)

      const entries = readFileSync(audit, "utf8")
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as Record<string, unknown>)
      const start = entries.find(({ event }) => event === "process.start")
      assert.deepInclude(start, { subject: "jwt:ann@", peer: "mcp" })
    })
  )

  it.scopedLive("in a session of the older era ends with it, and nothing else does", () =>
    Effect.gen(function* () {
      const { url } = yield* server()
      const session = yield* opened(url)
      const other = yield* opened(url)
      const [mark, kept] = [newMark(), newMark()]
      yield* session.call("exec_command", { cmd: `sleep ${mark}`, yield_time_ms: 0 })
      yield* session.call("exec_command", { cmd: `sleep ${mark}`, yield_time_ms: 0, tty: true })
      yield* other.call("exec_command", { cmd: `sleep ${kept}`, yield_time_ms: 0 })
      yield* eventually("they run", () => runningWith(mark).length >= 2 && runningWith(kept).length >= 1)
      assert.strictEqual((yield* session.end).status, 200)
      yield* eventually("they are gone", () => runningWith(mark).length === 0)
      assert.isNotEmpty(runningWith(kept))
      const gone = yield* session.call("list_sessions", {})
      assert.strictEqual(gone.status, 404)
      assert.include(gone.body, "Session not found")
      assert.strictEqual((yield* session.end).status, 404)
      assert.include((yield* other.call("list_sessions", {})).body, "1 command running, 2 ended")
    })
  )

  it.scopedLive("ends when the subject has made no call for --mcp-idle-ms, and not before", () =>
    Effect.gen(function* () {
      const { url } = yield* server("--mcp-idle-ms", "1500")
      const { call } = yield* connectHttp(url, { pin: "2026-07-28" })
      const mark = newMark()
      // A call in progress is not idle.
      const waited = yield* call("exec_command", { cmd: `sleep ${mark}`, yield_time_ms: 3000 })
      assert.match(waited.text, /^\[still running/)
      yield* eventually("it is gone", () => runningWith(mark).length === 0)
      assert.strictEqual((yield* call("list_sessions")).text, "[0 commands running, 0 ended]")
    })
  )

  it.scopedLive("ends when its token expires, and so does a call in progress", () =>
    Effect.gen(function* () {
      const { url } = yield* signedServer("--ws-max-clock-skew-seconds", "0")
      const exp = Math.floor(Date.now() / 1000) + 6
      const { call, client } = yield* connectHttp(url, { pin: "2026-07-28" }, signed({ sub: "a", exp }))
      const mark = newMark()
      yield* call("exec_command", { cmd: `sleep ${mark}`, yield_time_ms: 0 })
      const cut = client.callTool({ name: "exec_command", arguments: { cmd: `sleep ${mark}`, yield_time_ms: 50_000 } })
      // Cut off, or told that the command has ended: it does not wait for its window.
      yield* Effect.promise(() =>
        cut.then(
          () => {},
          () => {}
        )
      )
      assert.isBelow(Date.now(), exp * 1000 + 30_000)
      yield* eventually("they are gone", () => runningWith(mark).length === 0)
    })
  )

  it.scopedLive("may be ended by an operator, and the next call begins anew", () =>
    Effect.gen(function* () {
      const token = join(yield* directory, "operator")
      writeFileSync(token, "operator-token", { mode: 0o600 })
      const { url } = yield* server("--console-token-file", token)
      const { call } = yield* connectHttp(url, { pin: "2026-07-28" })
      const mark = newMark()
      yield* call("exec_command", { cmd: `sleep ${mark}`, yield_time_ms: 0 })
      const operator = yield* connectTo(url, { headers: bearer("operator-token") })
      yield* operator.handshake()
      const { sessions } = (yield* operator.ask("session/list", {})) as {
        readonly sessions: ReadonlyArray<{ readonly clientName: string; readonly session: string }>
      }
      const session = sessions.find(({ clientName }) => clientName === "mcp")?.session
      yield* operator.ask("session/end", { session })
      yield* eventually("it is gone", () => runningWith(mark).length === 0)
      assert.match((yield* call("exec_command", { cmd: "echo anew" })).text, /^\[exit code 0, .*\]\nanew$/)
    })
  )
})
