/**
 * Limits as words, for settings and flags: `memory=2g`, with the names of docker and ulimit.
 *
 * @since 0.1.0
 */
import * as Either from "effect/Either"
import { type LimitName, ranges } from "../protocol/StartLimits.js"
import type { ChildLimits } from "../spawn/ChildLimits.js"

type Unit = "bytes" | "count" | "decimal"

const words: Readonly<Record<string, readonly [name: LimitName, unit: Unit]>> = {
  memory: ["memoryBytes", "bytes"],
  cpus: ["cpus", "decimal"],
  pids: ["pids", "count"],
  nofile: ["openFiles", "count"],
  fsize: ["fileSizeBytes", "bytes"],
  core: ["coreBytes", "bytes"],
  cpu: ["cpuSeconds", "count"],
  as: ["addressSpaceBytes", "bytes"],
  nice: ["nice", "count"]
}

/** The names of limits in words. */
export const names: ReadonlyArray<string> = Object.keys(words)

/** The name of a limit in words. */
export const wordOf = (limit: LimitName): string => names.find((name) => words[name]?.[0] === limit) ?? limit

const factors: Readonly<Record<string, number>> = { "": 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3, t: 1024 ** 4 }

const numberIn = (text: string, unit: Unit): number => {
  const [, number, suffix = ""] = /^(\d+(?:\.\d+)?)([kmgt]?)b?$/i.exec(text) ?? []
  if (number === undefined) return Number.NaN
  if (unit === "bytes") return Math.round(Number(number) * (factors[suffix.toLowerCase()] ?? 1))
  if (!/^[\d.]+$/.test(text)) return Number.NaN
  return unit === "count" && number.includes(".") ? Number.NaN : Number(number)
}

/** Reads one limit, such as `memory=2g`; Left says what is wrong. */
export const parse = (text: string): Either.Either<ChildLimits, string> => {
  const [, word = "", given = ""] = /^([^=]*)=(.*)$/.exec(text) ?? []
  const found = words[word]
  if (found === undefined) return Either.left(`is not NAME=VALUE with one of ${names.join(", ")}`)
  const [name, unit] = found
  const [least, most] = ranges[name]
  const value = numberIn(given, unit)
  if (!(value >= least && value <= most)) {
    const what = unit === "bytes" ? "a size, such as 512m or 2g," : unit === "count" ? "a whole number" : "a number"
    return Either.left(`has no ${word} that is ${what} from ${least} to ${most}`)
  }
  return Either.right({ [name]: value })
}

/** Reads several limits that `parse` accepts; the last of a name counts. */
export const parseAll = (texts: ReadonlyArray<string>): ChildLimits =>
  Object.assign({}, ...texts.map((text) => Either.getOrElse(parse(text), () => ({}))))

/** Whether `parse` accepts a text, and what it accepts in words. */
export const item = {
  is: (text: string): boolean => Either.isRight(parse(text)),
  words: `a limit such as memory=2g, with one of ${names.join(", ")}`
}
