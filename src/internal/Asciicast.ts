/**
 * Recordings of terminals in the format asciicast: version 3 is written, versions 2 and 3 are read.
 * A recording is a line with a header and a line for each event, all of them JSON.
 *
 * @since 0.1.0
 */
import * as Either from "effect/Either"
import { isRecord } from "effect/Predicate"

/** The kinds of events: output, input, a resize, a marker, the exit. */
export type Code = "o" | "i" | "r" | "m" | "x"

/** The first line of a recording. */
export interface Header {
  readonly cols: number
  readonly rows: number
  /** The value of TERM. */
  readonly type?: string | undefined
  /** When it began, in seconds since 1970. */
  readonly timestamp?: number | undefined
  readonly command?: string | undefined
  readonly title?: string | undefined
  /** What this server needs to list the recording; players ignore it. */
  readonly origin?: unknown
}

/** An event; `seconds` is the time since the previous one. */
export interface Event {
  readonly seconds: number
  readonly code: string
  readonly data: string
}

/** The member of the header for `origin`. */
const originKey = "exec_server"

/** The header as a line. */
export const header = ({ cols, rows, type, timestamp, command, title, origin }: Header): string =>
  `${JSON.stringify({ version: 3, term: { cols, rows, type }, timestamp, command, title, [originKey]: origin })}\n`

/** An event as a line; `ms` is the time since the previous one. */
export const event = (ms: number, code: Code, data: string): string =>
  `[${(ms / 1000).toFixed(3)}, "${code}", ${JSON.stringify(data)}]\n`

/** The data of a resize. */
export const size = (cols: number, rows: number): string => `${cols}x${rows}`

const parse = (line: string): unknown => {
  try {
    return JSON.parse(line)
  } catch {
    return undefined
  }
}

const textOf = (value: unknown) => (typeof value === "string" ? value : undefined)
const numberOf = (value: unknown) => (typeof value === "number" && Number.isFinite(value) ? value : undefined)

/** The header of a recording, and its version; otherwise what is wrong. */
export const readHeader = (line: string): Either.Either<Header & { readonly version: 2 | 3 }, string> => {
  const value = parse(line)
  if (!isRecord(value)) return Either.left("its first line is no header of an asciicast")
  const { version, timestamp, command, title } = value
  if (version !== 2 && version !== 3) {
    return Either.left(`it is version ${JSON.stringify(version)} of asciicast; 2 and 3 are supported`)
  }
  const term = version === 2 ? { cols: value["width"], rows: value["height"] } : value["term"]
  const { cols, rows, type } = isRecord(term) ? term : {}
  const [width, height] = [numberOf(cols), numberOf(rows)]
  if (width === undefined || height === undefined) return Either.left("its header has no size of the terminal")
  return Either.right({
    version,
    cols: width,
    rows: height,
    type: textOf(type),
    timestamp: numberOf(timestamp),
    command: textOf(command),
    title: textOf(title),
    origin: value[originKey]
  })
}

/** A reader of events, which have to be read in order. Comments and lines that are no event are undefined. */
export const reader = (version: 2 | 3): ((line: string) => Event | undefined) => {
  let earlier = 0
  return (line) => {
    if (line.startsWith("#")) return undefined
    const value = parse(line)
    if (!Array.isArray(value)) return undefined
    const [time, code, data] = value
    if (numberOf(time) === undefined || typeof code !== "string" || typeof data !== "string") return undefined
    // Version 2 has the time since the beginning.
    const seconds = version === 3 ? time : time - earlier
    earlier = time
    return { seconds: Math.max(0, seconds), code, data }
  }
}
