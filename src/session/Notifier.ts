/**
 * Notifies one peer of process events, in order, and no faster than it reads.
 *
 * Nothing is scheduled: a chunk is encoded once and passed to the transport in the callback that read it.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import type { EventSource, ProcessEvents } from "../process/ProcessEvents.js"
import * as BinaryFrame from "../protocol/BinaryFrame.js"
import type { Capabilities, OutputStream } from "../protocol/ExecApi.js"
import * as Wire from "../protocol/Wire.js"
import { type FramePool, minBytes } from "./FramePool.js"
import { highWaterBytes, type Peer } from "./Peer.js"

/** Events to one peer. */
export interface Notifier extends ProcessEvents {
  /** The peer accepts data again: resumes paused processes. */
  readonly onDrain: () => void
  /** The peer has disconnected: sends nothing more, and resumes paused processes. */
  readonly stop: () => void
}

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

/** A notifier for a peer with these capabilities, using its server's buffers. */
export const make = (
  peer: Pick<Peer, "send" | "sendUtf8" | "roomAround" | "sendBinary" | "buffered">,
  capabilities: Capabilities,
  frames: FramePool
): Notifier => {
  const paused = new Set<EventSource>()
  const { sendUtf8, roomAround: { before, after } = { before: 0, after: 0 } } = peer
  const sendBinary = capabilities.binaryOutput === true ? peer.sendBinary : undefined
  let stopped = false
  const notify = (text: string) => {
    if (!stopped) peer.send(text)
  }
  const release = () => {
    for (const process of paused) process.resume()
    paused.clear()
  }
  return {
    onStarted: (process, pid) => {
      if (capabilities.lifecycle !== true) return
      notify(Wire.notification("process/started", { processId: process.processId, pid }))
    },
    onFailed: (processId, message) => {
      if (capabilities.lifecycle !== true) return
      notify(Wire.notification("process/failed", { processId, message }))
    },
    onOutput: (process, seq, stream, bytes) => {
      if (stopped) return
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
      if (peer.buffered() > highWaterBytes) {
        paused.add(process)
        process.pause()
      }
    },
    onRestarted: ({ processId }, seq, attempt, pid) =>
      notify(Wire.notification("process/restarted", { processId, seq, attempt, pid })),
    onExited: ({ processId, sandboxDenied }, seq, exit, timedOut) => {
      const params = { processId, seq, ...exit, sandboxDenied }
      notify(Wire.notification("process/exited", timedOut ? { ...params, timedOut } : params))
    },
    onClosed: (process, seq) => {
      paused.delete(process)
      notify(Wire.notification("process/closed", { processId: process.processId, seq }))
    },
    onDrain: release,
    stop: () => {
      stopped = true
      release()
    }
  }
}
