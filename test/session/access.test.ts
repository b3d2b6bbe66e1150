/** Who may do what: every method for every role, on another client's session. */
import { createHmac } from "node:crypto"
import { chmodSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { ExecApi } from "../../src/protocol/ExecApi.js"
import { directory } from "../support/files.js"
import { answer } from "../support/raw.js"
import { connectTo, launch, webSocketServer } from "../support/servers.js"
import { startParams } from "../support/TestClient.js"

const base64url = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url")

/** A signed token with these claims. */
const signed = (secret: string, claims: object) => {
  const signing = `${base64url({ alg: "HS256", typ: "JWT" })}.${base64url({ exp: 4e9, sub: "someone", ...claims })}`
  return `${signing}.${createHmac("sha256", secret).update(signing).digest("base64url")}`
}

const secret = "s".repeat(32)

/** A server with a secret for signed tokens, and with tokens of operators and viewers. */
const server = Effect.gen(function* () {
  const folder = yield* directory
  const file = (name: string, content: string) => {
    const path = join(folder, name)
    writeFileSync(path, content)
    chmodSync(path, 0o600)
    return path
  }
  const { url } = yield* webSocketServer({
    args: [
      ...["--ws-auth", "signed-bearer-token", "--ws-shared-secret-file", file("secret", secret)],
      ...[
        "--console-token-file",
        file("operator", "operator's"),
        "--console-viewer-token-file",
        file("viewer", "viewer's")
      ],
      ...["--recordings-dir", join(folder, "recordings")]
    ]
  })
  const as = (token: string, params: object = { resumeSessionId: null }) =>
    Effect.gen(function* () {
      const client = yield* connectTo(url, { headers: { authorization: `Bearer ${token}` } })
      const { sessionId } = yield* client.handshake(params)
      return { client, sessionId }
    })
  return { url, folder, as }
})

const forbidden = -32003

/** What each method is called with, about a process of another session. */
const paramsOf = (method: string, session: string, recordingId: string, shareId: string): object => {
  const about = { session, processId: "p" }
  switch (method) {
    case "process/start":
      return startParams("q", ["true"])
    case "process/write":
      return { ...about, chunk: "" }
    case "process/resize":
      return { ...about, rows: 5, cols: 5 }
    case "process/signal":
      return { ...about, signal: "SIGCONT" }
    case "process/wait":
      return { ...about, waitMs: 0 }
    case "share/create":
      return { ...about, role: "viewer", expiresInMs: 60_000 }
    case "share/list":
      return {}
    case "share/revoke":
      return { shareId }
    case "recording/stop":
    case "recording/remove":
      return { recordingId }
    case "recording/read":
      return { recordingId, offset: 0 }
    case "process/attach":
      return { ...about, from: { type: "live" }, window: 1 }
    case "attachment/detach":
    case "attachment/screen":
      return { attachmentId: 1000 }
    case "attachment/drive":
      return { attachmentId: 1000, take: true }
    case "usage/watch":
      return { intervalMs: 500 }
    case "environment/info":
    case "environment/status":
    case "environment/limits":
    case "session/grant":
    case "session/list":
    case "console/watch":
      return {}
    case "process/list":
    case "recording/list":
    case "session/end":
      return { session }
    case "http/request":
      return { requestId: "r", method: "GET", url: "http://127.0.0.1:1/", headers: [] }
    case "http/cancel":
      return { requestId: "r" }
    case "fs/copy":
      return { sourcePath: "/nowhere", destinationPath: "/nowhere2", recursive: false }
    case "fs/open":
      return { handleId: "h", path: "/nowhere" }
    case "fs/close":
      return { handleId: "h" }
    case "fs/readBlock":
      return { handleId: "h", offset: 0, len: 1 }
    case "fs/writeBlock":
      return { handleId: "h", offset: 0, chunk: "" }
    case "fs/join":
      return { basePath: "/a", path: "b" }
    case "fs/writeFile":
      return { path: "/nowhere/x", dataBase64: "" }
    case "fs/walk":
      return {
        path: "/nowhere",
        options: { maxDepth: 1, maxDirectories: 1, maxEntries: 1, followDirectorySymlinks: false }
      }
    case "fs/watchMissing":
      return { watchId: 1, missing: ["/nowhere"] }
    case "environmentConfig/read":
      return { cwd: "/", configPaths: [["a"]], requirementsPaths: [] }
    case "capabilityRoots/discoverV1":
      return { roots: [] }
    case "capabilities/discoverV2":
      return { cwd: "/" }
    default:
      return { ...about, path: "/nowhere" }
  }
}

const methods = Array.from(ExecApi.requests.keys()).filter((method) => method !== "initialize")
const open = ["environment/info", "environment/status", "environment/limits", "session/grant"]
const machine = methods.filter(
  (method) => /^(fs|http|environmentConfig|capabilit)/.test(method) || method === "process/start"
)
// An attachment belongs to its connection, so that only `process/attach` is about another client's process.
const attached = ["attachment/detach", "attachment/screen"]
const reading = ["process/read", "process/wait", "process/snapshot", "process/attach", "process/usage", ...attached]
const changing = [
  "attachment/drive",
  "process/write",
  "process/closeStdin",
  "process/resize",
  "process/signal",
  "process/terminate"
]
const lists = ["process/list", "session/list", "console/watch", "usage/watch", "recording/list", "recording/read"]

/** What each role may do about another client's process; the methods that use the machine do that for its own session. */
const allowed: { readonly [role: string]: ReadonlyArray<string> } = {
  client: [
    ...open,
    "session/list",
    "share/list",
    "console/watch",
    "usage/watch",
    "attachment/drive",
    ...attached,
    ...machine
  ],
  viewer: [...open, ...lists, ...reading],
  operator: methods,
  "scoped viewer": [...open, ...reading],
  "scoped operator": [...open, ...reading, ...changing],
  "viewer of another process": [...open, ...attached],
  "viewer of the whole session": [...open, ...reading]
}

const claims: { readonly [role: string]: (session: string) => object } = {
  client: () => ({}),
  viewer: () => ({ role: "viewer" }),
  operator: () => ({ role: "operator" }),
  "scoped viewer": (session) => ({ role: "viewer", session, processId: "p" }),
  "scoped operator": (session) => ({ role: "operator", session, processId: "p" }),
  "viewer of another process": (session) => ({ role: "viewer", session, processId: "other" }),
  "viewer of the whole session": (session) => ({ role: "viewer", session })
}

describe("on another client's session", () => {
  for (const [role, may] of Object.entries(allowed)) {
    it.scopedLive(`a ${role} may do what the table says, and nothing else`, () =>
      Effect.gen(function* () {
        const { as } = yield* server
        const { client: of, sessionId } = yield* as(signed(secret, { sub: "owner" }))
        yield* of.start("p", ["cat"], { tty: true, record: {} })
        const [{ recordingId }] = (yield* of.ask("recording/list")).recordings
        const [{ session }] = (yield* of.ask("session/list")).sessions
        const { shareId } = yield* of.ask("share/create", { processId: "p", role: "viewer", expiresInMs: 60_000 })
        const { client } = yield* as(signed(secret, claims[role]?.(session) ?? {}))
        // The end of the session comes last, the end of the process before it.
        const last = ["recording/start", "process/closeStdin", "process/terminate", "session/end"]
        for (const method of [...methods.filter((method) => !last.includes(method)), ...last]) {
          const { error } = yield* client.call(method, paramsOf(method, session, recordingId, shareId))
          if (may.includes(method)) {
            assert.notInclude([forbidden, -32601, -32602], error?.code, `${method}: ${JSON.stringify(error)}`)
          } else {
            assert.strictEqual(error?.code, forbidden, method)
            assert.match(error.message, /^this token may only .* \(.* needs (viewer|operator)\)$/)
            assert.include(error.message, method)
          }
        }
        assert.notInclude(JSON.stringify(client.messages), sessionId)
        const ended = of.messages.length > 0 && role === "operator"
        if (ended) assert.deepStrictEqual(yield* of.ended(), { code: 1008, reason: "the session was ended" })
        else assert.isTrue((yield* of.ask("process/list")).processes[0].running || role === "scoped operator")
      })
    )
  }

  it.scopedLive("a viewer is told what its token allows", () =>
    Effect.gen(function* () {
      const { as } = yield* server
      const { client } = yield* as("viewer's")
      const { error } = yield* client.call("process/write", { processId: "p", chunk: "" })
      assert.deepStrictEqual(error, {
        code: forbidden,
        message: "this token may only view (process/write needs operator)"
      })
    })
  )
})

describe("session/grant", () => {
  it.scopedLive("says the role, the scope and the expiry", () =>
    Effect.gen(function* () {
      const { as } = yield* server
      for (const [token, expected] of [
        ["viewer's", { role: "viewer", scope: null, expiresAtMs: null }],
        [signed(secret, { sub: "owner" }), { role: "client", subject: "jwt:owner@", scope: null }],
        [
          signed(secret, { role: "operator", session: "s-1" }),
          { role: "operator", scope: { session: "s-1", processId: null } }
        ]
      ] as const) {
        const { client } = yield* as(token)
        const grant = yield* client.ask("session/grant")
        assert.containSubset(grant, expected)
        assert.match(grant.session, /^s-[0-9a-f]{8}$/)
        if (expected.scope === null && token !== "viewer's") assert.isAbove(grant.expiresAtMs, Date.now())
      }
    })
  )
})

describe("lists", () => {
  it.scopedLive("show a client its own session, viewers and operators all of them", () =>
    Effect.gen(function* () {
      const { as } = yield* server
      const { client: of } = yield* as(signed(secret, { sub: "owner" }), { resumeSessionId: null, name: "build" })
      yield* of.start("p", ["sleep", "1000"], { tty: true, size: { rows: 7, cols: 70 }, cwd: "/tmp" })
      const { client: other } = yield* as(signed(secret, {}))
      yield* other.start("q", ["true"])
      yield* other.closed("q")
      const { sessions } = yield* of.ask("session/list")
      assert.strictEqual(sessions.length, 1)
      assert.match(sessions[0].session, /^s-[0-9a-f]{8}$/)
      assert.containSubset(sessions, [
        {
          name: "build",
          clientName: "test",
          subject: "jwt:owner@",
          state: "attached",
          expiresAtMs: null,
          processes: 1,
          running: 1,
          own: true
        }
      ])
      for (const token of ["viewer's", "operator's"]) {
        const { client } = yield* as(token)
        const all = (yield* client.ask("session/list")).sessions
        assert.containSubset(all, [
          { name: "build", own: false, running: 1 },
          { name: null, subject: "jwt:someone@", own: false, processes: 1, running: 0 },
          { own: true, processes: 0 }
        ])
        const { processes } = yield* client.ask("process/list", { session: "*" })
        assert.containSubset(processes, [
          {
            session: sessions[0].session,
            processId: "p",
            cwd: "/tmp",
            size: { rows: 7, cols: 70 },
            restarts: 0,
            outputBytes: 0,
            lastOutputAtMs: null
          },
          { processId: "q", running: false }
        ])
        assert.lengthOf((yield* client.ask("process/list")).processes, 0)
      }
      assert.lengthOf((yield* of.ask("process/list", { session: "*" })).processes, 1)
    })
  )

  it.scopedLive("say when a detached session ends", () =>
    Effect.gen(function* () {
      const { as } = yield* server
      for (const [sessionTtlMs, expires] of [
        [60_000, true],
        [null, false]
      ] as const) {
        const { client: of } = yield* as(signed(secret, { sub: "owner" }), { sessionTtlMs })
        of.carrier.close()
        yield* of.ended()
        const { client } = yield* as("viewer's")
        const before = Date.now()
        const detached = (yield* client.ask("session/list")).sessions.filter(
          ({ state }: { readonly state: string }) => state === "detached"
        )
        const { expiresAtMs } = detached.at(-1)
        if (expires) assert.closeTo(expiresAtMs, before + 60_000, 10_000)
        else assert.isNull(expiresAtMs)
      }
    })
  )
})

describe("session/end", () => {
  it.scopedLive("of the own session answers, and then closes the connection", () =>
    Effect.gen(function* () {
      const { as } = yield* server
      const { client, sessionId } = yield* as(signed(secret, { sub: "owner" }))
      yield* client.start("p", ["sleep", "1000"])
      const [{ session }] = (yield* client.ask("session/list")).sessions
      assert.deepStrictEqual(yield* client.ask("session/end", { session }), { ended: 1 })
      assert.strictEqual((yield* client.ended()).reason, "the session was ended")
      const next = yield* as(signed(secret, { sub: "owner" }))
      const { error } = yield* (yield* connectTo((yield* server).url, {
        headers: { authorization: `Bearer ${signed(secret, {})}` }
      })).call("initialize", { clientName: "test", resumeSessionId: sessionId })
      assert.strictEqual(error.message, `unknown session id ${sessionId}`)
      assert.lengthOf((yield* next.client.ask("session/list")).sessions, 1)
    })
  )

  it.scopedLive("of a detached session ends its processes; one that is not there is unknown", () =>
    Effect.gen(function* () {
      const { as } = yield* server
      const { client: of } = yield* as(signed(secret, { sub: "owner" }))
      yield* of.start("p", ["sleep", "1000"])
      const [{ session }] = (yield* of.ask("session/list")).sessions
      of.carrier.close()
      yield* of.ended()
      const { client } = yield* as("operator's")
      assert.deepStrictEqual(yield* client.ask("session/end", { session }), { ended: 1 })
      const { error } = yield* client.call("session/end", { session })
      assert.deepStrictEqual(error, { code: -32600, message: `unknown session id ${session}` })
    })
  )
})

describe("an operator", () => {
  it.scopedLive("writes to, and reads, a process of another client, whose write ids are its own", () =>
    Effect.gen(function* () {
      const { as } = yield* server
      const { client: of } = yield* as(signed(secret, { sub: "owner" }))
      yield* of.start("p", ["cat"], { pipeStdin: true })
      const [{ session }] = (yield* of.ask("session/list")).sessions
      const { client } = yield* as("operator's")
      yield* of.write("p", "from the owner\n", { writeId: "1" })
      yield* client.write("p", "from the operator\n", { writeId: "1", session })
      yield* of.sees("p", "from the operator\n")
      const { chunks } = yield* client.ask("process/read", { processId: "p", session })
      const read = chunks
        .map(({ chunk }: { readonly chunk: string }) => Buffer.from(chunk, "base64").toString())
        .join("")
      assert.strictEqual(read, "from the owner\nfrom the operator\n")
    })
  )

  it.scopedLive("resumes a session of another subject, which nobody else may", () =>
    Effect.gen(function* () {
      const { url, as } = yield* server
      const { client: of, sessionId } = yield* as(signed(secret, { sub: "owner" }))
      of.carrier.close()
      yield* of.ended()
      const [{ session }] = (yield* (yield* as("viewer's")).client.ask("session/list")).sessions
      for (const claims of [{}, { role: "viewer" }, { role: "operator", session }]) {
        const authorization = `Bearer ${signed(secret, { sub: "other", ...claims })}`
        const client = yield* connectTo(url, { headers: { authorization } })
        const { error } = yield* client.call("initialize", { clientName: "test", resumeSessionId: sessionId })
        assert.strictEqual(error.message, `unknown session id ${sessionId}`, JSON.stringify(claims))
      }
      const { sessionId: resumed } = yield* as("operator's", { resumeSessionId: sessionId, takeover: true })
      assert.strictEqual(resumed, sessionId)
    })
  )
})

describe("tokens", () => {
  it.scopedLive("with a claim that makes no sense are refused", () =>
    Effect.gen(function* () {
      const { url } = yield* server
      const metrics = `${url.replace("ws", "http")}/metrics`
      const status = (claims: object) =>
        Effect.map(
          answer(metrics, "GET", { authorization: `Bearer ${signed(secret, claims)}` }),
          ({ status }) => status
        )
      for (const claims of [
        { role: "admin" },
        { role: 1 },
        { session: "s-1" },
        { processId: "p", role: "viewer" },
        { role: "viewer", session: 1 },
        { role: "viewer", session: "s-1", processId: 1 }
      ]) {
        assert.strictEqual(yield* status(claims), 401, JSON.stringify(claims))
      }
      assert.strictEqual(yield* status({ role: "viewer" }), 200)
      // The figures are those of all sessions.
      assert.strictEqual(yield* status({ role: "viewer", session: "s-1" }), 403)
    })
  )

  it.scopedLive(
    "of operators and viewers are for servers that ask for no other token, too; a wrong one is refused there",
    () =>
      Effect.gen(function* () {
        const folder = yield* directory
        const file = join(folder, "operator")
        writeFileSync(file, "operator's", { mode: 0o600 })
        const { url, connect } = yield* webSocketServer({ args: ["--console-token-file", file] })
        const client = yield* connect
        yield* client.handshake()
        const operator = yield* connectTo(url, { headers: { authorization: "Bearer operator's" } })
        yield* operator.handshake()
        assert.lengthOf((yield* operator.ask("session/list")).sessions, 2)
        assert.lengthOf((yield* client.ask("session/list")).sessions, 1)
        const page = url.replace("ws", "http")
        assert.strictEqual((yield* answer(page, "GET", { authorization: "Bearer wrong" })).status, 401)
      })
  )

  it.scopedLive("may be a subprotocol, for browsers; only the first one is answered, and never a token", () =>
    Effect.gen(function* () {
      const { url } = yield* server
      const token = `bearer.${Buffer.from("viewer's").toString("base64url")}`
      const { WebSocket } = yield* Effect.promise(() => import("ws"))
      const open = (protocols: ReadonlyArray<string>) =>
        Effect.async<string>((resume) => {
          const ws = new WebSocket(url, [...protocols])
          ws.once("open", () => {
            resume(Effect.succeed(ws.protocol))
            ws.terminate()
          })
          ws.on("error", (error) => resume(Effect.succeed(error.message)))
        })
      assert.strictEqual(yield* open(["exec-server.v1", token]), "exec-server.v1")
      assert.include(yield* open([token]), "no subprotocol")
      assert.include(yield* open(["exec-server.v1", "bearer.d3Jvbmc"]), "401")
      assert.include(yield* open(["exec-server.v1"]), "401")
    })
  )

  it.scopedLive("of operators and viewers must differ, and need a listener", () =>
    Effect.gen(function* () {
      const folder = yield* directory
      const file = join(folder, "token")
      writeFileSync(file, "same", { mode: 0o600 })
      const same = yield* launch({
        args: ["--listen", "ws://127.0.0.1:0", "--console-token-file", file, "--console-viewer-token-file", file]
      })
      assert.strictEqual(yield* same.exit, 1)
      assert.include(same.stderr(), "operators and viewers have the same token")
      const stdio = yield* launch({ args: ["--console-token-file", file] })
      assert.strictEqual(yield* stdio.exit, 2)
      assert.include(stdio.stderr(), "--console-token-file requires a WebSocket listener, not stdio")
    })
  )
})
