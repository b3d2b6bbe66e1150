/**
 * The flags of `run` that limit what a command may use.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as LimitWords from "../process/LimitWords.js"
import type { StartLimits } from "../protocol/StartLimits.js"
import { UsageError } from "./CommandExit.js"

/** The values of the flags. */
export interface Flags {
  readonly memory: string | undefined
  readonly cpus: string | undefined
  readonly pidsLimit: string | undefined
  readonly ulimit: ReadonlyArray<string>
  readonly nice: string | undefined
}

/** Those that `--ulimit` takes: the limits of each process. */
const ulimits = ["nofile", "fsize", "core", "cpu", "as"]

/** The limits that the flags ask for; undefined if they ask for none. */
export const read = ({
  memory,
  cpus,
  pidsLimit,
  ulimit,
  nice
}: Flags): Effect.Effect<StartLimits | undefined, UsageError> =>
  Effect.gen(function* () {
    const given = [
      ...Object.entries({ memory, cpus, pids: pidsLimit, nice }).flatMap(([name, value]) =>
        value === undefined ? [] : [{ flag: name === "pids" ? "pids-limit" : name, value, word: `${name}=${value}` }]
      ),
      ...ulimit.map((word) => ({ flag: "ulimit", value: word, word }))
    ]
    for (const { flag, value, word } of given) {
      const refused = (why: string) => new UsageError({ message: `--${flag} ${value} ${why}` })
      if (flag === "ulimit" && !ulimits.some((name) => word.startsWith(`${name}=`))) {
        return yield* refused(`is not NAME=VALUE with one of ${ulimits.join(", ")}`)
      }
      const parsed = LimitWords.parse(word)
      if (Either.isLeft(parsed)) return yield* refused(parsed.left)
    }
    return given.length === 0 ? undefined : LimitWords.parseAll(given.map(({ word }) => word))
  })
