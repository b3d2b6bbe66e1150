/**
 * `schema`: prints the descriptions of the protocol that were made with the package (`scratch/schema.mjs`).
 *
 * @since 0.1.0
 */
import { readFile } from "node:fs/promises"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import * as Package from "../internal/Package.js"
import * as OsError from "../protocol/OsError.js"
import { CommandFailed, UsageError } from "./CommandExit.js"
import * as Terminal from "./Terminal.js"

/** A format, or the language of a client in its place. */
export interface Options {
  readonly format: "openrpc" | "jsonschema" | undefined
  readonly client: "python" | undefined
}

const files = { openrpc: "openrpc.json", jsonschema: "schema.json", python: "exec_client.py" } as const

/** Prints one of the files. */
export const schema = ({ format, client }: Options) =>
  Effect.gen(function* () {
    if (format !== undefined && client !== undefined) {
      return yield* new UsageError({ message: "--client prints a client instead of a format: leave out --format" })
    }
    const path = join(Package.root, "dist", files[client ?? format ?? "openrpc"])
    const text = yield* Effect.tryPromise({
      try: () => readFile(path, "utf8"),
      catch: (error) => {
        const why = OsError.describe(error)
        return new CommandFailed({ message: `cannot read ${path}: ${why}; npm run build makes it` })
      }
    })
    yield* Terminal.write("stdout", text)
  })
