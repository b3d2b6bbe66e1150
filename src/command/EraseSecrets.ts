/**
 * Erases the secrets in the environment of a server or a rendezvous once its settings are read.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as ServerSecrets from "../internal/ServerSecrets.js"
import * as Posix from "../spawn/Posix.js"

const values: Record<string, string> = {}

/** What was erased. Only a version that replaces the server gets it. */
export const erased: Readonly<Record<string, string>> = values

/**
 * Deletes the variables from `process.env`, and overwrites their values in the memory that /proc/PID/environ shows to
 * every process of the same user. The server stays dumpable: otherwise /proc/self/fd would belong to root, and requests
 * on files, which resolve paths there, would fail for other users.
 */
export const eraseSecrets: Effect.Effect<void> = Effect.sync(() => {
  for (const [name, value = ""] of Object.entries(ServerSecrets.select(process.env))) {
    values[name] = value
    delete process.env[name]
    Posix.eraseVariable(name)
  }
})
