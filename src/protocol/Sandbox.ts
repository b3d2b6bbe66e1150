/**
 * The sandbox of a request (current) as it is on the wire. `sandbox/SandboxPolicy` decides what to enforce.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { maxBytes, maxItems } from "./Bounds.js"
import { AbsolutePath } from "./PathUri.js"
import { listOf, maybe, oneOf, Text } from "./Schemas.js"
import { maxPatternBytes } from "./StartBounds.js"

/** The most roots of a workspace (ours). */
const maxRoots = 256

const Roots = maxItems(listOf(AbsolutePath), maxRoots)

/** What an entry applies to: a path, a glob pattern, or a name for paths that depend on the machine or the request. */
const Place = Schema.Union(
  Schema.Struct({ type: oneOf("path"), path: AbsolutePath }),
  Schema.Struct({ type: oneOf("glob_pattern"), pattern: maxBytes(Text, maxPatternBytes) }),
  Schema.Struct({
    type: oneOf("special"),
    value: Schema.Struct({
      kind: oneOf("root", "minimal", "current_working_directory", "project_roots", "tmpdir", "slash_tmp", "unknown"),
      subpath: maybe(Text)
    })
  })
)

/** The access to one place. */
export const Entry = Schema.Struct({ path: Place, access: oneOf("read", "write", "deny", "none") })
export type Entry = typeof Entry.Type

const Network = oneOf("restricted", "enabled")

const FileSystem = Schema.Union(
  Schema.Struct({ type: oneOf("unrestricted") }),
  Schema.Struct({ type: oneOf("restricted"), entries: listOf(Entry) })
)

const Permissions = Schema.Union(
  Schema.Struct({ type: oneOf("disabled") }),
  // The client restricts file access itself; the server restricts the network (current).
  Schema.Struct({ type: oneOf("external"), network: Network }),
  Schema.Struct({ type: oneOf("managed"), file_system: FileSystem, network: Network })
)

/**
 * The sandbox of a request. Members of the original that restrict nothing on Linux are ignored: `sandboxOverride`,
 * `useLegacyLandlock`, `userHomeDir`, `temporaryDirectories` and the Windows settings.
 */
export const Sandbox = Schema.Struct({
  permissions: Permissions,
  /** The path of `current_working_directory`. */
  cwd: maybe(AbsolutePath),
  /** The paths of `project_roots`; by default `cwd`. */
  workspaceRoots: maybe(Roots),
  /** Overrides both: `project_roots` is then these `workspaceRoots` only, without the default. */
  policyContext: maybe(Schema.Struct({ cwd: maybe(AbsolutePath), workspaceRoots: maybe(Roots) })),
  windowsSandboxLevel: Text
})
export type Sandbox = typeof Sandbox.Type
