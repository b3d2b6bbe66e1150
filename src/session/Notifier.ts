/**
 * Notifies one peer of process events, in order, and no faster than it reads.
 *
 * Nothing is scheduled: a chunk is encoded once and passed to the transport in the callback that read it.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import type { EventSource, ProcessEvents } from "../process/ProcessEvents.js"
import type { ExitReport } from "../process/ProcessState.js"
import * as BinaryFrame from "../protocol/BinaryFrame.js"
import type { Capabilities, OutputStream } from "../protocol/ExecApi.js"
import type { ProcessId } from "../protocol/Ids.js"
import * as Wire from "../protocol/Wire.js"
import { type FramePool, minBytes } from "./FramePool.js"
import { OutputPauses } from "./OutputPauses.js"
import { highWaterBytes, type Peer } from "./Peer.js"

/** Events to one peer. */
export interface Notifier extends ProcessEvents {
  /** The client has consumed the output of a process up to `seq`: resumes reading it if its window was full. */
  readonly acknowledge: (processId: ProcessId, seq: number) => void
  /** The peer accepts data again: resumes reading paused processes. */
  readonly onDrain: () => void
  /** The peer has disconnected: sends nothing more, and resumes paused processes. */
  readonly stop: () => void
}

/** A transport that needs no room around a message. */
const noRoom = { before: 0, after: 0 }

/** The text before and after the base64 of output. */
const headOf = ({ idJson }: EventSource, seq: number, stream: OutputStream) =>
  `{"method":"process/output","params":{"processId":${idJson},"seq":${seq},"stream":"${stream}","chunk":"`
const tail = '"}}'

/** An upper bound of the length that `writeText` writes. The other members of the head have a few digits each. */
const lengthOfText = ({ idJson }: EventSource, bytes: Buffer) =>
  Buffer.byteLength(idJson) + Math.ceil(bytes.length / 3) * 4 + 256

/** Writes the notification as UTF-8 into a buffer; returns the end offset. */
const writeText = (
  buffer: Buffer,
  start: number,
  process: EventSource,
  seq: number,
  stream: OutputStream,
  bytes: Buffer
) => {
  let end = start + buffer.write(headOf(process, seq, stream), start)
  end += buffer.write(bytes.toString("base64"), end, "latin1")
  return end + buffer.write(tail, end, "latin1")
}

/** The parameters of `process/exited` for a client with these capabilities. */
export const exitedParams = (
  { processId, sandboxDenied, exitUsage: usage, oomKilled = false }: EventSource,
  seq: number,
  exit: ExitReport,
  timedOut: boolean,
  { exitUsage }: Capabilities
) => ({
  processId,
  seq,
  ...exit,
  sandboxDenied,
  ...(timedOut ? { timedOut } : {}),
  ...(exitUsage === true && usage !== undefined ? { usage } : {}),
  ...(exitUsage === true && oomKilled ? { oomKilled } : {})
})

/** Events to one peer with these capabilities, in the buffers of its server. A class: each connection has one. */
export class PeerNotifier implements Notifier {
  private readonly pauses: OutputPauses
  private stopped = false

  constructor(
    private readonly peer: Pick<Peer, "send" | "sendUtf8" | "roomAround" | "sendBinary" | "buffered">,
    private readonly capabilities: Capabilities,
    private readonly frames: FramePool
  ) {
    this.pauses = new OutputPauses(capabilities.outputWindow)
  }

  onStarted({ processId }: EventSource, pid: number): void {
    if (this.capabilities.lifecycle === true) this.notify(Wire.notification("process/started", { processId, pid }))
  }

  onFailed(processId: ProcessId, message: string): void {
    if (this.capabilities.lifecycle === true) this.notify(Wire.notification("process/failed", { processId, message }))
  }

  onOutput(process: EventSource, seq: number, stream: OutputStream, bytes: Buffer): void {
    if (this.stopped) return
    this.send(process, seq, stream, bytes)
    this.pauses.sent(process, seq, bytes.length, this.peer.buffered() > highWaterBytes)
  }

  onRestarted({ processId }: EventSource, seq: number, attempt: number, pid: number): void {
    this.notify(Wire.notification("process/restarted", { processId, seq, attempt, pid }))
  }

  onExited(process: EventSource, seq: number, exit: ExitReport, timedOut: boolean): void {
    const params = exitedParams(process, seq, exit, timedOut, this.capabilities)
    this.notify(Wire.notification("process/exited", params))
  }

  onClosed(process: EventSource, seq: number): void {
    this.pauses.forget(process)
    this.notify(Wire.notification("process/closed", { processId: process.processId, seq }))
  }

  acknowledge(processId: ProcessId, seq: number): void {
    this.pauses.acknowledge(processId, seq)
  }

  onDrain(): void {
    this.pauses.drained()
  }

  stop(): void {
    this.stopped = true
    this.pauses.stop()
  }

  private notify(text: string): void {
    if (!this.stopped) this.peer.send(text)
  }

  private send(process: EventSource, seq: number, stream: OutputStream, bytes: Buffer): void {
    const { peer, frames } = this
    const { sendUtf8, roomAround: { before, after } = noRoom } = peer
    const sendBinary = this.capabilities.binaryOutput === true ? peer.sendBinary : undefined
    const id = sendBinary === undefined ? undefined : process.frameId
    if (sendBinary !== undefined && id !== undefined) {
      const length = BinaryFrame.lengthOf(id, bytes)
      const buffer = frames.take(before + length + after)
      const frame = buffer.subarray(before, before + length)
      BinaryFrame.write(frame, id, seq, stream, bytes)
      sendBinary(frame, () => frames.give(buffer))
    } else if (sendUtf8 !== undefined && bytes.length >= minBytes) {
      const buffer = frames.take(before + lengthOfText(process, bytes) + after)
      const end = writeText(buffer, before, process, seq, stream, bytes)
      sendUtf8(buffer.subarray(before, end), () => frames.give(buffer))
    } else peer.send(`${headOf(process, seq, stream)}${bytes.toString("base64")}${tail}`)
  }
}
