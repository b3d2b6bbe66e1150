/**
 * What the original tells a client of the configuration, plugins and skills of its machine (now). This server has none
 * of its own and looks for none; it says so, and advertises no capability for them: clients then read files themselves.
 *
 * @since 0.1.0
 */
import * as RpcGroup from "@effect/rpc/RpcGroup"
import * as Schema from "effect/Schema"
import { request } from "./MethodFacts.js"
import { FilePath } from "./PathUri.js"
import { Sandbox } from "./Sandbox.js"
import { Count, listOf, maybe, Text, TextList } from "./Schemas.js"

/** Configuration files, the weakest first; none are ever listed. */
const Layers = Schema.Struct({
  layers: listOf(Schema.Struct({ source: Text, baseDir: Text, toml: Text })),
  /** How many of them come before what a client got from elsewhere. */
  cloudInsertionIndex: Count
})

/** A path of keys in a TOML document. */
const KeyPath = TextList

/** All requests of this family. */
export class DiscoveryApi extends RpcGroup.make(
  /**
   * Gives parts of the original's configuration files. Where the machine has any this is refused: an empty answer would
   * hide them, and with them what they forbid.
   */
  request("environmentConfig/read", {
    family: "environment config",
    repeatable: "always",
    largeAnswer: false,
    payload: Schema.Struct({ cwd: FilePath, configPaths: listOf(KeyPath), requirementsPaths: listOf(KeyPath) }),
    success: Schema.Struct({
      userHomeDir: Text,
      codexHomeDir: Text,
      hostname: Text,
      config: Layers,
      requirements: Layers
    })
  }),
  /** Gives the plugins and skills below directories; here each answer has an `error` that says to read the files. */
  request("capabilityRoots/discoverV1", {
    family: "capability discovery",
    repeatable: "always",
    largeAnswer: false,
    payload: Schema.Struct({
      roots: listOf(Schema.Struct({ id: Text, path: FilePath, sandbox: maybe(Sandbox) }))
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
          error: Schema.NullOr(Text)
        })
      )
    })
  }),
  /** Gives the plugins and skills that the server has; it has none. */
  request("capabilities/discoverV2", {
    family: "capability discovery",
    repeatable: "always",
    largeAnswer: false,
    payload: Schema.Struct({ cwd: FilePath, sandbox: maybe(Sandbox) }),
    success: Schema.Struct({ plugins: listOf(Schema.Never), skills: listOf(Schema.Never), warnings: TextList })
  })
) {}
