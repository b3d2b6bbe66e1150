/**
 * The directory's database on a PostgreSQL server, which several gateways share.
 *
 * @since 0.1.0
 */

import type { SqlClient } from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import pg from "pg"
import { DirectoryOpenError } from "./DirectoryApi.js"
import { DirectoryNotices, make as makeNotices } from "./DirectoryNotices.js"
import { channel } from "./DirectorySchema.js"

/** The most connections of one gateway, besides the one that listens. */
const maxConnections = 8

/** Deadlines in milliseconds: a database that is cut off must not hold a gateway up. */
const within = { connect: 2000, query: 3000, goodbye: 1000, relisten: 1000, ping: 5000, start: 60_000 } as const

/** Options of each connection. A lost placement is only a lost place; what must survive says so itself. */
const connectionOptions = (url: string): pg.PoolConfig => ({
  connectionString: url,
  connectionTimeoutMillis: within.connect,
  query_timeout: within.query,
  keepAlive: true,
  keepAliveInitialDelayMillis: 5000,
  application_name: "exec-server gateway"
})

/** Waits for the end of something, for a short time: a database that is away does not answer. */
const bounded = (end: () => Promise<void>) =>
  Effect.asVoid(Effect.timeoutOption(Effect.interruptible(Effect.ignore(Effect.tryPromise(end))), within.goodbye))

/** How pg says that a query has timed out. */
const timedOut = "Query read timeout"

/**
 * Gives a connection up when a query on it times out. pg leaves it waiting for the answer, and the client of the database
 * returns it to the pool: whoever got it next would time out as well, for as long as the network is silent about it.
 */
const giveUpSilent = (client: pg.PoolClient) => {
  client.query = new Proxy(client.query, {
    apply: (query, self, args: ReadonlyArray<unknown>): unknown => {
      const callback = args.at(-1)
      if (typeof callback !== "function") return Reflect.apply(query, self, args)
      const onAnswer = (error: Error | null, ...answer: ReadonlyArray<unknown>) => {
        // Whoever has taken it from the pool listens, and returns it as broken.
        if (error?.message === timedOut && client.listenerCount("error") > 0) client.emit("error", error)
        Reflect.apply(callback, undefined, [error, ...answer])
      }
      return Reflect.apply(query, self, [...args.slice(0, -1), onAnswer])
    }
  })
}

const pool = (url: string) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const made = new pg.Pool({
        ...connectionOptions(url),
        options: `-c synchronous_commit=off -c statement_timeout=${within.query}`,
        max: maxConnections,
        idleTimeoutMillis: 30_000
      })
      // An idle connection that is lost is replaced by the next statement.
      made.on("error", () => {})
      made.on("connect", giveUpSilent)
      return made
    }),
    (made) =>
      Effect.ignore(
        Effect.timeout(
          Effect.promise(() => made.end()),
          within.goodbye
        )
      )
  )

/**
 * Listens on a connection of its own, and connects again when that is lost. A connection can end silently: it is asked
 * something every few seconds.
 */
const listen = (url: string, notify: () => void) =>
  Effect.async<never, Error>((resume) => {
    const client = new pg.Client(connectionOptions(url))
    let ping: NodeJS.Timeout | undefined
    const fail = (error: Error) => resume(Effect.fail(error))
    client.on("error", fail)
    client.on("end", () => fail(new Error("the connection was closed")))
    client.on("notification", notify)
    const start = async () => {
      await client.connect()
      await client.query(`listen ${pg.escapeIdentifier(channel)}`)
      // What happened meanwhile was not told.
      notify()
      ping = setInterval(() => void client.query("select 1").catch(fail), within.ping)
    }
    start().catch(fail)
    return Effect.zipRight(
      Effect.sync(() => clearInterval(ping)),
      bounded(() => client.end())
    )
  })

const reasonOf = (error: unknown) => (error instanceof Error ? error.message || error.name : String(error))

/** Refusals of a server that starts or stops, or has no connection left: they end without a change by anybody. */
const passing = new Set(["57P01", "57P02", "57P03", "53300"])

/** Whether waiting may help: whoever is refused for a wrong name or password must correct it. */
const mayPass = (error: unknown) => !(error instanceof pg.DatabaseError) || passing.has(error.code ?? "")

/** Waits until the database answers: for a minute at most, and not at all for one that refuses. */
const reach = (connections: pg.Pool) => {
  const attempt = Effect.tryPromise({ try: () => connections.query("select 1"), catch: (error) => error })
  const again = Schedule.spaced(within.relisten).pipe(Schedule.upTo(within.start), Schedule.whileInput(mayPass))
  return attempt.pipe(
    Effect.tapError((error) =>
      mayPass(error)
        ? Effect.logWarning(`the database does not answer (${reasonOf(error)}); trying again for a minute`)
        : Effect.void
    ),
    Effect.catchAll(() => Effect.retry(attempt, again)),
    Effect.mapError(
      (error) => new DirectoryOpenError({ message: `the fleet's database cannot be used: ${reasonOf(error)}` })
    )
  )
}

/**
 * A PostgreSQL server at a URL such as `postgres://user:password@host:5432/database`. Fails if it does not answer within
 * a minute, or refuses the connection.
 */
export const layer = (url: string): Layer.Layer<SqlClient | DirectoryNotices, DirectoryOpenError> =>
  Layer.unwrapScoped(
    Effect.gen(function* () {
      const connections = yield* pool(url)
      yield* reach(connections)
      const { notify, onNotice } = makeNotices()
      // Warns once for each outage, not for each attempt.
      let isLost = false
      const onNoticeOnly = () => {
        isLost = false
        notify()
      }
      yield* Effect.suspend(() => listen(url, onNoticeOnly)).pipe(
        Effect.catchAll((error) =>
          Effect.suspend(() => {
            const warn = isLost
              ? Effect.void
              : Effect.logWarning(`the notifications of the database are lost (${reasonOf(error)}); connecting again`)
            isLost = true
            return warn
          })
        ),
        Effect.zipRight(Effect.sleep(within.relisten)),
        Effect.forever,
        Effect.forkScoped
      )
      return Layer.merge(
        PgClient.layerFromPool({ acquire: Effect.succeed(connections) }),
        Layer.succeed(DirectoryNotices, { onNotice })
      ).pipe(Layer.mapError((error: SqlError) => new DirectoryOpenError({ message: reasonOf(error.cause) })))
    })
  )
