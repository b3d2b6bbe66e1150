/**
 * Serves `/mcp` with the sessions of this server: each subject that calls has one, with the sandboxes, limits and
 * switches of any other.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as ExecClient from "../client/ExecClient.js"
import * as Environment from "../environment/Environment.js"
import * as Http from "../mcp/Http.js"
import { type Source, thisMachine } from "../mcp/Machines.js"
import type { ServerConfig } from "../server/ServerConfig.js"
import type { Handlers } from "../session/Handlers.js"
import { SessionRegistry } from "../session/SessionRegistry.js"
import { McpRoute } from "../transport/McpRoute.js"

/** The name of these clients in lists and in the audit log. */
const clientName = "mcp"

/** What commands have printed is kept by what answers: their sessions need not keep it too. */
const retention = 0

/** What answers `/mcp`, for the settings. */
export const layer = (config: ServerConfig): Layer.Layer<never, never, SessionRegistry | Handlers> =>
  Layer.scoped(
    McpRoute,
    Effect.gen(function* () {
      const registry = yield* SessionRegistry
      const context = yield* Effect.context<SessionRegistry | Handlers>()
      const run = yield* FiberSet.makeRuntime<never>()
      const sourceOf = (subject: string): Source => ({
        id: "server",
        host: thisMachine(),
        connect: ExecClient.connectInProcess({ clientName, peer: clientName, subject, retention }).pipe(
          Effect.map((client) => Environment.of("server", true, client)),
          Effect.mapInputContext((scope: Context.Context<Scope.Scope>) => Context.merge(context, scope))
        )
      })
      const answer = yield* Http.make({
        sourceOf,
        tools: config.allowFiles ? "all" : "exec",
        login: false,
        idleMs: config.mcpIdleMs,
        maxPrincipals: config.maxSessions,
        maxSessions: config.maxSessions,
        onError: (message) => run(Effect.logDebug("a request to /mcp was refused", message))
      })
      const { requestBudget } = registry
      return {
        admit: (bytes) => {
          if (!requestBudget.hasRoomFor(bytes, 0)) return requestBudget.refusal.message
          requestBudget.change(bytes)
          return () => requestBudget.change(-bytes)
        },
        answer: ({ grant, owner }, request, body) =>
          registry.admit(owner).pipe(
            Effect.zipRight(answer({ subject: grant.id, expiresAtMs: grant.expiresAtMs }, request, body)),
            Effect.catchTag("NotAllowed", ({ message }) =>
              Effect.succeed(new Response(`${message}\n`, { status: 403 }))
            )
          )
      }
    })
  )
