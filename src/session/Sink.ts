/**
 * What a connection sends to its client about processes and sessions that it watches.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import type * as RpcGroup from "@effect/rpc/RpcGroup"
import * as AttachmentFrame from "../protocol/AttachmentFrame.js"
import type { NotificationJson } from "../protocol/ExecNotifications.js"
import type { OutputStream } from "../protocol/ProcessSchemas.js"
import type { WatchNotifications } from "../protocol/WatchNotifications.js"
import * as Wire from "../protocol/Wire.js"
import type { FramePool } from "./FramePool.js"
import { highWaterBytes, type Peer } from "./Peer.js"

type Notifications = RpcGroup.Rpcs<typeof WatchNotifications>

/** The notifications that a server sends, but for output. */
export type Notification = Exclude<Notifications["_tag"], "attachment/ack" | "attachment/output">

/** The parameters of a notification, as JSON. */
export type Params<M extends Notification> = NotificationJson<M>

/** Sends to the client of a connection, in order. After the end of the connection it does nothing. */
export interface Sink {
  readonly output: (attachmentId: number, seq: number, stream: OutputStream, chunk: Buffer) => void
  readonly notify: <M extends Notification>(method: M, params: Params<M>) => void
  /** Whether more has been sent than the client reads. */
  readonly isCongested: () => boolean
}

/** Sends messages to a peer: output in binary frames if `binary` says so, and everything else as JSON. */
export const toPeer = (
  peer: Pick<Peer, "send" | "sendBinary" | "roomAround" | "buffered">,
  frames: FramePool,
  binary: () => boolean
): Sink => {
  const { roomAround: { before, after } = { before: 0, after: 0 } } = peer
  const { sendBinary } = peer
  return {
    output: (attachmentId, seq, stream, chunk) => {
      if (sendBinary === undefined || !binary()) {
        const head = `{"method":"attachment/output","params":{"attachmentId":${attachmentId},"seq":${seq}`
        return peer.send(`${head},"stream":"${stream}","chunk":"${chunk.toString("base64")}"}}`)
      }
      const length = AttachmentFrame.lengthOf(chunk)
      const buffer = frames.take(before + length + after)
      const frame = buffer.subarray(before, before + length)
      AttachmentFrame.write(frame, { attachmentId, seq, stream, chunk })
      sendBinary(frame, () => frames.give(buffer))
    },
    notify: (method, params) => peer.send(Wire.notification(method, params)),
    isCongested: () => peer.buffered() > highWaterBytes
  }
}
