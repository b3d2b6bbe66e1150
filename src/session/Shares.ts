/**
 * The shares of a server: tokens for one process each. They live in memory, like the processes. Of a token only its hash
 * is kept.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { createHash, randomBytes, timingSafeEqual } from "node:crypto"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import type { ManagedProcess } from "../process/ManagedProcess.js"
import { LimitReached, NotAllowed } from "../protocol/Failure.js"
import { ProcessId } from "../protocol/Ids.js"
import type { ShareInfo } from "../protocol/ShareApi.js"
import type { Grant } from "./Grant.js"
import type { Part, Session } from "./SessionRegistry.js"
import type { ShareState } from "./SessionsState.js"

/** The beginning of every token, which tells it from other bearer tokens. */
const prefix = "share-"

/**
 * The most shares by default.
 *
 * @category constants
 */
export const defaultMaxShares = 256

/**
 * Why the server closes the connections of a share (code 1008).
 *
 * @category constants
 */
export const Ending = {
  revoked: "the share was revoked",
  full: "the share is in use by as many viewers as it permits (maxViewers)"
} as const

/**
 * What a share is made of.
 *
 * @category models
 */
export interface Options {
  readonly role: "viewer" | "operator"
  readonly expiresInMs: number
  readonly maxViewers?: number | undefined
  readonly label?: string | undefined
}

/**
 * The shares of a server.
 *
 * @category models
 */
export interface Shape {
  /** Makes a share; the token is known only here. */
  readonly create: (
    session: Session,
    process: ManagedProcess,
    options: Options
  ) => Either.Either<{ readonly info: ShareInfo; readonly token: string }, LimitReached>
  /** The shares that are valid, oldest first. */
  readonly list: () => ReadonlyArray<ShareInfo>
  /** Ends a share, and its connections. Returns whether there was one. */
  readonly revoke: (shareId: string) => boolean
  /** The grant of a token. `unknown`: a token of no share, or of one that is over. Undefined: no token of a share. */
  readonly find: (token: string) => Grant | "unknown" | undefined
  /** Hands them over with their sessions. */
  readonly part: Part<"shares">
}

const digest = (token: string): Buffer => createHash("sha256").update(token).digest()

/** One share. */
interface Share {
  readonly hash: Buffer
  readonly state: ShareState
  readonly grant: Grant
  readonly info: () => ShareInfo
  /** Whether its time is over, or its process forgotten. */
  readonly isOver: () => boolean
  readonly end: (reason: string) => void
}

const make = (maxShares: number): Effect.Effect<Shape> =>
  Effect.map(Effect.clock, (clock) => {
    const shares = new Map<string, Share>()

    /** Forgets those that are over. There is no timer: nothing uses a share without looking. */
    const sweep = () => {
      for (const [shareId, share] of shares) if (share.isOver()) shares.delete(shareId)
    }

    const add = (state: ShareState, session: Session, process: ManagedProcess): Share => {
      const { shareId, role, expiresAtMs, maxViewers, label } = state
      const scope = { session: session.handle, processId: process.processId }
      const connections = new Set<(reason: string) => void>()
      // The session may end, and the process be forgotten and its id reused, while the share is valid.
      const [ofSession, ofProcess] = [new WeakRef(session), new WeakRef(process)]
      const covers = (found: object | undefined) => found !== undefined && found === ofProcess.deref()
      const isOver = () =>
        clock.unsafeCurrentTimeMillis() >= expiresAtMs ||
        ofSession.deref()?.tag === "Ended" ||
        !covers(ofSession.deref()?.supervisor.find(scope.processId))
      const enter = (end: (reason: string) => void) => {
        if (!shares.has(shareId)) end(Ending.revoked)
        else if (connections.size >= (maxViewers ?? Number.POSITIVE_INFINITY)) end(Ending.full)
        else connections.add(end)
        return () => void connections.delete(end)
      }
      const share: Share = {
        hash: Buffer.from(state.hash, "base64"),
        state,
        grant: { id: `share:${shareId}`, role, scope, expiresAtMs, share: { enter, covers } },
        info: () => ({ shareId, ...scope, role, expiresAtMs, label, viewers: connections.size }),
        isOver,
        end: (reason) => {
          for (const end of connections) end(reason)
        }
      }
      shares.set(shareId, share)
      return share
    }

    return {
      create: (session, process, options) => {
        sweep()
        if (shares.size >= maxShares) {
          const advice = "revoke some with share/revoke"
          return Either.left(new LimitReached({ limit: "maxShares", value: maxShares, advice }))
        }
        const shareId = randomBytes(8).toString("hex")
        const token = `${prefix}${randomBytes(32).toString("base64url")}`
        const { role, expiresInMs, maxViewers = null, label = null } = options
        const state: ShareState = {
          shareId,
          hash: digest(token).toString("base64"),
          session: session.handle,
          processId: process.processId,
          role,
          expiresAtMs: clock.unsafeCurrentTimeMillis() + expiresInMs,
          maxViewers,
          label
        }
        return Either.right({ info: add(state, session, process).info(), token })
      },
      list: () => {
        sweep()
        return Array.from(shares.values(), ({ info }) => info())
      },
      revoke: (shareId) => {
        sweep()
        const share = shares.get(shareId)
        shares.delete(shareId)
        share?.end(Ending.revoked)
        return share !== undefined
      },
      find: (token) => {
        if (!token.startsWith(prefix)) return undefined
        sweep()
        const hash = digest(token)
        // All are compared, each in constant time.
        const [found] = Array.from(shares.values()).filter((share) => timingSafeEqual(share.hash, hash))
        return found?.grant ?? "unknown"
      },
      part: {
        name: "shares",
        freeze: () => {
          sweep()
          return Array.from(shares.values(), ({ state }) => state)
        },
        adopt: (states, find) => {
          for (const state of states) {
            const session = find(state.session)
            const process = session?.supervisor.find(ProcessId.make(state.processId))
            if (session !== undefined && process !== undefined) add(state, session, process)
          }
        },
        begin: () => {}
      }
    }
  })

/**
 * The shares of the server; undefined, the default, if its transport does not authenticate them.
 *
 * @category tags
 */
export class Shares extends Context.Reference<Shares>()("exec-server/Shares", {
  defaultValue: (): Shape | undefined => undefined
}) {}

/**
 * Why a server has no shares.
 *
 * @category errors
 */
export const unavailable = new NotAllowed({
  message: "this server has no shares: nobody could use them; it must listen on ws://IP:PORT or unix:///PATH"
})

/**
 * No shares yet. Provide it to the sessions and to the transport, with `Authenticator.layerShares`.
 *
 * @category layers
 */
export const layer = (maxShares: number = defaultMaxShares): Layer.Layer<never> => Layer.effect(Shares, make(maxShares))
