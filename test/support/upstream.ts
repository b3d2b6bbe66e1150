/** HTTP servers that the server under test sends requests to, and the client's view of an exchange. */
import { readFileSync } from "node:fs"
import * as Http from "node:http"
import * as Https from "node:https"
import { type AddressInfo, createServer, type Socket } from "node:net"
import { fileURLToPath } from "node:url"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Json, TestClient } from "./TestClient.js"

/** A request as it arrived. Names and values of headers alternate. */
export interface Arrived {
  readonly method: string
  readonly url: string
  readonly headers: ReadonlyArray<string>
  readonly body: string
}

/** A server that receives the requests of the server under test. */
export interface Upstream {
  readonly url: string
  readonly port: number
  readonly arrived: ReadonlyArray<Arrived>
  /** The number of connections so far. */
  readonly connections: () => number
  /** The number of open connections. */
  readonly open: () => number
}

const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url))

/** The self-signed certificate of `upstream.test`. */
export const certificate = fixture("upstream.crt.pem")

const listening = (
  server: Http.Server | Https.Server | ReturnType<typeof createServer>,
  scheme: string,
  arrived: ReadonlyArray<Arrived>
): Effect.Effect<Upstream, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.async<Upstream & { readonly end: () => void }>((resume) => {
      const sockets = new Set<Socket>()
      let connections = 0
      server.on("connection", (socket: Socket) => {
        connections++
        sockets.add(socket)
        socket.on("error", () => {})
        socket.once("close", () => sockets.delete(socket))
      })
      server.listen(0, "127.0.0.1", () => {
        const { port } = server.address() as AddressInfo
        const end = () => {
          server.close()
          for (const socket of sockets) socket.destroy()
        }
        const url = `${scheme}://127.0.0.1:${port}`
        resume(Effect.succeed({ url, port, arrived, connections: () => connections, open: () => sockets.size, end }))
      })
    }),
    ({ end }) => Effect.sync(end)
  )

const recording =
  (arrived: Array<Arrived>, respond: (response: Http.ServerResponse, arrived: Arrived) => void): Http.RequestListener =>
  (request, response) => {
    let body = ""
    request.on("data", (chunk) => {
      body += chunk
    })
    request.on("end", () => {
      const one = { method: request.method ?? "", url: request.url ?? "", headers: request.rawHeaders, body }
      arrived.push(one)
      respond(response, one)
    })
  }

/** An HTTP server. */
export const upstream = (respond: (response: Http.ServerResponse, arrived: Arrived) => void) =>
  Effect.suspend(() => {
    const arrived: Array<Arrived> = []
    return listening(Http.createServer(recording(arrived, respond)), "http", arrived)
  })

/** An HTTPS server whose certificate is not trusted by default. */
export const secureUpstream = (respond: (response: Http.ServerResponse, arrived: Arrived) => void) =>
  Effect.suspend(() => {
    const arrived: Array<Arrived> = []
    const tls = { key: readFileSync(fixture("upstream.key.pem")), cert: readFileSync(certificate) }
    return listening(Https.createServer(tls, recording(arrived, respond)), "https", arrived)
  })

/** A server that answers the first bytes of each connection in any way, HTTP or not. */
export const rawUpstream = (answer: (socket: Socket) => void) =>
  listening(
    createServer((socket) => socket.once("data", () => answer(socket))),
    "http",
    []
  )

/** The values of a header, in order of arrival. */
export const valuesOf = ({ headers }: Arrived, name: string): ReadonlyArray<string> =>
  headers.filter((_, i) => i % 2 === 1 && headers[i - 1]?.toLowerCase() === name)

/** Parameters of `http/request`. */
export const httpParams = (url: string, more: object = {}) => ({ method: "GET", url, requestId: "r", ...more })

/** The result of an exchange that is not streamed, with its body as text. */
export const fetched = (client: TestClient, url: string, more: object = {}): Effect.Effect<Json> =>
  Effect.map(client.ask("http/request", httpParams(url, more)), ({ bodyBase64, ...rest }) => ({
    ...rest,
    body: Buffer.from(bodyBase64, "base64").toString()
  }))

/** The error of an exchange that must fail. */
export const refused = (client: TestClient, url: string, more: object = {}): Effect.Effect<Json> =>
  Effect.map(client.call("http/request", httpParams(url, more)), ({ error }) => error)

/** Requests a streamed response; returns its result. */
export const opened = (client: TestClient, url: string, more: object = {}): Effect.Effect<Json> =>
  client.ask("http/request", httpParams(url, { streamResponse: true, ...more }))

/** The notifications of a stream so far. */
export const deltas = (client: TestClient, requestId = "r"): ReadonlyArray<Json> =>
  client.messages
    .filter((m) => m.method === "http/request/bodyDelta" && m.params.requestId === requestId)
    .map((m) => m.params)

/** Waits for the last notification of a stream, and checks their order; returns the body and its error. */
export const streamed = (client: TestClient, requestId = "r"): Effect.Effect<{ body: Buffer; error: string | null }> =>
  Effect.map(
    client.notified("http/request/bodyDelta", (params) => params.requestId === requestId && params.done),
    ({ error }) => {
      const all = deltas(client, requestId)
      assert.deepStrictEqual(
        all.map(({ seq, done }) => [seq, done]),
        all.map((_, i) => [i + 1, i === all.length - 1])
      )
      for (const delta of all) {
        assert.hasAllKeys(delta, ["requestId", "seq", "deltaBase64", "done", "error"])
        if (!delta.done) assert.isNull(delta.error)
      }
      assert.strictEqual(all[all.length - 1].deltaBase64, "")
      return { body: Buffer.concat(all.map(({ deltaBase64 }) => Buffer.from(deltaBase64, "base64"))), error }
    }
  )
