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
import type { ProcessId } from "../protocol/Ids.js"
import * as Wire from "../protocol/Wire.js"
import { type FramePool, minBytes } from "./FramePool.js"
import { OutputWindow } from "./OutputWindow.js"
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
  /** Processes that are paused because the peer is congested. */
  const congested = new Set<EventSource>()
  const limit = capabilities.outputWindow
  const windows = new Map<ProcessId, { readonly process: EventSource; readonly window: OutputWindow }>()
  const { sendUtf8, roomAround: { before, after } = { before: 0, after: 0 } } = peer
  const sendBinary = capabilities.binaryOutput === true ? peer.sendBinary : undefined
  let stopped = false
  const notify = (text: string) => {
    if (!stopped) peer.send(text)
  }
  const isFull = (process: EventSource) => windows.get(process.processId)?.window.isFull === true
  const windowOf = (process: EventSource, limit: number) => {
    const known = windows.get(process.processId)
    if (known !== undefined) return known.window
    const window = new OutputWindow(limit)
    windows.set(process.processId, { process, window })
    return window
  }
  const release = () => {
    for (const process of congested) if (!isFull(process)) process.resume()
    congested.clear()
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
      const window = limit === undefined ? undefined : windowOf(process, limit)
      window?.add(seq, bytes.length)
      const isCongested = peer.buffered() > highWaterBytes
      if (isCongested) congested.add(process)
      if (isCongested || window?.isFull === true) process.pause()
    },
    onRestarted: ({ processId }, seq, attempt, pid) =>
      notify(Wire.notification("process/restarted", { processId, seq, attempt, pid })),
    onExited: ({ processId, sandboxDenied }, seq, exit, timedOut) => {
      const params = { processId, seq, ...exit, sandboxDenied }
      notify(Wire.notification("process/exited", timedOut ? { ...params, timedOut } : params))
    },
    onClosed: (process, seq) => {
      congested.delete(process)
      windows.delete(process.processId)
      notify(Wire.notification("process/closed", { processId: process.processId, seq }))
    },
    acknowledge: (processId, seq) => {
      const found = windows.get(processId)
      if (found === undefined) return
      const { process, window } = found
      const wasFull = window.isFull
      window.acknowledge(seq)
      if (wasFull && !window.isFull && !congested.has(process)) process.resume()
    },
    onDrain: release,
    stop: () => {
      stopped = true
      release()
      for (const { process } of windows.values()) process.resume()
      windows.clear()
    }
  }
}
