/**
 * What a server hands to the version that replaces it: a JSON value, with byte sections and open descriptors beside it.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"

/** Collects the bytes and the descriptors of a frozen server. Writing has no effect on what is frozen. */
export class ImageWriter {
  /** The sections, by index. They are views: whoever added them must not change them in the same turn. */
  readonly sections: Array<Buffer> = []
  /** The descriptors that stay open. */
  readonly descriptors = new Set<number>()

  /** Adds bytes; the returned index stands for them in the JSON value. */
  bytes(bytes: Buffer): number {
    return this.sections.push(bytes) - 1
  }

  /** Keeps a descriptor open under the same number, which it returns for the JSON value. */
  descriptor(fd: number): number {
    this.descriptors.add(fd)
    return fd
  }
}

/** Reads the bytes of a frozen server. */
export interface ImageReader {
  /** A section by its index. The caller may keep it. Throws a `RangeError` if there is none. */
  readonly bytes: (index: number) => Buffer
}
