/**
 * The unfinished end of a terminal's output: the bytes of an escape sequence or of a character whose rest has not come
 * yet. They are in no cell of the screen, so a copy of the screen needs them.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"

const esc = 0x1b
const bell = 0x07

/** The longest end that is kept, in bytes; a longer sequence is lost to those who join during it. */
const maxBytes = 262144

type State = "ground" | "escape" | "csi" | "string"

/** The state after a byte, within an escape sequence. */
const next = (state: State, byte: number): State => {
  if (byte === esc) return "escape"
  // CAN and SUB end every sequence.
  if (byte === 0x18 || byte === 0x1a) return "ground"
  switch (state) {
    case "ground":
      return "ground"
    case "escape":
      if (byte === 0x5b) return "csi"
      // OSC, DCS, SOS, PM and APC.
      if (byte === 0x5d || byte === 0x50 || byte === 0x58 || byte === 0x5e || byte === 0x5f) return "string"
      return byte < 0x30 ? "escape" : "ground"
    case "csi":
      return byte >= 0x40 && byte <= 0x7e ? "ground" : "csi"
    case "string":
      return byte === bell ? "ground" : "string"
  }
}

/** How many bytes at the end belong to a character that is not complete. */
const unfinishedCharacter = (bytes: Buffer): number => {
  for (let length = 1; length <= Math.min(3, bytes.length); length++) {
    const byte = bytes[bytes.length - length] ?? 0
    if (byte < 0x80) return 0
    if (byte >= 0xc0) {
      const needed = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2
      return needed > length ? length : 0
    }
  }
  return 0
}

/** Follows the output of one terminal. */
export class Unfinished {
  /** Everything since the start of the sequence that is not finished. */
  private parts: Array<Buffer> = []
  private length = 0
  private state: State = "ground"

  /** The unfinished end. */
  get bytes(): Buffer {
    return Buffer.concat(this.parts)
  }

  /** Takes the next output, which it keeps no reference to. */
  push(output: Buffer): void {
    let start = this.state === "ground" ? output.length : 0
    const before = this.state === "ground" ? this.bytes : undefined
    let position = 0
    while (position < output.length) {
      if (this.state === "ground") {
        const found = output.indexOf(esc, position)
        if (found === -1) break
        position = found
      }
      const byte = output[position] ?? 0
      if (byte === esc) start = position
      this.state = next(this.state, byte)
      position++
    }
    if (this.state !== "ground") {
      if (start > 0) this.clear()
      this.keep(output.subarray(start))
      return
    }
    this.clear()
    // A character may have begun in the output before this one.
    const end = before === undefined ? output.subarray(-3) : Buffer.concat([before, output.subarray(-3)])
    const length = unfinishedCharacter(end)
    if (length > 0) this.keep(end.subarray(-length))
  }

  private keep(bytes: Buffer): void {
    this.length += bytes.length
    if (this.length <= maxBytes) this.parts.push(Buffer.from(bytes))
    else this.parts = []
  }

  private clear(): void {
    this.parts = []
    this.length = 0
  }
}
