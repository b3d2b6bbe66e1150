/**
 * The web console that `/console` returns, on transports that serve HTTP.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import * as Context from "effect/Context"

/**
 * A web console. Its pages are served to everybody; what they do takes a token.
 *
 * @category models
 */
export interface Page {
  /** The address of the server in browsers, if a proxy serves it. Pages of its origin may connect. */
  readonly publicUrl?: URL | undefined
  /** The SHA-256 of a token that `Authenticator.layerConsole` accepts as an operator's. */
  readonly operatorSha256?: Buffer | undefined
  /** The folder of the built pages; that of this package by default. */
  readonly folder?: string | undefined
}

/**
 * The web console. By default there is none, and `/console` is not found.
 *
 * @category tags
 */
export class ConsolePage extends Context.Reference<ConsolePage>()("exec-server/ConsolePage", {
  defaultValue: (): Page | undefined => undefined
}) {}
