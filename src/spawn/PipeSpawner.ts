/**
 * Children on pipes.
 *
 * @since 0.1.0
 */
import { closeSync } from "node:fs"
import { Socket } from "node:net"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import { attempt, type Child, type ChildEvents, type Spawns } from "./Child.js"
import { Launcher, type Leader } from "./Launcher.js"
import { PipeReader } from "./PipeReader.js"
import * as Posix from "./Posix.js"

interface Pipes {
  readonly parent: Array<number>
  readonly child: Array<number>
}

const close = (fds: ReadonlyArray<number>) => {
  for (const fd of fds) closeSync(fd)
}

/** Opens stdin (if wanted), stdout and stderr; all or none. */
const openPipes = (stdin: boolean): Pipes => {
  const pipes: Pipes = { parent: [], child: [] }
  try {
    for (const isInput of stdin ? [true, false, false] : [false, false]) {
      const [readEnd, writeEnd] = Posix.pipe()
      pipes.parent.push(isInput ? writeEnd : readEnd)
      pipes.child.push(isInput ? readEnd : writeEnd)
    }
    return pipes
  } catch (error) {
    close([...pipes.parent, ...pipes.child])
    throw error
  }
}

const manage = (reader: PipeReader, leader: Leader, parent: ReadonlyArray<number>, isConfined: boolean): Child => {
  const [stdoutFd, stderrFd] = parent.slice(-2)
  const stdinFd = parent.length === 3 ? parent[0] : undefined
  let stdin = stdinFd === undefined ? undefined : new Socket({ fd: stdinFd, readable: false, writable: true })
  let outputs: Array<Socket> = []
  let isPaused = false
  let isAbandoned = false
  let finish = () => {}
  let onStdinClosed = () => {}
  // Added now: a write before `listen` may fail too, and an error without a listener would end the server.
  stdin?.on("error", () => stdin?.destroy())
  stdin?.once("close", () => {
    stdin = undefined
    onStdinClosed()
  })
  let drainAll = () => {}
  return {
    pid: leader.pid,
    listen: (events: ChildEvents) => {
      leader.onExit((status, usage) => {
        stdin?.destroy()
        // Its output is needed now, to tell whether the sandbox caused the failure.
        if (isConfined) drainAll()
        events.onExit(status, usage)
      })
      const read = (fd: number | undefined, stream: "stdout" | "stderr"): Socket => {
        const socket = reader.read(fd ?? -1, (bytes) => events.onOutput(stream, bytes))
        socket.on("error", () => socket.destroy())
        socket.once("close", () => {
          outputs = outputs.filter((other) => other !== socket)
          if (outputs.length === 0) events.onOutputEnd()
        })
        return socket
      }
      const stdout = read(stdoutFd, "stdout")
      const stderr = read(stderrFd, "stderr")
      outputs = [stdout, stderr]
      if (isPaused) for (const socket of outputs) socket.pause()
      drainAll = () => {
        if (!stdout.destroyed) reader.drain(stdoutFd ?? -1, (bytes) => events.onOutput("stdout", bytes))
        if (!stderr.destroyed) reader.drain(stderrFd ?? -1, (bytes) => events.onOutput("stderr", bytes))
      }
      finish = () => {
        drainAll()
        stdout.destroy()
        stderr.destroy()
      }
      if (isAbandoned) setImmediate(finish)
      if (stdinFd !== undefined && stdin === undefined) events.onStdinClosed()
      onStdinClosed = events.onStdinClosed
    },
    pause: () => {
      isPaused = true
      for (const socket of outputs) socket.pause()
    },
    resume: () => {
      isPaused = false
      for (const socket of outputs) socket.resume()
    },
    write: (bytes, done) => {
      stdin?.write(bytes, (error) => {
        if (!error) done()
      })
    },
    // Not end(): a pipe cannot be shut down in one direction, only closed.
    endStdin: () => stdin?.destroySoon(),
    resize: () => {},
    root: leader.root,
    signal: leader.signal,
    hasRemains: leader.hasRemains,
    findRemains: leader.findRemains,
    abandonOutput: () => {
      // Earlier output is still reported, even if a slow reader delayed it.
      isAbandoned = true
      if (outputs.length > 0) setImmediate(finish)
    }
  }
}

/** Starts children whose standard descriptors are real pipes (and /dev/null). */
export class PipeSpawner extends Context.Tag("exec-server/PipeSpawner")<PipeSpawner, Spawns>() {
  /** Pipes. A launcher starts the leaders. */
  static readonly layer: Layer.Layer<PipeSpawner, never, Launcher> = Layer.effect(
    PipeSpawner,
    Effect.map(Launcher, ({ confines, refusalOf, launch }) => {
      const reader = new PipeReader()
      return {
        confines,
        refusalOf,
        spawn: (spec) =>
          Effect.flatMap(
            attempt(() => openPipes(spec.io._tag === "Pipe" && spec.io.stdin)),
            ({ parent, child }) => {
              const [stdin = -1, stdout = -1, stderr = -1] = child.length === 3 ? child : [-1, ...child]
              return launch(spec, [stdin, stdout, stderr]).pipe(
                Effect.map((leader) => manage(reader, leader, parent, spec.confinement !== undefined)),
                Effect.onExit((exit) => Effect.sync(() => close(Exit.isSuccess(exit) ? child : [...child, ...parent])))
              )
            }
          )
      }
    })
  )
}
