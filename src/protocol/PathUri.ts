/**
 * Paths on the wire: absolute plain paths (v0, May) or `file:` URIs (current). Requests may use either form; a result
 * uses the form of its request.
 *
 * @since 0.1.0
 */
import { Buffer, isUtf8 } from "node:buffer"
import { posix } from "node:path"
import { pathToFileURL } from "node:url"
import * as Either from "effect/Either"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import { maxBytes } from "./Bounds.js"
import { clip, invalid, Text } from "./Schemas.js"

/**
 * An absolute native path, and the form it had on the wire.
 *
 * @category schemas
 */
export interface AbsolutePath {
  readonly path: string
  readonly form: "plain" | "uri"
}

/**
 * An absolute path of a file, as bytes: file names need not be UTF-8.
 *
 * @category schemas
 */
export interface FilePath {
  readonly bytes: Buffer
  readonly form: "plain" | "uri"
}

/**
 * The longest path accepted, in bytes: room for the longest path of Linux, fully percent-encoded. No system call
 * accepts longer ones.
 */
const maxPathBytes = 16384

const PathText = maxBytes(Text, maxPathBytes)

const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):/

const percentDecode = (text: string): Buffer => {
  if (!text.includes("%")) return Buffer.from(text)
  const source = Buffer.from(text)
  const target = Buffer.allocUnsafe(source.length)
  let length = 0
  for (let i = 0; i < source.length; i++) {
    const hex = source[i] === 0x25 ? source.toString("latin1", i + 1, i + 3) : ""
    if (/^[0-9A-Fa-f]{2}$/.test(hex)) {
      target[length++] = Number.parseInt(hex, 16)
      i += 2
    } else target[length++] = source[i] ?? 0
  }
  return target.subarray(0, length)
}

/**
 * Parses a path in either form as bytes, without resolving anything; Left is a sentence that says what is wrong.
 *
 * @category codecs
 */
export const parseBytes = (text: string): Either.Either<FilePath, string> => {
  if (text.startsWith("/")) {
    return text.includes("\0")
      ? Either.left(`the path ${JSON.stringify(clip(text))} contains a NUL byte`)
      : Either.right({ bytes: Buffer.from(text), form: "plain" })
  }
  const named = scheme.exec(text)?.[1]
  if (named === undefined) {
    return Either.left(
      `invalid URI: relative URL without a base; ${JSON.stringify(clip(text))} is neither an absolute path nor a \`file:\` URI`
    )
  }
  if (named.toLowerCase() !== "file") return Either.left(`unsupported path URI scheme \`${clip(named)}\``)
  if (!URL.canParse(text)) return Either.left(`invalid URI: ${JSON.stringify(clip(text))}`)
  const url = new URL(text)
  if (url.host !== "") return Either.left(`'${clip(text)}' is invalid on '${process.platform}'`)
  if (url.search !== "") return Either.left("query parameters are not allowed in path URIs")
  if (url.hash !== "") return Either.left("fragments are not allowed in path URIs")
  const bytes = percentDecode(url.pathname)
  if (bytes.includes(0)) return Either.left(`'${clip(text)}' is invalid on '${process.platform}'`)
  return Either.right({ bytes, form: "uri" })
}

/**
 * Parses a path in either form; Left is a sentence that says what is wrong with it.
 *
 * @category codecs
 */
export const parse = (text: string): Either.Either<AbsolutePath, string> =>
  Either.flatMap(parseBytes(text), ({ bytes, form }) =>
    isUtf8(bytes)
      ? Either.right({ path: bytes.toString(), form })
      : Either.left(`'${clip(text)}' is not valid UTF-8 after percent-decoding`)
  )

/**
 * Removes `.`, `..` and redundant slashes, including a trailing one: `link/` would follow the link, `link` names it.
 */
const normalize = (bytes: Buffer): Buffer => {
  // latin1 maps each byte to one character and back, so names that are not UTF-8 survive.
  const path = posix.normalize(bytes.toString("latin1"))
  return Buffer.from(path === "/" ? path : path.replace(/\/$/, ""), "latin1")
}

/**
 * Formats the bytes of a path. A URI preserves every byte; a plain path replaces invalid UTF-8 by U+FFFD.
 *
 * @category codecs
 */
export const formatBytes = (bytes: Buffer, form: FilePath["form"]): string => {
  if (form === "plain") return bytes.toString()
  const characters = bytes.toString("latin1")
  // Fast path for most names: a walk formats thousands.
  if (/^[A-Za-z0-9/._-]*$/.test(characters)) return `file://${characters}`
  if (isUtf8(bytes)) return format(bytes.toString(), form)
  const escaped = characters.replace(
    /[^A-Za-z0-9/._-]/g,
    (byte) => `%${byte.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`
  )
  return `file://${escaped}`
}

/**
 * Formats a path as plain text or as a `file:` URI.
 *
 * @category codecs
 */
export const format = (path: string, form: AbsolutePath["form"]): string =>
  form === "uri" ? pathToFileURL(path).href : path

/** An absolute path in either form, kept as it is. Must be UTF-8. */
export const AbsolutePath: Schema.Schema<AbsolutePath, string> = Schema.transformOrFail(
  PathText,
  Schema.declare((value: unknown): value is AbsolutePath => typeof value === "object" && value !== null),
  {
    strict: true,
    decode: (text, _, ast) =>
      Either.match(parse(text), {
        onLeft: (message) => invalid(ast, text, message),
        onRight: ParseResult.succeed
      }),
    encode: ({ path, form }) => ParseResult.succeed(format(path, form))
  }
)

/** The path of a file in either form. `.` and `..` are resolved lexically, as in a URI, not through links. */
export const FilePath: Schema.Schema<FilePath, string> = Schema.transformOrFail(
  PathText,
  Schema.declare((value: unknown): value is FilePath => typeof value === "object" && value !== null),
  {
    strict: true,
    decode: (text, _, ast) =>
      Either.match(parseBytes(text), {
        onLeft: (message) => invalid(ast, text, message),
        onRight: ({ bytes, form }) => ParseResult.succeed({ bytes: normalize(bytes), form })
      }),
    encode: ({ bytes, form }) => ParseResult.succeed(formatBytes(bytes, form))
  }
)
