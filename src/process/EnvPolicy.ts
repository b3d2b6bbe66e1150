/**
 * The environment variables of a child.
 *
 * @since 0.1.0
 */
import { isServerSecret } from "../internal/ServerSecrets.js"
import type { EnvPolicy } from "../protocol/ExecApi.js"
import type { Env } from "../spawn/Child.js"

/** The variables that `inherit: "core"` keeps (the original's list for Unix). */
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

/** Names that probably hold secrets. Dropped unless `ignoreDefaultExcludes` is set. */
const defaultExcludes = ["*KEY*", "*SECRET*", "*TOKEN*"]

/**
 * Whether a pattern matches a whole name: `*` matches any run of characters, `?` one character, and nothing else is
 * special. Matching backtracks to the last `*` only, so its time is bounded by the product of the two lengths.
 */
const fits = (pattern: ReadonlyArray<string>, name: ReadonlyArray<string>): boolean => {
  let at = 0
  let star = -1
  let resume = 0
  for (let i = 0; i < name.length; ) {
    if (pattern[at] === "*") {
      star = at++
      resume = i
    } else if (at < pattern.length && (pattern[at] === "?" || pattern[at] === name[i])) {
      at++
      i++
    } else if (star !== -1) {
      at = star + 1
      i = ++resume
    } else return false
  }
  while (pattern[at] === "*") at++
  return at === pattern.length
}

/** The code points of a text, in lower case. */
const letters = (text: string) => Array.from(text.toLowerCase())

const matcher = (patterns: ReadonlyArray<string>): ((name: string) => boolean) => {
  const split = patterns.map(letters)
  return (name) => {
    const characters = letters(name)
    return split.some((pattern) => fits(pattern, characters))
  }
}

/**
 * The child's environment. Without a policy, `env` alone. Otherwise: inherit all variables but the server's secrets,
 * drop the default excludes, drop `exclude`, insert `set`, keep `includeOnly` (which also filters `set`), and add `env`
 * unfiltered.
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
    if (isServerSecret(name) || isDefaultExclude(name) || isExcluded(name)) continue
    result[name] = value
  }
  for (const [name, value] of Object.entries(policy.set)) result[name] = value
  for (const name of Object.keys(result)) if (!isIncluded(name)) delete result[name]
  return Object.assign(result, env)
}
