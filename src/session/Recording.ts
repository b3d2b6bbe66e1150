/**
 * One recording: what a process prints, as an asciicast file. It observes the process, collects events, and writes them
 * when it is told to. Nothing that goes wrong with the file concerns the process.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { constants } from "node:fs"
import { type FileHandle, open } from "node:fs/promises"
import { StringDecoder } from "node:string_decoder"
import * as Asciicast from "../internal/Asciicast.js"
import type { ManagedProcess } from "../process/ManagedProcess.js"
import type { ProcessObserver } from "../process/ProcessObserver.js"
import type { ExitReport } from "../process/ProcessState.js"
import type { Mark } from "../process/ResizeMarks.js"
import type { OutputStream } from "../protocol/ExecApi.js"
import * as OsError from "../protocol/OsError.js"
import type { RecordingInfo } from "../protocol/RecordingApi.js"
import type { RecordingState } from "./SessionsState.js"

/** Only this user reads or writes it. O_NOFOLLOW is implied by O_EXCL. */
const flags = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_EXCL
/** The file of a recording that the version of the server before has begun. */
const adoptedFlags = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NOFOLLOW
const mode = 0o600

/** The size in the header of a process without a terminal. */
const noSize = { rows: 24, cols: 80 }

/** An event of this many characters gets no more. At a limit the last event is left out, and lines are read as a whole. */
const maxEventLength = 16_384

/** What is known of a recording from its start. */
export type Origin = Pick<RecordingInfo, "recordingId" | "session" | "processId" | "argv" | "startedAtMs">

/** What a recording needs of the others. */
export interface Surroundings {
  /** The current time, in milliseconds since 1970. */
  readonly now: () => number
  /** How many bytes of the total are left. */
  readonly room: () => number
  /** Takes bytes for the file from the total. */
  readonly take: (bytes: number) => void
  /** Gives bytes back that were taken, and not written. */
  readonly give: (bytes: number) => void
  /** Counts characters that wait to be written, for all recordings; false if they are too many. */
  readonly wait: (characters: number) => boolean
  /** There is something to write: `write` is to be called soon. */
  readonly onPending: (recording: Recording) => void
  /** The recording has ended. */
  readonly onEnd: () => void
}

/** The options of a recording. */
export interface Options {
  /** Whether to record input too. */
  readonly input: boolean
  readonly maxBytes: number
  /** The value of TERM, if it is known. */
  readonly term: string | undefined
}

interface Pending {
  readonly atMs: number
  readonly code: Asciicast.Code
  data: string
}

/** One recording in progress, or that was. */
export class Recording implements ProcessObserver {
  /** The bytes of the file. */
  bytes = 0
  truncated = false
  failure: string | undefined
  private pending: Array<Pending> = []
  private pendingSize = 0
  private head: string | undefined
  private lastAtMs: number
  private readonly decoders = new Map<OutputStream | "input", StringDecoder>()
  private file: FileHandle | undefined
  private writing = false
  /** The lines that are being written after `bytes`. */
  private lines: Buffer | undefined
  private isAdopted = false
  private closed = false
  private exit: ExitReport | undefined
  private stoppedAtMs: number | undefined
  private done = () => {}
  private leave = () => {}
  /** Completes when it has ended and the file is closed. */
  readonly ended = new Promise<void>((resolve) => {
    this.done = resolve
  })

  private constructor(
    readonly origin: Origin,
    private readonly path: string,
    private readonly options: Options,
    private readonly around: Surroundings
  ) {
    this.lastAtMs = origin.startedAtMs
  }

  /** Begins to record: first the output that is retained, then what comes. */
  static begin(
    origin: Origin,
    path: string,
    process: ManagedProcess,
    options: Options,
    around: Surroundings
  ): Recording {
    const recording = new Recording(origin, path, options, around)
    recording.begin(process)
    return recording
  }

  /**
   * Goes on with a recording that the version of the server before has begun; without its process, only to write what is
   * left. The next `write` brings the file into the state that it should have.
   */
  static adopt(
    origin: Origin,
    path: string,
    state: RecordingState,
    process: ManagedProcess | undefined,
    around: Surroundings
  ): Recording {
    const { input, maxBytes, term } = state
    const recording = new Recording(origin, path, { input, maxBytes, term }, around)
    recording.restore(state, process)
    return recording
  }

  /** What is to be kept of it, besides what its store knows. */
  freeze(): Omit<RecordingState, "owner" | "subject"> {
    const partial = Array.from(this.decoders, ([stream, decoder]) => ({ stream, bytes: partOf(decoder) }))
    return {
      ...this.origin,
      ...this.options,
      bytes: this.bytes,
      writing: this.lines?.toString() ?? "",
      head: this.head,
      pending: [...this.pending],
      lastAtMs: this.lastAtMs,
      partial: partial.filter(({ bytes }) => bytes !== ""),
      exit: this.exit,
      truncated: this.truncated,
      stoppedAtMs: this.stoppedAtMs
    }
  }

  /** Whether the file may still grow. */
  get running(): boolean {
    return !this.closed
  }

  private get stopped(): boolean {
    return this.stoppedAtMs !== undefined
  }

  get durationMs(): number {
    return (this.stoppedAtMs ?? this.around.now()) - this.origin.startedAtMs
  }

  onOutput(_seq: number, stream: OutputStream, bytes: Buffer): void {
    const text = this.decoder(stream).write(bytes)
    // A terminal returns the carriage itself; without one nobody has.
    this.add("o", stream === "pty" ? text : text.replaceAll("\n", "\r\n"))
  }

  onInput(bytes: Buffer): void {
    if (this.options.input) this.add("i", this.decoder("input").write(bytes))
  }

  onResized({ rows, cols }: Mark): void {
    this.add("r", Asciicast.size(cols, rows))
  }

  onRestarted(_seq: number, attempt: number): void {
    this.add("m", `restart ${attempt}`)
  }

  onExited(_seq: number, exit: ExitReport): void {
    this.exit = exit
  }

  onClosed(): void {
    // After the last output, which may come after the exit.
    if (typeof this.exit?.exitCode === "number") this.add("x", String(this.exit.exitCode))
    this.stop()
  }

  onReleased(): void {
    this.stop()
  }

  /** Ends the recording, once everything so far is written. */
  stop(): void {
    if (this.stopped) return
    this.leave()
    for (const [stream, decoder] of this.decoders) this.add(stream === "input" ? "i" : "o", decoder.end())
    this.stoppedAtMs = this.around.now()
    this.around.onPending(this)
  }

  /** Writes what is pending, unless that is going on. Does not fail. */
  async write(): Promise<void> {
    if (this.writing || this.closed) return
    this.writing = true
    try {
      this.file ??= await this.open()
      if (this.lines !== undefined) await this.append(this.lines)
      while (this.head !== undefined || this.pending.length > 0) {
        const lines = this.encode()
        if (lines.length > 0) await this.append(lines)
      }
    } catch (error) {
      await this.fail(OsError.describe(error))
    }
    this.writing = false
    if (this.stopped) await this.close()
  }

  private begin(process: ManagedProcess): void {
    const { origin, options } = this
    const { retained, marks } = process
    const { chunks } = retained.select(0, Number.POSITIVE_INFINITY)
    const firstSeq = chunks[0]?.seq ?? process.lastSeq + 1
    const { rows, cols } = marks?.sizeAfter(firstSeq - 1) ?? noSize
    this.head = Asciicast.header({
      cols,
      rows,
      type: options.term,
      timestamp: Math.floor(origin.startedAtMs / 1000),
      command: origin.argv.join(" "),
      title: origin.processId,
      origin: { session: origin.session, processId: origin.processId, argv: origin.argv }
    })
    this.around.onPending(this)
    this.leave = process.observe(this)
    let mark = marks?.countThrough(firstSeq - 1) ?? 0
    const resizeThrough = (seq: number) => {
      for (let next = marks?.at(mark); next !== undefined && next.seq <= seq; next = marks?.at(++mark)) {
        this.onResized(next)
      }
    }
    for (const { seq, stream, chunk } of chunks) {
      resizeThrough(seq - 1)
      this.onOutput(seq, stream, chunk)
    }
    resizeThrough(Number.POSITIVE_INFINITY)
    const status = process.status()
    if (status.exited) this.exit = { exitCode: status.exitCode, signal: status.signal }
    if (status.closed) this.onClosed()
  }

  private async open(): Promise<FileHandle> {
    if (!this.isAdopted) return open(this.path, flags, mode)
    const file = await open(this.path, adoptedFlags, mode)
    // What was being written may be there, or a part of it.
    await file.truncate(this.bytes)
    return file
  }

  private restore(state: RecordingState, process: ManagedProcess | undefined): void {
    this.isAdopted = true
    this.bytes = state.bytes
    this.lines = state.writing === "" ? undefined : Buffer.from(state.writing)
    this.around.take(this.bytes + (this.lines?.length ?? 0))
    this.head = state.head
    this.pending = state.pending.map((one) => ({ ...one }))
    this.pendingSize = this.pending.reduce((sum, { data }) => sum + data.length, 0)
    this.around.wait(this.pendingSize)
    this.lastAtMs = state.lastAtMs
    this.exit = state.exit
    this.truncated = state.truncated
    for (const { stream, bytes } of state.partial) this.decoder(stream).write(Buffer.from(bytes, "base64"))
    this.stoppedAtMs = state.stoppedAtMs
    if (this.stopped) return
    if (process === undefined) this.stop()
    else this.leave = process.observe(this)
  }

  private decoder(stream: OutputStream | "input"): StringDecoder {
    const known = this.decoders.get(stream)
    if (known !== undefined) return known
    const decoder = new StringDecoder("utf8")
    this.decoders.set(stream, decoder)
    return decoder
  }

  private add(code: Asciicast.Code, data: string): void {
    if (data === "" || this.stopped) return
    this.pendingSize += data.length
    if (!this.around.wait(data.length)) {
      return void this.fail("the files cannot be written as fast as the process prints")
    }
    const last = this.pending.at(-1)
    const isText = code === "o" || code === "i"
    if (isText && last?.code === code && last.data.length < maxEventLength) last.data += data
    else this.pending.push({ atMs: this.around.now(), code, data })
    this.around.onPending(this)
  }

  /** The pending lines, as far as there is room for them. Without room the recording ends. */
  private encode(): Buffer {
    const { pending, head } = this
    this.drop()
    this.head = undefined
    let text = head ?? ""
    let room = Math.min(this.options.maxBytes - this.bytes, this.around.room()) - Buffer.byteLength(text)
    if (room < 0) {
      this.truncate()
      return Buffer.alloc(0)
    }
    for (const { atMs, code, data } of pending) {
      // The clock may be set back.
      const line = Asciicast.event(Math.max(0, atMs - this.lastAtMs), code, data)
      room -= Buffer.byteLength(line)
      if (room < 0) {
        this.truncate()
        break
      }
      this.lastAtMs = Math.max(atMs, this.lastAtMs)
      text += line
    }
    const lines = Buffer.from(text)
    this.around.take(lines.length)
    return lines
  }

  /** Forgets what is pending. */
  private drop(): void {
    this.around.wait(-this.pendingSize)
    this.pending = []
    this.pendingSize = 0
  }

  private truncate(): void {
    this.truncated = true
    this.stop()
    this.drop()
  }

  private async append(lines: Buffer): Promise<void> {
    this.lines = lines
    try {
      await this.file?.appendFile(lines)
      this.bytes += lines.length
      this.lines = undefined
    } catch (error) {
      this.lines = undefined
      const kept = await this.keepWhole(lines).catch(() => 0)
      this.bytes += kept
      this.around.give(lines.length - kept)
      throw error
    }
  }

  /** Removes the half of a line that was written: the file stays a recording. Returns how many of these bytes are left. */
  private async keepWhole(lines: Buffer): Promise<number> {
    const { size } = (await this.file?.stat()) ?? { size: 0 }
    const kept = lines.subarray(0, Math.max(0, size - this.bytes)).lastIndexOf("\n") + 1
    await this.file?.truncate(this.bytes + kept)
    return kept
  }

  private async fail(reason: string): Promise<void> {
    if (this.failure !== undefined) return
    this.failure = reason
    this.drop()
    this.leave()
    this.stoppedAtMs ??= this.around.now()
    if (!this.writing) await this.close()
  }

  private async close(): Promise<void> {
    const { file } = this
    this.closed = true
    this.file = undefined
    await file?.close().catch(() => {})
    this.around.onEnd()
    this.done()
  }
}

/** The bytes of a character of which a decoder has only the first ones, in base64. */
const partOf = (decoder: StringDecoder): string => {
  // Node.js documents the class, and these members only in its source.
  const { lastChar, lastNeed, lastTotal } = decoder as unknown as {
    readonly lastChar: Buffer
    readonly lastNeed: number
    readonly lastTotal: number
  }
  return lastNeed === 0 ? "" : lastChar.toString("base64", 0, lastTotal - lastNeed)
}
