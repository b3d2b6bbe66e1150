/**
 * What a child finds in its environment.
 *
 * @since 0.1.0
 */
import type { EnvPolicy } from "../protocol/ExecApi.js"

/** Names and values. */
export type Env = { readonly [name: string]: string }

/** What `inherit: "core"` takes over (the original's list for Unix). */
const coreNames: ReadonlySet<string> = new Set([
  "PATH",
  "SHELL",
  "TMPDIR",
  "TEMP",
  "TMP",
  "HOME",
  "LANG",
  "LC_ALL",
  "LC_CTYPE",
  "LOGNAME",
  "USER"
])

/** Names that smell of secrets; dropped unless `ignoreDefaultExcludes`. */
const defaultExcludes = ["*KEY*", "*SECRET*", "*TOKEN*"]

/** Whole-name, case-insensitive; `*` is any run, `?` one character, nothing else is special. */
const matcher = (patterns: ReadonlyArray<string>): ((name: string) => boolean) => {
  const tests = patterns.map((pattern) => {
    const source = pattern
      .replace(/[.+^${}()|[\]\\]/g, "\\$&")
      .replace(/\*+/g, ".*")
      .replace(/\?/g, ".")
    return new RegExp(`^${source}$`, "isu")
  })
  return (name) => tests.some((test) => test.test(name))
}

/**
 * The child's environment: `env` alone without a policy; otherwise inherit, drop the default excludes, drop `exclude`,
 * insert `set`, keep `includeOnly` (which also filters `set`), and lay `env` over it unfiltered.
 */
export const resolve = (env: Env, policy: EnvPolicy | undefined, server: NodeJS.ProcessEnv): Env => {
  if (policy === undefined) return env
  const isDefaultExclude = policy.ignoreDefaultExcludes ? () => false : matcher(defaultExcludes)
  const isExcluded = matcher(policy.exclude)
  const isIncluded = policy.includeOnly.length === 0 ? () => true : matcher(policy.includeOnly)
  const result: { [name: string]: string } = Object.create(null)
  for (const [name, value] of Object.entries(server)) {
    if (policy.inherit === "none" || value === undefined) continue
    if (policy.inherit === "core" && !coreNames.has(name)) continue
    if (isDefaultExclude(name) || isExcluded(name)) continue
    result[name] = value
  }
  for (const [name, value] of Object.entries(policy.set)) result[name] = value
  for (const name of Object.keys(result)) if (!isIncluded(name)) delete result[name]
  return Object.assign(result, env)
}
