/**
 * `fleet`: shows and operates a fleet, by requests to one of its gateways.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { isRecord } from "effect/Predicate"
import * as Schema from "effect/Schema"
import { GatewayRow, HostRow, QuotaRow, SessionRow, WaitingRow } from "../fleet/FleetRows.js"
import * as PlainText from "../internal/PlainText.js"
import { CommandFailed, UsageError } from "./CommandExit.js"
import * as Table from "./Table.js"
import * as Target from "./Target.js"
import * as Terminal from "./Terminal.js"

/** The lists of a fleet. */
export type List = "hosts" | "sessions" | "waiting" | "gateways" | "quotas"

/** The time between two lists, in milliseconds. */
const intervalMs = 1000

/** The deadline of a request, in milliseconds: that of the gateway's database is shorter. */
const requestMs = 10_000

/** The characters of a session's key in a table. */
const keyLength = 13

const describe = (error: unknown): string => {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
  return cause instanceof Error ? cause.message : String(cause)
}

/** Sends a request to the gateway, and returns the JSON of its answer. */
const ask = (target: Target.Target, path: string, sent?: object) =>
  Effect.gen(function* () {
    const { base, token } = yield* Target.httpOf(target)
    const url = new URL(`${base.pathname.replace(/\/$/, "")}/fleet/${path}`, base)
    const headers = {
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...(sent === undefined ? {} : { "content-type": "application/json" })
    }
    const failed = (why: string) => new CommandFailed({ message: `${base.host}: ${why}` })
    const { status, body } = yield* Effect.tryPromise({
      try: async (signal) => {
        const init = sent === undefined ? {} : { method: "POST", body: JSON.stringify(sent) }
        const response = await fetch(url, { ...init, headers, redirect: "manual", signal })
        return { status: response.status, body: (await response.json().catch(() => undefined)) as unknown }
      },
      catch: (error) => failed(describe(error))
    }).pipe(Effect.timeoutFail({ duration: requestMs, onTimeout: () => failed("no answer in time") }))
    if (status === 200 && isRecord(body)) return body
    const why = isRecord(body) && typeof body["error"] === "string" ? body["error"] : undefined
    if (status === 401)
      return yield* failed("the token is missing or wrong; give --token-file with that of an operator")
    return yield* failed(why ?? `HTTP ${status}: it is no gateway of a fleet`)
  })

const cells = (labels: ReadonlyArray<string>) => (labels.length === 0 ? "-" : labels.join(","))

/** A table, and how a row of it is decoded and formatted. */
const table = <A, I>(
  row: Schema.Schema<A, I>,
  header: ReadonlyArray<string>,
  format: (row: A) => ReadonlyArray<string>
) => {
  const decode = Schema.decodeUnknown(Schema.Array(row))
  return (rows: unknown) => Effect.map(decode(rows), (all) => Table.format(header, all.map(format)))
}

const hosts = table(
  Schema.Struct({ ...HostRow.fields, connected: Schema.Boolean }),
  ["ID", "STATE", "SESSIONS", "LABELS", "VERSION", "EPOCH", "LEASE", "GATEWAY"],
  ({ id, state, incarnation, used, capacity, labels, version, epoch, leaseMs, gateway }) => [
    id,
    incarnation === null ? "lost" : state,
    `${used}/${capacity}`,
    cells(labels),
    version === "" ? "-" : version,
    String(epoch),
    incarnation === null ? "-" : Table.duration(leaseMs),
    gateway ?? "-"
  ]
)

const sessions = table(
  SessionRow,
  ["SESSION", "HOST", "SUBJECT", "STATE", "AGE", "GATEWAY", "REASON"],
  ({ key, host, subject, state, ageMs, changedMs, gateway, reason }) => [
    key.slice(0, keyLength),
    host,
    PlainText.quote(subject),
    state === "lost" ? `lost ${Table.duration(changedMs)} ago` : state,
    Table.duration(ageMs),
    gateway,
    reason ?? "-"
  ]
)

const waiting = table(WaitingRow, ["TICKET", "SUBJECT", "LABELS"], ({ ticket, subject, labels }) => [
  String(ticket),
  PlainText.quote(subject),
  cells(labels)
])

const gateways = table(GatewayRow, ["ID", "URL", "VERSION", "LEASE"], ({ id, url, version, leaseMs }) => [
  id,
  url ?? "-",
  version,
  Table.duration(leaseMs)
])

const quotas = table(QuotaRow, ["SUBJECT", "SESSIONS", "QUOTA"], ({ subject, used, max }) => [
  PlainText.quote(subject),
  String(used),
  max === null ? "default" : String(max)
])

const tables = { hosts, sessions, waiting, gateways, quotas } as const

/** The arguments of a list. */
export interface ListOptions {
  readonly target: Target.Target
  readonly what: List
  readonly query: Readonly<Record<string, string | undefined>>
  readonly json: boolean
  /** Repeat the list whenever it changes. */
  readonly watch: boolean
}

/** Prints a list as a table, or with `json` as one object per line. */
export const list = ({ target, what, query, json, watch }: ListOptions) =>
  Effect.gen(function* () {
    const search = new URLSearchParams()
    for (const [name, value] of Object.entries(query)) if (value !== undefined) search.set(name, value)
    const path = search.size === 0 ? what : `${what}?${search}`
    let shown: string | undefined
    const print = Effect.gen(function* () {
      const { [what]: rows } = yield* ask(target, path)
      const text = json
        ? (Array.isArray(rows) ? rows : []).map((row: unknown) => `${PlainText.json(row)}\n`).join("")
        : yield* Effect.mapError(
            tables[what](rows),
            () => new CommandFailed({ message: "the gateway is of another version: its answer is not understood" })
          )
      if (text === shown) return
      // On a terminal, the table replaces the previous one.
      const clear = !json && watch && Terminal.size() !== undefined ? "\u001b[H\u001b[2J" : ""
      shown = text
      yield* Terminal.write("stdout", `${clear}${text}`)
    })
    yield* print
    if (watch) yield* Effect.forever(Effect.delay(print, intervalMs))
  })

const hostPath = (host: string, action: string) => `hosts/${encodeURIComponent(host)}/${action}`

/** Asks for a change, and with `json` prints what was done as one object. */
const change = (target: Target.Target, json: boolean, path: string, sent: object) =>
  Effect.flatMap(ask(target, path, sent), (done) =>
    json ? Terminal.write("stdout", `${PlainText.json(done)}\n`) : Effect.void
  )

/** Changes what is placed on a host, or removes it. */
export const changeHost = ({
  target,
  json,
  host,
  action,
  deadlineMs
}: {
  readonly target: Target.Target
  readonly json: boolean
  readonly host: string
  readonly action: "cordon" | "drain" | "ready" | "forget"
  readonly deadlineMs: number | undefined
}) => change(target, json, hostPath(host, action), deadlineMs === undefined ? {} : { deadlineMs })

/** Lists the quotas, or sets that of one subject. */
export const quota = ({
  target,
  json,
  watch,
  subjects,
  sessions
}: {
  readonly target: Target.Target
  readonly json: boolean
  readonly watch: boolean
  readonly subjects: ReadonlyArray<string>
  readonly sessions: string | undefined
}) =>
  Effect.gen(function* () {
    const [subject, ...others] = subjects
    if (subject === undefined && sessions === undefined) {
      return yield* list({ target, what: "quotas", query: {}, json, watch })
    }
    if (subject === undefined || others.length > 0 || sessions === undefined) {
      return yield* new UsageError({ message: "to set a quota, give one SUBJECT and --sessions N" })
    }
    if (watch) return yield* new UsageError({ message: "--watch is for the list of quotas, without a SUBJECT" })
    if (sessions !== "default" && !/^\d{1,6}$/.test(sessions)) {
      return yield* new UsageError({ message: `--sessions must be a number or \`default\`, not \`${sessions}\`` })
    }
    const max = sessions === "default" ? null : Number(sessions)
    yield* change(target, json, `quotas/${encodeURIComponent(subject)}`, { sessions: max })
  })

/** Ends a session. */
export const end = ({
  target,
  json,
  session
}: {
  readonly target: Target.Target
  readonly json: boolean
  readonly session: string
}) => change(target, json, `sessions/${encodeURIComponent(session)}/end`, {})
