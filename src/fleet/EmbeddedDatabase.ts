/**
 * The directory's database without a server: PostgreSQL as a library (PGlite), in memory or in a folder. One process at a
 * time may have the folder.
 *
 * @since 0.1.0
 */
import { mkdirSync } from "node:fs"
import { createServer } from "node:net"
import { join, resolve } from "node:path"
import * as Reactivity from "@effect/experimental/Reactivity"
import * as SqlClient from "@effect/sql/SqlClient"
import type { Connection } from "@effect/sql/SqlConnection"
import { SqlError } from "@effect/sql/SqlError"
import * as Statement from "@effect/sql/Statement"
import type { PGlite } from "@electric-sql/pglite"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as OsError from "../protocol/OsError.js"
import * as UnixSocket from "../transport/UnixSocket.js"
import { DirectoryOpenError } from "./DirectoryApi.js"
import { DirectoryNotices, make as makeNotices } from "./DirectoryNotices.js"
import { channel } from "./DirectorySchema.js"

/** The name of the socket in the folder: whoever listens there has the folder. */
const lockName = "gateway.sock"

/** How long closing the database may take, in milliseconds. It survives a kill as well. */
const closeMs = 3000

/** Keeps other processes out of a folder until the scope closes. The kernel releases it when the process dies. */
const lock = (folder: string) =>
  Effect.gen(function* () {
    const server = yield* Effect.acquireRelease(
      Effect.sync(() => createServer((socket) => socket.destroy())),
      (server) => Effect.sync(() => server.close())
    )
    yield* UnixSocket.listen(server, join(folder, lockName)).pipe(
      Effect.mapError(
        ({ message }) =>
          new DirectoryOpenError({
            message: `the folder ${folder} cannot be used: ${message}; one gateway at a time may have it. For more of them use postgres://`
          })
      )
    )
  })

const load = Effect.tryPromise({
  try: () => import("@electric-sql/pglite"),
  catch: () =>
    new DirectoryOpenError({
      message:
        "the embedded database is not installed: npm install @electric-sql/pglite, or use --database postgres://..."
    })
})

const open = (folder: string | undefined) =>
  Effect.gen(function* () {
    if (folder !== undefined) {
      yield* Effect.try({
        try: () => mkdirSync(folder, { recursive: true, mode: 0o700 }),
        catch: (error) =>
          new DirectoryOpenError({ message: `the folder ${folder} cannot be made: ${OsError.describe(error)}` })
      })
      yield* lock(folder)
    }
    const { PGlite } = yield* load
    return yield* Effect.acquireRelease(
      Effect.tryPromise({
        try: () => PGlite.create(folder === undefined ? {} : { dataDir: join(folder, "data") }),
        catch: (error) =>
          new DirectoryOpenError({
            message: `the embedded database${folder === undefined ? "" : ` in ${folder}`} cannot be opened: ${OsError.describe(error)}`
          })
      }),
      (database) =>
        Effect.asVoid(
          Effect.timeoutOption(Effect.interruptible(Effect.ignore(Effect.tryPromise(() => database.close()))), closeMs)
        )
    )
  })

const compiler = Statement.makeCompiler<never>({
  dialect: "pg",
  placeholder: (index) => `$${index}`,
  onIdentifier: Statement.defaultEscape('"'),
  onRecordUpdate: (placeholders, alias, columns, values) => [
    `(values ${placeholders}) as ${alias}${columns}`,
    values.flat()
  ],
  onCustom: () => ["", []]
})

/** The one connection. A statement that has begun is not interrupted. */
const connectionOf = (database: PGlite): Connection => {
  const run = <A>(statement: () => Promise<A>) =>
    Effect.uninterruptible(
      Effect.tryPromise({ try: statement, catch: (cause) => new SqlError({ cause, message: "the statement failed" }) })
    )
  const rowsOf = (text: string, values: ReadonlyArray<unknown>) =>
    Effect.map(
      run(() => database.query<Record<string, unknown>>(text, Array.from(values))),
      ({ rows }) => rows
    )
  return {
    execute: (text, values, transform) =>
      Effect.map(rowsOf(text, values), (rows) => (transform === undefined ? rows : transform(rows))),
    executeRaw: (text, values) => run(() => database.query(text, Array.from(values))),
    executeUnprepared: (text, values, transform) =>
      Effect.map(rowsOf(text, values), (rows) => (transform === undefined ? rows : transform(rows))),
    executeValues: (text, values) =>
      Effect.map(
        run(() => database.query<ReadonlyArray<unknown>>(text, Array.from(values), { rowMode: "array" })),
        ({ rows }) => rows
      ),
    executeStream: (text, values) => Stream.fromIterableEffect(rowsOf(text, values))
  }
}

/**
 * A database in the folder `file:DIR` names, made if there is none, or in memory.
 */
export const layer = (
  folder: string | undefined
): Layer.Layer<SqlClient.SqlClient | DirectoryNotices, DirectoryOpenError> =>
  Layer.scopedContext(
    Effect.gen(function* () {
      const database = yield* open(folder === undefined ? undefined : resolve(folder))
      const connection = connectionOf(database)
      // A transaction has the connection until it ends; a statement on its own until it was answered.
      const turn = Effect.unsafeMakeSemaphore(1)
      const reserved = Effect.gen(function* () {
        const scope = yield* Effect.scope
        yield* Effect.uninterruptibleMask((restore) =>
          Effect.zipRight(restore(turn.take(1)), Scope.addFinalizer(scope, turn.release(1)))
        )
        return connection
      })
      const client = yield* SqlClient.make({
        acquirer: reserved,
        transactionAcquirer: reserved,
        compiler,
        spanAttributes: []
      })
      const { notify, onNotice } = makeNotices()
      yield* Effect.promise(() => database.listen(channel, notify))
      return Context.make(SqlClient.SqlClient, client).pipe(Context.add(DirectoryNotices, { onNotice }))
    })
  ).pipe(Layer.provide(Reactivity.layer))
