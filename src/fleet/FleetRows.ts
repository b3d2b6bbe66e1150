/**
 * What the directory knows, as rows: hosts, gateways, sessions, clients that wait, and quotas. Operators are shown them.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

/** The states of hosts: new sessions are placed on those that are ready. */
export const hostStates = ["ready", "cordoned", "draining"] as const

/** The columns of a host. */
export const HostRow = Schema.Struct({
  id: Schema.String,
  no: Schema.Number,
  epoch: Schema.Number,
  incarnation: Schema.NullOr(Schema.String),
  labels: Schema.Array(Schema.String),
  capacity: Schema.Number,
  used: Schema.Number,
  state: Schema.Literal(...hostStates),
  version: Schema.String,
  /** The last gateway that renewed its lease. */
  gateway: Schema.NullOr(Schema.String),
  /** What is left of the lease, in milliseconds; negative if it has lapsed. */
  leaseMs: Schema.Number,
  /** Whether it is drained: empty, or its deadline has passed. */
  drained: Schema.Boolean
})

/** A host as the directory knows it. */
export type HostRow = typeof HostRow.Type

/** The columns of a gateway. */
export const GatewayRow = Schema.Struct({
  id: Schema.String,
  url: Schema.NullOr(Schema.String),
  version: Schema.String,
  /** What is left of the lease, in milliseconds. */
  leaseMs: Schema.Number
})

/** A gateway as the directory knows it. */
export type GatewayRow = typeof GatewayRow.Type

/** The columns of a session. */
export const SessionRow = Schema.Struct({
  key: Schema.String,
  host: Schema.String,
  epoch: Schema.Number,
  innerId: Schema.NullOr(Schema.String),
  subject: Schema.String,
  gateway: Schema.String,
  attach: Schema.Number,
  state: Schema.Literal("placing", "attached", "detached", "ended", "lost"),
  reason: Schema.NullOr(Schema.String),
  /** Since when it exists, in milliseconds. */
  ageMs: Schema.Number,
  /** Since when it is in its state, in milliseconds. */
  changedMs: Schema.Number
})

/** A session as the directory knows it. */
export type SessionRow = typeof SessionRow.Type

/** The columns of a waiting client. */
export const WaitingRow = Schema.Struct({
  ticket: Schema.Number,
  subject: Schema.String,
  labels: Schema.Array(Schema.String)
})

/** A client that waits for a place. */
export type WaitingRow = typeof WaitingRow.Type

/** The columns of a quota. */
export const QuotaRow = Schema.Struct({
  subject: Schema.String,
  /** Its sessions that have a place. */
  used: Schema.Number,
  /** The most of them; null for the default of the gateways. */
  max: Schema.NullOr(Schema.Number)
})

/** The quota of a subject, and what of it is used. */
export type QuotaRow = typeof QuotaRow.Type
