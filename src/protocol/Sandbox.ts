/**
 * The sandbox a client asks for (now), as it travels. What of it has to be enforced, `sandbox/SandboxPolicy` says.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { AbsolutePath } from "./PathUri.js"
import { listOf, maybe, oneOf, Text } from "./Schemas.js"

/** What a place is: a path, a pattern of paths, or a name for places that depend on the machine or the request. */
const Place = Schema.Union(
  Schema.Struct({ type: oneOf("path"), path: AbsolutePath }),
  Schema.Struct({ type: oneOf("glob_pattern"), pattern: Text }),
  Schema.Struct({
    type: oneOf("special"),
    value: Schema.Struct({
      kind: oneOf("root", "minimal", "current_working_directory", "project_roots", "tmpdir", "slash_tmp", "unknown"),
      subpath: maybe(Text)
    })
  })
)

/** What may be done at a place. */
export const Entry = Schema.Struct({ path: Place, access: oneOf("read", "write", "deny", "none") })
export type Entry = typeof Entry.Type

const Network = oneOf("restricted", "enabled")

const FileSystem = Schema.Union(
  Schema.Struct({ type: oneOf("unrestricted") }),
  Schema.Struct({ type: oneOf("restricted"), entries: listOf(Entry) })
)

const Permissions = Schema.Union(
  Schema.Struct({ type: oneOf("disabled") }),
  // The files are restricted from outside; the network by whoever serves the request (now).
  Schema.Struct({ type: oneOf("external"), network: Network }),
  Schema.Struct({ type: oneOf("managed"), file_system: FileSystem, network: Network })
)

/**
 * The sandbox of a request. The original's further members restrict nothing on Linux and are not read:
 * `sandboxOverride`, `useLegacyLandlock`, `userHomeDir`, `temporaryDirectories` and those that name Windows.
 */
export const Sandbox = Schema.Struct({
  permissions: Permissions,
  /** What `current_working_directory` means. */
  cwd: maybe(AbsolutePath),
  /** What `project_roots` means; without it, `cwd`. */
  workspaceRoots: maybe(listOf(AbsolutePath)),
  /** What both mean instead: `project_roots` is then these `workspaceRoots` and nothing else. */
  policyContext: maybe(Schema.Struct({ cwd: maybe(AbsolutePath), workspaceRoots: maybe(listOf(AbsolutePath)) })),
  windowsSandboxLevel: Text
})
export type Sandbox = typeof Sandbox.Type
