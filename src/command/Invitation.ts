/**
 * The address of the web console that a person opens, with a token that is made for it.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { createHash, randomBytes } from "node:crypto"
import * as Effect from "effect/Effect"
import { isRecord } from "effect/Predicate"
import type { ListenConfig } from "../server/ListenConfig.js"
import type { Page } from "../transport/ConsolePage.js"

/** The console of a server, and the token for its operator, which is printed and not kept. */
export interface Invitation {
  readonly page: Page
  /** Undefined if the operator has set who may log in. */
  readonly token: string | undefined
}

/** What another version of the server goes on with: the SHA-256 of the token, in hex. */
export const freeze = ({ page: { operatorSha256 } }: Invitation): { readonly operatorSha256: string | null } => ({
  operatorSha256: operatorSha256?.toString("hex") ?? null
})

/** The SHA-256 in the state of the version before; undefined if there is none. */
export const hashIn = (state: unknown): Buffer | undefined => {
  const hash = isRecord(state) ? state["operatorSha256"] : undefined
  return typeof hash === "string" && /^[0-9a-f]{64}$/.test(hash) ? Buffer.from(hash, "hex") : undefined
}

/**
 * Makes a token, unless operators or viewers have one in a file, or the version before has made the one with this
 * SHA-256. Undefined if there is no console.
 */
export const make = (listen: ListenConfig, known?: Buffer): Invitation | undefined => {
  if (listen._tag !== "WebSocket" || listen.console === undefined) return undefined
  const { operatorFile, viewerFile } = listen.roles
  const { publicUrl } = listen.console
  if (operatorFile !== undefined || viewerFile !== undefined) return { page: { publicUrl }, token: undefined }
  if (known !== undefined) return { page: { publicUrl, operatorSha256: known }, token: undefined }
  const token = randomBytes(32).toString("base64url")
  return { page: { publicUrl, operatorSha256: createHash("sha256").update(token).digest() }, token }
}

/** The address for a browser. A browser does not open a unix socket, or an address that stands for all. */
const baseOf = (server: string, publicUrl: URL | undefined): string => {
  if (publicUrl !== undefined) return publicUrl.href.replace(/\/$/, "")
  if (server.startsWith("unix:")) return "http://localhost:8080"
  return server.replace(/^ws/, "http").replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
}

/** What a person reads. The token is in the fragment, which browsers send to nobody. */
export const sentence = ({ page: { publicUrl }, token }: Invitation, server: string): string => {
  const login = token === undefined ? "" : `#token=${token}`
  const [, socket] = publicUrl === undefined ? (/^unix:\/\/(.*)$/.exec(server) ?? []) : []
  const tunnel = socket === undefined ? "" : ` through a tunnel: ssh -L 8080:${socket} HOST`
  return `exec-server console at ${baseOf(server, publicUrl)}/console${login}${tunnel}`
}

/** Prints it on stderr, once. */
export const announce = (invitation: Invitation | undefined, server: string): Effect.Effect<void> =>
  Effect.sync(() => {
    if (invitation !== undefined) process.stderr.write(`${sentence(invitation, server)}\n`)
  })
