/** Servers of the original say less than ours: the client takes what they leave out for what it means there. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { type WebSocket, WebSocketServer } from "ws"
import * as ExecClient from "../../src/client/ExecClient.js"
import { bytesOf } from "../../src/client/HeadTail.js"
import type { StartOptions } from "../../src/client/Processes.js"
import type { StartParams } from "../../src/protocol/ExecApi.js"
import { failureOf } from "../support/fake.js"

const environmentInfo = {
  shell: { name: "bash", path: "/bin/bash" },
  executorVersion: "0.169.0",
  providerId: "sha256:x",
  cwd: "file:///tmp",
  userHomeDir: "file:///root",
  platformOs: "linux",
  prependPathDirs: [],
  temporaryDirectories: [],
  tempDir: "file:///tmp",
  capabilities: { networkProxyLaunch: true }
}

const read = {
  chunks: [{ seq: 1, stream: "stdout", chunk: "aGkK" }],
  nextSeq: 4,
  exited: true,
  exitCode: 3,
  closed: true,
  failure: null,
  sandboxDenied: false
}

type Answers = Record<string, unknown>

/** What 0.169 was seen to answer. */
const answers: Answers = {
  initialize: { sessionId: "96cdcf6a-07a0-4ca0-aa9f-e303f87b879c", environmentInfo },
  "process/start": { processId: "p", sandboxType: "none" },
  "process/write": { status: "accepted" },
  "process/read": read
}

const served = "served"

const restricted = {
  permissions: { type: "managed", file_system: { type: "restricted", entries: [] }, network: "restricted" },
  windowsSandboxLevel: "disabled"
} as const

/** Each member of `process/start`: the original has it, or this value would be ignored by one of its versions. */
const startMembers: { readonly [M in keyof StartParams]-?: typeof served | Exclude<StartOptions[M], undefined> } = {
  processId: served,
  argv: served,
  cwd: served,
  env: served,
  tty: served,
  arg0: served,
  pipeStdin: served,
  envPolicy: served,
  metadata: served,
  sandboxPolicy: served,
  managedNetwork: served,
  networkProxy: served,
  shellSnapshot: served,
  sandbox: restricted,
  enforceManagedNetwork: true,
  size: { rows: 1, cols: 1 },
  sizePolicy: "driver",
  screen: true,
  record: {},
  timeoutMs: 1,
  limits: { openFiles: 64 },
  restart: { policy: "always", maxRestarts: 1, withinMs: 1, backoffMs: 1, maxBackoffMs: 1 },
  prepared: true
}

const sessionId = "96cdcf6a-07a0-4ca0-aa9f-e303f87b879c"

/** What 0.133 was seen to answer of a process that has ended: the end is not counted where there is output. */
const may: Answers = {
  initialize: { sessionId },
  "process/start": { processId: "p" },
  "process/write": { status: "accepted" }
}

const mayRead = (afterSeq: number) => ({
  chunks: afterSeq < 7 ? [{ seq: 7, stream: "stdout", chunk: "aGkK" }] : [],
  nextSeq: afterSeq < 7 ? 8 : 10,
  exited: true,
  exitCode: 3,
  closed: true,
  failure: null
})

const serve = (answers: Answers, heard: Array<string>) => (ws: WebSocket) => {
  ws.on("message", (data) => {
    const { id, method, params } = JSON.parse(String(data))
    if (id === undefined) return
    heard.push(method)
    if (answers === may && method === "process/read") {
      return ws.send(JSON.stringify({ id, result: mayRead(params.afterSeq) }))
    }
    const result = answers[method]
    const message = `exec-server stub does not implement \`${method}\` yet`
    ws.send(JSON.stringify(result === undefined ? { error: { code: -32601, message }, id } : { id, result }))
    if (method !== "process/write") return
    const events = [
      ["process/output", { processId: "p", seq: 1, stream: "stdout", chunk: "aGkK" }],
      ["process/exited", { processId: "p", seq: 2, exitCode: 3, sandboxDenied: false }],
      ["process/closed", { processId: "p", seq: 3 }]
    ]
    for (const [method, params] of events) ws.send(JSON.stringify({ method, params }))
  })
}

/** A server that lets this serve its connections; returns its port. */
const listening = (onConnection: (ws: WebSocket) => void) =>
  Effect.acquireRelease(
    Effect.async<WebSocketServer>((resume) => {
      const server = new WebSocketServer({ host: "127.0.0.1", port: 0 })
      server.on("connection", onConnection)
      server.once("listening", () => resume(Effect.succeed(server)))
    }),
    (server) => Effect.sync(() => server.close())
  ).pipe(Effect.map((server) => (server.address() as { readonly port: number }).port))

/** A client of a server that answers so, and the requests that it has heard. */
const clientOf = (answers: Answers) =>
  Effect.gen(function* () {
    const heard: Array<string> = []
    const port = yield* listening(serve(answers, heard))
    return { client: yield* ExecClient.connectWebSocket({ url: `ws://127.0.0.1:${port}` }), heard }
  })

/** A server that answers what has come together a while later, and the most requests that waited for that. */
const slowly = (crowd: { waiting: number; peak: number }) => (ws: WebSocket) => {
  const held: Array<string> = []
  ws.on("message", (data) => {
    const { id, method } = JSON.parse(String(data))
    if (id === undefined) return
    if (method === "initialize") return ws.send(JSON.stringify({ id, result: answers[method] }))
    crowd.waiting++
    crowd.peak = Math.max(crowd.peak, crowd.waiting)
    held.push(JSON.stringify({ id, error: { code: -32000, message: "no" } }))
    if (held.length > 1) return
    setTimeout(() => {
      for (const text of held.splice(0)) {
        crowd.waiting--
        ws.send(text)
      }
    }, 50)
  })
}

describe("a server of the original", () => {
  it.scopedLive("is not sent more requests at once than it lets wait", () =>
    Effect.gen(function* () {
      const crowd = { waiting: 0, peak: 0 }
      const port = yield* listening(slowly(crowd))
      const client = yield* ExecClient.connectWebSocket({ url: `ws://127.0.0.1:${port}` })
      const metadata = Effect.flip(client.files.getMetadata("/"))
      const failures = yield* Effect.all(
        Array.from({ length: 300 }, () => metadata),
        { concurrency: "unbounded" }
      )
      assert.isTrue(failures.every(({ message }) => message.includes("no")))
      assert.isAtMost(crowd.peak, 64)
    })
  )

  it.scopedLive("runs a process for the client, and is read", () =>
    Effect.gen(function* () {
      const { client } = yield* clientOf(answers)
      const process = yield* client.start({ processId: "p", argv: ["x"], cwd: "/", env: {}, pipeStdin: true })
      assert.isNull(process.pid)
      yield* process.write("x")
      const { exit, output } = yield* process.collectFor({ duration: 10_000, maxBytes: 1000 })
      assert.deepInclude(exit, { exitCode: 3, signal: null })
      assert.strictEqual(bytesOf(output).toString(), "hi\n")
      const found = yield* client.call("process/read", { processId: process.processId })
      assert.deepInclude(found, { signal: null, truncated: false, droppedBytes: 0 })
    })
  )

  it.scopedLive("is known by what it tells of itself", () =>
    Effect.gen(function* () {
      const shell = { name: "bash", path: "/bin/bash" }
      const cases = [
        [answers, { paths: "uri", signals: "interrupt", fileBlockWrites: false, noFollow: true, writeIds: true }],
        [
          {
            ...answers,
            initialize: {
              sessionId,
              environmentInfo: { ...environmentInfo, capabilities: { fileWriteStreaming: true } }
            }
          },
          { paths: "uri", fileBlockWrites: true }
        ],
        // Without platform, home and version.
        [
          { ...may, "environment/info": { shell, cwd: "file:///tmp" } },
          { paths: "uri", signals: "interrupt", fileBlocks: true, noFollow: false, processSandbox: false }
        ],
        [
          { ...may, "environment/info": { shell } },
          { paths: "plain", signals: "interrupt", fileBlocks: false }
        ],
        [may, { paths: "plain", signals: "none", fileBlocks: false, writeIds: false }],
        [
          { ...answers, initialize: { protocolVersion: "exec-server.v0", sessionId, environmentInfo } },
          { paths: "any", signals: "any", extensions: true }
        ]
      ] as const
      for (const [answers, expected] of cases) {
        const { client } = yield* clientOf(answers)
        assert.deepInclude(client.features, expected)
      }
    })
  )

  it.scopedLive("of which nothing is known is asked for what it cannot leave out, and for nothing else", () =>
    Effect.gen(function* () {
      const { client, heard } = yield* clientOf(may)
      assert.isNull(client.environmentInfo.cwd)
      const process = yield* client.start({ argv: ["x"], cwd: "/", pipeStdin: true })
      const asked = heard.length
      const refused = [
        process.closeStdin,
        process.resize(1, 1),
        process.signal("SIGINT"),
        process.terminate({ type: "graceful", timeoutMs: 1 }),
        client.files.readFile("/x", { followSymlinks: false }),
        client.http.request({ url: "http://h", redirectPolicy: "stop" }),
        client.http.request({ url: "http://h", headers: [{ name: "a", value: "b", valueEnvVar: "C" }] })
      ]
      for (const effect of refused) assert.strictEqual((yield* failureOf(effect))._tag, "Unsupported")
      assert.strictEqual(heard.length, asked)
      // What nobody can know before is known from the refusal.
      assert.strictEqual((yield* failureOf(client.files.readFile("/x")))._tag, "Unsupported")
    })
  )

  it.scopedLive("is not sent what it would ignore of a start", () =>
    Effect.gen(function* () {
      const { client, heard } = yield* clientOf(may)
      const asked = heard.length
      for (const [member, value] of Object.entries(startMembers)) {
        if (value === served) continue
        const failure = yield* failureOf(client.start({ argv: ["x"], cwd: "/", [member]: value }))
        assert.strictEqual(failure._tag, "Unsupported", member)
      }
      assert.strictEqual(heard.length, asked)
    })
  )

  it.scopedLive("says nothing of what it has dropped: the numbers do", () =>
    Effect.gen(function* () {
      const { client } = yield* clientOf(may)
      const process = yield* client.attach("p")
      const events = Array.from(yield* Stream.runCollect(process.events))
      assert.deepStrictEqual(
        events.map(({ _tag }) => _tag),
        ["Missed", "Output", "Exited", "Closed"]
      )
      assert.deepInclude(events[0], { fromSeq: 1, throughSeq: 6, events: 6, bytes: 6 })
      assert.strictEqual((yield* failureOf(Stream.runDrain(process.output)))._tag, "OutputMissed")
    })
  )
})
