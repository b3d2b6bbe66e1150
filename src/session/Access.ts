/**
 * Who may do what: a table of roles and of what methods do. Every request is checked here before it is served.
 *
 * @since 0.1.0
 */
import { Forbidden } from "../protocol/Failure.js"
import type { Access } from "../protocol/MethodFacts.js"
import type { Grant, Role } from "./Grant.js"

/** Whose sessions a grant reaches: none, its own, those of its scope, or all. */
export type Reach = "none" | "own" | "scope" | "all"

/** A role, or that of a grant with a scope. */
type Kind = Role | "scoped viewer" | "scoped operator"

const table: { readonly [K in Kind]: { readonly [A in Access]: Reach } } = {
  client: { open: "all", use: "own", list: "own", view: "own", control: "own", manage: "own" },
  viewer: { open: "all", use: "none", list: "all", view: "all", control: "none", manage: "none" },
  operator: { open: "all", use: "own", list: "all", view: "all", control: "all", manage: "all" },
  "scoped viewer": { open: "all", use: "none", list: "none", view: "scope", control: "none", manage: "none" },
  "scoped operator": { open: "all", use: "none", list: "none", view: "scope", control: "scope", manage: "none" }
}

/** What each kind may do, in words. */
const words: { readonly [K in Kind]: string } = {
  client: "use its own session",
  viewer: "view",
  operator: "do everything",
  "scoped viewer": "view what it was made for",
  "scoped operator": "use what it was made for"
}

const kindOf = ({ role = "client", scope }: Grant): Kind =>
  scope === undefined || role === "client" ? role : `scoped ${role}`

/** Whose sessions a grant reaches with methods of this kind. */
export const reachOf = (grant: Grant, access: Access): Reach => table[kindOf(grant)][access]

const forbid = (grant: Grant, method: string, access: Access): Forbidden => {
  const needed = table.viewer[access] === "all" ? "viewer" : "operator"
  return new Forbidden({ message: `this token may only ${words[kindOf(grant)]} (${method} needs ${needed})` })
}

/** Why a grant may not call a method at all; undefined if it may. */
export const refusal = (grant: Grant, method: string, access: Access): Forbidden | undefined =>
  reachOf(grant, access) === "none" ? forbid(grant, method, access) : undefined

/** What a request is about: a session by its handle, and one of its processes, if it is about one. */
export interface Target {
  readonly session?: string | undefined
  readonly processId?: string | undefined
}

/** Why a grant may not call a method on a session that is not its own; undefined if it may. */
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
