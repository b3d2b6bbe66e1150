/**
 * Listens on a unix socket: only the owner may connect, only a dead server's socket is ever replaced, and the path is
 * free again afterwards.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { type BigIntStats, chmodSync, linkSync, lstatSync, mkdtempSync, rmSync, unlinkSync } from "node:fs"
import { createConnection, type Server } from "node:net"
import { dirname, join } from "node:path"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as OsError from "../protocol/OsError.js"
import { ListenError } from "./Transport.js"

/** How long a server may take to accept, in milliseconds. A slower one is considered alive. */
const probeMs = 2000

/** The longest path of a unix socket, in bytes. */
const maxPathBytes = process.platform === "linux" ? 107 : 103

const statOf = (path: string): BigIntStats | undefined => lstatSync(path, { bigint: true, throwIfNoEntry: false })

/** What tells a socket file from one that is made at its path later. */
export type Identity = Pick<BigIntStats, "dev" | "ino" | "mtimeNs">

/** Whether it is the same socket file. Inode numbers are reused, so times are compared too; they never change. */
const isSame = (one: BigIntStats | undefined, other: Identity) =>
  one !== undefined && one.dev === other.dev && one.ino === other.ino && one.mtimeNs === other.mtimeNs

/** Only ECONNREFUSED proves that nobody listens; any other error may come from a live server. */
const isDead = (path: string): Effect.Effect<boolean> =>
  Effect.async<boolean>((resume) => {
    const probe = createConnection({ path })
    probe.once("connect", () => {
      probe.destroy()
      resume(Effect.succeed(false))
    })
    probe.once("error", (error) => resume(Effect.succeed(OsError.codeOf(error) === "ECONNREFUSED")))
    return Effect.sync(() => probe.destroy())
  }).pipe(
    Effect.interruptible,
    Effect.timeoutTo({ duration: probeMs, onSuccess: (dead) => dead, onTimeout: () => false })
  )

/** Removes a socket file, unless another one is at its path. */
const leave = (path: string, own: Identity): Effect.Effect<void> =>
  Effect.ignore(
    Effect.try(() => {
      if (isSame(statOf(path), own)) unlinkSync(path)
    })
  )

/** Takes over the file of a socket on which the version before has listened. It is removed when the scope closes. */
export const adopt = (path: string, own: Identity): Effect.Effect<void, never, Scope.Scope> =>
  Effect.addFinalizer(() => leave(path, own))

/**
 * Makes a server listen at a path until the scope closes, and returns the identity of the file. The caller closes the
 * server afterwards.
 */
export const listen = (server: Server, path: string): Effect.Effect<Identity, ListenError, Scope.Scope> => {
  const fail = (why: string) => new ListenError({ message: `cannot listen on unix://${path}: ${why}` })
  const attempt = <A>(f: () => A): Effect.Effect<A, ListenError> =>
    Effect.try({ try: f, catch: (error) => fail(OsError.describe(error)) })
  const inUse = fail("another server listens there")

  /** Removes the socket file of a dead server. */
  const clear = Effect.gen(function* () {
    const found = yield* attempt(() => statOf(path))
    if (found === undefined) return
    if (!found.isSocket()) return yield* fail("what is there is not a socket, and is left alone")
    if (!(yield* isDead(path))) return yield* inUse
    yield* attempt(() => {
      // Another process may have removed it too, and may be listening there now.
      if (isSame(statOf(path), found)) unlinkSync(path)
    })
  })

  const bind = (inner: string) =>
    Effect.async<void, ListenError>((resume) => {
      server.once("error", (error) => resume(fail(OsError.describe(error))))
      server.listen({ path: inner }, () => resume(Effect.void))
    })

  /**
   * The socket is made in a folder that only the owner can enter, and linked to its path when ready: a link never
   * replaces anything. At the end Node.js removes the name it knows, whoever uses it then; it knows only the first one.
   */
  const settle = Effect.acquireUseRelease(
    // Not `join`: it would drop the dot, and make the folder in the parent of the path's folder.
    attempt(() => mkdtempSync(`${dirname(path)}/.`)),
    (folder) => {
      const inner = join(folder, "s")
      return Effect.gen(function* () {
        if (Buffer.byteLength(inner) > maxPathBytes) return yield* fail("the path is too long for a socket")
        yield* bind(inner)
        return yield* Effect.try({
          try: () => {
            chmodSync(inner, 0o600)
            linkSync(inner, path)
            return lstatSync(path, { bigint: true })
          },
          catch: (error) => (OsError.codeOf(error) === "EEXIST" ? inUse : fail(OsError.describe(error)))
        })
      })
    },
    (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
  )

  return Effect.gen(function* () {
    if (Buffer.byteLength(path) > maxPathBytes) return yield* fail("the path is too long for a socket")
    yield* clear
    return yield* Effect.acquireRelease(settle, (own) => leave(path, own))
  })
}
