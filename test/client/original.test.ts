/** Servers of the original say less than ours: the client takes what they leave out for what it means there. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { type WebSocket, WebSocketServer } from "ws"
import * as ExecClient from "../../src/client/ExecClient.js"
import { bytesOf } from "../../src/client/HeadTail.js"

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

/** What 0.169 was seen to answer. */
const answers: Record<string, unknown> = {
  initialize: { sessionId: "96cdcf6a-07a0-4ca0-aa9f-e303f87b879c", environmentInfo },
  "process/start": { processId: "p", sandboxType: "none" },
  "process/write": { status: "accepted" },
  "process/read": read
}

const serve = (ws: WebSocket) => {
  ws.on("message", (data) => {
    const { id, method } = JSON.parse(String(data))
    if (id === undefined) return
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

const original = Effect.acquireRelease(
  Effect.async<WebSocketServer>((resume) => {
    const server = new WebSocketServer({ host: "127.0.0.1", port: 0 })
    server.on("connection", serve)
    server.once("listening", () => resume(Effect.succeed(server)))
  }),
  (server) => Effect.sync(() => server.close())
)

describe("a server of the original", () => {
  it.scopedLive("runs a process for the client, and is read", () =>
    Effect.gen(function* () {
      const server = yield* original
      const { port } = server.address() as { readonly port: number }
      const client = yield* ExecClient.connectWebSocket({ url: `ws://127.0.0.1:${port}` })
      const process = yield* client.start({ processId: "p", argv: ["x"], cwd: "/", env: {}, pipeStdin: true })
      assert.isNull(process.pid)
      yield* process.write("x")
      const { exit, output } = yield* process.collectFor({ yieldMs: 10_000, maxBytes: 1000 })
      assert.deepInclude(exit, { exitCode: 3, signal: null })
      assert.strictEqual(bytesOf(output).toString(), "hi\n")
      const found = yield* client.call("process/read", { processId: process.processId })
      assert.deepInclude(found, { signal: null, truncated: false, droppedBytes: 0 })
    })
  )
})
