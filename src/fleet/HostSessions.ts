/**
 * What a host tells the fleet of its sessions: each change has a number, and each report, so that a late one changes
 * nothing.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as SessionRegistry from "../session/SessionRegistry.js"
import type { ToGateway } from "./FleetMessages.js"

/** A report of all sessions. */
export type Report = Extract<ToGateway, { readonly method: "fleet/sessions" }>

/** How long the end of a session is repeated, in milliseconds, and of how many. */
const ended = { keepMs: 60_000, most: 4096 } as const

/** The sessions of a host. */
export interface HostSessions {
  readonly report: () => Report
  /** Ends sessions by their ids; if `onlyIdle`, those alone that are. */
  readonly end: (ids: ReadonlyArray<string>, onlyIdle: boolean) => Effect.Effect<void>
  readonly endAll: Effect.Effect<void>
  readonly stop: () => void
}

/** The name of a connection that a gateway has been given. */
export const peerName = (gateway: string, number: number): string => `fleet ${gateway} ${number}`

const gatewayOf = (peer: string): string | undefined => /^fleet (\S+) \d+$/.exec(peer)?.[1]

/** Whether a session gives way to others: its client has left, without asking that it be kept, and nothing runs in it. */
const isIdle = (session: SessionRegistry.Session) =>
  session.tag === "Detached" && !session.isKept && session.info(false).running === 0

/** Follows the sessions of a server; calls back when there is something to report. */
export const make = (
  { console, find, list, endOne }: Pick<SessionRegistry.Shape, "console" | "find" | "list" | "endOne">,
  onChange: () => void
): HostSessions => {
  const changes = new Map<string, number>()
  const ids = new Map<string, string>()
  const over = new Map<string, number>()
  let reports = 0

  const onEvent = (event: { readonly type: string; readonly session: string }) => {
    if (!event.type.startsWith("session.")) return
    if (event.type === "session.ended") {
      const id = ids.get(event.session)
      ids.delete(event.session)
      if (id === undefined) return
      changes.delete(id)
      over.set(id, performance.now())
      const [oldest] = over.keys()
      if (over.size > ended.most && oldest !== undefined) over.delete(oldest)
    } else {
      const id = find(event.session)?.id
      if (id === undefined) return
      ids.set(event.session, id)
      changes.set(id, (changes.get(id) ?? 0) + 1)
    }
    onChange()
  }
  const watcher = console.watch(
    {
      output: () => {},
      notify: (_, params) => onEvent(params as { type: string; session: string }),
      isCongested: () => false
    },
    () => true
  )

  const endEach = (wanted: (session: SessionRegistry.Session) => boolean) =>
    Effect.suspend(() => Effect.forEach(list().filter(wanted), endOne, { concurrency: "unbounded", discard: true }))

  return {
    report: () => {
      const now = performance.now()
      for (const [id, at] of over) if (now - at > ended.keepMs) over.delete(id)
      const sessions = list().map((session) => {
        const gateway = gatewayOf(session.info(false).peer)
        const state = session.tag === "Detached" ? ("detached" as const) : ("attached" as const)
        const attach = changes.get(session.id) ?? 0
        const entry = { id: session.id, attach, state, idle: isIdle(session) }
        return gateway === undefined ? entry : { ...entry, gateway }
      })
      reports++
      return { method: "fleet/sessions", params: { number: reports, sessions, ended: Array.from(over.keys()) } }
    },
    end: (wanted, onlyIdle) => {
      const set = new Set(wanted)
      return endEach((session) => set.has(session.id) && (!onlyIdle || isIdle(session)))
    },
    endAll: endEach(() => true),
    stop: watcher.stop
  }
}
