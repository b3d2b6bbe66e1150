/**
 * `record`: records a running process into a local file.
 *
 * @since 0.1.0
 */
import { open } from "node:fs/promises"
import * as Effect from "effect/Effect"
import * as Runtime from "effect/Runtime"
import * as Stream from "effect/Stream"
import { need } from "../client/ServerFeatures.js"
import * as OsError from "../protocol/OsError.js"
import { CommandFailed } from "./CommandExit.js"
import { LocalSignals } from "./LocalSignals.js"
import * as Reference from "./Reference.js"
import type * as Target from "./Target.js"
import * as Terminal from "./Terminal.js"

/** The arguments of `record`. */
export interface Options {
  readonly target: Target.Target
  /** SESSION/PROCESS; with `--session`, a process of it. */
  readonly reference: string
  readonly file: string
  /** Record input too. */
  readonly input: boolean
}

/** Opens a new file that only this user can read; the scope closes it. */
const create = (file: string) => {
  const attempt = <A>(use: () => Promise<A>) =>
    Effect.tryPromise({
      try: use,
      catch: (error) => {
        const why = OsError.codeOf(error) === "EEXIST" ? "it exists; choose another name" : OsError.describe(error)
        return new CommandFailed({ message: `cannot write ${file}: ${why}` })
      }
    })
  return Effect.map(
    Effect.acquireRelease(
      attempt(() => open(file, "wx", 0o600)),
      (handle) => Effect.ignore(attempt(() => handle.close()))
    ),
    (handle) => (bytes: Uint8Array) => attempt(() => handle.appendFile(bytes))
  )
}

/** Records until the process has ended, or a signal arrives. The server keeps no copy. */
export const record = ({ target, reference, file, input }: Options) =>
  Effect.scoped(
    Effect.gen(function* () {
      const { environment, session, processId } = yield* Reference.resolveProcess(target, reference)
      const { recordings, features } = environment.client
      yield* need(features, features.extensions, "record a process")
      const write = yield* create(file)
      const recordingId = yield* Effect.acquireRelease(recordings.start(processId, { session, input }), (id) =>
        Effect.ignore(recordings.remove(id))
      )
      const runFork = Runtime.runFork(yield* Effect.runtime<never>())
      const signals = yield* LocalSignals
      yield* signals.take(() => runFork(Effect.ignore(recordings.stop(recordingId))))
      yield* Terminal.say(`recording ${processId} into ${file}; ^C ends it`)
      yield* Stream.runForEach(recordings.content(recordingId, { follow: true }), write)
      const info = (yield* recordings.list()).find((one) => one.recordingId === recordingId)
      if (info?.truncated === true) {
        yield* Terminal.say("the recording is not complete: it has reached maxRecordingBytes or recordingBytesTotal")
      }
      if (info?.failure != null) {
        return yield* new CommandFailed({ message: `the recording is not complete: ${info.failure}` })
      }
    })
  )
