/**
 * Children on pipes.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { closeSync } from "node:fs"
import type { Socket } from "node:net"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import { attempt, type Child, type ChildEvents, type Spawns } from "./Child.js"
import type { PipeState } from "./ChildState.js"
import * as InputWriter from "./InputWriter.js"
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
      if (isInput) Posix.setNonBlocking(writeEnd)
    }
    return pipes
  } catch (error) {
    close([...pipes.parent, ...pipes.child])
    throw error
  }
}

/** The server's ends of a child's pipes; -1 is closed. */
type Ends = readonly [stdin: number, stdout: number, stderr: number]

/** What is known of a child besides its pipes. */
type Standing = Pick<PipeState, "abandoned" | "ending" | "large" | "confined">

const manage = (reader: PipeReader, leader: Leader, ends: Ends, standing: Standing): Child => {
  const [stdinFd, ...outputFds] = ends
  const { confined: isConfined } = standing
  let isStdinOpen = stdinFd !== -1
  let isEnding = standing.ending
  let outputs: Array<Output> = []
  let isListening = false
  let isPaused = false
  let isAbandoned = standing.abandoned
  let finish = () => {}
  let onStdinClosed = () => {}
  const closeStdin = () => {
    if (!isStdinOpen) return
    isStdinOpen = false
    input.close()
    closeSync(stdinFd)
    // Later: the caller may be a write.
    queueMicrotask(() => onStdinClosed())
  }
  const input = InputWriter.make(stdinFd, closeStdin)
  let drainAll = () => {}
  return {
    pid: leader.pid,
    listen: (events: ChildEvents) => {
      isListening = true
      leader.onExit((status, usage) => {
        closeStdin()
        // What it wrote comes before its exit, however many exits the event loop finds at once, unless a slow reader
        // delays it. Whether the sandbox caused a failure is told by the output.
        if (isConfined || !isPaused) drainAll()
        events.onExit(status, usage)
      })
      const read = (fd: number, stream: Stream): Output => {
        const onBytes = (bytes: Buffer) => events.onOutput(stream, bytes)
        const socket = reader.read(fd, onBytes, standing.large.includes(stream))
        const output = { fd, stream, socket, onBytes }
        socket.on("error", () => socket.destroy())
        socket.once("close", () => {
          outputs = outputs.filter((other) => other !== output)
          if (outputs.length === 0) events.onOutputEnd()
        })
        return output
      }
      outputs = outputFds.flatMap((fd, index) => (fd === -1 ? [] : [read(fd, index === 0 ? "stdout" : "stderr")]))
      if (outputs.length === 0) setImmediate(events.onOutputEnd)
      if (isPaused) for (const { socket } of outputs) socket.pause()
      drainAll = () => {
        for (const { fd, socket, onBytes } of outputs) {
          if (!socket.destroyed && reader.drain(fd, onBytes)) socket.destroy()
        }
      }
      finish = () => {
        drainAll()
        for (const { socket } of outputs) socket.destroy()
      }
      if (isAbandoned) setImmediate(finish)
      if (stdinFd !== -1 && !isStdinOpen) events.onStdinClosed()
      onStdinClosed = events.onStdinClosed
    },
    pause: () => {
      isPaused = true
      for (const { socket } of outputs) socket.pause()
    },
    resume: () => {
      isPaused = false
      for (const { socket } of outputs) socket.resume()
    },
    write: input.write,
    // After what was written before.
    endStdin: () => {
      isEnding = true
      if (isStdinOpen) input.write(nothing, closeStdin)
    },
    resize: () => {},
    root: leader.root,
    signal: leader.signal,
    hasRemains: leader.hasRemains,
    findRemains: leader.findRemains,
    abandonOutput: () => {
      // Earlier output is still reported, even if a slow reader delayed it.
      isAbandoned = true
      if (outputs.length > 0) setImmediate(finish)
    },
    freeze: (writer) => {
      const openFd = (stream: Stream, fd: number): number | null => {
        const isOpen = !isListening || outputs.some((one) => one.stream === stream && !one.socket.destroyed)
        return isOpen && fd !== -1 ? writer.descriptor(fd) : null
      }
      return {
        _tag: "Pipe",
        leader: leader.freeze(writer),
        stdin: isStdinOpen ? writer.descriptor(stdinFd) : null,
        stdout: openFd("stdout", outputFds[0]),
        stderr: openFd("stderr", outputFds[1]),
        unsent: input.unsent().map((bytes) => writer.bytes(bytes)),
        ending: isEnding,
        abandoned: isAbandoned,
        large: isListening
          ? outputs.flatMap(({ stream, socket }) => (reader.isLarge(socket) ? [stream] : []))
          : standing.large,
        confined: isConfined
      }
    }
  }
}

type Stream = "stdout" | "stderr"

/** An open output pipe of a child. */
interface Output {
  readonly fd: number
  readonly stream: Stream
  readonly socket: Socket
  readonly onBytes: (bytes: Buffer) => void
}

/** Written last, it tells that everything before it was accepted. */
const nothing = Buffer.alloc(0)

/** Starts children whose standard descriptors are real pipes (and /dev/null). */
export class PipeSpawner extends Context.Tag("exec-server/PipeSpawner")<PipeSpawner, Spawns>() {
  /** Pipes. A launcher starts the leaders. */
  static readonly layer: Layer.Layer<PipeSpawner, never, Launcher> = Layer.effect(
    PipeSpawner,
    Effect.map(Launcher, ({ confines, refusalOf, launch, handover }) => {
      const reader = new PipeReader()
      return {
        confines,
        refusalOf,
        spawn: (spec) =>
          Effect.flatMap(
            attempt(() => openPipes(spec.io._tag === "Pipe" && spec.io.stdin)),
            ({ parent, child }) => {
              const [stdin = -1, stdout = -1, stderr = -1] = child.length === 3 ? child : [-1, ...child]
              const [own = -1, output = -1, errors = -1] = parent.length === 3 ? parent : [-1, ...parent]
              const standing = { abandoned: false, ending: false, large: [], confined: spec.confinement !== undefined }
              return launch(spec, [stdin, stdout, stderr]).pipe(
                Effect.map((leader) => manage(reader, leader, [own, output, errors], standing)),
                Effect.onExit((exit) => Effect.sync(() => close(Exit.isSuccess(exit) ? child : [...child, ...parent])))
              )
            }
          ),
        handover: {
          ...handover,
          adopt: (state) => {
            if (state._tag !== "Pipe") throw new Error("the state is not of a child on pipes")
            const { leader, stdin, stdout, stderr } = state
            return manage(reader, handover.adopt(leader), [stdin ?? -1, stdout ?? -1, stderr ?? -1], state)
          }
        }
      }
    })
  )
}
