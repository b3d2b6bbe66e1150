/**
 * Starts the leader of a child and learns how it ends, whatever its descriptors are.
 *
 * @since 0.1.0
 */
import * as Signals from "../protocol/Signals.js"
import { type ChildSpec, ExitStatus } from "./Child.js"
import * as OsError from "./OsError.js"
import * as Posix from "./Posix.js"
import * as Program from "./Program.js"

/** What runs a file that is executable and neither a program nor a script that names its interpreter. */
const shell = "/bin/sh"

/** A leader that was started. */
export interface Leader {
  readonly pid: number
  /** Calls back once with how it ended, whenever that was or will be; for one listener. */
  readonly onExit: (listener: (status: ExitStatus) => void) => void
}

const statusOf = (code: number, number: number): ExitStatus => {
  if (number !== 0) return ExitStatus.Signaled({ number, signal: Signals.nameOf(number) })
  if (code >= 0) return ExitStatus.Exited({ code })
  return ExitStatus.Lost({ reason: "the system reported neither a status nor a signal" })
}

/** Starts a leader. Throws what the system says, or `SpawnError`; then nothing is left of it. */
export const launch = (spec: ChildSpec, stdio: Posix.Stdio): Leader => {
  const file = Program.find(spec)
  const [name = file, ...args] = spec.argv
  const env = Object.entries(spec.env).map(([variable, value]) => `${variable}=${value}`)
  let status: ExitStatus | undefined
  let listener: ((status: ExitStatus) => void) | undefined
  const start = (program: string, argv: ReadonlyArray<string>) =>
    Posix.spawn(program, argv, env, spec.cwd, stdio, (code, signal) => {
      status = statusOf(code, signal)
      listener?.(status)
    })
  const startAny = () => {
    try {
      return start(file, [spec.arg0 ?? name, ...args])
    } catch (error) {
      if (OsError.codeOf(error) !== "ENOEXEC") throw error
      return start(shell, [shell, file, ...args])
    }
  }
  return {
    pid: startAny(),
    onExit: (listen) => {
      listener = listen
      if (status !== undefined) listen(status)
    }
  }
}
