/**
 * Ends what the server started when the server is killed and can run no handler: a small shell outside of it that is
 * told of every leader, and acts when the pipe on which it is told breaks.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { spawn } from "node:child_process"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { Identity } from "./ProcessTree.js"

/**
 * POSIX shell, without any program but itself. It reads `+ <pid> <start time>` and `- <pid> <start time>`, and at the end of input
 * kills every registered tree: the leader's group, its session, and whatever descends from those. All are stopped
 * first, so that none can fork its way out of the table. A leader whose start time differs is a stranger.
 *
 * It also reads `f <folder>` and `g <folder>`, escaped, and removes those that are empty then, with the one program that
 * it needs.
 */
const script = `
trap '' HUP INT QUIT TERM
set -f
leaders=' '
folders=' '
while read -r operation pid start; do
  case $operation in
    +) leaders="$leaders$pid:$start " ;;
    -) case $leaders in *" $pid:$start "*)
         leaders="\${leaders%%" $pid:$start "*} \${leaders#*" $pid:$start "}" ;;
       esac ;;
    f) folders="$folders$pid " ;;
    g) case $folders in *" $pid "*)
         folders="\${folders%%" $pid "*} \${folders#*" $pid "}" ;;
       esac ;;
  esac
done
members=' '
for leader in $leaders; do
  pid=\${leader%%:*} start=\${leader#*:}
  if read -r line 2>/dev/null < /proc/$pid/stat; then
    set -- \${line##*) }
    shift 19 2>/dev/null && [ "$start" != 0 ] && [ "$1" != "$start" ] && continue
  fi
  members="$members$pid "
  kill -STOP -$pid 2>/dev/null
done
roots=$members
round=0
grown=1
while [ $grown = 1 ] && [ $round -lt 20 ]; do
  grown=0 round=$((round + 1))
  set +f
  for folder in /proc/[1-9]*; do
    pid=\${folder#/proc/}
    case $members in *" $pid "*) continue ;; esac
    read -r line 2>/dev/null < $folder/stat || continue
    set -f; set -- \${line##*) }; set +f
    case $members in *" $2 "*) ;; *)
      case $roots in *" $3 "*|*" $4 "*) ;; *) continue ;; esac ;;
    esac
    members="$members$pid " grown=1
    kill -STOP $pid 2>/dev/null
  done
  set -f
done
for pid in $roots; do kill -KILL -$pid 2>/dev/null; done
for pid in $members; do kill -KILL $pid 2>/dev/null; done
set -f
PATH=/usr/bin:/bin
for folder in $folders; do
  path=$(printf '%b.' "$folder")
  rmdir -- "\${path%.}" 2>/dev/null
done
`

/** A path without anything that the shell would take for more than itself. */
const escaped = (path: string): string =>
  Buffer.from(path)
    .toString("latin1")
    .replace(/[^A-Za-z0-9/._-]/g, (byte) => `\\0${byte.charCodeAt(0).toString(8).padStart(3, "0")}`)

/** How long after a failure another guard is started, in milliseconds: twice as long each time, up to a maximum. */
const firstRetryMs = 200
const maxRetryMs = 30_000

/** A guard that has run for as long, in milliseconds, was none that cannot run: the waits begin anew. */
const steadyMs = 30_000

/** How long after a failure was logged others are only counted, in milliseconds. */
const quietMs = 60_000

/** Watches over leaders. */
export interface Shape {
  /** From now on the tree of this leader ends with the server. */
  readonly register: (leader: Identity) => void
  /** Nothing is left of the tree. */
  readonly unregister: (leader: Identity) => void
  /** From now on this folder, empty as it is, ends with the server. */
  readonly addFolder: (path: string) => void
  /** The folder is somebody else's business from now on. */
  readonly removeFolder: (path: string) => void
}

/** A guard that was started. */
export interface Running {
  /** Tells it something, if it still runs. */
  readonly write: (line: string) => void
  /** Nothing more will be told. */
  readonly end: () => void
}

/** Starts a guard, or throws. `onFailure` is called in a later turn, when it could not be started or has ended. */
export type Start = (onFailure: (reason: string) => void) => Running

const startShell: Start = (onFailure) => {
  const shell = spawn("/bin/sh", ["-c", script], {
    // A session of its own: what is sent to the server's group or terminal must not reach it.
    detached: true,
    stdio: ["pipe", "ignore", "ignore"],
    env: {},
    cwd: "/"
  })
  shell.once("error", (error) => onFailure(error.message))
  shell.once("exit", (code, signal) => onFailure(`it ended with ${signal ?? `status ${code}`}`))
  shell.stdin?.on("error", () => {})
  // The server may end without waiting for it.
  shell.unref()
  return { write: (line) => shell.stdin?.write(line), end: () => shell.stdin?.end() }
}

const failedText = "the guard that ends processes if this server is killed has failed"

/** Logs a failure at once, and those that follow together, at most once a minute: there may be no end of them. */
const makeReport = (fork: (effect: Effect.Effect<void>) => void) => {
  let isQuiet = false
  let count = 0
  let last = ""
  const log = (message: string) => {
    isQuiet = true
    count = 0
    fork(Effect.zipRight(Effect.logError(message), Effect.delay(Effect.sync(speak), quietMs)))
  }
  const speak = () => {
    isQuiet = false
    if (count > 0) log(`${failedText} ${count === 1 ? "once more" : `${count} more times`} within a minute: ${last}`)
  }
  return (reason: string) => {
    if (!isQuiet) return log(`${failedText}: ${reason}`)
    count++
    last = reason
  }
}

const make = (start: Start): Effect.Effect<Shape, never, Scope.Scope> =>
  Effect.gen(function* () {
    const clock = yield* Effect.clock
    const fork = yield* FiberSet.makeRuntime<never>()
    const report = makeReport(fork)
    const leaders = new Map<number, Identity>()
    const folders = new Set<string>()
    let running: Running | undefined
    let isWaiting = false
    let retryMs = firstRetryMs
    let closed = false

    const tell = (line: string) => running?.write(line)

    const failed = (reason: string, ranMs: number) => {
      running = undefined
      report(reason)
      if (ranMs >= steadyMs) retryMs = firstRetryMs
      isWaiting = true
      fork(Effect.delay(Effect.sync(restart), retryMs))
      retryMs = Math.min(2 * retryMs, maxRetryMs)
    }

    const restart = () => {
      isWaiting = false
      const startedAt = clock.unsafeCurrentTimeMillis()
      try {
        const started = start((reason) => {
          if (!closed && running === started) failed(reason, clock.unsafeCurrentTimeMillis() - startedAt)
        })
        running = started
      } catch (error) {
        return failed(String(error), 0)
      }
      for (const { pid, startTime } of leaders.values()) tell(`+ ${pid} ${startTime}\n`)
      for (const folder of folders) tell(`f ${escaped(folder)}\n`)
    }

    /** Tells a new guard everything, and a running one what is new. */
    const tellOrStart = (line: string) => {
      if (running === undefined && !isWaiting) restart()
      else tell(line)
    }

    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        closed = true
        // What is still registered has outlived an orderly end, and the guard deals with it.
        running?.end()
      })
    )

    return {
      register: (leader) => {
        leaders.set(leader.pid, leader)
        tellOrStart(`+ ${leader.pid} ${leader.startTime}\n`)
      },
      unregister: (leader) => {
        // Its number may have been given to another one meanwhile.
        if (leaders.get(leader.pid) !== leader) return
        leaders.delete(leader.pid)
        tell(`- ${leader.pid} ${leader.startTime}\n`)
      },
      addFolder: (path) => {
        folders.add(path)
        tellOrStart(`f ${escaped(path)}\n`)
      },
      removeFolder: (path) => {
        folders.delete(path)
        tell(`g ${escaped(path)}\n`)
      }
    }
  })

/** Watches over the leaders of a server. */
export class Guard extends Context.Tag("exec-server/Guard")<Guard, Shape>() {
  /** A guard, started with the first leader; if it fails, that is logged and another one takes over. */
  static readonly layerOf = (start: Start): Layer.Layer<Guard> => Layer.scoped(Guard, make(start))

  /** A shell. */
  static readonly layer: Layer.Layer<Guard> = Guard.layerOf(startShell)

  /** Nobody watches: for systems without /proc, and for tests. */
  static readonly layerNone: Layer.Layer<Guard> = Layer.succeed(Guard, {
    register: () => {},
    unregister: () => {},
    addFolder: () => {},
    removeFolder: () => {}
  })
}
