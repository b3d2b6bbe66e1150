/**
 * The processes of a sandbox: what they print goes to whoever listens, at the pace of the slowest, and nowhere if nobody
 * does. The scope ends them.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import { pathToFileURL } from "node:url"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { ClientError } from "../client/ClientError.js"
import type { StartOptions } from "../client/ExecClient.js"
import type { ProcessEvent } from "../client/ProcessEvent.js"
import type { RemoteProcess } from "../client/RemoteProcess.js"
import type { Environment } from "../environment/Environment.js"
import type { TerminalSize } from "../protocol/ProcessSchemas.js"
import { type Answers, message } from "./Connect.js"
import { type EndEvent, endEventOf } from "./ExitText.js"
import { type Failure, fail, ofClient } from "./Failure.js"
import { deadlinePassed } from "./KeepAlive.js"
import { inheritAll } from "./Place.js"

/** The most processes of a sandbox at a time. */
const maxProcesses = 1024

/** How long the end of a process is told to who connects to it later, in milliseconds, and of how many. */
const endedMs = 30_000
const maxEnded = 256

/** Pids for servers that do not tell theirs: larger than any of Linux. */
const firstMadeUpPid = 4_194_305

/** How long the end of a killed process is awaited, in milliseconds. */
const endMs = 2000

/** What a client has asked to run. */
export interface Config {
  readonly cmd: string
  readonly args: ReadonlyArray<string>
  readonly envs: { readonly [name: string]: string }
  readonly cwd?: string | undefined
}

/** How to run it. */
export interface Start {
  readonly config: Config
  readonly tag: string | undefined
  /** The absolute working directory. */
  readonly cwd: string
  /** The size of its terminal; undefined for pipes. */
  readonly size: TerminalSize | undefined
  readonly hasStdin: boolean
  /** When it is killed, in milliseconds; never if undefined. */
  readonly timeoutMs: number | undefined
}

/** The selector of a process. */
export interface Selector {
  readonly pid?: number | undefined
  readonly tag?: string | undefined
}

/** A process. */
export interface Running extends Pick<Start, "config" | "tag" | "hasStdin"> {
  readonly pid: number
  readonly hasTerminal: boolean
  readonly process: RemoteProcess
  readonly listeners: Set<Answers>
  end: EndEvent | undefined
  /** Waits until its end was told to all listeners. */
  told: Effect.Effect<void> | undefined
}

/** The processes of a sandbox. */
export interface Processes {
  /** Starts a process. Its output goes to `listener`. */
  readonly start: (start: Start, listener: Answers) => Effect.Effect<Running, Failure>
  /** Sends what a process prints from now on, and its end. */
  readonly listen: (running: Running, listener: Answers) => void
  /** Those that run. */
  readonly list: () => ReadonlyArray<Running>
  /** Finds one that runs. */
  readonly find: (selector: Selector) => Effect.Effect<Running, Failure>
  /** Finds one that runs, or has ended a short while ago. */
  readonly findEnded: (selector: Selector) => Effect.Effect<Running, Failure>
}

const startMessage = (pid: number): Buffer => message({ event: { start: { pid } } })

/** Sends the last messages to a listener. */
const finish = (listener: Answers, end: EndEvent): void => {
  listener.send(message({ event: { end } }))
  listener.end()
}

const optionsOf = (
  { config: { cmd, args, envs }, cwd, size, hasStdin }: Start,
  variables: { readonly [name: string]: string }
): StartOptions => ({
  argv: [cmd, ...args],
  cwd: pathToFileURL(cwd).href,
  env: { ...variables, ...envs },
  envPolicy: inheritAll,
  tty: size !== undefined,
  pipeStdin: size === undefined && hasStdin,
  ...(size === undefined ? {} : { size })
})

/** Says why a process was not started. The server's own reason does not say whether the directory is at fault. */
const explain = ({ files }: Environment, { config, cwd }: Start, error: ClientError): Effect.Effect<never, Failure> =>
  files.getMetadata(cwd).pipe(
    Effect.matchEffect({
      onFailure: () => fail("invalid_argument", `cwd '${cwd}' does not exist`),
      onSuccess: ({ isDirectory }) => {
        if (!isDirectory) return fail("invalid_argument", `cwd '${cwd}' is not a directory`)
        const failure = ofClient(`error starting process '${config.cmd}'`, error)
        return failure.code === "not_found" ? fail("invalid_argument", failure.message) : failure
      }
    })
  )

/** What clients are told if the end of a process is not known. */
const ended = fail("unavailable", "the end of the process is unknown: its sandbox has ended")

/** Kills the tree of a process, and waits until its end was told. */
const kill = ({ process, told, listeners }: Running): Effect.Effect<void> =>
  Effect.zipRight(process.terminate(), told ?? Effect.void).pipe(
    Effect.timeout(endMs),
    Effect.ignore,
    Effect.zipRight(
      Effect.sync(() => {
        for (const listener of listeners) listener.end(ended)
      })
    )
  )

/**
 * Makes the processes of a sandbox; the scope ends them. Each gets `variables` besides its own and those of the server.
 */
export const make = (
  environment: Environment,
  variables: { readonly [name: string]: string }
): Effect.Effect<Processes, never, Scope.Scope> =>
  Effect.gen(function* () {
    const running = new Map<number, Running>()
    const gone = new Map<number, Running>()
    let starting = 0
    let madeUpPid = firstMadeUpPid
    const run = yield* FiberSet.makeRuntime<never>()
    let isOver = false
    yield* Effect.addFinalizer(() => {
      isOver = true
      return Effect.forEach(Array.from(running.values()), kill, { concurrency: "unbounded", discard: true })
    })

    const forget = (one: Running) => {
      if (gone.get(one.pid) === one) gone.delete(one.pid)
    }

    const close = (one: Running, finishOf: (listener: Answers) => void) => {
      if (running.get(one.pid) === one) running.delete(one.pid)
      for (const listener of one.listeners) finishOf(listener)
      one.listeners.clear()
      if (one.end === undefined) return
      const [oldest] = gone.values()
      if (gone.size >= maxEnded && oldest !== undefined) forget(oldest)
      gone.set(one.pid, one)
      run(
        Effect.zipRight(
          Effect.sleep(endedMs),
          Effect.sync(() => forget(one))
        )
      )
    }

    /** Passes an event on. Waits while a listener is congested: the process is not read meanwhile. */
    const pass = (one: Running, event: ProcessEvent): Effect.Effect<void> => {
      switch (event._tag) {
        case "Output": {
          if (one.listeners.size === 0) return Effect.void
          const bytes = message({ event: { data: { [event.stream]: event.chunk.toString("base64") } } })
          for (const listener of one.listeners) listener.send(bytes)
          const congested = Array.from(one.listeners).filter(({ isCongested }) => isCongested)
          return Effect.forEach(congested, ({ drained }) => drained, { concurrency: "unbounded", discard: true })
        }
        case "Missed": {
          const lost = fail("data_loss", `${event.bytes} bytes of output were lost: they were not read in time`)
          for (const listener of event.bytes === 0 ? [] : one.listeners) listener.end(lost)
          return Effect.void
        }
        case "Exited":
          one.end = endEventOf(event)
          return Effect.void
        case "Restarted":
        case "Closed":
          return Effect.void
      }
    }

    const follow = (one: Running): Effect.Effect<void> =>
      Stream.runForEach(one.process.events, (event) => pass(one, event)).pipe(
        Effect.match({
          onSuccess: () => undefined,
          onFailure: (error) => ofClient("the end of the process is unknown", error)
        }),
        Effect.map((failure) =>
          close(one, (listener) => {
            if (one.end === undefined || failure !== undefined) listener.end(failure)
            else finish(listener, one.end)
          })
        )
      )

    /** Kills a process at its deadline, which its client is told before. Servers of codex have no deadlines. */
    const late = ({ process }: Running, timeoutMs: number | undefined, listener: Answers): Effect.Effect<never> =>
      timeoutMs === undefined
        ? Effect.never
        : Effect.sleep(timeoutMs).pipe(
            Effect.zipRight(Effect.sync(() => listener.end(deadlinePassed(timeoutMs)))),
            Effect.zipRight(Effect.ignore(process.terminate())),
            Effect.zipRight(Effect.never)
          )

    const listen = (one: Running, listener: Answers) => {
      listener.send(startMessage(one.pid))
      if (one.end !== undefined && running.get(one.pid) !== one) return finish(listener, one.end)
      one.listeners.add(listener)
      return undefined
    }

    const select = (from: ReadonlyMap<number, Running>, { pid, tag }: Selector): Running | undefined =>
      pid === undefined ? Array.from(from.values()).find((one) => one.tag === tag) : from.get(pid)

    const notFound = ({ pid, tag }: Selector): Failure => {
      if (pid === undefined && tag === undefined)
        return fail("invalid_argument", "give the pid or the tag of a process")
      return fail("not_found", `process with ${pid === undefined ? `tag ${tag}` : `pid ${pid}`} not found`)
    }

    const start = (given: Start, listener: Answers) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.gen(function* () {
          if (running.size + starting >= maxProcesses) {
            return yield* fail("resource_exhausted", `${maxProcesses} processes run; end one of them first`)
          }
          starting++
          const process = yield* restore(environment.processes.start(optionsOf(given, variables))).pipe(
            Effect.catchAll((error) => explain(environment, given, error)),
            Effect.ensuring(Effect.sync(() => starting--))
          )
          if (isOver) return yield* Effect.zipRight(Effect.ignore(process.terminate()), ended)
          const one: Running = {
            config: given.config,
            tag: given.tag,
            hasStdin: given.hasStdin,
            hasTerminal: given.size !== undefined,
            pid: process.pid ?? madeUpPid++,
            process,
            listeners: new Set(),
            end: undefined,
            told: undefined
          }
          gone.delete(one.pid)
          running.set(one.pid, one)
          listen(one, listener)
          one.told = Effect.asVoid(
            Fiber.await(run(Effect.raceFirst(follow(one), late(one, given.timeoutMs, listener))))
          )
          return one
        })
      )

    return {
      start,
      listen,
      list: () => Array.from(running.values()),
      find: (selector) =>
        Effect.suspend(() => Effect.succeed(select(running, selector))).pipe(
          Effect.filterOrFail(
            (one) => one !== undefined,
            () => notFound(selector)
          )
        ),
      findEnded: (selector) =>
        Effect.suspend(() => Effect.succeed(select(running, selector) ?? select(gone, selector))).pipe(
          Effect.filterOrFail(
            (one) => one !== undefined,
            () => notFound(selector)
          )
        )
    }
  })
