/**
 * How the end of a process is told, in the words of E2B.
 *
 * @since 0.1.0
 */
import type { Exit } from "../client/ProcessEvent.js"

/** What signals are called. */
const names: { readonly [signal: string]: string } = {
  SIGHUP: "hangup",
  SIGINT: "interrupt",
  SIGQUIT: "quit",
  SIGILL: "illegal instruction",
  SIGTRAP: "trace/breakpoint trap",
  SIGABRT: "aborted",
  SIGBUS: "bus error",
  SIGFPE: "floating point exception",
  SIGKILL: "killed",
  SIGUSR1: "user defined signal 1",
  SIGSEGV: "segmentation fault",
  SIGUSR2: "user defined signal 2",
  SIGPIPE: "broken pipe",
  SIGALRM: "alarm clock",
  SIGTERM: "terminated"
}

/** The end of a process. */
export interface EndEvent {
  /** The exit code; -1 if a signal has ended it, or the system could not tell. */
  readonly exitCode: number
  /** Whether it has exited by itself. */
  readonly exited: boolean
  readonly status: string
  /** Absent after exit code 0. */
  readonly error?: string
}

/** The event for an exit. */
export const endEventOf = ({ exitCode, signal }: Exit): EndEvent => {
  if (signal === null && exitCode === 0) return { exitCode: 0, exited: true, status: "exit status 0" }
  if (signal === null && exitCode !== null) {
    const status = `exit status ${exitCode}`
    return { exitCode, exited: true, status, error: status }
  }
  const status = signal === null ? "the exit status is unknown" : `signal: ${names[signal] ?? signal}`
  return { exitCode: -1, exited: false, status, error: status }
}
