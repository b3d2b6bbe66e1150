/**
 * What a control socket is asked, and what it answers: one JSON value on a line each.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

/** Asks a server what it is. */
const StatusRequest = Schema.Struct({ method: Schema.Literal("status") })

/** Asks a server to be replaced. */
export const UpgradeRequest = Schema.Struct({
  method: Schema.Literal("upgrade"),
  /** The Node.js program that runs the new version. */
  node: Schema.String,
  /** The file that it runs. */
  entry: Schema.String,
  /** Whether to stop after the new version was asked whether it can take over. */
  dryRun: Schema.Boolean,
  /** How long the new version may take to take over, in milliseconds. */
  deadlineMs: Schema.Int.pipe(Schema.between(1, 600_000))
})
export type UpgradeRequest = typeof UpgradeRequest.Type

/** A request. */
export const Request = Schema.Union(StatusRequest, UpgradeRequest)

/** Something that was not carried over: what, and how many. */
export const Ended = Schema.Struct({ what: Schema.String, count: Schema.NonNegativeInt })
export type Ended = typeof Ended.Type

/** What a server is. */
export const Status = Schema.Struct({
  status: Schema.Struct({ pid: Schema.Int, version: Schema.String, address: Schema.String })
})

/** A new version serves; or could, after a dry run. */
export const Upgraded = Schema.Struct({
  upgraded: Schema.Struct({
    pid: Schema.Int,
    /** The version before. */
    from: Schema.String,
    to: Schema.String,
    dryRun: Schema.Boolean,
    /** How long no output was read from processes, in milliseconds. */
    gapMs: Schema.Number,
    /** How long clients could not connect, in milliseconds. */
    awayMs: Schema.Number,
    carried: Schema.Struct({
      sessions: Schema.NonNegativeInt,
      processes: Schema.NonNegativeInt,
      listeners: Schema.NonNegativeInt
    }),
    ended: Schema.Array(Ended)
  })
})
export type Upgraded = (typeof Upgraded.Type)["upgraded"]

/** Why there is no upgrade. `serves` is the version that goes on. */
export const Refused = Schema.Struct({ refused: Schema.Struct({ message: Schema.String, serves: Schema.String }) })

/** An answer. */
export const Answer = Schema.Union(Status, Upgraded, Refused)
export type Answer = typeof Answer.Type

/** An answer as a line. */
export const line = (answer: Answer): string => `${JSON.stringify(answer)}\n`
