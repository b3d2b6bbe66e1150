/**
 * The file worker: a process that runs file requests. With the path of a root it serves a sandbox, whose files are its
 * root; without one it serves file systems that may hang.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { Socket } from "node:net"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import { FileSystem } from "../filesystem/FileSystem.js"
import type { NativePath } from "../filesystem/NativePath.js"
import type { Limit } from "../filesystem/SystemError.js"
import * as Posix from "../spawn/Posix.js"
import * as SlowMounts from "../spawn/SlowMounts.js"
import * as FileServing from "./FileServing.js"
import * as Frames from "./Frames.js"

const [root] = process.argv.slice(2)

const main = Effect.gen(function* () {
  const mounts = yield* SlowMounts.SlowMounts
  const input = new Socket({ fd: 0, readable: true, writable: false })
  const output = new Socket({ fd: 1, readable: false, writable: true })
  const send = (header: Frames.Header, payload: Buffer = Buffer.alloc(0)) => {
    for (const piece of Frames.encode(header, payload)) output.write(piece)
  }
  // All modules are loaded by now. After the chroot only the sandbox's files are accessible.
  if (root !== undefined) Posix.setRoot(root)
  const limitOf = (paths: ReadonlyArray<NativePath>): Limit => ({
    ms: SlowMounts.answerMs,
    exceeded: undefined,
    onExceeded: () => {
      send({ hung: true })
      return SlowMounts.hangText(mounts, paths)
    }
  })
  const answer = FileServing.make(yield* FileSystem, limitOf)

  yield* Effect.async<void>((end) => {
    const running = new Map<number, () => void>()
    const reader = new Frames.Reader((header, payload) => {
      if ("cancel" in header) return running.get(header.cancel)?.()
      if (!("call" in header)) return
      const { id, call } = header
      const cancel = Effect.runCallback(answer(call, payload), {
        onExit: (exit) => {
          running.delete(id)
          if (Exit.isFailure(exit) && Cause.isInterruptedOnly(exit.cause)) return
          if (Exit.isSuccess(exit)) return send({ id, value: exit.value.value }, exit.value.payload)
          const failure = Cause.failureOption(exit.cause)
          if (Option.isNone(failure)) return end(Effect.failCause(Cause.die(exit.cause)))
          send({ id, failure: [failure.value._tag, failure.value.message] })
        }
      })
      running.set(id, () => cancel())
    })
    input.on("data", (piece: Buffer) => reader.push(piece))
    for (const socket of [input, output]) {
      socket.once("error", () => end(Effect.void))
      socket.once("close", () => end(Effect.void))
    }
    send({ ready: true })
  })
})

Effect.runFork(
  main.pipe(
    Effect.provide(FileSystem.layer),
    // Not `process.exit`, which would wait for hung threads.
    Effect.onExit((exit) => Effect.sync(() => Posix.exitNow(Exit.isSuccess(exit) ? 0 : 1)))
  )
)
