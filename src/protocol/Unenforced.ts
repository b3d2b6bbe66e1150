/**
 * Fields that restrict a request and that this server cannot enforce. It declares them so that it can refuse a request
 * that sets one, instead of running it without the restriction.
 *
 * @since 0.1.0
 */
import { isRecord } from "effect/Predicate"
import * as Schema from "effect/Schema"
import { NotAllowed } from "./Failure.js"
import { Flag, maybe } from "./Schemas.js"

/** Any JSON value; `null` and `false` count as not set. */
const AnyValue = maybe(Schema.Unknown)

/** On every request that takes a `sandbox`. */
export const policyFields = {
  /** The form of the sandbox in April 2026. Accepted only if it restricts nothing; `sandbox` replaced it. */
  sandboxPolicy: AnyValue
}

/** On `process/start` (current). Any value except `null` and `false` is refused. */
export const startFields = {
  /** Restricts the network to a proxy that the original runs. */
  enforceManagedNetwork: maybe(Flag),
  /** What such a process may reach besides the proxy. */
  managedNetwork: AnyValue,
  /** The proxy and its rules. */
  networkProxy: AnyValue,
  /** Functions, aliases and options of a login shell to restore in the process. */
  shellSnapshot: AnyValue
}

/** The fields above, as a request has them. */
export interface Fields {
  readonly sandboxPolicy?: unknown
  readonly enforceManagedNetwork?: unknown
  readonly managedNetwork?: unknown
  readonly networkProxy?: unknown
  readonly shellSnapshot?: unknown
}

/** The name of a `sandboxPolicy`: the string itself, or its `type` or `mode`, lower case without `-` and `_`. */
const policyName = (policy: unknown): string => {
  const name = isRecord(policy) ? (policy["type"] ?? policy["mode"]) : policy
  return typeof name === "string" ? name.replaceAll(/[-_]/g, "").toLowerCase() : ""
}

/** Whether a policy restricts nothing. An external sandbox restricts the network unless it enables it. */
const isFullAccess = (policy: unknown, what: "files" | "everything"): boolean => {
  const name = policyName(policy)
  if (name !== "externalsandbox") return name === "dangerfullaccess"
  const network = isRecord(policy) ? (policy["network_access"] ?? policy["networkAccess"]) : undefined
  return what === "files" || network === "enabled"
}

/** What to do instead of setting a field. */
const advice = {
  sandboxPolicy: "describe the restrictions in `sandbox`, which is enforced",
  enforceManagedNetwork: 'send false, and restrict the network with `"network":"restricted"` in `sandbox`',
  managedNetwork: 'send null, and restrict the network with `"network":"restricted"` in `sandbox`',
  networkProxy: "send null, and give the process the variables of a proxy in `env`",
  shellSnapshot: "send null, and start a login shell where its settings are needed"
} as const

/**
 * The refusal of the first field that is set; undefined if there is none. `what` is what the request uses: `files` for
 * file requests, where a restricted network does not matter.
 */
export const refusal = (fields: Fields, what: "files" | "everything"): NotAllowed | undefined => {
  for (const member of Object.keys(advice) as ReadonlyArray<keyof typeof advice>) {
    const value = fields[member]
    if (value === undefined || value === null || value === false) continue
    if (member === "sandboxPolicy" && isFullAccess(value, what)) continue
    return new NotAllowed({ message: `this server cannot carry out \`${member}\`: ${advice[member]}` })
  }
  return undefined
}
