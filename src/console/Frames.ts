/**
 * Binary frames: output without base64.
 *
 * @since 0.1.0
 */

/** What printed the bytes. */
export type StreamName = "stdout" | "stderr" | "pty"

/** Output of a process of the own session. */
export interface ProcessFrame {
  readonly _tag: "Process"
  readonly processId: string
  readonly seq: number
  readonly stream: StreamName
  readonly bytes: Uint8Array
}

/** Output of an attachment. */
export interface AttachmentFrame {
  readonly _tag: "Attachment"
  readonly attachmentId: number
  readonly seq: number
  readonly stream: StreamName
  readonly bytes: Uint8Array
}

/** Output of either. */
export type Frame = ProcessFrame | AttachmentFrame

const streams: ReadonlyArray<StreamName | undefined> = [undefined, "stdout", "stderr", "pty"]
const decoder = new TextDecoder()

const seqAt = (view: DataView, at: number): number => view.getUint32(at) * 2 ** 32 + view.getUint32(at + 4)

/** The output in a frame; undefined if it is none that is known. */
export const decode = (data: ArrayBuffer): Frame | undefined => {
  if (data.byteLength < 4) return undefined
  const view = new DataView(data)
  const stream = streams[view.getUint8(1)]
  if (stream === undefined) return undefined
  switch (view.getUint8(0)) {
    case 1: {
      const end = 4 + view.getUint16(2)
      if (data.byteLength < end + 8) return undefined
      const processId = decoder.decode(new Uint8Array(data, 4, end - 4))
      return { _tag: "Process", processId, seq: seqAt(view, end), stream, bytes: new Uint8Array(data, end + 8) }
    }
    case 2: {
      if (data.byteLength < 14) return undefined
      const attachmentId = view.getUint32(2)
      return { _tag: "Attachment", attachmentId, seq: seqAt(view, 6), stream, bytes: new Uint8Array(data, 14) }
    }
    default:
      return undefined
  }
}
