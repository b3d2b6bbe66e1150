/**
 * The directory of a fleet: which hosts there are, which sessions they have, who waits, and which gateways serve. It is
 * in a database that all gateways share; no gateway keeps anything that another one needs.
 *
 * A host has a lease and an epoch. The lease is renewed by the gateways that hear the host. When it lapses, the epoch
 * ends, and with it the host's sessions, for good.
 *
 * @since 0.1.0
 */
import { randomBytes } from "node:crypto"
import type { MigrationError } from "@effect/sql/Migrator"
import { SqlClient } from "@effect/sql/SqlClient"
import { SqlError } from "@effect/sql/SqlError"
import * as SqlSchema from "@effect/sql/SqlSchema"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type { ParseError } from "effect/ParseResult"
import * as Schema from "effect/Schema"
import {
  type Asked,
  DirectoryOpenError,
  DirectoryUnavailable,
  HostTaken,
  type Options,
  Placement,
  type Registered,
  type Shape
} from "./DirectoryApi.js"
import { DirectoryNotices } from "./DirectoryNotices.js"
import * as DirectorySchema from "./DirectorySchema.js"
import { GatewayRow, HostRow, QuotaRow, SessionRow, WaitingRow } from "./FleetRows.js"

/** The lease by default: within the 25 seconds for which codex tries to resume a session. */
export const defaultLeaseMs = 15_000

/** How long sessions that are over are remembered, in seconds. */
const rememberSeconds = 3600

const reasonOf = (error: SqlError | ParseError): string => {
  const cause = "cause" in error ? error.cause : undefined
  return cause instanceof Error ? cause.message || cause.name : error.message
}

/** One retry for what two transactions may do to each other: a deadlock, or a serialization failure. */
const isTransient = ({ cause }: SqlError): boolean =>
  typeof cause === "object" && cause !== null && "code" in cause && (cause.code === "40P01" || cause.code === "40001")

const asked = <A>(effect: Effect.Effect<A, SqlError | ParseError>): Asked<A> =>
  effect.pipe(
    // A transaction whose connection is lost cannot be rolled back either, which is a defect for the client of the database.
    Effect.catchSomeDefect((defect) => (defect instanceof SqlError ? Option.some(Effect.fail(defect)) : Option.none())),
    Effect.retry({ times: 1, while: (error) => error._tag === "SqlError" && isTransient(error) }),
    Effect.mapError(
      (error) => new DirectoryUnavailable({ message: `the directory cannot be asked: ${reasonOf(error)}` })
    )
  )

const sessionColumns = `key, host, epoch, inner_id as "innerId", subject, gateway, attach, state, reason,
  (extract(epoch from clock_timestamp() - made_at) * 1000)::float8 as "ageMs",
  (extract(epoch from clock_timestamp() - changed_at) * 1000)::float8 as "changedMs"`

const hostColumns = `id, no, epoch, incarnation, labels, capacity, used, state, version, gateway,
  (extract(epoch from lease_until - clock_timestamp()) * 1000)::float8 as "leaseMs",
  (state = 'draining' and (used = 0 or coalesce(drain_until < clock_timestamp(), false))) as drained`

const make = ({ leaseMs, quota }: Options) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient
    const notices = yield* DirectoryNotices
    yield* DirectorySchema.migrate

    const lease = sql.literal(`interval '${leaseMs} milliseconds'`)
    /** Renewing each second what is renewed by another gateway as well would double the writes. */
    const fresh = sql.literal(`interval '${Math.min(1500, leaseMs / 4)} milliseconds'`)
    const json = (value: unknown) => JSON.stringify(value)
    const none = Schema.Void
    const ids = Schema.Struct({ id: Schema.String })

    /** What must survive a crash of the database, whatever the connection's default is. */
    const durable = <A, E>(effect: Effect.Effect<A, E>) =>
      sql.withTransaction(Effect.zipRight(sql`set local synchronous_commit = on`, effect))

    const rows = <A, I>(Result: Schema.Schema<A, I>, statement: Effect.Effect<ReadonlyArray<unknown>, SqlError>) =>
      SqlSchema.findAll({ Request: none, Result, execute: () => statement })(undefined)

    const register: Shape["register"] = ({ id, incarnation, labels, capacity, version }, gateway) =>
      asked(
        durable(
          rows(
            Schema.Struct({ no: Schema.Number, epoch: Schema.Number }),
            sql`insert into fleet_host as h (id, epoch, incarnation, labels, capacity, version, gateway, lease_until)
              values (${id}, 1, ${incarnation}, fleet_labels(${json(labels)}::jsonb), ${capacity}, ${version}, ${gateway},
                clock_timestamp() + ${lease})
              on conflict (id) do update set
                incarnation = excluded.incarnation, labels = excluded.labels, capacity = excluded.capacity,
                version = excluded.version, gateway = excluded.gateway, lease_until = excluded.lease_until,
                -- Whoever comes anew is not the one that was drained.
                state = case when h.state = 'draining' and h.incarnation is null then 'ready' else h.state end
              where h.incarnation is null or h.incarnation = excluded.incarnation
              returning no, epoch`
          )
        )
      ).pipe(
        Effect.flatMap(
          ([registered]): Asked<Registered, HostTaken> =>
            registered === undefined ? new HostTaken({ id }) : Effect.as(tell("host"), registered)
        )
      )

    const tell = (what: string) => asked(sql`select pg_notify(${DirectorySchema.channel}, ${what})`)

    const renew: Shape["renew"] = ({ id, url, version }, hosts) =>
      asked(
        rows(
          ids,
          sql`with mine as (select * from jsonb_to_recordset(${json(hosts)}::jsonb) as m(id text, epoch int)),
            due as (select h.id from fleet_host h join mine on mine.id = h.id and mine.epoch = h.epoch
              -- Longer than a lease: the database's clock was set back.
              where h.incarnation is not null
                and h.lease_until not between clock_timestamp() + ${lease} - ${fresh} and clock_timestamp() + ${lease}
              order by h.id for update of h),
            renewed as (update fleet_host h set lease_until = clock_timestamp() + ${lease}, gateway = ${id}
              from due where h.id = due.id and h.incarnation is not null),
            self as (insert into fleet_gateway as g (id, url, version, lease_until)
              values (${id}, ${url ?? null}, ${version}, clock_timestamp() + ${lease})
              on conflict (id) do update set lease_until = excluded.lease_until, url = excluded.url,
                since = case when g.lease_until < clock_timestamp() or g.since > clock_timestamp()
                  then clock_timestamp() else g.since end)
            select mine.id from mine left join fleet_host h on h.id = mine.id
              where h.id is null or h.epoch <> mine.epoch or h.incarnation is null`
        )
      ).pipe(Effect.map((found) => found.map((row) => row.id)))

    const lose: Shape["lose"] = (gateway) =>
      asked(
        durable(
          Effect.gen(function* () {
            const dead = yield* rows(
              ids,
              sql`select id from fleet_host where incarnation is not null and lease_until < clock_timestamp()
                and exists (select from fleet_gateway g where g.id = ${gateway} and g.lease_until > clock_timestamp()
                  and g.since < clock_timestamp() - ${lease})
                order by id for update`
            )
            const lost = dead.map(({ id }) => id)
            if (lost.length > 0) {
              yield* sql`select fleet_lose(fleet_labels(${json(lost)}::jsonb), 'its host was lost')`
            }
            return lost
          })
        )
      )

    const leave: Shape["leave"] = (id, epoch) =>
      asked(
        durable(
          sql`select fleet_lose(array(select h.id from fleet_host h where h.id = ${id} and h.epoch = ${epoch} for update),
            'its host has left')`
        )
      )

    const place: Shape["place"] = ({ key, subject, labels, ticket, gateway, heard }) =>
      asked(
        rows(
          Schema.Struct({
            outcome: Schema.Literal("placed", "quota", "full"),
            host: Schema.NullOr(Schema.String),
            no: Schema.NullOr(Schema.Number),
            epoch: Schema.NullOr(Schema.Number),
            displaced: Schema.Array(Schema.Struct({ host: Schema.String, id: Schema.String }))
          }),
          sql`select * from fleet_place(${key}, ${subject}, fleet_labels(${json(labels)}::jsonb), ${ticket ?? null}::bigint,
            ${gateway}, fleet_labels(${json(heard)}::jsonb), ${quota ?? null}::int)`
        )
      ).pipe(
        Effect.map(([found]) =>
          found?.host != null && found.no !== null && found.epoch !== null
            ? Placement.Placed({ host: found.host, no: found.no, epoch: found.epoch, displaced: found.displaced })
            : found?.outcome === "quota"
              ? Placement.OverQuota()
              : Placement.Full()
        )
      )

    const one = Schema.Struct({ n: Schema.Number })

    const count = (statement: Effect.Effect<ReadonlyArray<unknown>, SqlError>) =>
      asked(Effect.map(rows(one, statement), ([row]) => (row?.n ?? 0) > 0))

    const bind: Shape["bind"] = (key, innerId) =>
      count(
        sql`with bound as (update fleet_session s
            set inner_id = ${innerId}, state = 'attached', until = null, made_at = clock_timestamp(),
              changed_at = clock_timestamp()
            where s.key = ${key} and s.state = 'placing' returning 1)
          select count(*)::int as n from bound`
      )

    const release: Shape["release"] = (key, reason) =>
      Effect.asVoid(asked(sql`select fleet_end(array[${key}], 'ended', ${reason})`))

    const touch: Shape["touch"] = (host, epoch, innerId, state, gateway, keepMs) =>
      Effect.asVoid(
        asked(
          sql`update fleet_session set state = ${state}, gateway = ${gateway}, changed_at = clock_timestamp(),
              attach = attach + 1, until = clock_timestamp() + ${keepMs}::int * interval '1 ms'
            where host = ${host} and epoch = ${epoch} and inner_id = ${innerId} and state in ('attached', 'detached')`
        )
      )

    const report: Shape["report"] = (host, epoch, sessions, ended, number) =>
      Effect.asVoid(
        asked(
          sql`select fleet_report(${host}, ${epoch}, ${json(sessions)}::jsonb, fleet_labels(${json(ended)}::jsonb),
            ${number ?? null}::bigint)`
        )
      )

    const wait: Shape["wait"] = (subject, labels, ms) =>
      asked(
        Effect.map(
          rows(
            Schema.Struct({ ticket: Schema.Number }),
            sql`insert into fleet_waiting (subject, labels, until) values (${subject},
              fleet_labels(${json(labels)}::jsonb), clock_timestamp() + ${ms}::int * interval '1 ms')
              returning ticket::float8 as ticket`
          ),
          ([row]) => row?.ticket ?? 0
        )
      )

    const stay: Shape["stay"] = (ticket, ms) =>
      Effect.asVoid(
        asked(
          sql`update fleet_waiting set until = clock_timestamp() + ${ms}::int * interval '1 ms' where ticket = ${ticket}`
        )
      )

    const quit: Shape["quit"] = (ticket) =>
      Effect.zipRight(asked(sql`delete from fleet_waiting where ticket = ${ticket}`), Effect.asVoid(tell("room")))

    const old = sql.literal(`clock_timestamp() - interval '${rememberSeconds} s'`)

    const tidy = Effect.all(
      [
        sql`select fleet_end(array(select key from fleet_session where until < clock_timestamp()),
          'ended', 'nobody has used it')`,
        sql`delete from fleet_waiting where until < clock_timestamp()`,
        sql`delete from fleet_gateway where lease_until < ${old}`,
        sql`delete from fleet_session where state in ('ended', 'lost') and changed_at < ${old}`
      ],
      { discard: true }
    )

    const secret: Shape["secret"] = (name) =>
      asked(
        Effect.map(
          rows(
            Schema.Struct({ value: Schema.String }),
            sql`with made as (insert into fleet_secret (name, value)
                values (${name}, ${randomBytes(32).toString("base64url")}) on conflict do nothing returning value)
              select value from made union all select value from fleet_secret where name = ${name} limit 1`
          ),
          ([row]) => row?.value ?? ""
        )
      ).pipe(
        // Another gateway may have made it meanwhile: this statement did not see its row, the next one does.
        Effect.flatMap((value) => (value === "" ? Effect.suspend(() => secret(name)) : Effect.succeed(value)))
      )

    return {
      register,
      renew,
      lose,
      leave: (id, epoch) => Effect.asVoid(leave(id, epoch)),
      place,
      bind,
      release,
      touch,
      report,
      wait,
      stay,
      quit,
      tidy: asked(tidy),
      hosts: asked(rows(HostRow, sql`select ${sql.literal(hostColumns)} from fleet_host order by id`)),
      gateways: asked(
        rows(
          GatewayRow,
          sql`select id, url, version,
              (extract(epoch from lease_until - clock_timestamp()) * 1000)::float8 as "leaseMs"
            from fleet_gateway where lease_until > clock_timestamp() order by id`
        )
      ),
      sessions: asked(
        rows(
          SessionRow,
          sql`select ${sql.literal(sessionColumns)} from fleet_session where state <> 'ended' order by made_at, key`
        )
      ),
      waiting: asked(
        rows(
          WaitingRow,
          sql`select ticket::float8 as ticket, subject, labels from fleet_waiting
            where until > clock_timestamp() order by ticket`
        )
      ),
      quotas: asked(
        rows(
          QuotaRow,
          sql`select subject, used, max from fleet_quota where max is not null or used > 0 order by subject`
        )
      ),
      counts: asked(
        rows(
          Schema.Struct({ what: Schema.String, n: Schema.Number }),
          sql`select state as what, count(*)::int as n from fleet_session
              where state in ('placing', 'attached', 'detached') group by 1
            union all select 'waiting', count(*)::int from fleet_waiting where until > clock_timestamp()`
        )
      ),
      setState: (id, state, deadlineMs) =>
        Effect.tap(
          count(
            sql`with changed as (update fleet_host set state = ${state},
                drain_until = clock_timestamp() + ${deadlineMs ?? null}::float8 * interval '1 ms'
                where id = ${id} returning 1)
              select count(*)::int as n from changed`
          ),
          () => tell("host")
        ),
      forget: (id) =>
        count(
          sql`with gone as (delete from fleet_host where id = ${id} and incarnation is null returning 1)
            select count(*)::int as n from gone`
        ),
      setQuota: (subject, max) =>
        Effect.zipRight(
          asked(
            sql`insert into fleet_quota (subject, max) values (${subject}, ${max ?? null}::int)
              on conflict (subject) do update set max = excluded.max`
          ),
          Effect.asVoid(tell("room"))
        ),
      secret,
      close: (gateway) =>
        Effect.asVoid(asked(sql`update fleet_gateway set lease_until = clock_timestamp() where id = ${gateway}`)),
      onChange: notices.onNotice
    } satisfies Shape
  })

const openError = (error: SqlError | MigrationError) =>
  new DirectoryOpenError({
    message: `the fleet's database cannot be used: ${error._tag === "SqlError" ? reasonOf(error) : error.message}`
  })

/** The directory of a fleet. */
export class FleetDirectory extends Context.Tag("exec-server/FleetDirectory")<FleetDirectory, Shape>() {
  /** The directory in a database, which is brought to the newest version first. */
  static readonly layer = (
    options: Options
  ): Layer.Layer<FleetDirectory, DirectoryOpenError, SqlClient | DirectoryNotices> =>
    Layer.effect(FleetDirectory, Effect.mapError(make(options), openError))
}
