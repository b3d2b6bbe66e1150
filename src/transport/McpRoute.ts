/**
 * What `/mcp` answers, on transports that serve HTTP: tools for agents, by the Model Context Protocol.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type { Peer } from "../session/Peer.js"

/**
 * Answers requests to `/mcp`.
 *
 * @category models
 */
export interface Route {
  /** Counts the bytes of a request that has arrived until the returned function is called; a text if it is refused. */
  readonly admit: (bytes: number) => (() => void) | string
  /** Answers a request of an authenticated client. The signal of the request is aborted when its response has ended. */
  readonly answer: (client: Pick<Peer, "grant" | "owner">, request: Request, body: unknown) => Effect.Effect<Response>
}

/**
 * What answers `/mcp`. By default nothing does, and it is not found.
 *
 * @category tags
 */
export class McpRoute extends Context.Reference<McpRoute>()("exec-server/McpRoute", {
  defaultValue: (): Route | undefined => undefined
}) {}
