/**
 * Permissions: what each role may do in which sessions. Every request is checked here before it is served.
 *
 * @since 0.1.0
 */
import { Forbidden } from "../protocol/Failure.js"
import type { Access } from "../protocol/MethodFacts.js"
import type { Grant, Role } from "./Grant.js"

/** The sessions that a permission extends to: none, the connection's own, those of its scope, or all. */
export type Reach = "none" | "own" | "scope" | "all"

/** A role, with or without a scope. */
type Kind = Role | "scoped viewer" | "scoped operator"

const table: { readonly [K in Kind]: { readonly [A in Access]: Reach } } = {
  client: { open: "all", use: "own", list: "own", view: "own", control: "own", manage: "own" },
  viewer: { open: "all", use: "none", list: "all", view: "all", control: "none", manage: "none" },
  operator: { open: "all", use: "own", list: "all", view: "all", control: "all", manage: "all" },
  "scoped viewer": { open: "all", use: "none", list: "none", view: "scope", control: "none", manage: "none" },
  "scoped operator": { open: "all", use: "none", list: "none", view: "scope", control: "scope", manage: "none" }
}

/** What each kind may do, for error messages. */
const words: { readonly [K in Kind]: string } = {
  client: "use its own session",
  viewer: "view",
  operator: "do everything",
  "scoped viewer": "view what it was made for",
  "scoped operator": "use what it was made for"
}

const kindOf = ({ role = "client", scope }: Grant): Kind =>
  scope === undefined || role === "client" ? role : `scoped ${role}`

/** The sessions in which a grant has a permission. */
export const reachOf = (grant: Grant, access: Access): Reach => table[kindOf(grant)][access]

const forbid = (grant: Grant, method: string, access: Access): Forbidden => {
  const needed = table.viewer[access] === "all" ? "viewer" : "operator"
  return new Forbidden({ message: `this token may only ${words[kindOf(grant)]} (${method} needs ${needed})` })
}

/** Why a grant may not call a method in any session; undefined if it may in some. */
export const refusal = (grant: Grant, method: string, access: Access): Forbidden | undefined =>
  reachOf(grant, access) === "none" ? forbid(grant, method, access) : undefined

/** The handle of the session that a request concerns, and the process, if any. */
export interface Target {
  readonly session?: string | undefined
  readonly processId?: string | undefined
}

/** Why a grant may not call a method on a session of others; undefined if it may. */
export const refusalOfOther = (grant: Grant, method: string, access: Access, target: Target): Forbidden | undefined => {
  const reach = reachOf(grant, access)
  const { scope } = grant
  if (reach === "all") return undefined
  const isInScope =
    scope !== undefined &&
    scope.session === target.session &&
    (scope.processId === undefined || scope.processId === target.processId)
  return reach === "scope" && isInScope ? undefined : forbid(grant, method, access)
}
