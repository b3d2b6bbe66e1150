/**
 * What operators ask of a fleet, over HTTP at any gateway: lists of what the directory knows, and changes of hosts, quotas
 * and sessions. Every answer is JSON; that of a refusal has a member `error` with a sentence.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { isRecord } from "effect/Predicate"
import { timerMs } from "../internal/Timer.js"
import type { Shape as Directory, DirectoryUnavailable } from "./DirectoryApi.js"
import type { FleetLink } from "./FleetLink.js"
import type { HostRow, SessionRow } from "./FleetRows.js"

/** What the operations need of their gateway. */
export interface Options {
  readonly directory: Directory
  /** The hosts that are heard, by id. */
  readonly heard: () => ReadonlyMap<string, FleetLink>
}

/** A request of an operator. */
export interface Request {
  readonly method: string
  /** The path after `/fleet/`, decoded, by its slashes. */
  readonly path: ReadonlyArray<string>
  readonly query: URLSearchParams
  /** JSON; null if there is none. */
  readonly body: unknown
  /** Who asks. */
  readonly caller: { readonly subject: string; readonly role: string }
}

/** The answer to it. */
export interface Answer {
  readonly status: number
  readonly body: object
}

/** The most sessions of a quota. */
const maxQuota = 1_000_000

/** The fewest characters of a key that name a session. */
const minKeyLength = 8

const done = (body: object): Answer => ({ status: 200, body })

const refused = (status: number, error: string): Answer => ({ status, body: { error } })

const unknownHost = (id: string) => refused(404, `the fleet has no host ${id}`)

/** Whether a request changes something: viewers may not. */
export const isChange = ({ method }: Pick<Request, "method">): boolean => method !== "GET"

/** Answers a request. */
export const handle = ({ directory, heard }: Options, request: Request): Effect.Effect<Answer> => {
  const { method, query, body } = request
  const [what = "", name = "", action = ""] = request.path

  const hosts = Effect.map(directory.hosts, (rows) => {
    const here = heard()
    return done({ hosts: rows.map((row) => ({ ...row, connected: here.has(row.id) })) })
  })

  const sessions = Effect.map(directory.sessions, (rows) => {
    const [host, subject] = [query.get("host"), query.get("subject")]
    const isLost = query.get("lost") === "true"
    const wanted = ({ state, ...row }: SessionRow) =>
      (state === "lost") === isLost &&
      (host === null || row.host === host) &&
      (subject === null || row.subject === subject)
    return done({ sessions: rows.filter(wanted) })
  })

  const list = (): Effect.Effect<Answer, DirectoryUnavailable> | undefined => {
    switch (what) {
      case "caller":
        return Effect.succeed(done({ caller: request.caller }))
      case "hosts":
        return hosts
      case "sessions":
        return sessions
      case "waiting":
        return Effect.map(directory.waiting, (waiting) => done({ waiting }))
      case "gateways":
        return Effect.map(directory.gateways, (gateways) => done({ gateways }))
      case "quotas":
        return Effect.map(directory.quotas, (quotas) => done({ quotas }))
      default:
        return undefined
    }
  }

  const setState = (state: HostRow["state"], deadlineMs?: number) =>
    Effect.map(directory.setState(name, state, deadlineMs), (isFound) =>
      isFound ? done({ host: name, state }) : unknownHost(name)
    )

  const forget = Effect.gen(function* () {
    if (yield* directory.forget(name)) return done({ host: name, state: "forgotten" })
    const isKnown = (yield* directory.hosts).some(({ id }) => id === name)
    return isKnown
      ? refused(409, `${name} has not left, and is not lost; drain it, or end it first`)
      : unknownHost(name)
  })

  const changeHost = (): Effect.Effect<Answer, DirectoryUnavailable> => {
    switch (action) {
      case "cordon":
        return setState("cordoned")
      case "ready":
        return setState("ready")
      case "drain": {
        const deadlineMs = isRecord(body) ? body["deadlineMs"] : undefined
        if (deadlineMs === undefined) return setState("draining")
        if (typeof deadlineMs !== "number" || !(deadlineMs >= 0) || deadlineMs !== timerMs(deadlineMs)) {
          return Effect.succeed(refused(400, "deadlineMs must be a number of milliseconds, at most 24 days"))
        }
        return setState("draining", deadlineMs)
      }
      case "forget":
        return forget
      default:
        return Effect.succeed(refused(404, `a host has no operation ${action}`))
    }
  }

  const setQuota = (): Effect.Effect<Answer, DirectoryUnavailable> => {
    const max = isRecord(body) ? body["sessions"] : undefined
    const isNumber = typeof max === "number" && Number.isInteger(max) && max >= 0 && max <= maxQuota
    return max === null || isNumber
      ? Effect.as(directory.setQuota(name, isNumber ? max : undefined), done({ subject: name, sessions: max }))
      : Effect.succeed(refused(400, `sessions must be a number up to ${maxQuota}, or null for the default`))
  }

  const end = Effect.gen(function* () {
    const rows = yield* directory.sessions
    const matching = rows.filter(({ key, state }) => state !== "lost" && key.startsWith(name))
    const [row] = matching
    if (row === undefined || name.length < minKeyLength) return refused(404, `the fleet has no session ${name}`)
    if (matching.length > 1) return refused(409, `${name} is the beginning of ${matching.length} sessions`)
    if (row.innerId === null) return refused(409, "the session is being opened; try again")
    const link = heard().get(row.host)
    if (link === undefined || link.host.epoch !== row.epoch) {
      return refused(503, `its host ${row.host} is not connected to this gateway; try again, or another gateway`)
    }
    if (link.host.control === undefined) {
      return refused(409, `its host ${row.host} takes no orders of a fleet: the session ends with its client`)
    }
    link.send({ method: "fleet/end", params: { sessions: [row.innerId], onlyIdle: false } })
    return done({ session: row.key, host: row.host })
  })

  const change = (): Effect.Effect<Answer, DirectoryUnavailable> | undefined => {
    if (what === "hosts" && action !== "") return changeHost()
    if (what === "quotas" && name !== "" && action === "") return setQuota()
    return what === "sessions" && action === "end" ? end : undefined
  }

  const isList = name === ""
  const answer = method === "GET" && isList ? list() : method === "POST" && !isList ? change() : undefined
  return (answer ?? Effect.succeed(refused(404, "there is no such operation"))).pipe(
    Effect.catchAll(({ message }) => Effect.succeed(refused(503, message)))
  )
}
