/**
 * Limits the size of what a process is started with: arguments, environment, search path, patterns.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { isRecord } from "effect/Predicate"
import { type Check, firstOf, listCheck, textCheck } from "./Bounds.js"

/**
 * The most bytes of arguments and environment together, counted as Linux does: each string with its NUL and its
 * pointer. With a stack limit of 8 MiB, Linux itself refuses more.
 */
const maxStartBytes = 2097152

/** The longest `PATH`, in bytes, and the most folders in it: a start may examine each of them. */
const maxPathBytes = 65536
const maxPathFolders = 1024

/** The most patterns of a list. */
const maxPatterns = 256

/** The longest pattern, in bytes. */
export const maxPatternBytes = 256

/** The most pairs of a character in a name of `set` and a character in a pattern of `includeOnly`. */
const maxComparisons = 16777216

/** The size of a string besides its bytes. */
const stringOverhead = 9

const fields = (value: unknown): { readonly [name: string]: unknown } => (isRecord(value) ? value : {})

const sizeOf = (text: unknown): number => (typeof text === "string" ? Buffer.byteLength(text) + stringOverhead : 0)

/** The bytes of all strings in a list, or of the names and values of a map. Stops counting above the limit. */
const weigh = (value: unknown): number => {
  let bytes = 0
  if (Array.isArray(value)) {
    for (const text of value) {
      bytes += sizeOf(text)
      if (bytes > maxStartBytes) break
    }
  } else if (isRecord(value)) {
    for (const name of Object.keys(value)) {
      // Name, equals sign and value are one string.
      bytes += Buffer.byteLength(name) + 1 + sizeOf(value[name])
      if (bytes > maxStartBytes) break
    }
  }
  return bytes
}

const startBytes: Check = (value) => {
  const { argv, env, envPolicy } = fields(value)
  const parts = { argv: weigh(argv), env: weigh(env), "envPolicy.set": weigh(fields(envPolicy)["set"]) }
  if (parts.argv + parts.env + parts["envPolicy.set"] <= maxStartBytes) return undefined
  const sizes = Object.entries(parts).filter(([, bytes]) => bytes > 0)
  const told = sizes.map(([name, bytes]) => `\`${name}\` has ${bytes > maxStartBytes ? "more than the limit" : bytes}`)
  return `\`argv\` and the environment are larger than the limit of ${maxStartBytes} bytes together, with 9 bytes for each string: ${told.join(", ")}; pass large input in a file or on stdin`
}

const onePath: Check = (value, path) => {
  const excess = textCheck(maxPathBytes)(value, path)
  if (excess !== undefined || typeof value !== "string") return excess
  const folders = value.split(":").length
  return folders > maxPathFolders ? `\`${path}\` has ${folders} folders; the limit is ${maxPathFolders}` : undefined
}

const searchPath: Check = (value) => {
  const { env, envPolicy } = fields(value)
  const { set } = fields(envPolicy)
  return onePath(fields(env)["PATH"], "env.PATH") ?? onePath(fields(set)["PATH"], "envPolicy.set.PATH")
}

/** Every name in `set` is matched with every pattern of `includeOnly`. */
const comparisons: Check = (value) => {
  const { set, includeOnly } = fields(fields(value)["envPolicy"])
  if (!isRecord(set) || !Array.isArray(includeOnly)) return undefined
  const sum = (texts: ReadonlyArray<unknown>) =>
    texts.reduce<number>((length, text) => length + (typeof text === "string" ? text.length : 0), 0)
  const names = sum(Object.keys(set))
  const patterns = sum(includeOnly)
  return names * patterns <= maxComparisons
    ? undefined
    : `\`envPolicy.set\` has names of ${names} characters to compare with \`envPolicy.includeOnly\` of ${patterns}; the limit of one times the other is ${maxComparisons}: pass the variables in \`env\`, which is not filtered`
}

/** A list of patterns. */
export const patterns = listCheck(maxPatterns, textCheck(maxPatternBytes))

const checks = firstOf([startBytes, searchPath, comparisons])

/** All checks of a start except those of its members. */
export const start: Check = (value, path) => checks?.(value, path)
