/**
 * Signals by name and number.
 *
 * @since 0.1.0
 */
import { constants } from "node:os"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import { clip, invalid, Text } from "./Schemas.js"

/** A POSIX signal name, such as `SIGTERM`. */
export type Signal = NodeJS.Signals

const numbers: ReadonlyMap<string, number> = new Map(Object.entries(constants.signals))
const names: ReadonlyMap<number, Signal> = new Map(
  // SIGIOT and SIGPOLL are second names of SIGABRT and SIGIO: the first name of a number wins.
  Object.entries(constants.signals)
    .reverse()
    .map(([name, number]) => [number, name as Signal])
)

const isSignal = (text: string): text is Signal => numbers.has(text)

/** The number of a signal on this system. */
export const numberOf = (signal: Signal): number => constants.signals[signal]

/** The name of a signal number; real-time signals, which Node.js does not name, read `SIGRTMIN+n` as in bash. */
export const nameOf = (number: number): string => {
  const name = names.get(number)
  if (name !== undefined) return name
  return number >= 34 && number <= 64 ? `SIGRTMIN${number === 34 ? "" : `+${number - 34}`}` : `SIG${number}`
}

/** `"interrupt"` (the original's only word) or any POSIX name (ours). */
export const SignalName: Schema.Schema<Signal, string> = Schema.transformOrFail(
  Text,
  Schema.declare((value: unknown): value is Signal => typeof value === "string" && isSignal(value)),
  {
    strict: true,
    decode: (text, _, ast) => {
      const name = text === "interrupt" ? "SIGINT" : text
      return isSignal(name)
        ? ParseResult.succeed(name)
        : invalid(
            ast,
            text,
            `unknown variant \`${clip(text)}\`, expected \`interrupt\` or a POSIX name such as \`SIGTERM\``
          )
    },
    encode: (signal) => ParseResult.succeed(signal)
  }
)
