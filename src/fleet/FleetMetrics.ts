/**
 * The metrics of a gateway. Their labels are of fixed sets: no names of hosts or subjects.
 *
 * @since 0.1.0
 */
import type { Duplex } from "node:stream"
import * as Metric from "effect/Metric"
import * as MetricBoundaries from "effect/MetricBoundaries"
import * as MetricLabel from "effect/MetricLabel"
import type { HostRow } from "./FleetRows.js"

const gauge = (name: string, description: string) => Metric.gauge(`exec_fleet_${name}`, { description })

const counter = (name: string, description: string) =>
  Metric.counter(`exec_fleet_${name}`, { description, incremental: true })

const hosts = gauge("hosts", "Hosts by state; `lost` are those that no gateway hears.")
const capacity = gauge("capacity", "Places for sessions on all hosts that are heard.")
const sessions = gauge("sessions", "Sessions that have a place, by state.")
const waiting = gauge("waiting", "Clients that wait for a place, at all gateways.")
const leaseSeconds = gauge("lease_remaining_seconds", "What is left of the shortest lease of a host.")
const databaseUp = gauge("database_up", "Whether the directory answers this gateway.")
const carried = gauge("carried", "Sessions that this gateway carries.")
const heard = gauge("hosts_connected", "Hosts that are connected to this gateway.")
const placeSeconds = Metric.histogram(
  "exec_fleet_place_seconds",
  MetricBoundaries.fromIterable([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 4, 10]),
  "The time from `initialize` to the place of a new session, with the time that it waited."
)
const placements = counter("placements_total", "Requests for a new session at this gateway, by outcome.")
const resumes = counter("resumes_total", "Requests for an existing session at this gateway, by outcome.")
const losses = counter("lost_total", "Hosts whose epoch this gateway has ended, by reason.")
const bytes = counter("bytes_total", "Bytes that this gateway has passed on, by direction.")

const states = ["ready", "cordoned", "draining", "lost"] as const
const sessionStates = ["placing", "attached", "detached"] as const
const placementOutcomes = ["placed", "quota", "full", "failed"] as const
const resumeOutcomes = ["resumed", "lost", "unknown", "later", "refused"] as const
const lossReasons = ["lease", "left"] as const
const directions = ["in", "out"] as const

/** What became of a request for a new session. */
export type PlacementOutcome = (typeof placementOutcomes)[number]

/** What became of a request for an existing session. */
export type ResumeOutcome = (typeof resumeOutcomes)[number]

/** Labels are made once: an update costs a look-up. */
const labelled = <V extends string>(
  name: string,
  values: ReadonlyArray<V>
): Readonly<Record<V, ReadonlyArray<MetricLabel.MetricLabel>>> =>
  // The cast is safe: each value has its entry.
  Object.fromEntries(values.map((value) => [value, [MetricLabel.make(name, value)]])) as unknown as Readonly<
    Record<V, ReadonlyArray<MetricLabel.MetricLabel>>
  >

const ofState = labelled("state", states)
const ofSessionState = labelled("state", sessionStates)
const ofPlacement = labelled("outcome", placementOutcomes)
const ofResume = labelled("outcome", resumeOutcomes)
const ofLoss = labelled("reason", lossReasons)
const ofDirection = labelled("direction", directions)

/** Makes all of them appear before anything has happened. */
export const register = (): void => {
  for (const labels of Object.values(ofPlacement)) placements.unsafeUpdate(0, labels)
  for (const labels of Object.values(ofResume)) resumes.unsafeUpdate(0, labels)
  for (const labels of Object.values(ofLoss)) losses.unsafeUpdate(0, labels)
  for (const labels of Object.values(ofDirection)) bytes.unsafeUpdate(0, labels)
}

/** A new session was asked for; it took so many milliseconds. */
export const placed = (outcome: PlacementOutcome, ms: number): void => {
  placements.unsafeUpdate(1, ofPlacement[outcome])
  if (outcome === "placed") placeSeconds.unsafeUpdate(ms / 1000, [])
}

/** An existing session was asked for. */
export const resumed = (outcome: ResumeOutcome): void => resumes.unsafeUpdate(1, ofResume[outcome])

/** Hosts were lost: their lease lapsed, or they left. */
export const lost = (reason: (typeof lossReasons)[number], count: number): void =>
  losses.unsafeUpdate(count, ofLoss[reason])

/** The state of a gateway when it is asked for its metrics. */
export interface Observed {
  readonly rows: Iterable<HostRow>
  /** From the directory; undefined if it does not answer. */
  readonly counts: ReadonlyArray<{ readonly what: string; readonly n: number }> | undefined
  readonly heard: number
  readonly isUp: boolean
}

/** Sets the gauges. What the directory does not say stays as it was. */
export const observe = ({ rows, counts, heard: connected, isUp }: Observed): void => {
  const all = Array.from(rows)
  const alive = all.filter(({ incarnation }) => incarnation !== null)
  for (const state of states) {
    const inState = state === "lost" ? all.length - alive.length : alive.filter((row) => row.state === state).length
    hosts.unsafeUpdate(inState, ofState[state])
  }
  capacity.unsafeUpdate(
    alive.reduce((sum, row) => sum + row.capacity, 0),
    []
  )
  const shortest = Math.min(...alive.map(({ leaseMs }) => leaseMs))
  leaseSeconds.unsafeUpdate(Number.isFinite(shortest) ? shortest / 1000 : 0, [])
  heard.unsafeUpdate(connected, [])
  databaseUp.unsafeUpdate(isUp ? 1 : 0, [])
  carried.unsafeUpdate(splices.size, [])
  for (const splice of splices) count(splice)
  if (counts === undefined) return
  const of = (what: string) => counts.find((row) => row.what === what)?.n ?? 0
  for (const state of sessionStates) sessions.unsafeUpdate(of(state), ofSessionState[state])
  waiting.unsafeUpdate(of("waiting"), [])
}

/** A client and its host, and what of their bytes was counted. */
interface Splice {
  readonly client: Duplex
  readonly upstream: Duplex
  in: number
  out: number
}

const splices = new Set<Splice>()

/** The bytes that were read from a socket: the sockets count them anyway. Relay streams do not. */
const readFrom = (socket: Duplex): number => ("bytesRead" in socket ? Number(socket.bytesRead) : 0)

const count = (splice: Splice) => {
  const [read, written] = [readFrom(splice.client), readFrom(splice.upstream)]
  bytes.unsafeUpdate(read - splice.in, ofDirection.in)
  bytes.unsafeUpdate(written - splice.out, ofDirection.out)
  splice.in = read
  splice.out = written
}

/** A session is carried until the returned function is called. */
export const carry = (client: Duplex, upstream: Duplex): (() => void) => {
  const splice = { client, upstream, in: 0, out: 0 }
  splices.add(splice)
  return () => {
    count(splice)
    splices.delete(splice)
  }
}
