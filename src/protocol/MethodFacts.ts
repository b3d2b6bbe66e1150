/**
 * Properties of a method beyond its payloads. They are given where the method is defined: `request` does not compile
 * without them.
 *
 * @since 0.1.0
 */
import * as Rpc from "@effect/rpc/Rpc"
import * as Context from "effect/Context"
import type * as Schema from "effect/Schema"
import { Failure } from "./Failure.js"

/**
 * The groups of methods, by the original's words. All but `handshake` need a connection that has sent `initialize` and
 * `initialized`.
 *
 * @category models
 */
export type Family =
  | "handshake"
  | "exec"
  | "http"
  | "environment info"
  | "filesystem"
  | "environment config"
  | "capability discovery"
  | "session"

/**
 * `always`: the method is idempotent. `withWriteId`: idempotent if the request has a `writeId`.
 *
 * @category models
 */
export type Repeatability = "never" | "always" | "withWriteId"

/**
 * The permission that a method requires; `session/Access` maps roles to permissions.
 *
 * - `open`: none.
 * - `use`: use the server's machine: start processes, read and write files, make HTTP requests.
 * - `list`: list sessions and their processes, sample what they use, and read recordings.
 * - `view`: read the output and the state of a process.
 * - `control`: change a process.
 * - `manage`: end a session, and record and share its processes.
 *
 * @category models
 */
export type Access = "open" | "use" | "list" | "view" | "control" | "manage"

/**
 * What is true of a request.
 *
 * @category models
 */
export interface Facts {
  /** The group of methods it belongs to. */
  readonly family: Family
  /** The required permission. */
  readonly access: Access
  /** Whether a client may retry a request on its next connection if the response was lost. */
  readonly repeatable: Repeatability
  /**
   * Whether the response may be large. While the peer is congested such a request waits and later requests overtake it,
   * so its method must only read state.
   */
  readonly largeAnswer: boolean
  /**
   * Whether the response may come late, because of work whose size the client cannot know, or whenever something
   * happens that the request waits for. Absent: it comes soon.
   */
  readonly answered?: "late" | "whenever" | "wheneverWithWaitMs"
}

/**
 * The annotation of a request with its facts.
 *
 * @category tags
 */
export class MethodFacts extends Context.Tag("exec-server/MethodFacts")<MethodFacts, Facts>() {}

/**
 * The type of a request with facts. A request without them does not compile where they are read.
 *
 * @category models
 */
export interface WithFacts {
  readonly annotations: Context.Context<MethodFacts>
}

/**
 * Defines a request: its name, its facts, its parameters and its result. It fails with any `Failure`.
 *
 * @category constructors
 */
export const request = <const Tag extends string, Payload extends Schema.Schema.Any, Success extends Schema.Schema.Any>(
  tag: Tag,
  { payload, success, ...facts }: Facts & { readonly payload: Payload; readonly success: Success }
) =>
  // `annotate` would lose their type.
  Object.assign(Rpc.make(tag, { payload, success, error: Failure }), { annotations: Context.make(MethodFacts, facts) })
