/**
 * The tables and functions of the fleet's directory, and their migrations.
 *
 * Every function locks in one order, hosts before sessions before quotas, each by its id, so that no two of them wait for
 * each other. All times are the database's.
 *
 * @since 0.1.0
 */
import * as Migrator from "@effect/sql/Migrator"
import { SqlClient } from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"

/** The channel of notifications: what a waiting client or a gateway should look at has changed. */
export const channel = "exec_fleet"

/** The table of applied migrations. */
const table = "fleet_migration"

/** The advisory lock of migrations, in the namespace of this project: any number that others do not use. */
const migrationLock = 7_266_381

const tables = [
  `create table fleet_host (
    no int generated always as identity unique,
    id text primary key,
    -- Counts the incarnations: whatever was made in an earlier epoch is lost.
    epoch int not null,
    -- The process that holds the id; null if it was lost or has left.
    incarnation text,
    labels text[] not null,
    capacity int not null,
    used int not null default 0,
    state text not null default 'ready' check (state in ('ready', 'cordoned', 'draining')),
    drain_until timestamptz,
    version text not null,
    gateway text,
    lease_until timestamptz not null
  )`,
  `create table fleet_session (
    key text primary key,
    host text not null,
    epoch int not null,
    inner_id text,
    subject text not null,
    gateway text not null,
    -- The host's number of the last change of this session; only greater ones are taken.
    attach int not null default 0,
    -- Whether its client has left it, and nothing runs in it: it gives way to others.
    idle boolean not null default false,
    state text not null check (state in ('placing', 'attached', 'detached', 'ended', 'lost')),
    reason text,
    -- When a session that nobody reports is over.
    until timestamptz,
    made_at timestamptz not null default clock_timestamp(),
    changed_at timestamptz not null default clock_timestamp()
  )`,
  "create index fleet_session_of_host on fleet_session (host, epoch, inner_id)",
  "create index fleet_session_idle on fleet_session (host, epoch, changed_at) where state = 'detached' and idle",
  "create index fleet_session_until on fleet_session (until) where until is not null",
  "create index fleet_session_over on fleet_session (changed_at) where state in ('ended', 'lost')",
  `create table fleet_gateway (
    id text primary key,
    url text,
    version text not null,
    lease_until timestamptz not null,
    -- Since when the lease has held without a break.
    since timestamptz not null default clock_timestamp()
  )`,
  `create table fleet_quota (
    subject text primary key,
    used int not null default 0,
    -- The most sessions; null for the gateway's default.
    max int
  )`,
  `create table fleet_waiting (
    ticket bigint generated always as identity primary key,
    subject text not null,
    labels text[] not null,
    until timestamptz not null
  )`,
  "create table fleet_secret (name text primary key, value text not null)"
]

const functions = [
  `create function fleet_labels(given jsonb) returns text[] language sql immutable as $$
    select coalesce(array_agg(value), '{}') from jsonb_array_elements_text(given)
  $$`,

  // Whether a session may be placed on a host: it has room, or a session that gives way, and nobody waits for the same.
  `create function fleet_fits(h fleet_host, wanted text[], own_ticket bigint) returns boolean language sql stable as $$
    select h.state = 'ready' and h.incarnation is not null and h.lease_until > clock_timestamp()
      and h.labels @> wanted
      and (h.used < h.capacity or exists (select from fleet_session s
        where s.host = h.id and s.epoch = h.epoch and s.state = 'detached' and s.idle))
      and not exists (select from fleet_waiting w
        where w.until > clock_timestamp() and w.labels <@ h.labels and (own_ticket is null or w.ticket < own_ticket))
  $$`,

  // Ends sessions, and gives back their places. Returns how many there were.
  `create function fleet_end(keys text[], how text, why text) returns int language plpgsql as $$
    declare n int;
    begin
      perform from fleet_host where id in (select host from fleet_session where key = any(keys)) order by id for update;
      perform from fleet_session where key = any(keys) order by key for update;
      perform from fleet_quota where subject in (select subject from fleet_session where key = any(keys))
        order by subject for update;
      with over as (
        update fleet_session set state = how, reason = why, until = null, changed_at = clock_timestamp()
          where key = any(keys) and state in ('placing', 'attached', 'detached') returning host, epoch, subject),
      places as (
        update fleet_host set used = used - o.n from (select host, epoch, count(*)::int as n from over group by 1, 2) o
          where fleet_host.id = o.host and fleet_host.epoch = o.epoch),
      quotas as (
        update fleet_quota set used = used - o.n from (select subject, count(*)::int as n from over group by 1) o
          where fleet_quota.subject = o.subject)
      select count(*) into n from over;
      if n > 0 then perform pg_notify('${channel}', 'room'); end if;
      return n;
    end
  $$`,

  // Ends the epochs of hosts, and with them their sessions.
  `create function fleet_lose(ids text[], why text) returns void language plpgsql as $$
    begin
      perform fleet_end(array(select key from fleet_session where host = any(ids)
        and state in ('placing', 'attached', 'detached')), 'lost', why);
      update fleet_host set epoch = epoch + 1, incarnation = null, used = 0 where id = any(ids);
      perform pg_notify('${channel}', 'host');
    end
  $$`,

  // Places a session: 'placed' with its host, 'quota' or 'full'.
  `create function fleet_place(new_key text, who text, wanted text[], own_ticket bigint, via text, heard text[],
      quota_default int)
    returns table (outcome text, host text, no int, epoch int, displaced jsonb) language plpgsql as $$
    declare
      picked fleet_host;
      old fleet_session;
      gone jsonb := '[]';
    begin
      if exists (select from fleet_quota q where q.subject = who and q.used >= coalesce(q.max, quota_default)) then
        select s.* into old from fleet_session s where s.subject = who and s.state = 'detached' and s.idle
          order by s.changed_at limit 1;
        if old.key is null then
          return query select 'quota', null::text, null::int, null::int, gone;
          return;
        end if;
        perform fleet_end(array[old.key], 'ended', 'another session needed its place');
        gone := gone || jsonb_build_object('host', old.host, 'id', old.inner_id);
      end if;
      -- The row that was waited for may fit no more. Then another one may.
      for attempt in 1..5 loop
        select h.* into picked from fleet_host h where h.id = any(heard) and fleet_fits(h, wanted, own_ticket)
          order by h.used >= h.capacity, h.used::float8 / h.capacity, random() limit 1 for update;
        exit when found or not exists (
          select from fleet_host h where h.id = any(heard) and fleet_fits(h, wanted, own_ticket));
      end loop;
      if picked.id is null then
        return query select 'full', null::text, null::int, null::int, gone;
        return;
      end if;
      if picked.used >= picked.capacity then
        select s.* into old from fleet_session s where s.host = picked.id and s.epoch = picked.epoch
          and s.state = 'detached' and s.idle order by s.changed_at limit 1;
        if old.key is null or fleet_end(array[old.key], 'ended', 'another session needed its place') = 0 then
          return query select 'full', null::text, null::int, null::int, gone;
          return;
        end if;
        gone := gone || jsonb_build_object('host', old.host, 'id', old.inner_id);
      end if;
      insert into fleet_quota (subject) values (who) on conflict do nothing;
      update fleet_quota q set used = q.used + 1
        where q.subject = who and (coalesce(q.max, quota_default) is null or q.used < coalesce(q.max, quota_default));
      if not found then
        return query select 'quota', null::text, null::int, null::int, gone;
        return;
      end if;
      update fleet_host h set used = h.used + 1 where h.id = picked.id;
      insert into fleet_session (key, host, epoch, subject, gateway, state, until)
        values (new_key, picked.id, picked.epoch, who, via, 'placing', clock_timestamp() + interval '20 s');
      return query select 'placed', picked.id, picked.no, picked.epoch, gone;
    end
  $$`,

  // Takes over what a host says about its sessions: only changes with greater numbers than those known.
  `create function fleet_report(of_host text, of_epoch int, sessions jsonb, over text[]) returns void
    language plpgsql as $$
    begin
      perform from fleet_host where id = of_host and epoch = of_epoch for update;
      if not found then return; end if;
      update fleet_session s
        set state = m.state, gateway = coalesce(m.gateway, s.gateway), attach = m.attach, until = null,
          idle = coalesce(m.idle, false), changed_at = clock_timestamp()
        from jsonb_to_recordset(sessions) as m(id text, attach int, state text, gateway text, idle boolean)
        where s.host = of_host and s.epoch = of_epoch and s.inner_id = m.id
          and (s.attach < m.attach or (s.attach = m.attach and s.idle <> coalesce(m.idle, false)))
          and s.state in ('attached', 'detached') and m.state in ('attached', 'detached');
      -- The report may be older than a session that it lacks.
      perform fleet_end(array(select key from fleet_session s
        where s.host = of_host and s.epoch = of_epoch and s.state in ('attached', 'detached')
          and (s.inner_id = any(over)
            or (s.made_at < clock_timestamp() - interval '15 s'
              and not exists (select from jsonb_to_recordset(sessions) as m(id text) where m.id = s.inner_id)))),
        'ended', 'its host has ended it');
    end
  $$`
]

/** The host numbers its reports: a late one, as of a gateway that was frozen, does not end what is younger than it. */
const numberedReports = [
  // The number of the newest report in this epoch.
  "alter table fleet_host add column reported bigint not null default 0",

  `create or replace function fleet_lose(ids text[], why text) returns void language plpgsql as $$
    begin
      perform fleet_end(array(select key from fleet_session where host = any(ids)
        and state in ('placing', 'attached', 'detached')), 'lost', why);
      update fleet_host set epoch = epoch + 1, incarnation = null, used = 0, reported = 0 where id = any(ids);
      perform pg_notify('${channel}', 'host');
    end
  $$`,

  // As before; of a numbered report that is not newer than the newest, it does not matter what it lacks.
  `create function fleet_report(of_host text, of_epoch int, sessions jsonb, over text[], number bigint) returns void
    language plpgsql as $$
    declare is_newest boolean;
    begin
      select number is null or number > reported into is_newest
        from fleet_host where id = of_host and epoch = of_epoch for update;
      if not found then return; end if;
      update fleet_host set reported = number where id = of_host and number > reported;
      update fleet_session s
        set state = m.state, gateway = coalesce(m.gateway, s.gateway), attach = m.attach, until = null,
          idle = coalesce(m.idle, false), changed_at = clock_timestamp()
        from jsonb_to_recordset(sessions) as m(id text, attach int, state text, gateway text, idle boolean)
        where s.host = of_host and s.epoch = of_epoch and s.inner_id = m.id
          and (s.attach < m.attach or (is_newest and s.attach = m.attach and s.idle <> coalesce(m.idle, false)))
          and s.state in ('attached', 'detached') and m.state in ('attached', 'detached');
      -- The newest report may be older than a session that it lacks, too.
      perform fleet_end(array(select key from fleet_session s
        where s.host = of_host and s.epoch = of_epoch and s.state in ('attached', 'detached')
          and (s.inner_id = any(over)
            or (is_newest and s.made_at < clock_timestamp() - interval '15 s'
              and not exists (select from jsonb_to_recordset(sessions) as m(id text) where m.id = s.inner_id)))),
        'ended', 'its host has ended it');
    end
  $$`,

  // For gateways of the version before, on the same database.
  `create or replace function fleet_report(of_host text, of_epoch int, sessions jsonb, over text[]) returns void
    language sql as $$
    select fleet_report(of_host, of_epoch, sessions, over, null)
  $$`
]

const statements = (texts: ReadonlyArray<string>) =>
  Effect.flatMap(SqlClient, (sql) => Effect.forEach(texts, (text) => sql.unsafe(text), { discard: true }))

const loader = Migrator.fromRecord({
  "0001_tables": statements(tables),
  "0002_functions": statements(functions),
  "0003_numbered_reports": statements(numberedReports)
})

/**
 * Brings the database to the newest version. Two gateways that start at once wait for each other.
 */
export const migrate: Effect.Effect<void, Migrator.MigrationError | SqlError, SqlClient> = Effect.gen(function* () {
  const sql = yield* SqlClient
  yield* sql.withTransaction(
    Effect.gen(function* () {
      yield* sql`select pg_advisory_xact_lock(${migrationLock})`
      // The migrator asks for this table by a statement that fails without it, which would end the transaction.
      yield* sql`create table if not exists ${sql(table)} (
        migration_id integer primary key, created_at timestamp with time zone not null default now(), name text not null)`
      yield* Migrator.make({})({ loader, table })
    })
  )
})
