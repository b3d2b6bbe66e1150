/**
 * `upgrade`: replaces a running server of this user by another version, within its process.
 *
 * @since 0.1.0
 */
import { realpathSync, rmSync, statSync } from "node:fs"
import { createConnection } from "node:net"
import { join } from "node:path"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import { root } from "../internal/Package.js"
import * as PlainText from "../internal/PlainText.js"
import * as OsError from "../protocol/OsError.js"
import * as ControlFolder from "../upgrade/ControlFolder.js"
import * as Wire from "../upgrade/Wire.js"
import { CommandFailed, UsageError } from "./CommandExit.js"
import * as Terminal from "./Terminal.js"

/** The arguments of `upgrade`. */
export interface Options {
  /** The entry of the new version; by default that of this command. */
  readonly command: string | undefined
  /** The Node.js program for it; by default that of this command. */
  readonly node: string | undefined
  readonly pid: string | undefined
  readonly socket: string | undefined
  readonly dryRun: boolean
  readonly timeoutMs: number
  readonly json: boolean
}

/** How long a server may take to say what it is, in milliseconds. */
const statusMs = 2000

/** How long an upgrade may take besides what the new version may take to start, in milliseconds. */
const answerMs = 60_000

/** Nobody listens there, or does not answer. */
class NoAnswer extends Data.TaggedError("NoAnswer")<{
  readonly message: string
  /** Whether there is no such socket. */
  readonly isMissing?: boolean
}> {}

const decode = Schema.decodeUnknownEither(Schema.parseJson(Wire.Answer))

/** Asks a server. Fails if it does not answer in time, or not with an answer. */
const ask = (
  socket: string,
  request: typeof Wire.Request.Type,
  withinMs: number
): Effect.Effect<Wire.Answer, NoAnswer> =>
  Effect.async<Wire.Answer, NoAnswer>((resume) => {
    const connection = createConnection({ path: socket })
    const fail = (message: string, isMissing = false) => resume(new NoAnswer({ message, isMissing }))
    let text = ""
    connection.setEncoding("utf8")
    connection.once("connect", () => connection.write(`${JSON.stringify(request)}\n`))
    connection.on("data", (chunk: string) => {
      text += chunk
    })
    connection.once("error", (error) => fail(OsError.describe(error), OsError.codeOf(error) === "ENOENT"))
    connection.once("close", () => {
      const answer = decode(text)
      if (Either.isRight(answer)) resume(Effect.succeed(answer.right))
      else fail("the server has ended, or has closed the connection")
    })
    return Effect.sync(() => connection.destroy())
  }).pipe(
    Effect.timeoutFail({
      duration: withinMs,
      onTimeout: () => new NoAnswer({ message: `no answer within ${withinMs / 1000} s` })
    })
  )

/** A server that can be asked. */
interface Found {
  readonly socket: string
  readonly status: (typeof Wire.Status.Type)["status"]
}

const isDead = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return false
  } catch (error) {
    return OsError.codeOf(error) === "ESRCH"
  }
}

/** The servers in the folder of this user. What a killed one has left is removed. */
const findAll = Effect.suspend(() => {
  const folder = ControlFolder.folder(process.env)
  return Effect.forEach(
    ControlFolder.pidsIn(folder),
    (pid) => {
      const socket = ControlFolder.socketOf(folder, pid)
      return ask(socket, { method: "status" }, statusMs).pipe(
        Effect.map((answer): ReadonlyArray<Found> => ("status" in answer ? [{ socket, status: answer.status }] : [])),
        Effect.catchAll(() =>
          Effect.sync((): ReadonlyArray<Found> => {
            if (isDead(pid)) rmSync(socket, { force: true })
            return []
          })
        )
      )
    },
    { concurrency: 8 }
  ).pipe(Effect.map((found) => found.flat()))
})

/** The socket of the server that is meant. */
const find = ({ pid, socket }: Pick<Options, "pid" | "socket">): Effect.Effect<string, UsageError | CommandFailed> =>
  Effect.gen(function* () {
    if (socket !== undefined && pid !== undefined) {
      return yield* new UsageError({ message: "give --pid or --control-socket, not both" })
    }
    if (socket !== undefined) return socket
    if (pid !== undefined) {
      if (!/^[1-9]\d{0,9}$/.test(pid)) return yield* new UsageError({ message: `--pid: ${pid} is not a process id` })
      return ControlFolder.socketOf(ControlFolder.folder(process.env), Number(pid))
    }
    const all = yield* findAll
    const [first, ...others] = all
    if (first === undefined) {
      return yield* new CommandFailed({
        message:
          `no server of this user has a control socket in ${ControlFolder.folder(process.env)}; ` +
          "--control-socket names that of a server that was started with --control-socket"
      })
    }
    if (others.length === 0) return first.socket
    const list = all.map(({ status: { pid, version, address } }) => `${pid} (${version}, ${PlainText.plain(address)})`)
    return yield* new UsageError({ message: `several servers run; choose one by --pid: ${list.join(", ")}` })
  })

/** The file of the new version. A link is followed: it may be changed later. */
const entryOf = (command: string | undefined): Effect.Effect<string, UsageError> =>
  Effect.suspend(() => {
    const own = join(root, "dist/bin.js")
    if (command === undefined) return Effect.succeed(own)
    return Effect.try({
      try: () => {
        const path = realpathSync(command)
        return statSync(path).isDirectory() ? realpathSync(join(path, "dist/bin.js")) : path
      },
      catch: (error) => new UsageError({ message: `--command ${command}: ${OsError.describe(error)}` })
    })
  })

const many = (count: number, one: string, several = `${one}${one.endsWith("s") ? "es" : "s"}`) =>
  `${count} ${count === 1 ? one : several}`

/** The answer for people. */
const describe = ({ pid, from, to, dryRun, gapMs, awayMs, carried, ended }: Wire.Upgraded): string => {
  if (dryRun) return `version ${to} can replace ${from} in process ${pid}; nothing was changed\n`
  const { sessions, processes, listeners } = carried
  const goesOn = [many(sessions, "session"), many(processes, "process"), many(listeners, "listener")].join(", ")
  const lines = [
    `version ${to} has replaced ${from} in process ${pid}`,
    `  goes on: ${goesOn}`,
    `  ended: ${ended.length === 0 ? "nothing" : ended.map(({ what, count }) => `${count} ${what}`).join(", ")}`,
    `  no output was read for ${gapMs} ms; clients waited for ${awayMs} ms`
  ]
  return `${lines.join("\n")}\n`
}

/** Replaces a server, and prints what has happened. */
export const upgrade = ({ command, node, dryRun, timeoutMs, json, ...which }: Options) =>
  Effect.gen(function* () {
    const entry = yield* entryOf(command)
    const socket = yield* find(which)
    const request = {
      method: "upgrade",
      node: node ?? process.execPath,
      entry,
      dryRun,
      deadlineMs: Math.max(1, Math.round(timeoutMs))
    } as const
    const answer = yield* Effect.catchAll(ask(socket, request, timeoutMs + answerMs), ({ message, isMissing }) => {
      const advice = isMissing ? "; a server on stdio has none: it lives as long as its client" : ""
      return Effect.fail(new CommandFailed({ message: `the control socket ${socket}: ${message}${advice}` }))
    })
    if ("upgraded" in answer) {
      const { upgraded } = answer
      yield* Terminal.write("stdout", json ? `${PlainText.json(upgraded)}\n` : describe(upgraded))
      return
    }
    const message = "refused" in answer ? answer.refused.message : "the server has not answered an upgrade"
    return yield* new CommandFailed({ message })
  })
