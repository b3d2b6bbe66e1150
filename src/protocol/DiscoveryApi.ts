/**
 * Requests for the configuration, plugins and skills of the server's machine (current). This server does not look for
 * any: it answers that it has none and advertises no capability for them, so clients read the files themselves.
 *
 * @since 0.1.0
 */
import * as RpcGroup from "@effect/rpc/RpcGroup"
import * as Schema from "effect/Schema"
import { maxItems } from "./Bounds.js"
import { ClientId } from "./Ids.js"
import { request } from "./MethodFacts.js"
import { FilePath } from "./PathUri.js"
import { Sandbox } from "./Sandbox.js"
import { Count, listOf, maybe, nullOr, Text, TextList } from "./Schemas.js"

/** Configuration layers, lowest precedence first; this server always sends an empty list. */
const Layers = Schema.Struct({
  layers: listOf(Schema.Struct({ source: Text, baseDir: Text, toml: Text })),
  /** The position in `layers` at which the client inserts the layers it got from the cloud. */
  cloudInsertionIndex: Count
})

/** A path of keys in a TOML document. */
const KeyPath = TextList

/** The most roots of a request (ours). */
const maxRoots = 256

/**
 * All discovery requests.
 *
 * @category schemas
 */
export class DiscoveryApi extends RpcGroup.make(
  /**
   * Reads parts of the original's configuration files. Refused if the machine has such files: an empty answer would
   * hide the restrictions they contain.
   */
  request("environmentConfig/read", {
    family: "environment config",
    access: "use",
    repeatable: "always",
    largeAnswer: false,
    answered: "late",
    payload: Schema.Struct({ cwd: FilePath, configPaths: listOf(KeyPath), requirementsPaths: listOf(KeyPath) }),
    success: Schema.Struct({
      userHomeDir: Text,
      codexHomeDir: Text,
      hostname: Text,
      config: Layers,
      requirements: Layers
    })
  }),
  /** Finds plugins and skills below directories. This server puts an `error` on each root: read the files instead. */
  request("capabilityRoots/discoverV1", {
    family: "capability discovery",
    access: "use",
    repeatable: "always",
    largeAnswer: false,
    answered: "late",
    payload: Schema.Struct({
      roots: maxItems(listOf(Schema.Struct({ id: ClientId, path: FilePath, sandbox: maybe(Sandbox) })), maxRoots)
    }),
    success: Schema.Struct({
      roots: listOf(
        Schema.Struct({
          id: Text,
          path: Text,
          plugin: Schema.Null,
          skills: listOf(Schema.Never),
          namespaceManifests: listOf(Schema.Never),
          warnings: TextList,
          error: nullOr(Text)
        })
      )
    })
  }),
  /** Lists the plugins and skills of the server; this one has none. */
  request("capabilities/discoverV2", {
    family: "capability discovery",
    access: "use",
    repeatable: "always",
    largeAnswer: false,
    answered: "late",
    payload: Schema.Struct({ cwd: FilePath, sandbox: maybe(Sandbox) }),
    success: Schema.Struct({ plugins: listOf(Schema.Never), skills: listOf(Schema.Never), warnings: TextList })
  })
) {}
