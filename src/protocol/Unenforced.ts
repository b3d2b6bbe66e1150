/**
 * Members that restrict a request and that this server has no means to enforce. They are declared so that a request
 * which relies on them is refused, and does not run without them.
 *
 * @since 0.1.0
 */
import { isRecord } from "effect/Predicate"
import * as Schema from "effect/Schema"
import { NotAllowed } from "./Failure.js"
import { Flag, maybe } from "./Schemas.js"

/** Any JSON value; `null` and `false` ask for nothing. */
const Asked = maybe(Schema.Unknown)

/** On every request that takes a `sandbox`. */
export const policyFields = {
  /** The sandbox of April 2026. Only one that restricts nothing is accepted; `sandbox` is what is enforced. */
  sandboxPolicy: Asked
}

/** On `process/start` (now). All are refused, but for `null` and `false`. */
export const startFields = {
  /** The network only through a proxy that the original runs. */
  enforceManagedNetwork: maybe(Flag),
  /** What such a process may reach beside the proxy. */
  managedNetwork: Asked,
  /** The proxy, and what it lets through. */
  networkProxy: Asked,
  /** Functions, aliases and options of a login shell, to be restored in the process. */
  shellSnapshot: Asked
}

/** What of these a request may have; absent ones ask for nothing. */
export interface Fields {
  readonly sandboxPolicy?: unknown
  readonly enforceManagedNetwork?: unknown
  readonly managedNetwork?: unknown
  readonly networkProxy?: unknown
  readonly shellSnapshot?: unknown
}

/** What a policy of April 2026 is called: as a text, or by its `type` or `mode`; without hyphens and case. */
const policyName = (policy: unknown): string => {
  const name = isRecord(policy) ? (policy["type"] ?? policy["mode"]) : policy
  return typeof name === "string" ? name.replaceAll(/[-_]/g, "").toLowerCase() : ""
}

/** Whether a policy leaves a request as it is. An external sandbox restricts the network unless it says otherwise. */
const isFullAccess = (policy: unknown, what: "files" | "everything"): boolean => {
  const name = policyName(policy)
  if (name !== "externalsandbox") return name === "dangerfullaccess"
  const network = isRecord(policy) ? (policy["network_access"] ?? policy["networkAccess"]) : undefined
  return what === "files" || network === "enabled"
}

/** What to do instead, by member. */
const advice = {
  sandboxPolicy: "describe the restrictions in `sandbox`, which is enforced",
  enforceManagedNetwork: 'send false, and restrict the network with `"network":"restricted"` in `sandbox`',
  managedNetwork: 'send null, and restrict the network with `"network":"restricted"` in `sandbox`',
  networkProxy: "send null, and give the process the variables of a proxy in `env`",
  shellSnapshot: "send null, and start a login shell where its settings are needed"
} as const

/** The refusal of the first member that asks for something this server does not do; undefined if there is none. */
export const refusal = (fields: Fields, what: "files" | "everything"): NotAllowed | undefined => {
  for (const member of Object.keys(advice) as ReadonlyArray<keyof typeof advice>) {
    const value = fields[member]
    if (value === undefined || value === null || value === false) continue
    if (member === "sandboxPolicy" && isFullAccess(value, what)) continue
    return new NotAllowed({ message: `this server cannot carry out \`${member}\`: ${advice[member]}` })
  }
  return undefined
}
