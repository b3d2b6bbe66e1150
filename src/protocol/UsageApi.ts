/**
 * What processes use: CPU time, memory and I/O (ours).
 *
 * @since 0.1.0
 */
import * as RpcGroup from "@effect/rpc/RpcGroup"
import * as Schema from "effect/Schema"
import { request } from "./MethodFacts.js"
import { processFields } from "./ProcessSchemas.js"
import { Count, Empty, Integer, integerBetween, nullOr, optional, Text } from "./Schemas.js"

/**
 * The shortest time between two samples, in milliseconds.
 *
 * @category constants
 */
export const minIntervalMs = 500

/** The longest one: a day. */
const maxIntervalMs = 86_400_000

/** What a process and its descendants use; see `process/usage`. */
const usageFields = {
  /** CPU time so far, in milliseconds. */
  cpuMs: Count,
  /** The sum of the resident memory of the living processes; shared pages count once for each. */
  rssBytes: Count,
  /** The number of living processes. */
  processes: Count
}

/**
 * The usage of a process in the result of `process/list`.
 *
 * @category schemas
 */
export const ListedUsage = Schema.Struct(usageFields)

/**
 * The result of `process/usage`.
 *
 * @category schemas
 */
export const ProcessUsage = Schema.Struct({
  ...usageFields,
  /** Bytes read from and written to storage. */
  readBytes: Count,
  writeBytes: Count
})
export type ProcessUsage = typeof ProcessUsage.Type

/**
 * The parameters of `usage/sample`. `atMs` is in milliseconds since 1970.
 *
 * @category schemas
 */
export const UsageSample = Schema.Struct({
  atMs: Integer,
  /** The server itself, without the processes; `eventLoopDelayMs` is the longest delay since the previous sample. */
  server: Schema.Struct({ cpuMs: Count, rssBytes: Count, eventLoopDelayMs: Count }),
  /** Processes that are alive, or have living descendants, in start order. */
  processes: Schema.Array(Schema.Struct({ session: Text, processId: Text, ...usageFields })),
  /** How many more there are; absent if all are listed. */
  omitted: optional(Count)
})
export type UsageSample = typeof UsageSample.Type

/**
 * Requests about what processes use.
 *
 * @category schemas
 */
export class UsageApi extends RpcGroup.make(
  /** Reads what a process and its descendants use now, and have used so far. */
  request("process/usage", {
    family: "exec",
    access: "view",
    repeatable: "always",
    largeAnswer: false,
    payload: Schema.Struct(processFields),
    success: ProcessUsage
  }),
  /**
   * Sends `usage/sample` notifications to this connection from now on, of all processes that the grant may list. Replaces
   * the connection's previous watch; `intervalMs: null` only ends it.
   */
  request("usage/watch", {
    family: "exec",
    access: "list",
    repeatable: "always",
    largeAnswer: false,
    payload: Schema.Struct({
      intervalMs: nullOr(integerBetween(minIntervalMs, maxIntervalMs, `from ${minIntervalMs} to ${maxIntervalMs}`))
    }),
    success: Empty
  })
) {}
