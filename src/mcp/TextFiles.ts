/**
 * Files for a model: text with line numbers, images as images, and edits of exact text.
 *
 * @since 0.1.0
 */
import { Buffer, isUtf8 } from "node:buffer"
import { posix } from "node:path"
import * as Effect from "effect/Effect"
import type { ClientError } from "../client/ClientError.js"
import type { Files } from "../client/Files.js"
import { ExecFailure, reasonOf } from "./ExecFailure.js"
import { counted, grouped } from "./Replies.js"

/** The largest text file and the largest image, in bytes. */
const maxTextBytes = 64 * 1048576
const maxImageBytes = 8 * 1048576

/** The most text of one answer, and the most of one line, in characters. */
const maxAnswer = 200_000
const maxLine = 2000

const defaultLines = 2000

/** How many places of a text are named. */
const maxPlaces = 10

/** What an image has at the start: bytes at an offset, as latin1. */
const images: ReadonlyArray<readonly [offset: number, bytes: string, mimeType: string]> = [
  [0, "\x89PNG\r\n\x1a\n", "image/png"],
  [0, "\xff\xd8\xff", "image/jpeg"],
  [0, "GIF87a", "image/gif"],
  [0, "GIF89a", "image/gif"],
  [8, "WEBP", "image/webp"]
]

/** A file for a model. */
export type Content =
  | { readonly type: "text"; readonly text: string }
  | { readonly type: "image"; readonly data: string; readonly mimeType: string }

const fail = (message: string) => new ExecFailure({ message })

const checkPath = (path: string): Effect.Effect<void, ExecFailure> =>
  path.startsWith("/") ? Effect.void : fail(`path must be absolute, not ${JSON.stringify(path)}`)

/** The server's reasons do not name the path. */
const naming = <A>(path: string, effect: Effect.Effect<A, ClientError>) =>
  Effect.mapError(effect, (error) => fail(`${path}: ${reasonOf(error)}`))

const bytesOf = (files: Files, path: string) =>
  Effect.gen(function* () {
    yield* checkPath(path)
    const { isDirectory, size } = yield* naming(path, files.getMetadata(path))
    if (isDirectory) return yield* fail(`${path} is a directory; exec_command with ls lists it`)
    if (size !== null && size > maxTextBytes) {
      return yield* fail(
        `${path} has ${grouped(size)} bytes, of which at most ${grouped(maxTextBytes)} can be read; exec_command with head, tail or grep shows parts`
      )
    }
    return yield* naming(path, files.readFile(path))
  })

const textOf = (path: string, bytes: Buffer): Effect.Effect<string, ExecFailure> =>
  isUtf8(bytes) && !bytes.includes(0)
    ? Effect.succeed(bytes.toString())
    : fail(`${path} is not text: ${counted(bytes.length, "byte")} of binary data`)

/** Lines from one on, as many as fit, with their numbers. */
const numbered = (path: string, text: string, offset: number, limit: number): Effect.Effect<string, ExecFailure> => {
  const lines = text.replace(/\n$/, "").split("\n")
  const total = text === "" ? 0 : lines.length
  if (offset > Math.max(1, total)) return fail(`${path} has ${counted(total, "line")}: there is no line ${offset}`)
  const shown: Array<string> = []
  let length = 0
  for (const line of lines.slice(offset - 1, offset - 1 + limit).slice(0, total)) {
    const cut =
      line.length > maxLine ? `${line.slice(0, maxLine)}[... ${grouped(line.length - maxLine)} more ...]` : line
    length += cut.length
    if (length > maxAnswer && shown.length > 0) break
    shown.push(`${String(offset + shown.length).padStart(6)}\t${cut}`)
  }
  const end = offset - 1 + shown.length
  const first =
    shown.length === total
      ? `[${counted(total, "line")}]`
      : `[lines ${offset} to ${end} of ${total}${end < total ? `; next offset ${end + 1}` : ""}]`
  return Effect.succeed([first, ...shown].join("\n"))
}

/** Reads a text file with line numbers, or an image. */
export const read = (
  files: Files,
  path: string,
  offset = 1,
  limit = defaultLines
): Effect.Effect<Content, ExecFailure> =>
  Effect.gen(function* () {
    const bytes = yield* bytesOf(files, path)
    const start = bytes.toString("latin1", 0, 16)
    const mimeType = images.find(([offset, bytes]) => start.startsWith(bytes, offset))?.[2]
    if (mimeType === undefined) {
      return { type: "text" as const, text: yield* numbered(path, yield* textOf(path, bytes), offset, limit) }
    }
    if (bytes.length > maxImageBytes) {
      return yield* fail(
        `${path} is an image of ${grouped(bytes.length)} bytes; at most ${grouped(maxImageBytes)} can be shown`
      )
    }
    return { type: "image" as const, data: bytes.toString("base64"), mimeType }
  })

/** Writes a file, and the directories above it. */
export const write = (files: Files, path: string, content: string): Effect.Effect<string, ExecFailure> =>
  Effect.gen(function* () {
    yield* checkPath(path)
    const folder = posix.dirname(path)
    yield* naming(folder, files.createDirectory(folder))
    yield* naming(path, files.writeFile(path, content))
    return `[wrote ${counted(Buffer.byteLength(content), "byte")} to ${path}]`
  })

/** The number of the line at each place where a text occurs. */
const linesOf = (text: string, wanted: string): ReadonlyArray<number> => {
  const lines: Array<number> = []
  let line = 1
  let from = 0
  for (let at = text.indexOf(wanted); at !== -1; at = text.indexOf(wanted, at + wanted.length)) {
    for (let next = text.indexOf("\n", from); next !== -1 && next < at; next = text.indexOf("\n", next + 1)) line++
    from = at
    lines.push(line)
  }
  return lines
}

/** Names lines; several places may be in one. */
const placesOf = (lines: ReadonlyArray<number>): string =>
  `${lines.slice(0, maxPlaces).join(", ")}${lines.length > maxPlaces ? ", ..." : ""}`

/** Replaces a text that occurs once, or everywhere. */
export const edit = (
  files: Files,
  path: string,
  oldText: string,
  newText: string,
  everywhere: boolean
): Effect.Effect<string, ExecFailure> =>
  Effect.gen(function* () {
    if (oldText === "") return yield* fail("old_text is empty; write_file replaces a whole file")
    if (oldText === newText) return yield* fail("old_text and new_text are the same")
    const text = yield* textOf(path, yield* bytesOf(files, path))
    const lines = linesOf(text, oldText)
    if (lines.length === 0) {
      return yield* fail(`old_text does not occur in ${path}; it must be there exactly, with the same spaces`)
    }
    if (lines.length > 1 && !everywhere) {
      return yield* fail(
        `old_text occurs ${lines.length} times in ${path}, in lines ${placesOf(Array.from(new Set(lines)))}: make it longer, or set replace_all`
      )
    }
    yield* naming(path, files.writeFile(path, text.split(oldText).join(newText)))
    const places = Array.from(new Set(lines))
    const where = `line${places.length === 1 ? "" : "s"} ${placesOf(places)}`
    return `[replaced ${counted(lines.length, "occurrence")} in ${path}, ${where}]`
  })
