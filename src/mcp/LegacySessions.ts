/**
 * The sessions of clients that speak the Model Context Protocol as it was before 2026-07-28: over HTTP they begin with a
 * handshake, have an id, and end. What was started in a session ends with it.
 *
 * @since 0.1.0
 */
import { randomUUID } from "node:crypto"
import * as Effect from "effect/Effect"
import { parallel } from "effect/ExecutionStrategy"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import * as Scope from "effect/Scope"
import * as Disuse from "./Disuse.js"
import type { Call, Caller } from "./Principals.js"
import type { Offer, Sdk } from "./ProtocolServer.js"

/** How long a session may have no request before it ends, in milliseconds. */
const idleMs = 30 * 60_000

/** Options of `make`. */
export interface Options {
  readonly sdk: Sdk
  /** Makes the server of a session. */
  readonly makeServer: (call: Offer["call"]) => InstanceType<Sdk["Server"]>
  readonly call: Call
  /** The most sessions; beyond it, who has the most loses the one not used for longest. */
  readonly maxSessions: number
}

interface Session {
  /** Who made the last request. */
  caller: Caller
  readonly transport: InstanceType<Sdk["WebStandardStreamableHTTPServerTransport"]>
  readonly use: Disuse.Use
  /** The ids of the requests that are not answered yet. */
  readonly waiting: Set<unknown>
  readonly expiresAtMs: number
}

/** Answers a request with its body as JSON. */
export type Answer = (caller: Caller, request: Request, body: unknown) => Effect.Effect<Response>

const refuse = (status: number, code: number, message: string) =>
  Effect.succeed(
    Response.json(
      { jsonrpc: "2.0", error: { code, message }, id: null },
      { status, headers: status === 405 ? { allow: "POST" } : {} }
    )
  )

/** The ids of the requests in a body, which is a message or a batch of them. */
const requestIds = (body: unknown): ReadonlyArray<unknown> =>
  (Array.isArray(body) ? body : [body]).flatMap((message: unknown) =>
    typeof message === "object" && message !== null && "id" in message && "method" in message ? [message.id] : []
  )

/** Which session is ended for a new one: of those of the subject with the most, the one not used for longest. */
const displaced = (sessions: ReadonlyMap<string, Session>): Session | undefined => {
  const counts = new Map<string, number>()
  for (const { caller } of sessions.values()) counts.set(caller.subject, (counts.get(caller.subject) ?? 0) + 1)
  const most = Math.max(...counts.values())
  return Array.from(sessions.values()).find(({ caller }) => counts.get(caller.subject) === most)
}

/** Makes the sessions; the scope ends them. */
export const make = ({ sdk, makeServer, call, maxSessions }: Options): Effect.Effect<Answer, never, Scope.Scope> =>
  Effect.gen(function* () {
    const scope = yield* Effect.scope
    const clock = yield* Effect.clock
    const run = yield* FiberSet.makeRuntime<never>()
    /** The sessions, the one not used for longest first. */
    const sessions = new Map<string, Session>()

    const open = (caller: Caller) =>
      Effect.gen(function* () {
        const own = yield* Scope.fork(scope, parallel)
        const transport = new sdk.WebStandardStreamableHTTPServerTransport({
          sessionIdGenerator: randomUUID,
          onsessioninitialized: (id) => {
            if (sessions.size >= maxSessions) void displaced(sessions)?.transport.close()
            sessions.set(id, session)
          }
        })
        const session: Session = {
          caller,
          transport,
          use: new Disuse.Use(clock),
          waiting: new Set(),
          expiresAtMs: Number.POSITIVE_INFINITY
        }
        const server = makeServer((name, given, watch) => call(session.caller, name, given, watch, own))
        server.onclose = () => {
          sessions.delete(transport.sessionId ?? "")
          run(Scope.close(own, Exit.void))
        }
        yield* Effect.promise(() => server.connect(transport))
        const ended = Effect.zipRight(
          Disuse.over(session, idleMs),
          Effect.promise(() => transport.close())
        )
        yield* Effect.forkIn(Effect.interruptible(ended), own)
        return session
      })

    const answer = (session: Session, caller: Caller, request: Request, parsedBody: unknown) => {
      const { transport, use, waiting } = session
      const ids = requestIds(parsedBody)
      const taken = ids.find((id, index) => waiting.has(id) || ids.includes(id, index + 1))
      // The library would lose the first of the two.
      if (taken !== undefined) return refuse(400, -32600, `Invalid Request: the id ${JSON.stringify(taken)} is in use`)
      session.caller = caller
      use.enter()
      for (const id of ids) waiting.add(id)
      const leave = () => {
        use.leave()
        for (const id of ids) waiting.delete(id)
      }
      // Fires when the response has ended, however it did.
      if (request.signal.aborted) leave()
      else request.signal.addEventListener("abort", leave, { once: true })
      return Effect.promise(() => transport.handleRequest(request, { parsedBody }))
    }

    return (caller, request, body) => {
      const id = request.headers.get("mcp-session-id")
      if (id === null) {
        if (request.method !== "POST") return refuse(405, -32000, "Method not allowed: there is no session")
        if (!sdk.isInitializeRequest(body)) return refuse(400, -32000, "Bad Request: Mcp-Session-Id header is required")
        return Effect.flatMap(open(caller), (session) =>
          Effect.tap(answer(session, caller, request, body), () =>
            // A refused handshake opens nothing.
            session.transport.sessionId === undefined ? Effect.promise(() => session.transport.close()) : Effect.void
          )
        ).pipe(Effect.uninterruptible)
      }
      const session = sessions.get(id)
      // That of somebody else is as good as none.
      if (session?.caller.subject !== caller.subject) return refuse(404, -32001, "Session not found")
      sessions.delete(id)
      sessions.set(id, session)
      return answer(session, caller, request, body)
    }
  })
