/** A server with scripted answers, invalid ones included. */
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type WebSocket, WebSocketServer } from "ws"
import type { Json } from "./TestClient.js"

/** A request, and its connection. */
export interface Asked {
  readonly id: number
  readonly params: Json
  readonly ws: WebSocket
  /** Sends a message; anything but text as JSON. */
  readonly say: (message: unknown) => void
}

/** Answers by method: the result, or a function that sends something else. */
export type Answers = { readonly [method: string]: (asked: Asked) => unknown }

/** The server's only session. */
export const sessionId = "00000000-0000-4000-8000-000000000000"

/** The server's result of `initialize`. */
export const hello = {
  protocolVersion: "exec-server.v0",
  sessionId,
  environmentInfo: {
    shell: { name: "sh", path: "/bin/sh" },
    executorVersion: "0",
    cwd: "file:///tmp",
    userHomeDir: "file:///tmp",
    platformOs: "linux",
    prependPathDirs: [],
    temporaryDirectories: [],
    tempDir: "file:///tmp",
    capabilities: {}
  },
  capabilities: {}
}

/** A server on a free port; returns its URL. It ends with the scope. */
export const hostileServer = (answers: Answers): Effect.Effect<string, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.async<{ readonly url: string; readonly close: Effect.Effect<void> }>((resume) => {
      const http = createServer()
      const server = new WebSocketServer({ server: http })
      const all: Answers = { initialize: () => hello, ...answers }
      server.on("connection", (ws) => {
        ws.on("error", () => {})
        const say = (message: unknown) => ws.send(typeof message === "string" ? message : JSON.stringify(message))
        ws.on("message", (data) => {
          const { id, method, params } = JSON.parse(data.toString())
          const result = all[method]?.({ id, params, ws, say })
          if (result !== undefined) say({ id, result })
        })
      })
      const close = Effect.async<void>((done) => {
        for (const ws of server.clients) ws.terminate()
        http.close(() => done(Effect.void))
      })
      http.listen(0, "127.0.0.1", () => {
        resume(Effect.succeed({ url: `ws://127.0.0.1:${(http.address() as AddressInfo).port}`, close }))
      })
    }),
    ({ close }) => close
  ).pipe(Effect.map(({ url }) => url))

/** An entry of a process list. */
export const listed = {
  processId: "p",
  pid: 1,
  argv: ["sh"],
  tty: false,
  running: true,
  exitCode: null,
  signal: null,
  startedAtMs: 0
}

/** The metadata of a file or a directory. */
export const metadata = (kind: "file" | "directory", size = 5) => ({
  isDirectory: kind === "directory",
  isFile: kind === "file",
  isSymlink: false,
  size,
  createdAtMs: 0,
  modifiedAtMs: 0
})
