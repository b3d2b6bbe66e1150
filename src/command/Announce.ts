/**
 * Announces the address of a server, or its registration.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"

/** Prints the address alone on stdout, for programs, and in a sentence on stderr, for people. */
export const announce = (name: string, address: string): Effect.Effect<void> =>
  Effect.sync(() => {
    process.stderr.write(`${name} listening on ${address}\n`)
    process.stdout.write(`${address}\n`)
  })

/** Prints a line for each registration of an executor (the original's text). */
export const announceRegistration = (environmentId: string): Effect.Effect<void> =>
  Effect.sync(() => {
    process.stderr.write(`codex exec-server remote environment registered with environment_id ${environmentId}\n`)
  })
