/**
 * What happens to the processes of a session goes to its client, to the audit log, and to those who watch all sessions.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import type { EventSource, ProcessEvents } from "../process/ProcessEvents.js"
import type { ExitReport } from "../process/ProcessState.js"
import type { OutputStream } from "../protocol/ExecApi.js"
import type { ProcessId } from "../protocol/Ids.js"
import type { TerminalSize } from "../protocol/ProcessSchemas.js"
import type { Shape as AuditLog, Entry, Who } from "./AuditLog.js"
import type { ConsoleEvents, SessionEvent } from "./ConsoleEvents.js"
import type { Notifier } from "./Notifier.js"

/** What the events need of their session. */
interface Subject {
  readonly handle: string
  readonly who: Who
  /** The connected client; undefined if there is none. */
  readonly notifier: Notifier | undefined
}

/** The events of the processes of one session. A class: each session has one. */
export class SessionEvents implements ProcessEvents {
  /** The session. It needs the supervisor of the processes, which needs this: it is set later. */
  session: Subject | undefined

  constructor(
    private readonly audit: AuditLog,
    private readonly console: ConsoleEvents
  ) {}

  onStarted(process: EventSource, pid: number): void {
    this.session?.notifier?.onStarted(process, pid)
    this.tell(process, (about) => ({ type: "process.started", ...about, pid }))
  }

  onFailed(processId: ProcessId, message: string): void {
    this.session?.notifier?.onFailed(processId, message)
  }

  onOutput(process: EventSource, seq: number, stream: OutputStream, bytes: Buffer): void {
    this.session?.notifier?.onOutput(process, seq, stream, bytes)
  }

  onRestarted(process: EventSource, seq: number, attempt: number, pid: number): void {
    this.record({ event: "process.restarted", processId: process.processId, pid, attempt })
    this.session?.notifier?.onRestarted(process, seq, attempt, pid)
    this.tell(process, (about) => ({ type: "process.restarted", ...about, pid, attempt }))
  }

  onExited(process: EventSource, seq: number, exit: ExitReport, timedOut: boolean): void {
    this.record({ event: "process.exited", processId: process.processId, ...exit, timedOut })
    this.session?.notifier?.onExited(process, seq, exit, timedOut)
    this.tell(process, (about) => ({ type: "process.exited", ...about, ...exit }))
  }

  onClosed(process: EventSource, seq: number): void {
    this.session?.notifier?.onClosed(process, seq)
    this.tell(process, (about) => ({ type: "process.closed", ...about }))
  }

  onResized(process: EventSource, { rows, cols }: TerminalSize): void {
    this.tell(process, (about) => ({ type: "process.resized", ...about, rows, cols }))
  }

  private record(entry: Entry): void {
    if (this.session !== undefined) this.audit.write(this.session.who, entry)
  }

  /** Tells those who watch all sessions. */
  private tell(
    { processId }: EventSource,
    event: (about: { readonly session: string; readonly processId: string }) => SessionEvent
  ): void {
    const { session } = this
    if (session !== undefined) this.console.tell(() => event({ session: session.handle, processId }))
  }
}
