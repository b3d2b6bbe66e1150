/**
 * Tells one peer of the events of processes, in order, and no faster than it listens.
 *
 * Nothing here schedules: a chunk is encoded once and handed to the transport in the callback that read it.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import type { ManagedProcess, ProcessEvents } from "../process/ManagedProcess.js"
import * as BinaryFrame from "../protocol/BinaryFrame.js"
import type { Capabilities } from "../protocol/ExecApi.js"
import * as Wire from "../protocol/Wire.js"
import * as FramePool from "./FramePool.js"
import { highWaterBytes, type Peer } from "./Peer.js"

/** Events to one peer. */
export interface Notifier extends ProcessEvents {
  /** The peer takes more: processes that were held up are read again. */
  readonly onDrain: () => void
  /** The peer is gone: nothing is sent any more, and nothing held up. */
  readonly stop: () => void
}

/** A notifier for a peer that was granted these capabilities. */
export const make = (peer: Pick<Peer, "send" | "sendFrame" | "buffered">, capabilities: Capabilities): Notifier => {
  const paused = new Set<ManagedProcess>()
  const { sendFrame } = peer
  const isBinary = sendFrame !== undefined && capabilities.binaryOutput === true
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
      const id = isBinary ? process.frameId : undefined
      if (sendFrame !== undefined && id !== undefined) {
        const length = BinaryFrame.lengthOf(id, bytes)
        const frame = bytes.length < FramePool.minBytes ? Buffer.allocUnsafe(length) : FramePool.take(length)
        BinaryFrame.write(frame, id, seq, stream, bytes)
        sendFrame(frame.subarray(0, length), true, () => FramePool.give(frame))
      } else {
        const head = `{"method":"process/output","params":{"processId":${process.idJson},"seq":${seq},"stream":"${stream}","chunk":"`
        const chunk = bytes.toString("base64")
        if (sendFrame === undefined || bytes.length < FramePool.minBytes) peer.send(`${head}${chunk}"}}`)
        else {
          const frame = FramePool.take(head.length * 3 + chunk.length + 3)
          let length = frame.write(head, 0)
          length += frame.write(chunk, length, "latin1")
          length += frame.write('"}}', length, "latin1")
          sendFrame(frame.subarray(0, length), false, () => FramePool.give(frame))
        }
      }
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
