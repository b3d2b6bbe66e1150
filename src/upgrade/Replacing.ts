/**
 * Replaces a server by another version, within its process: asks that version whether it can take over, lets what runs
 * come to an end, freezes the parts, and executes it.
 *
 * Until the very last step everything can be undone. Clients notice from the moment their connections are closed, which
 * they take for a restart.
 *
 * @since 0.1.0
 */
import { spawn } from "node:child_process"
import { closeSync, existsSync } from "node:fs"
import { join } from "node:path"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import type { CannotFreeze } from "../internal/CannotFreeze.js"
import type { Part } from "../internal/Handover.js"
import { ImageWriter } from "../internal/Image.js"
import { root, version } from "../internal/Package.js"
import * as PlainText from "../internal/PlainText.js"
import * as OsError from "../protocol/OsError.js"
import type * as AuditLog from "../session/AuditLog.js"
import { factsOf, type Requests } from "../session/MethodCodecs.js"
import type { OpenConnection } from "../session/OpenConnection.js"
import type { SessionRegistry } from "../session/SessionRegistry.js"
import * as Checked from "./Checked.js"
import * as Native from "./Native.js"
import type { Requester } from "./Requester.js"
import * as State from "./State.js"
import * as Token from "./Token.js"
import type * as Wire from "./Wire.js"

/** Why there is no upgrade. The server goes on as before. The message is a sentence. */
export class UpgradeRefused extends Data.TaggedError("UpgradeRefused")<{ readonly message: string }> {}

/** What an upgrade needs of the server. */
export interface Server {
  readonly parts: ReadonlyArray<Part>
  readonly registry: SessionRegistry["Type"]
  /** The variables that were erased from the environment. */
  readonly secrets: Readonly<Record<string, string>>
  readonly audit: AuditLog.Shape
  /** Told before and, if it goes on, after: a service manager may have to know. */
  readonly reloading: Effect.Effect<void>
  readonly ready: Effect.Effect<void>
}

/** How long a version may take to answer whether it can take over, in milliseconds. */
const checkMs = 30_000

/** The most output of that which is read, in bytes. */
const maxAnswerBytes = 65536

/** How long requests on files may take to end, in milliseconds: an upgrade would cut them off in the middle. */
const filesMs = 5000

/** How long starts of processes, and ends of sessions, may take, in milliseconds. */
const settleMs = 3000

/** How long other requests may take to be answered, in milliseconds. */
const answersMs = 100

/** How long answers may take to leave this process, in milliseconds. */
const flushMs = 100

/** How long sessions may take to be released, in milliseconds. */
const releaseMs = 3000

/** How long sessions wait at least to be resumed: a client must have the chance to come back. In milliseconds. */
const leastTtlMs = 10_000

const pollMs = 2

const refuse = (message: string) => new UpgradeRefused({ message })

/** The module of a version that runs first in its successor. */
const firstModule = join(root, "dist/handover.cjs")

/** The entry of this version. */
const ownEntry = join(root, "dist/bin.js")

/** The program and the arguments of a version that continues this server. `more` precede the server's arguments. */
const commandOf = (node: string, entry: string, more: ReadonlyArray<string> = []) => ({
  file: node,
  argv: [node, ...process.execArgv, firstModule, entry, ...more, ...process.argv.slice(2)]
})

/** How long threads that work on files for nobody any more may take, in milliseconds. */
const threadsMs = 300

/** Polls until a condition holds, for at most so long. Returns whether it does. */
const until = (holds: () => boolean, withinMs: number): Effect.Effect<boolean> =>
  Effect.suspend(() => {
    const deadline = performance.now() + withinMs
    const poll: Effect.Effect<boolean> = Effect.suspend(() => {
      if (holds()) return Effect.succeed(true)
      if (performance.now() >= deadline) return Effect.succeed(false)
      return Effect.zipRight(Effect.sleep(pollMs), poll)
    })
    return poll
  })

/** Requests that use threads of this process, which end with it. */
const isOnFiles = (method: Requests["_tag"]): boolean =>
  ["filesystem", "environment config", "capability discovery"].includes(factsOf(method).family)

/** Requests that wait for something to happen. Their clients repeat them. */
const isWaiting = (method: Requests["_tag"]): boolean => {
  const { answered, repeatable } = factsOf(method)
  return answered?.startsWith("whenever") === true && repeatable !== "never" && !isOnFiles(method)
}

const isRepeatable = (method: Requests["_tag"]): boolean => factsOf(method).repeatable !== "never"

/** Asks a version whether it can take over, with the state so far. It runs as an ordinary child. */
const ask = (
  node: string,
  entry: string,
  image: number,
  secret: number
): Effect.Effect<Checked.Checked, UpgradeRefused> =>
  Effect.async<Checked.Checked, UpgradeRefused>((resume) => {
    const { file, argv } = commandOf(node, entry, [Token.checkFlag])
    const fail = (why: string) => resume(refuse(`${entry} cannot take over: ${PlainText.plain(why)}`))
    const child = spawn(file, argv.slice(1), {
      stdio: ["ignore", "pipe", "pipe", image, secret],
      env: { ...process.env, [Token.variable]: "3,4" }
    })
    let stdout = ""
    let stderr = ""
    child.stdout?.on("data", (chunk: Buffer) => {
      if (stdout.length < maxAnswerBytes) stdout += chunk.toString()
    })
    child.stderr?.on("data", (chunk: Buffer) => {
      stderr = (stderr + chunk.toString()).slice(-maxAnswerBytes)
    })
    const timer = setTimeout(() => child.kill("SIGKILL"), checkMs)
    child.once("error", (error) => {
      clearTimeout(timer)
      fail(`${file} cannot be executed: ${OsError.describe(error)}`)
    })
    child.once("close", (code, signal) => {
      clearTimeout(timer)
      const [line = ""] = stdout.split("\n")
      const found = Schema.decodeUnknownEither(Schema.parseJson(Checked.Checked))(line)
      if (code === 0 && Either.isRight(found)) return resume(Effect.succeed(found.right.canTakeOver))
      const error =
        stderr.split("\n").find((text) => /^(\w*Error|Error:)/.test(text)) ?? stderr.trim().split("\n").at(-1)
      const how = signal === null ? `it exits with status ${code}` : `${signal} ends it`
      fail(error === undefined || error === "" ? `${how} instead of saying that it can` : `${how}: ${error}`)
    })
    return Effect.sync(() => child.kill("SIGKILL"))
  })

/** What was frozen. */
interface Frozen {
  readonly writer: ImageWriter
  readonly parts: Readonly<Record<string, unknown>>
  readonly secretParts: Readonly<Record<string, unknown>>
}

/** Loads what freezing needs. */
const loadAll = (parts: ReadonlyArray<Part>): Effect.Effect<void> =>
  Effect.forEach(parts, ({ load = Effect.void }) => load, { discard: true })

/** Freezes all parts. Throws `CannotFreeze` if one cannot be. */
const freeze = (parts: ReadonlyArray<Part>): Frozen => {
  const writer = new ImageWriter()
  const states = parts.map(({ name, isSecret = false, freeze }) => ({ name, isSecret, state: freeze(writer) }))
  const select = (secret: boolean) =>
    Object.fromEntries(states.flatMap(({ name, isSecret, state }) => (isSecret === secret ? [[name, state]] : [])))
  return { writer, parts: select(false), secretParts: select(true) }
}

const isCannotFreeze = (error: unknown): error is CannotFreeze =>
  error instanceof Error && "_tag" in error && error._tag === "CannotFreeze"

/** The sentence of what was thrown on the way. */
const reasonOf = (error: unknown): string => {
  if (error instanceof UpgradeRefused || isCannotFreeze(error)) return error.message
  return `the state cannot be handed over: ${OsError.describe(error)}`
}

/** Whether threads of this process work on files. They end with it. */
const worksOnFiles = (): boolean => process.getActiveResourcesInfo().some((name) => name.startsWith("FSReq"))

/** The parts of a state that the first check is asked about: no byte of output is copied for it. */
const headOf = (frozen: Frozen, to: string) => ({
  version,
  successor: to,
  frozenAtNs: String(process.hrtime.bigint()),
  heldAtNs: String(process.hrtime.bigint()),
  descriptors: [],
  ended: [],
  parts: frozen.parts
})

/** Asks the new version, and this one, whether they could read the state. */
const preflight = (server: Server, { node, entry }: Wire.UpgradeRequest) =>
  Effect.acquireUseRelease(
    Effect.try({
      try: () => {
        const frozen = freeze(server.parts)
        const image = Native.memory("exec-server check")
        const { file, argv } = commandOf(process.execPath, ownEntry)
        const boot = { fallback: { file, argv }, kept: [], deadlineMs: 0 }
        State.write(image, boot, headOf(frozen, ""), { sections: [] })
        const secret = Native.secret(State.formatSecrets({ variables: server.secrets, parts: frozen.secretParts }))
        return [image, secret] as const
      },
      catch: (error) => refuse(reasonOf(error))
    }),
    ([image, secret]) =>
      Effect.gen(function* () {
        if (![firstModule, ownEntry].every((path) => existsSync(path))) return yield* refuse(goneText)
        const [next, own] = yield* Effect.all(
          [ask(node, entry, image, secret), Effect.either(ask(process.execPath, ownEntry, image, secret))],
          { concurrency: 2 }
        )
        if (Either.isLeft(own)) return yield* refuse(`${goneText} (${own.left.message})`)
        if (own.right.module !== Checked.ownModule) return yield* refuse(goneText)
        return next.version
      }),
    ([image, secret]) =>
      Effect.sync(() => {
        for (const fd of [image, secret]) closeSync(fd)
      })
  )

const goneText =
  `the files of the running version ${version} in ${root} are gone or changed, so that it could not come back if the ` +
  "new one failed: install versions beside each other, each in a folder of its own"

/** Stops accepting and serving, except for what runs. */
const hold = ({ parts, registry }: Server): void => {
  registry.waitAtLeast(leastTtlMs)
  for (const connection of registry.connections) connection.hold(true)
  for (const part of parts) part.hold?.(Native.duplicate)
}

/** Serves again, as if nothing had been. */
const release = ({ parts, registry }: Server): Effect.Effect<void> =>
  Effect.sync(() => {
    Native.takeSignals()
    registry.waitAtLeast(0)
    for (const part of parts) part.release?.()
    for (const connection of registry.connections) connection.hold(false)
  })

const methodsOf = (connections: Iterable<OpenConnection>) =>
  Array.from(connections).flatMap((connection) => connection.unanswered())

/** Sessions of clients within this server. They end with it. */
const refuseInProcess = ({ registry }: Server) =>
  Effect.suspend(() => {
    const running = Array.from(registry.connections)
      .filter(({ isInProcess }) => isInProcess)
      .reduce((sum, connection) => sum + connection.processes(), 0)
    if (running === 0) return Effect.void
    const what = running === 1 ? "a process of an agent runs" : `${running} processes of agents run`
    return refuse(`${what}, through /mcp, which cannot be handed over: end them first`)
  })

/** Lets requests end that must, and others for a moment. Returns what does not end. */
const settle = ({ parts, registry }: Server) =>
  Effect.gen(function* () {
    const onFiles = () => methodsOf(registry.connections).filter(isOnFiles)
    if (!(yield* until(() => onFiles().length === 0, filesMs))) {
      const [method] = onFiles()
      return yield* refuse(`${method} still runs after ${filesMs / 1000} s, and would be cut off: try again later`)
    }
    yield* until(() => !worksOnFiles(), threadsMs)
    yield* registry.settle(settleMs)
    // What cannot be frozen is found out while clients have not noticed anything.
    yield* Effect.try({ try: () => freeze(parts), catch: (error) => refuse(reasonOf(error)) })
    const isQuiet = () => methodsOf(registry.connections).every(isWaiting)
    const arriving = () => parts.some((part) => (part.arriving?.() ?? 0) > 0)
    yield* until(() => isQuiet() && !arriving(), answersMs)
  })

/** Counts, without zeros. */
const counted = (all: Readonly<Record<string, number>>): ReadonlyArray<Wire.Ended> =>
  Object.entries(all).flatMap(([what, count]) => (count === 0 ? [] : [{ what, count }]))

/** Signals that shut the server down. */
const ending = ["SIGTERM", "SIGINT"] as const

/** Listens for a shutdown until the scope closes. Returns whether one was asked for. */
const watchSignals = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => {
      const seen = { isEnding: false }
      const onSignal = () => {
        seen.isEnding = true
      }
      for (const signal of ending) process.on(signal, onSignal)
      return { seen, onSignal }
    }),
    ({ onSignal }) =>
      Effect.sync(() => {
        for (const signal of ending) process.off(signal, onSignal)
      })
  ),
  ({ seen }) =>
    () =>
      seen.isEnding
)

const nextTurn = Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))

/**
 * From here on a signal ends the process, and the guard ends what it has started: once the new version is being
 * executed, nobody would handle it. One that was caught before is reported within the next turn.
 */
const leaveSignals = (isEnding: () => boolean) =>
  Effect.sync(Native.leaveSignals).pipe(
    Effect.zipRight(nextTurn),
    Effect.zipRight(nextTurn),
    Effect.filterOrFail(
      () => !isEnding(),
      () => refuse("the server is shutting down")
    )
  )

/** Ends all connections. Returns what has ended with them. */
const disconnect = ({ registry }: Server) =>
  Effect.gen(function* () {
    const connections = Array.from(registry.connections)
    const before = registry.list().length
    const methods = methodsOf(connections)
    const held: Record<string, number> = {}
    for (const { what, count } of connections.flatMap((connection) => connection.held())) {
      held[what] = (held[what] ?? 0) + count
    }
    const reason = "the server is being replaced by another version, which cannot go on with this request"
    for (const connection of connections) connection.interrupt((method) => !isRepeatable(method), reason)
    yield* until(() => methodsOf(connections).every(isRepeatable), answersMs)
    for (const { end } of connections) {
      end({ code: 1012, reason: "the server is being replaced by another version; connect again" })
    }
    yield* until(() => registry.connections.size === 0, releaseMs)
    yield* until(() => connections.every((connection) => connection.buffered() === 0), flushMs)
    return counted({
      connections: connections.length,
      "requests that are not repeated": methods.filter((method) => !isRepeatable(method)).length,
      "sessions that cannot be resumed": Math.max(0, before - registry.list().length),
      ...held
    })
  })

/** Replaces the server. Returns only after a dry run, with the version of the new one. */
export const replace = (
  server: Server,
  request: Wire.UpgradeRequest,
  { fd: requester, who }: Requester
): Effect.Effect<string, UpgradeRefused> =>
  Effect.gen(function* () {
    yield* refuseInProcess(server)
    yield* loadAll(server.parts)
    const to = yield* preflight(server, request)
    if (request.dryRun) return to
    return yield* Effect.gen(function* () {
      const isEnding = yield* watchSignals
      server.audit.write(who, { event: "server.upgrade", from: version, to })
      yield* server.reloading
      const heldAtNs = String(process.hrtime.bigint())
      yield* Effect.try({ try: () => hold(server), catch: (error) => refuse(reasonOf(error)) })
      yield* settle(server)
      const ended = yield* disconnect(server)
      yield* leaveSignals(isEnding)
      return yield* Effect.try({
        try: () => become(server, request, { to, requester, heldAtNs, ended }),
        catch: (error) => refuse(reasonOf(error))
      })
    }).pipe(
      Effect.tapErrorCause(() =>
        Effect.gen(function* () {
          yield* release(server)
          yield* server.ready
          server.audit.write(who, { event: "server.upgradeFailed", from: version, to })
        })
      ),
      Effect.scoped,
      Effect.uninterruptible
    )
  })

interface Circumstances {
  readonly to: string
  readonly requester: number | undefined
  readonly heldAtNs: string
  readonly ended: ReadonlyArray<Wire.Ended>
}

/** Freezes the parts and executes the new version, in one turn. Throws if that is not possible. */
const become = (
  { parts, secrets: variables }: Server,
  { node, entry, deadlineMs }: Wire.UpgradeRequest,
  { to, requester, heldAtNs, ended }: Circumstances
): never => {
  const frozenAtNs = String(process.hrtime.bigint())
  const frozen = freeze(parts)
  const opened: Array<number> = []
  try {
    const image = Native.memory("exec-server state")
    opened.push(image)
    const secret = Native.secret(State.formatSecrets({ variables, parts: frozen.secretParts }))
    opened.push(secret)
    const descriptors = Array.from(frozen.writer.descriptors)
    const kept = [...descriptors, ...opened, ...(requester === undefined ? [] : [requester])]
    const own = commandOf(process.execPath, ownEntry)
    const state = {
      version,
      successor: to,
      frozenAtNs,
      heldAtNs,
      ...(requester === undefined ? {} : { requester }),
      descriptors: descriptors.map(State.identify),
      ended,
      parts: frozen.parts
    }
    State.write(image, { fallback: own, kept, deadlineMs }, state, frozen.writer)
    return Native.exec({ ...commandOf(node, entry), handover: `${image},${secret}`, kept })
  } catch (error) {
    for (const fd of opened) closeSync(fd)
    throw error
  }
}
