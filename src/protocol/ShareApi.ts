/**
 * Shares (ours): tokens for one process, made by who may use it, for others to watch or to use it.
 *
 * @since 0.1.0
 */
import * as RpcGroup from "@effect/rpc/RpcGroup"
import * as Schema from "effect/Schema"
import { ClientId } from "./Ids.js"
import { request } from "./MethodFacts.js"
import { processFields } from "./ProcessSchemas.js"
import { Count, Empty, Integer, integerBetween, maybe, nullOr, oneOf, Text } from "./Schemas.js"

/** The longest life of a share: a year, in milliseconds. */
const maxExpiryMs = 31_536_000_000

/**
 * One share in the result of `share/list`.
 *
 * @category schemas
 */
export const ShareInfo = Schema.Struct({
  shareId: Text,
  /** The handle of the session of its process. */
  session: Text,
  processId: Text,
  role: oneOf("viewer", "operator"),
  /** In milliseconds since 1970. */
  expiresAtMs: Integer,
  label: nullOr(Text),
  /** The connections that use it now. */
  viewers: Count
})
export type ShareInfo = typeof ShareInfo.Type

/**
 * Requests about shares.
 *
 * @category schemas
 */
export class ShareApi extends RpcGroup.make(
  /** Makes a token for one process. It is valid until it expires, is revoked, or the process is forgotten. */
  request("share/create", {
    family: "session",
    access: "manage",
    repeatable: "never",
    largeAnswer: false,
    payload: Schema.Struct({
      ...processFields,
      /** `viewer`: read its output and usage. `operator`: also write to it, resize it, signal and terminate it. */
      role: oneOf("viewer", "operator"),
      expiresInMs: integerBetween(1, maxExpiryMs, `from 1 to ${maxExpiryMs}`),
      /** The most connections at a time; unlimited by default. */
      maxViewers: maybe(integerBetween(1, 65535, "from 1 to 65535")),
      /** Any text, for lists. */
      label: maybe(ClientId)
    }),
    success: Schema.Struct({
      shareId: Text,
      /** The bearer token. It is in no other answer. */
      token: Text,
      /** The path of the page that uses it. */
      path: Text,
      expiresAtMs: Integer
    })
  }),
  /** Lists the shares of the own session's processes, or of all processes, as far as the grant permits it. */
  request("share/list", {
    family: "session",
    access: "manage",
    repeatable: "always",
    largeAnswer: true,
    payload: Empty,
    success: Schema.Struct({ shares: Schema.Array(ShareInfo) })
  }),
  /** Ends a share, and closes its connections. */
  request("share/revoke", {
    family: "session",
    access: "manage",
    repeatable: "never",
    largeAnswer: false,
    payload: Schema.Struct({ shareId: ClientId }),
    success: Empty
  })
) {}
