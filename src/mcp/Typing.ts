/**
 * Types text and keys into a command.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { ClientError, WriteRefused } from "../client/ClientError.js"
import type { RemoteProcess } from "../client/RemoteProcess.js"
import type { Signal } from "../protocol/Signals.js"
import { ExecFailure } from "./ExecFailure.js"
import * as Keys from "./Keys.js"

/** How long after text a key is pressed, in milliseconds: a program would take both together for a paste. */
const keyMs = 60

/** What is typed. */
export interface Typed {
  /** Text; a newline is the enter key of a terminal. */
  readonly chars?: string | undefined
  /** Keys to press after the text, by name. */
  readonly keys?: ReadonlyArray<string> | undefined
  /** Whether to end the input afterwards. */
  readonly closeStdin?: boolean | undefined
}

/** Without a terminal, what a key does. */
const withoutTerminal = new Map<string, Signal | "close">([
  ["\u0003", "SIGINT"],
  ["\u001c", "SIGQUIT"],
  ["\u0004", "close"]
])

const press = (hasTerminal: boolean, process: RemoteProcess, key: string) => {
  const bytes = Keys.bytesOf(key) ?? ""
  if (hasTerminal) return process.write(bytes)
  const action = withoutTerminal.get(bytes)
  return action === undefined ? Effect.void : action === "close" ? process.closeStdin : process.signal(action)
}

const fail = (message: string) => new ExecFailure({ message })

/** Refuses keys that do not exist, or mean nothing to a command, before anything is typed. */
export const check = (
  { id, hasTerminal }: { readonly id: number; readonly hasTerminal: boolean },
  keys: ReadonlyArray<string>
): Effect.Effect<void, ExecFailure> => {
  for (const key of keys) {
    const bytes = Keys.bytesOf(key)
    if (bytes === undefined) return fail(`there is no key ${JSON.stringify(key)}; keys are ${Keys.names}`)
    if (!hasTerminal && !withoutTerminal.has(bytes)) {
      return fail(
        `session ${id} has no terminal, where the key ${JSON.stringify(key)} means nothing: ` +
          "only ctrl-c, ctrl-d and ctrl-\\ do; write text with chars, or start the command with tty"
      )
    }
  }
  return Effect.void
}

/** Types text, then keys that were checked. */
export const type = (
  hasTerminal: boolean,
  process: RemoteProcess,
  { chars = "", keys = [], closeStdin = false }: Typed
): Effect.Effect<void, ClientError | WriteRefused> =>
  Effect.gen(function* () {
    const text = hasTerminal ? chars.replaceAll(/\r?\n/g, "\r") : chars
    if (text !== "") yield* process.write(text)
    for (const [index, key] of keys.entries()) {
      if (text !== "" || index > 0) yield* Effect.sleep(keyMs)
      yield* press(hasTerminal, process, key)
    }
    if (closeStdin) yield* process.closeStdin
  })
