/**
 * What the directory of a fleet is asked: its statements, what they take, and what they answer.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"
import type { GatewayRow, HostRow, QuotaRow, SessionRow, WaitingRow } from "./FleetRows.js"

/** The directory could not be asked. The message says why. */
export class DirectoryUnavailable extends Data.TaggedError("DirectoryUnavailable")<{ readonly message: string }> {}

/** The directory's database cannot be opened or migrated. The message is a sentence for the operator. */
export class DirectoryOpenError extends Data.TaggedError("DirectoryOpenError")<{ readonly message: string }> {}

/** The id of a host is held by another process that is heard. */
export class HostTaken extends Data.TaggedError("HostTaken")<{ readonly id: string }> {}

/** How a host presents itself. */
export interface HostDescription {
  readonly id: string
  /** A random name of this process; another process under the same id has another one. */
  readonly incarnation: string
  readonly labels: ReadonlyArray<string>
  /** The most sessions. */
  readonly capacity: number
  readonly version: string
}

/** A gateway, and where hosts can reach this one; undefined if only the address of all is known. */
export interface GatewayDescription {
  readonly id: string
  readonly url: string | undefined
  readonly version: string
}

/** The number and the epoch of a registered host; ids of sessions carry both. */
export interface Registered {
  readonly no: number
  readonly epoch: number
}

/** What is wanted of a host. */
export interface Wanted {
  /** A new random key of the session's row. */
  readonly key: string
  readonly subject: string
  readonly labels: ReadonlyArray<string>
  /** The ticket of a client that waits. */
  readonly ticket?: number | undefined
  /** The gateway that asks. */
  readonly gateway: string
  /** The hosts that the gateway can reach. */
  readonly heard: ReadonlyArray<string>
}

/** The outcome of a placement. */
export type Placement = Data.TaggedEnum<{
  Placed: {
    readonly host: string
    readonly no: number
    readonly epoch: number
    /** The idle sessions that have given way to it: their hosts must end them. */
    readonly displaced: ReadonlyArray<{ readonly host: string; readonly id: string }>
  }
  /** The subject has as many sessions as it may. */
  OverQuota: object
  /** No host that fits has room, or others wait for it. */
  Full: object
}>
export const Placement = Data.taggedEnum<Placement>()

/** What a host says about one of its sessions. */
export interface ReportedSession {
  readonly id: string
  /** The host's number of the last change. */
  readonly attach: number
  readonly state: "attached" | "detached"
  /** Whether its client has left it, and nothing runs in it: it gives way to others. */
  readonly idle?: boolean | undefined
  /** The gateway that carries it. */
  readonly gateway?: string | undefined
}

/** An answer of the directory, which may be away. */
export type Asked<A, E = never> = Effect.Effect<A, E | DirectoryUnavailable>

/** The statements of the directory. Each is one transaction. */
export interface Shape {
  /**
   * Registers a host, or an incarnation of it again. A new incarnation gets a new epoch. Fails while another incarnation
   * holds the id. The answer is on disk.
   */
  readonly register: (host: HostDescription, gateway: string) => Asked<Registered, HostTaken>
  /**
   * Renews the leases of the hosts that a gateway hears, and its own. Returns the ids of those whose epoch has ended:
   * they were declared lost.
   */
  readonly renew: (
    gateway: GatewayDescription,
    hosts: ReadonlyArray<{ readonly id: string; readonly epoch: number }>
  ) => Asked<ReadonlyArray<string>>
  /**
   * Declares hosts lost whose lease has lapsed, and returns their ids. Does nothing unless the gateway's own lease has
   * held for a whole lease: after an outage of the database all leases have lapsed. The answer is on disk.
   */
  readonly lose: (gateway: string) => Asked<ReadonlyArray<string>>
  /** Declares one incarnation lost at once: it says so itself. */
  readonly leave: (id: string, epoch: number) => Asked<void>
  /** Takes a place for a session. Bound or released within 20 seconds, or the place is given back. */
  readonly place: (wanted: Wanted) => Asked<Placement>
  /** Writes down the id that the host has given. False if the place was given back or the host was lost. */
  readonly bind: (key: string, innerId: string) => Asked<boolean>
  /** Gives back the place of a session. */
  readonly release: (key: string, reason: string) => Asked<void>
  /** Sets the state of a session whose host does not report. It ends after `keepMs` milliseconds without another call. */
  readonly touch: (
    host: string,
    epoch: number,
    innerId: string,
    state: "attached" | "detached",
    gateway: string,
    keepMs: number
  ) => Asked<void>
  /**
   * Takes over what a host says about its sessions, and about those that have ended. A session that the report lacks has
   * ended as well, unless it is new, or a report with a greater number of the same epoch has come before.
   */
  readonly report: (
    host: string,
    epoch: number,
    sessions: ReadonlyArray<ReportedSession>,
    ended: ReadonlyArray<string>,
    number?: number
  ) => Asked<void>
  /** Joins those who wait for a host; the row lapses after `ms` milliseconds unless `stay` renews it. */
  readonly wait: (subject: string, labels: ReadonlyArray<string>, ms: number) => Asked<number>
  readonly stay: (ticket: number, ms: number) => Asked<void>
  readonly quit: (ticket: number) => Asked<void>
  /** Ends what nobody has bound or reported in time, and forgets what is long over. */
  readonly tidy: Asked<void>
  readonly hosts: Asked<ReadonlyArray<HostRow>>
  readonly gateways: Asked<ReadonlyArray<GatewayRow>>
  /** The sessions that are not over, and those that were lost in the last hour. */
  readonly sessions: Asked<ReadonlyArray<SessionRow>>
  readonly waiting: Asked<ReadonlyArray<WaitingRow>>
  /** The subjects that have a quota of their own, or a session. */
  readonly quotas: Asked<ReadonlyArray<QuotaRow>>
  /** How many sessions there are in each state, and how many clients wait. */
  readonly counts: Asked<ReadonlyArray<{ readonly what: string; readonly n: number }>>
  /** Sets whether sessions are placed on a host; with `draining`, when it is shut down at the latest. False if unknown. */
  readonly setState: (id: string, state: HostRow["state"], deadlineMs?: number) => Asked<boolean>
  /** Removes a host that is lost or has left. False if there is none. */
  readonly forget: (id: string) => Asked<boolean>
  /** Sets the most sessions of a subject; undefined for the default. */
  readonly setQuota: (subject: string, max: number | undefined) => Asked<void>
  /** The secret of this name, the same for all gateways; made when it is first asked for. */
  readonly secret: (name: string) => Asked<string>
  /** A gateway leaves: its lease ends. */
  readonly close: (gateway: string) => Asked<void>
  /** Calls back when something has changed that a waiting client or a gateway should look at. Not reliable. */
  readonly onChange: (callback: () => void) => () => void
}

/** The settings of a directory. All gateways of a fleet must have the same. */
export interface Options {
  /** The lease of hosts and gateways, in milliseconds. */
  readonly leaseMs: number
  /** The most sessions of a subject without a quota of its own; undefined for any number. */
  readonly quota?: number | undefined
}
