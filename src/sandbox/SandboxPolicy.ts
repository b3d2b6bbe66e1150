/**
 * Reduces a sandbox to the restrictions to enforce: rules for paths, and whether the network is restricted.
 *
 * @since 0.1.0
 */
import { posix } from "node:path"
import * as Either from "effect/Either"
import { InvalidParams, NotAllowed } from "../protocol/Failure.js"
import type { Entry, Sandbox } from "../protocol/Sandbox.js"

/** The access to a path and everything below it. `none`: it is missing, or empty and unreadable. */
export type Access = "read" | "write" | "none"

/** The access to a path and everything below it. Of several rules that contain a path, the longest applies. */
export interface Rule {
  /** Absolute, without `.`, `..` and a trailing slash; it may contain links. */
  readonly path: string
  readonly access: Access
  /** The sandbox entry of this rule, for messages. */
  readonly entry: string
}

/** The restrictions of a sandbox. */
export interface Policy {
  /** No other files are accessible. Undefined: files are unrestricted. */
  readonly files: ReadonlyArray<Rule> | undefined
  /** Whether the network is restricted to the sandbox itself. */
  readonly isolated: boolean
}

/** The paths of `minimal`: programs and what they need to run (the original's list). */
const minimalPaths = ["/bin", "/sbin", "/usr", "/etc", "/lib", "/lib64", "/nix/store", "/run/current-system/sw"]

/** The most rules of one sandbox, with `project_roots` and `minimal` expanded. */
const maxRules = 256

const normalize = (path: string): string => (path === "/" ? path : posix.normalize(path).replace(/(.)\/$/, "$1"))

const isRootWrite = ({ path, access }: Entry) =>
  access === "write" && path.type === "special" && path.value.kind === "root" && path.value.subpath === undefined

/** Whether the entries restrict nothing: `/` is writable, and no entry takes access away. */
const isUnrestricted = (entries: ReadonlyArray<Entry>) =>
  entries.some(isRootWrite) && entries.every(({ access, path }) => access === "write" && path.type !== "glob_pattern")

const refuse = (entry: string, why: string) =>
  Either.left(new NotAllowed({ message: `the sandbox entry ${entry} cannot be enforced: ${why}` }))

const describe = ({ path, access }: Entry): string => {
  const place =
    path.type === "path"
      ? path.path.path
      : path.type === "special"
        ? `:${path.value.kind}`
        : JSON.stringify(path.pattern)
  const subpath = path.type === "special" && path.value.subpath !== undefined ? `/${path.value.subpath}` : ""
  return `\`${place}${subpath}\` (${access})`
}

/** The paths of a special place, without its subpath. */
const special = (kind: string, sandbox: Sandbox, tmpdir: string | undefined) => {
  const { policyContext } = sandbox
  const cwd = policyContext?.cwd ?? sandbox.cwd
  const workspaceRoots = policyContext === undefined ? sandbox.workspaceRoots : (policyContext.workspaceRoots ?? [])
  const paths = (...all: ReadonlyArray<string>) => Either.right(all)
  switch (kind) {
    case "root":
      return paths("/")
    case "minimal":
      return paths(...minimalPaths)
    case "slash_tmp":
      return paths("/tmp")
    case "tmpdir":
      return paths(...(tmpdir?.startsWith("/") ? [tmpdir] : []))
    default: {
      if (cwd === undefined) {
        const message = "file system sandbox context with dynamic permissions requires cwd"
        return Either.left(new InvalidParams({ message }))
      }
      if (kind === "current_working_directory") return paths(cwd.path)
      return paths(...(workspaceRoots ?? [cwd]).map(({ path }) => path))
    }
  }
}

const rulesOf = (
  entry: Entry,
  sandbox: Sandbox,
  tmpdir: string | undefined
): Either.Either<ReadonlyArray<Rule>, NotAllowed | InvalidParams> => {
  const named = describe(entry)
  const access = entry.access === "deny" ? "none" : entry.access
  const rule = (path: string): Rule => ({ path: normalize(path), access, entry: named })
  const { path } = entry
  switch (path.type) {
    case "path":
      return Either.right([rule(path.path.path)])
    case "glob_pattern":
      return refuse(named, "files that match a pattern can appear at any time; name the paths instead")
    case "special": {
      const { kind, subpath = "" } = path.value
      if (kind === "unknown") return refuse(named, "its kind is unknown")
      if (kind === "minimal" && access === "write") return refuse(named, "`minimal` is read-only")
      if (subpath.startsWith("/") || subpath.includes("\0") || subpath.split("/").includes("..")) {
        return refuse(named, "its subpath must be relative, without `..` and NUL")
      }
      return Either.map(special(kind, sandbox, tmpdir), (found) => found.map((one) => rule(posix.join(one, subpath))))
    }
  }
}

/** The restrictions of a sandbox; undefined if there are none. `tmpdir` is the path of the special place `tmpdir`. */
export const policyOf = (
  sandbox: Sandbox,
  tmpdir: string | undefined
): Either.Either<Policy | undefined, NotAllowed | InvalidParams> => {
  const { permissions } = sandbox
  if (permissions.type === "disabled") return Either.right(undefined)
  const isolated = permissions.network === "restricted"
  const files = permissions.type === "managed" ? permissions.file_system : undefined
  if (files === undefined || files.type === "unrestricted" || isUnrestricted(files.entries)) {
    return Either.right(isolated ? { files: undefined, isolated } : undefined)
  }
  return Either.all(files.entries.map((entry) => rulesOf(entry, sandbox, tmpdir))).pipe(
    Either.map((rules) => rules.flat()),
    Either.filterOrLeft(
      (rules) => rules.length <= maxRules,
      () => new NotAllowed({ message: `the sandbox has more than ${maxRules} entries` })
    ),
    Either.map((rules) => ({ files: rules, isolated }))
  )
}
