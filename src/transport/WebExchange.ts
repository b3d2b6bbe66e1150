/**
 * One exchange of `/mcp`: the request as a web-standard one with its body as JSON, and the response sent as its client
 * takes it. Loaded with the first one.
 *
 * @since 0.1.0
 */
import { Buffer, isUtf8 } from "node:buffer"
import type { IncomingMessage, ServerResponse } from "node:http"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Wire from "../protocol/Wire.js"
import type { Peer } from "../session/Peer.js"
import type { Route } from "./McpRoute.js"
import * as ResponseFlow from "./ResponseFlow.js"
import type { UnfinishedMessages } from "./UnfinishedMessages.js"

/** Limits of a request. */
export interface Limits {
  readonly maxMessageBytes: number
  /** How long its body may bring nothing, in milliseconds. */
  readonly idleMs: number
  readonly unfinished: UnfinishedMessages
}

/** A request that is not answered by the route, with the status and the code of JSON-RPC. */
class Refused extends Data.TaggedError("Refused")<{
  readonly status: 400 | 405 | 408 | 413 | 415 | 503
  readonly code: number
  readonly message: string
}> {}

const parseError = (why: string) => new Refused({ status: 400, code: -32700, message: `Parse error: ${why}` })

/** Reads the whole body. */
const read = (request: IncomingMessage, { maxMessageBytes, idleMs, unfinished }: Limits) =>
  Effect.async<Buffer, Refused>((resume) => {
    const tooLong = `the body is longer than maxMessageBytes (${maxMessageBytes})`
    const chunks: Array<Buffer> = []
    let bytes = 0
    const stop = () => {
      clearTimeout(timer)
      counted.finish()
      request.off("data", onData).off("end", onEnd).off("close", onGone)
    }
    const end = (body: Effect.Effect<Buffer, Refused>) => {
      stop()
      resume(body)
    }
    const fail = (status: Refused["status"], message: string) => end(new Refused({ status, code: -32000, message }))
    const onData = (chunk: Buffer) => {
      timer.refresh()
      bytes += chunk.length
      if (bytes > maxMessageBytes) return fail(413, tooLong)
      chunks.push(chunk)
      counted.grow(chunk.length)
    }
    const onEnd = () => end(Effect.succeed(Buffer.concat(chunks, bytes)))
    const onGone = () => fail(400, "the request was aborted")
    const counted = unfinished.make((reason) => fail(503, reason))
    const timer = setTimeout(() => fail(408, `no part of the body has come for ${idleMs} ms`), idleMs)
    const encoding = request.headers["content-encoding"] ?? "identity"
    if (encoding !== "identity")
      return fail(415, `the body must not be encoded, and its content-encoding is ${encoding}`)
    if (Number(request.headers["content-length"]) > maxMessageBytes) return fail(413, tooLong)
    request.on("data", onData).once("end", onEnd).once("close", onGone)
    return Effect.sync(stop)
  })

/** The JSON of a body; undefined if it is empty. */
const parse = (body: Buffer): Effect.Effect<unknown, Refused> =>
  Effect.suspend(() => {
    if (body.length === 0) return Effect.succeed(undefined)
    if (!isUtf8(body)) return parseError("the body is not valid UTF-8")
    const text = body.toString()
    const excess = Wire.excessOf(text, Wire.maxRequestValues)
    return excess === undefined
      ? Effect.try({ try: (): unknown => JSON.parse(text), catch: () => parseError("the body is not valid JSON") })
      : parseError(excess)
  })

/** Sends a response. Fails if its client is gone, or takes nothing. */
const send = ({ status, headers, body }: Response, response: ServerResponse): Effect.Effect<void, "gone"> =>
  Effect.suspend(() => {
    response.writeHead(status, { "cache-control": "no-store", ...Object.fromEntries(headers), connection: "close" })
    if (body === null) return ResponseFlow.taken("finish", response)
    // The client hears at once that it is answered.
    response.flushHeaders()
    return Effect.acquireUseRelease(
      Effect.sync(() => body.getReader()),
      (reader) => {
        const next: Effect.Effect<void, "gone"> = Effect.flatMap(
          Effect.promise(() => reader.read()),
          ({ value }) => {
            if (value === undefined) return ResponseFlow.taken("finish", response)
            if (response.destroyed) return Effect.fail("gone" as const)
            return response.write(value) ? next : Effect.zipRight(ResponseFlow.taken("drain", response), next)
          }
        )
        return next
      },
      (reader) => Effect.promise(() => reader.cancel().catch(() => {}))
    )
  })

/** Fails when the client has left. */
const left = (response: ServerResponse): Effect.Effect<never, "gone"> =>
  Effect.async((resume) => {
    const onClose = () => resume(Effect.fail("gone" as const))
    if (response.destroyed) return onClose()
    response.once("close", onClose)
    return Effect.sync(() => void response.off("close", onClose))
  })

/** The headers that the protocol reads. The token is not among them. */
const headersOf = ({ headers }: IncomingMessage): Headers =>
  new Headers(
    Object.entries(headers).flatMap(([name, value]) =>
      value !== undefined && /^(accept|content-type|last-event-id|mcp-.*)$/.test(name) ? [[name, String(value)]] : []
    )
  )

/** The methods of the protocol. */
const methods = ["GET", "POST", "DELETE"]

/** Carries out an exchange. Never fails: a client that leaves, and one that is not served any more, is cut off. */
export const serve = (
  route: Route,
  client: Pick<Peer, "grant" | "owner">,
  request: IncomingMessage,
  response: ServerResponse,
  limits: Limits
): Effect.Effect<void> => {
  const { method = "" } = request
  const abort = new AbortController()
  response.once("close", () => abort.abort())
  let release = () => {}
  const exchange = Effect.gen(function* () {
    if (!methods.includes(method)) {
      return yield* new Refused({ status: 405, code: -32000, message: `Method not allowed: ${method}` })
    }
    const bytes = method === "POST" ? yield* read(request, limits) : Buffer.alloc(0)
    const admitted = route.admit(bytes.length)
    if (typeof admitted === "string") return yield* new Refused({ status: 503, code: -32000, message: admitted })
    release = admitted
    const body = yield* parse(bytes)
    const headers = headersOf(request)
    return yield* route.answer(
      client,
      new Request("http://localhost/mcp", { method, headers, signal: abort.signal }),
      body
    )
  }).pipe(
    Effect.catchTag("Refused", ({ status, code, message }) =>
      Effect.succeed(
        Response.json(
          { jsonrpc: "2.0", error: { code, message }, id: null },
          { status, headers: status === 405 ? { allow: methods.join(", ") } : {} }
        )
      )
    )
  )
  return Effect.flatMap(exchange, (answered) => send(answered, response)).pipe(
    Effect.raceFirst(left(response)),
    Effect.raceFirst(ResponseFlow.expiry(client.grant)),
    Effect.catchAllCause(() => Effect.sync(() => response.destroy())),
    Effect.ensuring(Effect.sync(() => release())),
    Effect.asVoid
  )
}
