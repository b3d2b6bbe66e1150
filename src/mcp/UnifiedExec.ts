/**
 * Commands for a program that cannot wait: each call returns after a window at the latest, with the new output and a
 * number by which the command can be typed into, awaited and ended. What has ended stays readable.
 *
 * @since 0.1.0
 */

import { Buffer } from "node:buffer"
import { randomInt } from "node:crypto"
import * as Effect from "effect/Effect"
import { sequential } from "effect/ExecutionStrategy"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type { ClientError, WriteRefused } from "../client/ClientError.js"
import type { Environment } from "../environment/Environment.js"
import type { SignalWord } from "../protocol/Signals.js"
import type { ScreenText } from "../screen/ScreenMessages.js"
import { CommandSession, type NewOutput, type Part, type State } from "./CommandSession.js"
import { endMs, endTree } from "./Ending.js"
import { EventFeed, endOf, interactionOf } from "./EventFeed.js"
import type { ExecEvent } from "./ExecEvent.js"
import { ExecFailure, reasonOf } from "./ExecFailure.js"
import { OutputBudget, screenBytes } from "./OutputBudget.js"
import * as Shell from "./Shell.js"
import * as TextScreens from "./TextScreens.js"
import * as Typing from "./Typing.js"

/** The most commands that have ended and stay readable. The one not asked for longest is forgotten first. */
const maxEnded = 64

/** Numbers begin below this one, so that one from another run is hardly ever mistaken. */
const firstIdBelow = 10_000

/** How long an answer to a signal is awaited, in milliseconds. */
const answerMs = 600

/** How long a program may take to draw its screen again, in milliseconds. */
const redrawMs = 1000

/** Bytes of a token, about. */
const tokenBytes = 4

/** The windows of calls that do not say, in milliseconds, and their output in tokens: less than what clients cut. */
const defaultYieldMs = 10_000
const defaultTypedMs = 2000
const defaultTokens = 8000

/**
 * What a window has shown.
 *
 * @category models
 */
export interface Report {
  readonly sessionId: number
  readonly state: State
  /** How long the command has run, in milliseconds. */
  readonly elapsedMs: number
  readonly output: NewOutput
  /** The text that was waited for, if it has come. */
  readonly found: string | undefined
  /** What was not done, and why: the command has ended, for example. */
  readonly notDone: string | undefined
}

/**
 * A command in a list.
 *
 * @category models
 */
export interface Listed {
  readonly sessionId: number
  readonly cmd: string
  readonly environment: string
  readonly tty: boolean
  readonly state: State
  readonly elapsedMs: number
  /** How long ago it was started, in milliseconds. */
  readonly startedMsAgo: number
}

/**
 * What a terminal shows.
 *
 * @category models
 */
export interface ShownScreen extends ScreenText {
  readonly state: State
}

/**
 * How long a call may take, and how much it may return.
 *
 * @category models
 */
export interface Window {
  /** The longest wait, in milliseconds; 10 s by default, 2 s after typing. */
  readonly yieldTimeMs?: number | undefined
  /** The most output, in tokens of about 4 bytes; 8000 by default. */
  readonly maxOutputTokens?: number | undefined
}

/**
 * A command to start.
 *
 * @category models
 */
export interface ExecCommand extends Window {
  /** A command line of the user's shell. */
  readonly cmd: string
  /** Its working directory: an absolute path; by default the server's. */
  readonly workdir?: string | undefined
  /** Whether it runs in a terminal. */
  readonly tty?: boolean | undefined
  /** When its whole tree is killed, in milliseconds; never by default. */
  readonly timeoutMs?: number | undefined
  /** Ends the command when it closes. */
  readonly within?: Scope.Scope | undefined
  /** The id of the caller's call, for `events`. */
  readonly callId?: string | undefined
  /** Called with its number, before it has printed anything. */
  readonly onStarted?: (sessionId: number) => void
}

/**
 * What to type into a command.
 *
 * @category models
 */
export interface WriteStdin extends Window, Typing.Typed {}

/**
 * What to wait for.
 *
 * @category models
 */
export interface ReadOutput extends Window {
  /** Return as soon as new output contains one of these texts. */
  readonly waitFor?: ReadonlyArray<string> | undefined
}

/** Where a command runs. */
type Machine = Pick<Environment, "id" | "processes" | "files" | "info" | "client">

/**
 * The commands of one program. A number that does not exist fails, and the message names those that do.
 *
 * @category models
 */
export interface UnifiedExec {
  /** Starts a command and waits for its end. If the caller is interrupted, the command is ended. */
  readonly execCommand: (machine: Machine, command: ExecCommand) => Effect.Effect<Report, ExecFailure>
  /** Types into a command, and waits until its output has come and is quiet. */
  readonly writeStdin: (sessionId: number, input: WriteStdin) => Effect.Effect<Report, ExecFailure>
  /** Waits for the end of a command, or for a text. */
  readonly readOutput: (sessionId: number, window?: ReadOutput) => Effect.Effect<Report, ExecFailure>
  /** Kept output from a byte on. */
  readonly readAt: (
    sessionId: number,
    offset: number,
    window?: Pick<Window, "maxOutputTokens">
  ) => Effect.Effect<Part, ExecFailure>
  /** What the terminal of a command shows, after a change of its size if one is given. */
  readonly readScreen: (
    sessionId: number,
    size?: { readonly rows: number; readonly cols: number }
  ) => Effect.Effect<ShownScreen, ExecFailure>
  /** Ends a command with all its children, or sends it one signal. */
  readonly kill: (
    sessionId: number,
    signal?: SignalWord | undefined,
    window?: Pick<Window, "maxOutputTokens">
  ) => Effect.Effect<Report, ExecFailure>
  /**
   * What happens to the commands from now on, for any number of readers. A slow one holds up nothing: of output that it
   * does not read in time (1 MiB) it is told how much was left out, and of other events how many.
   */
  readonly events: Stream.Stream<ExecEvent>
  /** All commands, the oldest first. */
  readonly list: Effect.Effect<ReadonlyArray<Listed>>
  /** The last line that a command has printed. */
  readonly lastLine: (sessionId: number) => string
}

/**
 * Options of `make`.
 *
 * @category models
 */
export interface Options {
  /** Whether the shell reads the profile of the user. */
  readonly login?: boolean
  /** What it shares with others; by default it has its own. */
  readonly shared?: Shared | undefined
}

/**
 * What the commands of several programs share: the memory for their output, and the thread of their screens.
 *
 * @category models
 */
export interface Shared {
  readonly budget: OutputBudget
  readonly screens: TextScreens.TextScreens
}

/**
 * Makes what several share; the scope ends the thread.
 *
 * @category constructors
 */
export const makeShared: Effect.Effect<Shared, never, Scope.Scope> = Effect.map(TextScreens.make, (screens) => ({
  budget: new OutputBudget(),
  screens
}))

const hasEnded = "the command has ended"

const fail = (message: string) => new ExecFailure({ message })

const failing = <A>(effect: Effect.Effect<A, ClientError>) => Effect.mapError(effect, (error) => fail(reasonOf(error)))

/** The system's text for arguments that are too long. */
const tooLong = "(os error 7)"

/** Why a command cannot be started. The server's own reason does not say whether the directory is at fault. */
const explainStart = (machine: Machine, { cmd }: ExecCommand, workdir: string, error: ClientError) => {
  const reason = reasonOf(error)
  if (reason.includes(tooLong)) {
    const length = Buffer.byteLength(cmd)
    return fail(`cmd has ${length} bytes, more than the system takes: write it to a file, and run that`)
  }
  return machine.files.getMetadata(workdir).pipe(
    Effect.matchEffect({
      onFailure: (why) => fail(`cannot use ${workdir} as the working directory: ${reasonOf(why)}`),
      onSuccess: ({ isDirectory }) =>
        fail(isDirectory ? reason : `cannot use ${workdir} as the working directory: it is not a directory`)
    })
  )
}

/**
 * Makes it; the scope ends all commands.
 *
 * @category constructors
 */
export const make = ({ login = false, shared }: Options = {}): Effect.Effect<UnifiedExec, never, Scope.Scope> =>
  Effect.gen(function* () {
    const sessions = new Map<number, CommandSession>()
    /** How many calls are about a command. */
    const held = new Map<CommandSession, number>()
    let nextId = randomInt(1, firstIdBelow)
    const { budget, screens } = shared ?? (yield* makeShared)
    const feed = new EventFeed()
    // The first finalizer is the last to run: the ends of the commands are told.
    yield* Effect.addFinalizer(() => Effect.sync(() => feed.end()))
    // Otherwise its fibers could not be interrupted if it is made where nothing can.
    const run = yield* Effect.interruptible(FiberSet.makeRuntime<never>())

    const forget = (session: CommandSession) => {
      if (!sessions.delete(session.id)) return
      budget.withdraw(session)
      session.dispose()
    }

    /** It has ended, and no call is about it: it stays as long as there is room. */
    const settle = (session: CommandSession) => {
      const isUnused = (one: CommandSession) => one.isOver && !held.has(one)
      if (!sessions.has(session.id) || !isUnused(session)) return
      budget.offer(session, () => forget(session))
      const ended = Array.from(sessions.values()).filter(isUnused)
      for (const oldest of ended.slice(0, Math.max(0, ended.length - maxEnded))) forget(oldest)
    }

    /** Carries out a call about a command, which is not forgotten meanwhile: its output would be missing. */
    const holding = <A, E>(session: CommandSession, call: Effect.Effect<A, E>): Effect.Effect<A, E> =>
      Effect.acquireUseRelease(
        Effect.sync(() => {
          held.set(session, (held.get(session) ?? 0) + 1)
          budget.withdraw(session)
        }),
        () => call,
        () =>
          Effect.sync(() => {
            const others = (held.get(session) ?? 1) - 1
            if (others > 0) return void held.set(session, others)
            held.delete(session)
            settle(session)
          })
      )

    const end = (session: CommandSession): Effect.Effect<void> =>
      session.process === undefined
        ? Effect.void
        : // A server that ends meanwhile need not answer.
          endTree(session.process).pipe(
            Effect.zipRight(session.until(() => session.isOver)),
            Effect.timeoutOption(endMs),
            Effect.asVoid
          )

    yield* Effect.addFinalizer(() =>
      Effect.forEach(Array.from(sessions.values()), (session) => Effect.interruptible(end(session)), {
        concurrency: "unbounded",
        discard: true
      }).pipe(Effect.ensuring(Effect.sync(() => Array.from(sessions.values()).forEach(forget))))
    )

    /** Carries out a call about the command with a number. */
    const about = <A>(
      id: number,
      call: (session: CommandSession) => Effect.Effect<A, ExecFailure>
    ): Effect.Effect<A, ExecFailure> =>
      Effect.suspend(() => {
        const session = sessions.get(id)
        if (session === undefined) {
          const running = Array.from(sessions.values()).filter(({ isOver }) => !isOver)
          const ids = running.length === 0 ? "none" : running.map((one) => one.id).join(", ")
          return fail(`there is no session ${id}; running: ${ids}`)
        }
        // Asked for last.
        sessions.delete(id)
        sessions.set(id, session)
        return holding(session, call(session))
      })

    const report = (
      session: CommandSession,
      { maxOutputTokens = defaultTokens }: Pick<Window, "maxOutputTokens">,
      more: Partial<Pick<Report, "found" | "notDone">> = {}
    ): Effect.Effect<Report> =>
      Effect.suspend(() => {
        // Taken before the output: it may end while its screen is read.
        const { id: sessionId, state, elapsedMs } = session
        return Effect.map(session.show(maxOutputTokens * tokenBytes), (output) => ({
          sessionId,
          state,
          elapsedMs,
          output,
          found: undefined,
          notDone: undefined,
          ...more
        }))
      })

    /** Takes the memory of a screen: that of what has ended, if there is no other. */
    const takeScreen = Effect.suspend(() => {
      budget.take(screenBytes)
      if (!budget.isExceeded) return Effect.void
      budget.give(screenBytes)
      return fail(
        "there is no memory for another terminal: too many commands run; end some with kill_session, or start it without tty"
      )
    })

    const open = (
      machine: Machine,
      command: ExecCommand,
      restore: <A, E>(effect: Effect.Effect<A, E>) => Effect.Effect<A, E>
    ) =>
      Effect.gen(function* () {
        const { cmd, workdir = Shell.workdirOf(machine.info), tty = false, timeoutMs } = command
        if (tty) yield* takeScreen
        const start = Shell.startOf(machine.info, { cmd, workdir, tty, timeoutMs, login })
        const process = yield* restore(machine.processes.start(start)).pipe(
          Effect.catchTag("ServerError", (error) => explainStart(machine, command, workdir, error)),
          Effect.mapError(({ message }) => fail(message)),
          Effect.onError(() => Effect.sync(() => budget.give(tty ? screenBytes : 0)))
        )
        const id = nextId++
        const screen = tty ? screens.open(Shell.size, () => session.wake()) : undefined
        const ids = { sessionId: id, callId: command.callId ?? null }
        const session: CommandSession = new CommandSession(
          id,
          ids.callId,
          cmd,
          machine.id,
          process,
          screen,
          budget,
          (...output) => feed.print(ids, ...output)
        )
        sessions.set(id, session)
        feed.tell(() => {
          const { environment, startedAt: startedAtMs } = session
          return { _tag: "ExecCommandBegin", ...ids, cmd, workdir, environment, tty, startedAtMs }
        })
        command.onStarted?.(id)
        run(Effect.map(session.ended, () => feed.tell(() => endOf(session))))
        const own = command.within === undefined ? undefined : yield* Scope.fork(command.within, sequential)
        // Waits for the end that `follow` sees.
        if (own !== undefined) yield* Scope.addFinalizer(own, Effect.interruptible(end(session)))
        const followed = Effect.zipRight(
          session.follow(process, machine.client),
          Effect.sync(() => settle(session))
        )
        run(own === undefined ? followed : Effect.zipRight(followed, Scope.close(own, Exit.void)))
        return session
      })

    const execCommand: UnifiedExec["execCommand"] = (machine, command) => {
      const { workdir, yieldTimeMs = defaultYieldMs } = command
      if (workdir !== undefined && !workdir.startsWith("/")) {
        return fail(`workdir must be an absolute path, not ${JSON.stringify(workdir)}`)
      }
      if (command.cmd.includes("\0")) return fail("cmd contains a NUL character, which no command can")
      return Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(open(machine, command, restore), (session) => {
          // Nobody knows its number.
          const abandon = Effect.sync(() => {
            run(
              Effect.zipRight(
                end(session),
                Effect.sync(() => forget(session))
              )
            )
          })
          const shown = Effect.zipRight(Effect.timeoutOption(session.ended, yieldTimeMs), report(session, command))
          return Effect.onInterrupt(holding(session, restore(shown)), () => abandon)
        })
      )
    }

    const writeStdin: UnifiedExec["writeStdin"] = (sessionId, input) =>
      about(sessionId, (session) =>
        Effect.gen(function* () {
          yield* Typing.check(session, input.keys ?? [])
          const { process } = session
          if (process === undefined || session.state._tag !== "Running") {
            return yield* report(session, input, { notDone: `nothing was written: ${hasEnded}` })
          }
          const since = performance.now()
          const refused = yield* Typing.type(session.hasTerminal, process, input).pipe(
            Effect.as(undefined),
            Effect.catchTag("WriteRefused", (error: WriteRefused) =>
              Effect.succeed(error.status === "stdinClosed" ? "its stdin is closed" : hasEnded)
            ),
            failing
          )
          if (refused === undefined) {
            feed.tell(() => interactionOf(session, input))
            yield* Effect.timeoutOption(session.quiet(since), input.yieldTimeMs ?? defaultTypedMs)
          }
          return yield* report(session, input, {
            notDone: refused === undefined ? undefined : `nothing was written: ${refused}`
          })
        })
      )

    const readOutput: UnifiedExec["readOutput"] = (sessionId, window = {}) =>
      about(sessionId, (session) =>
        Effect.gen(function* () {
          const { waitFor = [] } = window
          const search = session.finder(waitFor)
          let found: string | undefined
          const come = session.until(() => {
            found = search()
            return found !== undefined
          })
          // After the exit, or for a text, what still holds the output is waited for as well.
          const over = session.until(() => session.isOver)
          const isEnd = waitFor.length === 0
          const awaited = !isEnd
            ? Effect.raceFirst(come, over)
            : session.state._tag === "Running"
              ? session.ended
              : over
          yield* Effect.timeoutOption(awaited, window.yieldTimeMs ?? defaultYieldMs)
          return yield* report(session, window, { found })
        })
      )

    const readScreen: UnifiedExec["readScreen"] = (sessionId, size) =>
      about(sessionId, (session) =>
        Effect.gen(function* () {
          if (!session.hasTerminal) {
            return yield* fail(`session ${sessionId} has no terminal; start the command with tty to see a screen`)
          }
          if (size !== undefined) {
            const { process } = session
            if (process === undefined) return yield* fail(`the size cannot be changed: the command has ended`)
            const since = performance.now()
            session.resizeScreen(size)
            yield* failing(process.resize(size.rows, size.cols))
            yield* Effect.timeoutOption(session.quiet(since), redrawMs)
          }
          const { state } = session
          const text = yield* session.readScreen()
          return text === undefined
            ? yield* fail(`the screen of session ${sessionId} could not be made; read_output has its text`)
            : { ...text, state }
        })
      )

    const kill: UnifiedExec["kill"] = (sessionId, signal, window = {}) =>
      about(sessionId, (session) =>
        Effect.gen(function* () {
          const { process, state } = session
          if (signal === undefined) {
            yield* end(session)
            return yield* report(session, window)
          }
          if (process === undefined || state._tag !== "Running") {
            return yield* report(session, window, { notDone: `no signal was sent: ${hasEnded}` })
          }
          const since = performance.now()
          yield* failing(process.signal(signal))
          yield* Effect.timeoutOption(session.quiet(since), answerMs)
          return yield* report(session, window)
        })
      )

    return {
      execCommand,
      writeStdin,
      readOutput,
      readAt: (sessionId, offset, { maxOutputTokens = defaultTokens } = {}) =>
        about(sessionId, (session) => Effect.sync(() => session.readAt(offset, maxOutputTokens * tokenBytes))),
      readScreen,
      kill,
      events: feed.events,
      list: Effect.sync(() =>
        Array.from(sessions.values())
          .sort((a, b) => a.id - b.id)
          .map(({ id: sessionId, cmd, environment, hasTerminal: tty, state, elapsedMs, startedAt }) => ({
            sessionId,
            cmd,
            environment,
            tty,
            state,
            elapsedMs,
            startedMsAgo: Date.now() - startedAt
          }))
      ),
      lastLine: (sessionId) => sessions.get(sessionId)?.lastLine ?? ""
    }
  })
