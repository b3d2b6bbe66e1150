/**
 * Requests and what is true of each beside its payloads. The facts stand at the definition of the request, and whoever
 * needs one reads it there; `request` does not compile without them.
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
 */
export type Family =
  | "handshake"
  | "exec"
  | "http"
  | "environment info"
  | "filesystem"
  | "environment config"
  | "capability discovery"

/** `always`: it changes nothing, or comes to the same the second time. `withWriteId`: the server knows the write again. */
export type Repeatability = "never" | "always" | "withWriteId"

/** What is true of a request. */
export interface Facts {
  /** The group of methods it belongs to. */
  readonly family: Family
  /** Whether a client that got no answer may send it again on its next connection to the session. */
  readonly repeatable: Repeatability
  /**
   * Whether the answer may be large. Such a request waits while its peer is congested, and others pass it; so it must
   * not change anything that a request behind it sees.
   */
  readonly largeAnswer: boolean
}

/** The annotation of a request that holds its facts. */
export class MethodFacts extends Context.Tag("exec-server/MethodFacts")<MethodFacts, Facts>() {}

/** A type of requests whose facts are known. Without them it does not compile where they are read. */
export interface WithFacts {
  readonly annotations: Context.Context<MethodFacts>
}

/** Defines a request: its name, its facts, its parameters and its result. It fails with any `Failure`. */
export const request = <const Tag extends string, Payload extends Schema.Schema.Any, Success extends Schema.Schema.Any>(
  tag: Tag,
  { payload, success, ...facts }: Facts & { readonly payload: Payload; readonly success: Success }
) =>
  // `annotate` would forget in the type that they are there.
  Object.assign(Rpc.make(tag, { payload, success, error: Failure }), { annotations: Context.make(MethodFacts, facts) })
