/**
 * Listening on a path: nobody but the owner may connect, nothing but a dead server's socket is ever replaced, and the
 * path is free again afterwards.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { randomBytes } from "node:crypto"
import { chmodSync, linkSync, lstatSync, mkdtempSync, renameSync, rmSync, type Stats, unlinkSync } from "node:fs"
import { createConnection, type Server } from "node:net"
import { dirname, join } from "node:path"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as OsError from "../process/OsError.js"
import { ListenError } from "./Transport.js"

/** How long a server may take to accept, in milliseconds; it lives if it takes longer. */
const probeMs = 2000

/** What the system's addresses hold of a path, in bytes. */
const maxPathBytes = process.platform === "linux" ? 107 : 103

/** What is at a path. */
type Occupant = "nothing" | "deadSocket" | "liveSocket" | "other"

const statOf = (path: string): Stats | undefined => lstatSync(path, { throwIfNoEntry: false })

/** Only a refusal says that nobody listens any more; any other trouble may be a living server's. */
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

/**
 * Makes a server listen at a path until the scope closes. The server itself has to be closed later than the scope, or
 * right after it.
 */
export const listen = (server: Server, path: string): Effect.Effect<void, ListenError, Scope.Scope> => {
  const fail = (why: string) => new ListenError({ message: `cannot listen on unix://${path}: ${why}` })
  const attempt = <A>(f: () => A): Effect.Effect<A, ListenError> =>
    Effect.try({ try: f, catch: (error) => fail(OsError.describe(error)) })
  const inUse = fail("another server listens there")

  const look = (at: string): Effect.Effect<Occupant, ListenError> =>
    Effect.flatMap(
      attempt(() => statOf(at)),
      (stat): Effect.Effect<Occupant> => {
        if (stat === undefined) return Effect.succeed("nothing")
        if (!stat.isSocket()) return Effect.succeed("other")
        return Effect.map(isDead(at), (dead) => (dead ? "deadSocket" : "liveSocket"))
      }
    )

  const refuse = (occupant: Occupant) =>
    occupant === "liveSocket" ? inUse : fail("what is there is not a socket, and is left alone")

  /** Makes room. What is to be removed is moved aside first: by then it may be another server's new socket. */
  const clear = Effect.gen(function* () {
    const found = yield* look(path)
    if (found === "nothing") return
    if (found !== "deadSocket") return yield* refuse(found)
    const aside = join(dirname(path), `.${randomBytes(4).toString("hex")}`)
    yield* attempt(() => renameSync(path, aside))
    const moved = yield* look(aside)
    if (moved === "deadSocket") return yield* attempt(() => unlinkSync(aside))
    yield* attempt(() => linkSync(aside, path))
    yield* attempt(() => unlinkSync(aside))
    return yield* refuse(moved)
  })

  const bind = (inner: string) =>
    Effect.async<void, ListenError>((resume) => {
      server.once("error", (error) => resume(fail(OsError.describe(error))))
      server.listen({ path: inner }, () => resume(Effect.void))
    })

  /**
   * The socket is made in a folder that only the owner can enter, and gets its name when it is ready: a link never
   * replaces anything. Node.js removes the name it knows at the end, whoever has it then; it never knows this one.
   */
  const settle = Effect.acquireUseRelease(
    attempt(() => mkdtempSync(join(dirname(path), "."))),
    (folder) => {
      const inner = join(folder, "s")
      return Effect.gen(function* () {
        if (Buffer.byteLength(inner) > maxPathBytes) return yield* fail("the path is too long for a socket")
        yield* bind(inner)
        return yield* Effect.try({
          try: () => {
            chmodSync(inner, 0o600)
            linkSync(inner, path)
            return lstatSync(path)
          },
          catch: (error) => (OsError.codeOf(error) === "EEXIST" ? inUse : fail(OsError.describe(error)))
        })
      })
    },
    (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
  )

  const leave = (own: Stats) =>
    Effect.ignore(
      attempt(() => {
        const stat = statOf(path)
        if (stat?.ino === own.ino && stat.dev === own.dev) unlinkSync(path)
      })
    )

  return Effect.gen(function* () {
    if (Buffer.byteLength(path) > maxPathBytes) return yield* fail("the path is too long for a socket")
    yield* clear
    yield* Effect.acquireRelease(settle, leave)
  })
}
