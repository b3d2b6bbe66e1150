/** Fleets: gateways, hosts and a PostgreSQL server of the test's own. All end with the scope. */
import { execFileSync, spawnSync } from "node:child_process"
import { chmodSync, chownSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { type AddressInfo, createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, assert, beforeAll } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import pg from "pg"
import { nowhere } from "./command.js"
import {
  allChildrenOf,
  connectTo,
  eventually,
  type LaunchOptions,
  launch,
  type Running,
  type WsServer,
  webSocketServer
} from "./servers.js"
import type { Json, TestClient } from "./TestClient.js"

/** A folder of the test's own. */
export const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "exec-server-fleet-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true, maxRetries: 10 }))
)

/** Starts a gateway, on a free port by default. */
export const gateway = (database: string, args: ReadonlyArray<string> = [], listen = "ws://127.0.0.1:0") =>
  webSocketServer({ args: ["--database", database, ...args], env: nowhere, command: "gateway", listen })

/** A gateway with an embedded directory of its own. */
export const gatewayAlone = (args: ReadonlyArray<string> = []) =>
  Effect.flatMap(folder, (path) => gateway(`file:${path}/db`, args))

/**
 * New databases for the tests of a file: on one PostgreSQL server, which starts faster than embedded ones, or embedded
 * where it is not installed.
 */
export const databases = (): Effect.Effect<string, never, Scope.Scope> => {
  let server: Postgres | undefined
  let made = 0
  const scope = Effect.runSync(Scope.make())
  beforeAll(async () => {
    if (hasPostgres) server = await Effect.runPromise(Scope.extend(postgres, scope))
  }, 60_000)
  afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)), 60_000)
  return Effect.suspend(() => {
    if (server === undefined) return Effect.map(folder, (path) => `file:${path}/db`)
    const { url } = server
    made++
    return Effect.as(query(url, `create database test${made}`), url.replace("/postgres", `/test${made}`))
  })
}

/** Runs a statement, and returns its rows. */
export const query = (url: string, statement: string): Effect.Effect<ReadonlyArray<Record<string, unknown>>> =>
  Effect.promise(async () => {
    const client = new pg.Client({ connectionString: url })
    await client.connect()
    try {
      return (await client.query<Record<string, unknown>>(statement)).rows
    } finally {
      await client.end()
    }
  })

/** A host, and its id. */
export interface Host extends Running {
  readonly id: string
}

/** Starts a host, and waits until it is registered with as many gateways. */
export const host = (
  { url }: Pick<WsServer, "url">,
  id: string,
  {
    args = ["--capacity", "20"],
    env = {},
    gateways = 1
  }: { readonly args?: ReadonlyArray<string>; readonly env?: LaunchOptions["env"]; readonly gateways?: number } = {}
): Effect.Effect<Host, never, Scope.Scope> =>
  Effect.gen(function* () {
    const running = yield* launch({
      args: ["--remote", url.replace(/^ws/, "http"), "--environment-id", id, ...args],
      env: { ...nowhere, EXEC_SERVER_REMOTE_TOKEN: "host", ...env }
    })
    yield* eventually(
      `${id} is registered`,
      () => running.stderr().split("registered with environment_id").length > gateways,
      30_000
    )
    return { ...running, id }
  })

/** A PostgreSQL server that can be stopped and started. */
export interface Postgres {
  readonly url: string
  readonly stop: Effect.Effect<void>
  readonly start: Effect.Effect<void>
  /** Stops all its processes where they are: its connections stay open, and nobody answers. */
  readonly freeze: Effect.Effect<void>
  readonly thaw: Effect.Effect<void>
}

/** The folder of PostgreSQL's programs; undefined if it is not installed. */
const programs = (): string | undefined => {
  try {
    return readdirSync("/usr/lib/postgresql")
      .map((version) => `/usr/lib/postgresql/${version}/bin`)
      .at(-1)
  } catch {
    return undefined
  }
}

/** Whether PostgreSQL is installed. In continuous integration it must be: there its tests fail without it. */
export const hasPostgres = programs() !== undefined || process.env["CI"] === "true"

const freePort = Effect.async<number>((resume) => {
  const server = createServer()
  server.listen(0, "127.0.0.1", () => {
    const { port } = server.address() as AddressInfo
    server.close(() => resume(Effect.succeed(port)))
  })
})

/** Starts a PostgreSQL server in a folder of its own; not as root, which it refuses. */
export const postgres: Effect.Effect<Postgres, never, Scope.Scope> = Effect.gen(function* () {
  const path = yield* folder
  const isRoot = process.getuid?.() === 0
  const uid = isRoot ? Number(execFileSync("id", ["-u", "postgres"], { encoding: "utf8" })) : undefined
  if (uid !== undefined) chownSync(path, uid, uid)
  chmodSync(path, 0o700)
  const port = yield* freePort
  const run = (program: string, ...args: ReadonlyArray<string>) => {
    const folder = programs()
    if (folder === undefined) throw new Error("PostgreSQL is not installed: apt-get install postgresql")
    const command = [join(folder, program), ...args]
    const [first = "", ...rest] = isRoot ? ["setpriv", "--reuid=postgres", "--clear-groups", ...command] : command
    const { status, stderr, stdout } = spawnSync(first, rest, {
      cwd: path,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"]
    })
    if (status !== 0) throw new Error(`${program} failed: ${stderr}${stdout}`)
  }
  const data = join(path, "data")
  run("initdb", "--pgdata", data, "--auth=trust", "--username=fleet", "--no-sync")
  const options = `-p ${port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off`
  const start = Effect.sync(() => run("pg_ctl", "start", "-w", "-D", data, "-l", join(path, "log"), "-o", options))
  const stop = Effect.sync(() => run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", data))
  const signal = (name: "SIGSTOP" | "SIGCONT") =>
    Effect.sync(() => {
      const main = Number(readFileSync(join(data, "postmaster.pid"), "utf8").split("\n", 1)[0])
      for (const pid of [main, ...allChildrenOf(main)]) process.kill(pid, name)
    })
  const thaw = signal("SIGCONT")
  // A frozen one would not stop.
  const end = Effect.ignore(Effect.try(() => Effect.runSync(Effect.zipRight(thaw, stop))))
  yield* Effect.acquireRelease(start, () => end)
  return { url: `postgres://fleet@127.0.0.1:${port}/postgres`, stop, start, freeze: signal("SIGSTOP"), thaw }
})

/** Resumes a session at one of some gateways, trying again while it is not known. Gives the time that took. */
export const resumed = (gateways: ReadonlyArray<Pick<WsServer, "url">>, id: string, withinMs: number) =>
  Effect.gen(function* () {
    const begunAt = Date.now()
    for (;;) {
      for (const { url } of gateways) {
        const client = yield* Effect.exit(connectTo(url))
        if (client._tag === "Failure") continue
        client.value.post("initialize", { clientName: "t", resumeSessionId: id })
        yield* eventually("an answer", () => client.value.hasReply(1) || client.value.ending !== undefined)
        if (!client.value.hasReply(1)) continue
        const { error }: Json = yield* client.value.reply(1)
        // It is still attached where it was.
        if (error?.code === -32010) continue
        assert.isUndefined(error, JSON.stringify(error))
        client.value.raw('{"method":"initialized"}')
        return { client: client.value, ms: Date.now() - begunAt }
      }
      assert.isBelow(Date.now() - begunAt, withinMs, "the session is not resumed")
      yield* Effect.sleep("100 millis")
    }
  })

/** The id of a new session. */
export const sessionOf = (client: TestClient) => Effect.map(client.handshake(), ({ sessionId }): string => sessionId)

/** Two gateways on one database, and hosts that are connected to both. */
export const fleet = (
  hosts: ReadonlyArray<string>,
  args: ReadonlyArray<string> = [],
  hostArgs: ReadonlyArray<string> = ["--capacity", "20"]
) =>
  Effect.gen(function* () {
    const database = yield* postgres
    // They migrate the database at the same time.
    const [one, two] = yield* Effect.all([gateway(database.url, args), gateway(database.url, args)], { concurrency: 2 })
    const started = yield* Effect.forEach(hosts, (id) => host(one, id, { gateways: 2, args: hostArgs }), {
      concurrency: 2
    })
    return { database, one, two, hosts: started }
  })
