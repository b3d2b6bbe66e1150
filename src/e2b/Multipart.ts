/**
 * Forms with files (multipart/form-data), read as they come: no part is kept in memory.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { type Failure, fail } from "./Failure.js"

/** The longest head of a part, in bytes. */
const maxHeadBytes = 16_384

/** The most parts of a form. */
const maxParts = 1024

const crlf = "\r\n"
const headEnd = "\r\n\r\n"

/** A part of a form. Its body must be read before the next part. */
export interface Part {
  readonly name: string
  readonly filename: string | undefined
  readonly body: AsyncIterable<Buffer>
}

const broken = (why: string): Failure => fail("invalid_argument", `the form is broken: ${why}`)

/** The boundary of a content type; undefined if it is no form. */
export const boundaryOf = (contentType: string): string | undefined => {
  const [, quoted, plain] =
    /^multipart\/form-data\s*;.*?boundary=(?:"([^"]{1,200})"|([^;\s]{1,200}))/i.exec(contentType) ?? []
  return quoted ?? plain
}

/** A parameter of the disposition. Browsers write quotes and line ends with percent signs. */
const parameter = (disposition: string, name: string): string | undefined => {
  const [, value] = new RegExp(`[;\\s]${name}="((?:[^"\\\\]|\\\\.)*)"`, "i").exec(disposition) ?? []
  return value?.replaceAll(/\\(["\\])/g, "$1").replaceAll(/%(22|0D|0A)/gi, decodeURIComponent)
}

const dispositionOf = (head: string): string => /^content-disposition:(.*)$/im.exec(head)?.[1] ?? ""

/** The parts of a form. */
export async function* parts(source: AsyncIterator<Buffer>, boundary: string): AsyncGenerator<Part> {
  const delimiter = Buffer.from(`${crlf}--${boundary}`)
  // The first boundary has no line before it.
  let rest: Buffer = Buffer.from(crlf)

  /** Adds the next piece. */
  const more = async (): Promise<void> => {
    const { done, value } = await source.next()
    if (done === true) throw broken("it ends before its last boundary")
    rest = rest.length === 0 ? value : Buffer.concat([rest, value])
  }

  /** What comes before the next boundary, in pieces; the boundary is taken. */
  async function* untilBoundary(): AsyncGenerator<Buffer> {
    for (;;) {
      const at = rest.indexOf(delimiter)
      const end = at === -1 ? Math.max(0, rest.length - delimiter.length + 1) : at
      const piece = rest.subarray(0, end)
      rest = rest.subarray(at === -1 ? end : at + delimiter.length)
      if (piece.length > 0) yield piece
      if (at !== -1) return
      await more()
    }
  }

  for await (const _ of untilBoundary());
  for (let count = 0; ; count++) {
    while (rest.length < 2) await more()
    if (rest.subarray(0, 2).toString("latin1") === "--") return
    if (count >= maxParts) throw broken(`it has more than ${maxParts} parts`)
    let end = rest.indexOf(headEnd)
    while (end === -1) {
      if (rest.length > maxHeadBytes) throw broken(`the head of a part is longer than ${maxHeadBytes} bytes`)
      await more()
      end = rest.indexOf(headEnd)
    }
    const disposition = dispositionOf(rest.subarray(0, end).toString())
    rest = rest.subarray(end + headEnd.length)
    const body = untilBoundary()
    yield { name: parameter(disposition, "name") ?? "", filename: parameter(disposition, "filename"), body }
    for await (const _ of body);
  }
}
