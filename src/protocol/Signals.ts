/**
 * Signals by name and number.
 *
 * @since 0.1.0
 */
import { constants, platform } from "node:os"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import { clip, invalid, Text } from "./Schemas.js"

/** A real-time signal in bash's notation. Node.js has no names for them. */
type RealTimeSignal = "SIGRTMIN" | "SIGRTMAX" | `SIGRTMIN+${number}` | `SIGRTMAX-${number}`

/**
 * A POSIX signal name, such as `SIGTERM` or `SIGRTMIN+1`.
 *
 * @category models
 */
export type Signal = NodeJS.Signals | RealTimeSignal

/**
 * A signal as requests name it: also `"interrupt"`, the original's word for `SIGINT`.
 *
 * @category models
 */
export type SignalWord = Signal | "interrupt"

/** The real-time signals on Linux. The kernel's begin at 32; C libraries reserve the first two. */
const realTime = { first: 34, last: 64 }

const realTimeNumbers = (): ReadonlyArray<readonly [name: RealTimeSignal, number: number]> => {
  if (platform() !== "linux") return []
  const { first, last } = realTime
  const offsets = Array.from({ length: last - first }, (_, i) => i + 1)
  return [
    ["SIGRTMIN", first],
    ["SIGRTMAX", last],
    ...offsets.map((offset) => [`SIGRTMIN+${offset}`, first + offset] as const),
    ...offsets.map((offset) => [`SIGRTMAX-${offset}`, last - offset] as const)
  ]
}

const numbers: ReadonlyMap<string, number> = new Map([...Object.entries(constants.signals), ...realTimeNumbers()])
const names: ReadonlyMap<number, Signal> = new Map(
  // SIGIOT and SIGPOLL are aliases of SIGABRT and SIGIO. Reversed, so that the first name of a number wins.
  Object.entries(constants.signals)
    .reverse()
    .map(([name, number]) => [number, name as Signal])
)

const isSignal = (text: string): text is Signal => numbers.has(text)

/**
 * The signal of a word of requests. Words that name none stay, to be refused where they are checked.
 *
 * @category utilities
 */
export const ofWord = (word: SignalWord): Signal => (word === "interrupt" ? "SIGINT" : word)

/**
 * The number of a signal on this platform; 0 if it has none.
 *
 * @category utilities
 */
export const numberOf = (signal: Signal): number => numbers.get(signal) ?? 0

/**
 * The name of a signal number. Real-time signals read `SIGRTMIN+n` as in bash, unknown ones `SIG<number>`.
 *
 * @category utilities
 */
export const nameOf = (number: number): string => {
  const name = names.get(number)
  if (name !== undefined) return name
  const { first, last } = realTime
  if (number < first || number > last) return `SIG${number}`
  return number === first ? "SIGRTMIN" : `SIGRTMIN+${number - first}`
}

/**
 * `"interrupt"` (the only signal of the original) or any POSIX name (ours).
 *
 * @category schemas
 */
export const SignalName: Schema.Schema<Signal, string> = Schema.transformOrFail(
  Text,
  Schema.declare((value: unknown): value is Signal => typeof value === "string" && isSignal(value), {
    identifier: "Signal",
    message: ({ actual }) => `unknown signal \`${clip(String(actual))}\`, expected a POSIX name such as \`SIGTERM\``
  }),
  {
    strict: true,
    decode: (text, _, ast) => {
      const name: string = ofWord(text as SignalWord)
      return isSignal(name)
        ? ParseResult.succeed(name)
        : invalid(
            ast,
            text,
            `unknown variant \`${clip(text)}\`, expected \`interrupt\` or a POSIX name such as \`SIGTERM\``
          )
    },
    // Every server understands "interrupt"; the original does not know "SIGINT".
    encode: (signal) => ParseResult.succeed(signal === "SIGINT" ? "interrupt" : signal)
  }
)
