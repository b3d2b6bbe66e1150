/**
 * The handlers of requests about configuration, plugins and skills.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { homedir, hostname } from "node:os"
import { join } from "node:path"
import { pathToFileURL } from "node:url"
import * as Effect from "effect/Effect"
import { FileLimits } from "../filesystem/FileLimits.js"
import { FileSystem } from "../filesystem/FileSystem.js"
import { DiscoveryApi } from "../protocol/DiscoveryApi.js"
import { type Failure, InvalidParams, NotAllowed } from "../protocol/Failure.js"
import { formatBytes } from "../protocol/PathUri.js"

/** The original's folder of user configuration: `CODEX_HOME`, or `.codex` in the home directory. */
const codexHome = (): string => process.env["CODEX_HOME"] || join(homedir(), ".codex")

/** The files that the original reads. Without those of the user it ignores those in projects. */
const configFiles = (): ReadonlyArray<string> => [
  "/etc/codex/config.toml",
  "/etc/codex/managed_config.toml",
  "/etc/codex/requirements.toml",
  join(codexHome(), "config.toml")
]

const uri = (path: string) => pathToFileURL(path).href

const nothing = { layers: [], cloudInsertionIndex: 0 }

const checkPaths = (paths: ReadonlyArray<ReadonlyArray<string>>): Effect.Effect<void, InvalidParams> => {
  if (paths.length === 0) return new InvalidParams({ message: "at least one config or requirements path is required" })
  return paths.every((path) => path.length > 0)
    ? Effect.void
    : new InvalidParams({ message: "TOML paths must contain at least one key segment" })
}

/** These handlers, for the layer of all handlers. */
export const make = Effect.gen(function* () {
  const files = yield* FileSystem
  const { allowFiles } = yield* FileLimits
  const unread = `this server does not look into capability roots${allowFiles ? "; read them with fs/walk and fs/readFile" : ""}`

  /** Fails if a configuration file exists or cannot be examined. */
  const checkUnconfigured: Effect.Effect<void, Failure> = Effect.forEach(
    configFiles(),
    (path) =>
      files.getMetadata(Buffer.from(path), { followSymlinks: true }).pipe(
        Effect.flatMap(() => {
          const message = `this server does not read Codex configuration, and ${path} is there: use fs/readFile`
          return new NotAllowed({ message })
        }),
        Effect.catchTag("FileNotFound", () => Effect.void)
      ),
    { discard: true }
  )

  return DiscoveryApi.of({
    "environmentConfig/read": ({ configPaths, requirementsPaths }) =>
      Effect.gen(function* () {
        yield* checkPaths([...configPaths, ...requirementsPaths])
        yield* checkUnconfigured
        return {
          userHomeDir: uri(homedir()),
          codexHomeDir: uri(codexHome()),
          hostname: hostname(),
          config: nothing,
          requirements: nothing
        }
      }),

    "capabilityRoots/discoverV1": ({ roots }) =>
      Effect.succeed({
        roots: roots.map(({ id, path }) => ({
          id,
          path: formatBytes(path.bytes, path.form),
          plugin: null,
          skills: [],
          namespaceManifests: [],
          warnings: [],
          error: unread
        }))
      }),

    "capabilities/discoverV2": () => Effect.succeed({ plugins: [], skills: [], warnings: [] })
  })
})
