/**
 * Children on terminals.
 *
 * node-pty opens and resizes terminals. Starting, reading, writing and ending are done here, because node-pty's stream
 * loses the last output of a child that exits at once: a terminal is read 4 kB at a time, and libuv takes a short read
 * with a hang-up for the end. Here the slave stays open, which prevents the hang-up until the leader is reaped. The
 * remaining output is then read until EIO.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { closeSync } from "node:fs"
import { createRequire } from "node:module"
import { ReadStream } from "node:tty"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { attempt, type Child, type ChildEvents, SpawnError, type Spawns } from "./Child.js"
import type { TerminalState } from "./ChildState.js"
import * as InputWriter from "./InputWriter.js"
import { Launcher, type Leader } from "./Launcher.js"
import * as Posix from "./Posix.js"
import { ReadBuffer } from "./ReadBuffer.js"

/** The part of node-pty below its streams. Its typings lack it, hence the exact version in package.json. */
interface NodePty {
  readonly open: (
    cols: number,
    rows: number
  ) => { readonly master: number; readonly slave: number; readonly pty: string }
  readonly resize: (fd: number, cols: number, rows: number) => void
}

const load = createRequire(import.meta.url)

/** Loads only the native part of node-pty. Loading its unused streams as well would take three times as long. */
const loadNative = (): NodePty => {
  const utils = load("node-pty/lib/utils.js") as {
    readonly loadNativeModule: (name: string) => { readonly module: unknown }
  }
  return utils.loadNativeModule("pty").module as NodePty
}

/**
 * Newline, and carriage return, which a terminal turns into one. The EOF character ends the input only after these or
 * another EOF.
 */
const lineEnds: ReadonlySet<number> = new Set([10, 13])

/** ^D, the default end-of-file character of a terminal. */
const defaultEof = 4

/** What is known of a child besides its terminal. */
type Standing = Pick<TerminalState, "abandoned" | "atLineStart">

/** `fd` and `slave` are -1 if closed: before the child was adopted, its output had ended or its leader exited. */
const manage = (
  pty: NodePty,
  buffer: ReadBuffer,
  leader: Leader,
  fd: number,
  slave: number,
  standing: Standing
): Child => {
  const input = InputWriter.make(fd)
  // The descriptor is open from the start, before `listen`, until the output has ended.
  let isOpen = fd !== -1
  let isSlaveOpen = slave !== -1
  let isPaused = false
  let isAbandoned = standing.abandoned
  let { atLineStart } = standing
  let terminal: ReadStream | undefined
  let finish = () => {}
  // Read when needed: a program may have changed the character.
  const eof = () => (isOpen ? Posix.eof(fd) : defaultEof)

  const listen = (events: ChildEvents) => {
    const onOutput = (bytes: Buffer) => events.onOutput("pty", bytes)
    const onExit = (listener: ChildEvents["onExit"]) =>
      leader.onExit((status, usage) => {
        closeSync(slave)
        isSlaveOpen = false
        listener(status, usage)
      })
    if (!isOpen) {
      onExit(events.onExit)
      return void setImmediate(events.onOutputEnd)
    }
    const stream = new ReadStream(fd, {
      // The end of reading must not close the descriptor: `drain` reads what libuv left.
      allowHalfOpen: true,
      ...buffer.readInto(onOutput, fd)
    })
    terminal = stream
    const end = () => {
      if (!isOpen) return
      isOpen = false
      input.close()
      stream.destroy()
      leader.closeTerminal()
      events.onOutputEnd()
    }
    const drainToEnd = () => {
      if (!isOpen) return
      buffer.drain(fd, onOutput)
      end()
    }
    finish = drainToEnd
    stream.once("end", drainToEnd)
    stream.once("error", drainToEnd)
    if (!isPaused) stream.resume()
    if (isAbandoned) setImmediate(drainToEnd)
    onExit((status, usage) => {
      // The output was abandoned: the descriptor is closed.
      if (!isOpen) return events.onExit(status, usage)
      const ended = buffer.drain(fd, onOutput)
      input.close()
      events.onStdinClosed()
      events.onExit(status, usage)
      // Otherwise a descendant still holds the terminal, and its end arrives as "end" or "error".
      if (ended) end()
    })
  }

  return {
    pid: leader.pid,
    listen,
    pause: () => {
      isPaused = true
      terminal?.pause()
    },
    resume: () => {
      isPaused = false
      terminal?.resume()
    },
    write: (bytes, done) => {
      const last = bytes[bytes.length - 1]
      if (last !== undefined) atLineStart = lineEnds.has(last) || last === eof()
      input.write(bytes, done)
    },
    // In the middle of a line the first EOF only submits the line; a second one ends the input.
    endStdin: () => {
      if (isOpen) input.write(Buffer.alloc(atLineStart ? 1 : 2, eof()), () => {})
    },
    resize: (rows, cols) => {
      if (isOpen) pty.resize(fd, cols, rows)
    },
    root: leader.root,
    signal: leader.signal,
    hasRemains: leader.hasRemains,
    findRemains: leader.findRemains,
    abandonOutput: () => {
      isAbandoned = true
      setImmediate(() => finish())
    },
    freeze: (writer) => ({
      _tag: "Pty",
      leader: leader.freeze(writer),
      master: isOpen ? writer.descriptor(fd) : null,
      slave: isSlaveOpen ? writer.descriptor(slave) : null,
      unsent: input.unsent().map((bytes) => writer.bytes(bytes)),
      abandoned: isAbandoned,
      atLineStart
    })
  }
}

const open = (pty: NodePty, rows: number, cols: number) => {
  let opened: ReturnType<NodePty["open"]>
  try {
    opened = pty.open(cols, rows)
  } catch {
    throw new SpawnError({
      message: "cannot open a terminal: no pseudo-terminal or file descriptor is left; end some processes"
    })
  }
  Posix.setUpTerminal(opened.master)
  Posix.setUpTerminal(opened.slave)
  return opened
}

/** Starts children that lead their own terminal session. Both output streams arrive as `pty`. */
export class PtySpawner extends Context.Tag("exec-server/PtySpawner")<PtySpawner, Spawns>() {
  /** Terminals of node-pty. A launcher starts the leaders. */
  static readonly layer: Layer.Layer<PtySpawner, never, Launcher> = Layer.effect(
    PtySpawner,
    Effect.gen(function* () {
      const { confines, refusalOf, launch, handover } = yield* Launcher
      const buffer = new ReadBuffer()
      // Loaded now: if the first attempt is made without a free descriptor, Node.js never finds the module again.
      const loaded = yield* Effect.either(attempt(loadNative))
      return {
        confines,
        refusalOf,
        spawn: (spec) => {
          const { io } = spec
          if (io._tag !== "Pty") return Effect.dieMessage("PtySpawner needs the size of a terminal")
          return Effect.flatMap(loaded, (pty) =>
            Effect.flatMap(
              attempt(() => open(pty, io.rows, io.cols)),
              ({ master, slave, pty: path }) =>
                launch(spec, { path, master }).pipe(
                  Effect.map((leader) =>
                    manage(pty, buffer, leader, master, slave, { abandoned: false, atLineStart: true })
                  ),
                  Effect.onError(() =>
                    Effect.sync(() => {
                      closeSync(slave)
                      closeSync(master)
                    })
                  )
                )
            )
          )
        },
        handover: {
          ...handover,
          adopt: (state) => {
            if (state._tag !== "Pty") throw new Error("the state is not of a child on a terminal")
            if (loaded._tag === "Left") throw loaded.left
            const { leader, master, slave } = state
            return manage(loaded.right, buffer, handover.adopt(leader), master ?? -1, slave ?? -1, state)
          }
        }
      }
    })
  )
}
