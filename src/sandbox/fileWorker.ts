/**
 * The file worker: a process that runs the file requests of a sandbox, with the sandbox's files as its root.
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
import * as Posix from "../spawn/Posix.js"
import * as FileServing from "./FileServing.js"
import * as Frames from "./Frames.js"

const [root = "/"] = process.argv.slice(2)

const main = Effect.gen(function* () {
  const answer = FileServing.make(yield* FileSystem)
  const input = new Socket({ fd: 0, readable: true, writable: false })
  const output = new Socket({ fd: 1, readable: false, writable: true })
  const send = (header: Frames.Header, payload: Buffer = Buffer.alloc(0)) => {
    for (const piece of Frames.encode(header, payload)) output.write(piece)
  }
  // All modules are loaded by now. After the chroot only the sandbox's files are accessible.
  Posix.setRoot(root)

  yield* Effect.async<void>((end) => {
    const reader = new Frames.Reader((header, payload) => {
      if (!("call" in header)) return
      const { id, call } = header
      Effect.runCallback(answer(call, payload), {
        onExit: (exit) => {
          if (Exit.isSuccess(exit)) return send({ id, value: exit.value.value }, exit.value.payload)
          const failure = Cause.failureOption(exit.cause)
          if (Option.isNone(failure)) return end(Effect.failCause(Cause.die(exit.cause)))
          send({ id, failure: [failure.value._tag, failure.value.message] })
        }
      })
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
    Effect.onExit((exit) => Effect.sync(() => process.exit(Exit.isSuccess(exit) ? 0 : 1)))
  )
)
