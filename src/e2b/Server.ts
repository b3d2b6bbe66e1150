/**
 * An HTTP server with the interfaces of E2B: that of a sandbox, and as much of the control plane as its clients need.
 *
 * @since 0.1.0
 */
import type { IncomingMessage, ServerResponse } from "node:http"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as FiberSet from "effect/FiberSet"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { Environment } from "../environment/Environment.js"
import * as Listener from "../transport/Listener.js"
import type * as Tls from "../transport/Tls.js"
import type { ListenError } from "../transport/Transport.js"
import { Access } from "./Access.js"
import { Bodies } from "./Bodies.js"
import * as Connect from "./Connect.js"
import * as ControlPlane from "./ControlPlane.js"
import { type Failure, fail } from "./Failure.js"
import * as FilesystemService from "./FilesystemService.js"
import * as FileTransfer from "./FileTransfer.js"
import type { Method } from "./Methods.js"
import type { Place } from "./Place.js"
import * as ProcessService from "./ProcessService.js"
import * as Sandboxes from "./Sandboxes.js"

/** How long a connection may take until its first request is accepted, in milliseconds. */
const acceptWithinMs = 10_000

/** How long the head of a request may take, and a connection be idle, in milliseconds. */
const headersMs = 20_000
const idleMs = 75_000

/** The most connections at a time. */
const maxConnections = 1024

/** Options of the server. */
export interface Options {
  readonly address: Listener.Address
  readonly tls: Tls.Files | undefined
  /** The token of clients; undefined if the server is for its own user alone. */
  readonly token: string | undefined
  readonly environment: Environment
  readonly place: Place
}

const methods = new Map(Object.entries<Method>({ ...ProcessService.methods, ...FilesystemService.methods }))

const queryOf = ({ url = "" }: IncomingMessage): URLSearchParams =>
  new URLSearchParams(url.includes("?") ? url.slice(url.indexOf("?")) : "")

/** Answers in the way of envd's own requests, and of the control plane. */
const answerJson = (response: ServerResponse, status: number, body: object): void => {
  const text = JSON.stringify(body)
  response
    .writeHead(status, { "content-type": "application/json", "content-length": Buffer.byteLength(text) })
    .end(text)
}

/** Serves until the scope closes. Returns the URL. */
export const serve = (options: Options): Effect.Effect<string, ListenError, Scope.Scope> =>
  Effect.gen(function* () {
    const { address, tls, token, environment, place } = options
    const access = new Access(token)
    const bodies = new Bodies()
    const sandboxes = yield* Sandboxes.make(environment, place)
    const plane = ControlPlane.make(sandboxes, token)
    const fork = yield* FiberSet.makeRuntime<never>()

    /** Lets the connection of a request stay, if it passes a check. */
    const admit = (request: IncomingMessage, check: Effect.Effect<void, Failure>) =>
      Effect.map(check, () => pending.accepted(request.socket))

    const rpc = (method: Method, request: IncomingMessage, response: ServerResponse, sandbox: Sandboxes.Sandbox) => {
      const isStream = method.kind !== "unary"
      if (!Connect.isServed(request, isStream))
        return Effect.sync(() => Connect.refuseType(request, response, isStream))
      const answers = new Connect.Answers(response)
      const timeoutMs = Connect.timeoutMsOf(request)
      const onFailure = (failure: Failure) =>
        isStream ? answers.end(failure) : Connect.answer(response, Either.left(failure))
      if (Either.isLeft(timeoutMs)) return Effect.sync(() => onFailure(timeoutMs.left))
      const call = { sandbox, request, timeoutMs: timeoutMs.right }
      const served = (): Effect.Effect<void, Failure> => {
        switch (method.kind) {
          case "unary":
            return bodies.using(request, (body) =>
              Connect.decodeUnary(request, method.schema, body).pipe(
                Effect.flatMap((given) => method.handle(given, call)),
                Effect.map((result) => Connect.answer(response, Either.right(result)))
              )
            )
          case "answering":
            return bodies
              .using(request, (body) => Connect.decodeOne(request, method.schema, body))
              .pipe(Effect.flatMap((given) => method.handle(given, call, answers)))
          case "taking":
            return Effect.map(method.handle(Connect.messages(request, method.schema), call), (result) => {
              answers.send(Connect.message(result))
              answers.end()
            })
        }
      }
      return Effect.catchAll(served(), (failure) => Effect.sync(() => onFailure(failure)))
    }

    const transfer = (sandbox: Sandboxes.Sandbox, request: IncomingMessage, response: ServerResponse) => {
      const query = queryOf(request)
      const given = { sandbox, request, query }
      switch (request.method) {
        case "GET":
        case "HEAD":
          return Effect.zipRight(
            admit(request, access.authenticateFile(request, query, "read")),
            FileTransfer.download(given, response)
          )
        case "POST":
          return Effect.zipRight(
            admit(request, access.authenticateFile(request, query, "write")),
            Effect.map(FileTransfer.upload(given), (written) => answerJson(response, 200, written))
          )
        default:
          return fail("invalid_argument", "/files takes GET and POST")
      }
    }

    const control = (path: string, request: IncomingMessage, response: ServerResponse) =>
      Effect.zipRight(
        admit(request, access.authenticate(request)),
        bodies.using(request, (body) =>
          Effect.map(
            plane.answer({ method: request.method ?? "GET", path, query: queryOf(request), body }),
            ({ status, body }) => {
              if (body === undefined) response.writeHead(status).end()
              else answerJson(response, status, body)
            }
          )
        )
      )

    const inSandbox = (
      path: string,
      request: IncomingMessage,
      response: ServerResponse
    ): Effect.Effect<void, Failure> => {
      const id = request.headers["e2b-sandbox-id"]
      const sandbox = sandboxes.find(typeof id === "string" ? id : undefined)
      if (sandbox === undefined) {
        const body = { sandboxId: id, message: "The sandbox was not found", code: 502 }
        return Effect.sync(() => answerJson(response, 502, body))
      }
      if (path === "/health") return Effect.sync(() => void response.writeHead(204).end())
      if (path === "/files") return transfer(sandbox, request, response)
      const method = methods.get(path)
      if (method === undefined) return fail("not_found", `there is nothing at ${path.slice(0, 200)}`)
      if (request.method !== "POST") return fail("invalid_argument", `${path} takes POST`)
      return Effect.zipRight(admit(request, access.authenticate(request)), rpc(method, request, response, sandbox))
    }

    const handle = (request: IncomingMessage, response: ServerResponse): Effect.Effect<void> => {
      const path = (request.url ?? "").split("?", 1)[0] ?? ""
      const onFailure = (failure: Failure) => {
        if (response.headersSent) return void response.destroy()
        // What is left of its body is not read.
        if (!request.complete) response.setHeader("connection", "close")
        if (methods.has(path)) return Connect.answer(response, Either.left(failure))
        const status = FileTransfer.statusOf(failure)
        return answerJson(response, status, { code: status, message: failure.message })
      }
      return access.local(request).pipe(
        Effect.zipRight(plane.isOwn(path) ? control(path, request, response) : inSandbox(path, request, response)),
        Effect.catchAllCause((cause) =>
          Option.match(Cause.failureOption(cause), {
            onNone: () =>
              Cause.isInterruptedOnly(cause)
                ? Effect.void
                : Effect.zipRight(
                    Effect.logError(`${path} died`, cause),
                    Effect.sync(() => onFailure(fail("internal", "the server failed; its log says why")))
                  ),
            onSome: (failure) => Effect.sync(() => onFailure(failure))
          })
        )
      )
    }

    const { server, url, pending } = yield* Listener.listen(address, {
      tls,
      acceptWithinMs,
      onRequest: (request, response) => {
        response.on("error", () => {})
        fork(Effect.suspend(() => handle(request, response)))
      }
    })
    server.maxConnections = maxConnections
    server.headersTimeout = headersMs
    server.keepAliveTimeout = idleMs
    return url.replace(/^ws/, "http")
  })
