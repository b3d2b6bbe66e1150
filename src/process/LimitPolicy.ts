/**
 * Which limits a start gets: those it asks for, the server's defaults, and no more than the server's maxima.
 *
 * @since 0.1.0
 */
import * as Either from "effect/Either"
import { NotAllowed } from "../protocol/Failure.js"
import { type LimitName, limitNames, type StartLimits } from "../protocol/StartLimits.js"
import type { ChildLimits } from "../spawn/ChildLimits.js"
import * as LimitWords from "./LimitWords.js"
import type { Limits } from "./ProcessLimits.js"

/** Whether a value allows more than another one. A lower `nice` is a higher priority. */
const isMore = (name: LimitName, value: number, than: number) => (name === "nice" ? value < than : value > than)

/**
 * The limits of a start; undefined if it has none. Where the server has a maximum, a start without the limit gets the
 * maximum.
 */
export const make = ({ defaultLimits, maxLimits }: Pick<Limits, "defaultLimits" | "maxLimits">) => {
  const usual = LimitWords.parseAll(defaultLimits)
  const most = LimitWords.parseAll(maxLimits)
  return (asked: StartLimits | undefined): Either.Either<ChildLimits | undefined, NotAllowed> => {
    const found: Array<readonly [LimitName, number]> = []
    for (const name of limitNames) {
      const given = asked?.[name]
      const limit = most[name]
      if (given !== undefined && limit !== undefined && isMore(name, given, limit)) {
        return Either.left(
          new NotAllowed({
            message: `\`limits.${name}\` is ${given}; this server allows ${limit} (its setting maxLimits has ${LimitWords.wordOf(name)})`
          })
        )
      }
      const value = given ?? usual[name] ?? limit
      if (value === undefined) continue
      found.push([name, limit !== undefined && isMore(name, value, limit) ? limit : value])
    }
    return Either.right(found.length === 0 ? undefined : Object.fromEntries(found))
  }
}
