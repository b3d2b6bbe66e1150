/**
 * Whole files, at `/files`: down- and uploads, at the pace of both sides.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import type { IncomingMessage, ServerResponse } from "node:http"
import { posix } from "node:path"
import { createGunzip, type Gunzip } from "node:zlib"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { ClientError } from "../client/ClientError.js"
import * as Bodies from "./Bodies.js"
import { type Failure, fail, ofClient } from "./Failure.js"
import * as Multipart from "./Multipart.js"
import * as Place from "./Place.js"
import type { Sandbox } from "./Sandboxes.js"

/** Headers with what E2B stores beside a file. */
const metadataPrefix = "x-metadata-"

/** The field of a form that has a file. */
const fileField = "file"

/** A file that was written. */
interface Written {
  readonly path: string
  readonly name: string
  readonly type: "file"
}

/** An upload or a download. */
export interface Transfer {
  readonly sandbox: Sandbox
  readonly request: IncomingMessage
  readonly query: URLSearchParams
}

const pathOf = ({ sandbox: { place }, query }: Transfer, given: string | undefined) =>
  Effect.gen(function* () {
    yield* Place.checkUser(place, query.get("username") ?? undefined)
    if (given === undefined || given === "") return yield* fail("invalid_argument", "give the path of the file: ?path=")
    return yield* Place.resolve(place, given)
  })

const isADirectory = (path: string) => fail("invalid_argument", `path '${path}' is a directory`)

/** Sends a piece, and waits while the client is slow. */
const send = (response: ServerResponse, piece: Buffer): Effect.Effect<void> =>
  Effect.async((resume) => {
    if (response.destroyed || response.write(piece)) return resume(Effect.void)
    const done = () => {
      response.off("drain", done).off("close", done)
      resume(Effect.void)
    }
    response.on("drain", done).on("close", done)
    return Effect.sync(() => response.off("drain", done).off("close", done))
  })

/** Answers with a file. After its first piece, a failure cuts the answer off. */
export const download = (transfer: Transfer, response: ServerResponse): Effect.Effect<void, Failure> =>
  Effect.gen(function* () {
    const { sandbox, request } = transfer
    const { files } = sandbox.environment
    const path = yield* pathOf(transfer, transfer.query.get("path") ?? undefined)
    const failing = (error: ClientError) => ofClient(`error reading file '${path}'`, error)
    const { isDirectory } = yield* Effect.mapError(files.getMetadata(path), failing)
    if (isDirectory) return yield* isADirectory(path)
    const filename = `inline; filename*=UTF-8''${encodeURIComponent(posix.basename(path))}`
    // No page of a browser may use it as its own.
    const head = {
      "content-type": "application/octet-stream",
      "content-disposition": filename,
      "x-content-type-options": "nosniff",
      "cross-origin-resource-policy": "same-origin"
    }
    if (request.method === "HEAD") return void response.writeHead(200, head).end()
    const gone = Effect.async<void>((resume) => void response.once("close", () => resume(Effect.void)))
    const sent = Stream.runForEach(files.read(path), (piece) => {
      if (!response.headersSent) response.writeHead(200, head)
      return send(response, piece)
    })
    yield* Effect.raceFirst(Effect.mapError(sent, failing), gone)
    if (!response.headersSent) response.writeHead(200, { ...head, "content-length": 0 })
    response.end()
  })

/** Writes a file, and the directories that it needs. */
const write = (path: string, content: Stream.Stream<Buffer, Failure>, { environment }: Sandbox) =>
  Effect.gen(function* () {
    const { files } = environment
    const failing = (error: ClientError | Failure) =>
      error._tag === "E2bFailure" ? error : ofClient(`error writing file '${path}'`, error)
    const isDirectory = yield* files.getMetadata(path).pipe(
      Effect.map((found) => found.isDirectory),
      Effect.orElseSucceed(() => false)
    )
    if (isDirectory) return yield* isADirectory(path)
    yield* Effect.mapError(files.createDirectory(posix.dirname(path)), failing)
    yield* Effect.mapError(files.write(path, content), failing)
    return { path, name: posix.basename(path), type: "file" } satisfies Written
  })

/** Writes the files of a form. One path, if the query gives it, is that of its one file. */
const writeForm = (transfer: Transfer, body: AsyncIterable<Buffer>, boundary: string) =>
  Effect.gen(function* () {
    const given = transfer.query.get("path") ?? undefined
    const parts = Multipart.parts(body[Symbol.asyncIterator](), boundary)
    const written: Array<Written> = []
    for (;;) {
      const { done, value: part } = yield* Bodies.awaited(() => parts.next())
      if (done === true) return written
      if (part.name !== fileField) continue
      const path = yield* pathOf(transfer, given ?? part.filename)
      if (written.some((one) => one.path === path)) {
        return yield* fail("invalid_argument", `the form has two files for '${path}'; only the first was written`)
      }
      written.push(yield* write(path, Bodies.streamOf(part.body), transfer.sandbox))
    }
  })

/** The body of a request, uncompressed; it fails if the body is cut off. */
const unzipped = (request: IncomingMessage): Gunzip => {
  const unzipped = request.pipe(createGunzip())
  // Whoever reads it hears of its errors; nobody may read it any more.
  unzipped.on("error", () => {})
  request.once("close", () => {
    if (!request.complete) unzipped.destroy(new Error("it was cut off"))
  })
  return unzipped
}

/** Takes one file, or those of a form; returns what was written. */
export const upload = (transfer: Transfer): Effect.Effect<ReadonlyArray<Written>, Failure> =>
  Effect.suspend(() => {
    const { request, query, sandbox } = transfer
    const { "content-type": type = "", "content-encoding": encoding = "identity" } = request.headers
    if (Object.keys(request.headers).some((name) => name.startsWith(metadataPrefix))) {
      return fail("unimplemented", "metadata of files is not stored here: leave out the X-Metadata- headers")
    }
    if (encoding !== "identity" && encoding !== "gzip") {
      return fail("invalid_argument", `unsupported Content-Encoding: ${encoding}, supported: gzip`)
    }
    const body = (encoding === "gzip" ? unzipped(request) : request).iterator({ destroyOnReturn: false })
    const boundary = Multipart.boundaryOf(type)
    if (boundary !== undefined) return writeForm(transfer, body, boundary)
    if (!/^application\/octet-stream\b/i.test(type)) {
      return fail(
        "invalid_argument",
        `unsupported content type: ${type}, expected multipart/form-data or application/octet-stream`
      )
    }
    return Effect.gen(function* () {
      const path = yield* pathOf(transfer, query.get("path") ?? undefined)
      return [yield* write(path, Bodies.streamOf(body), sandbox)]
    })
  })

/** The HTTP status of a failure: a full disk has one of its own. */
export const statusOf = ({ code, status, message }: Failure): number =>
  code === "resource_exhausted" && /no space|quota/i.test(message) ? 507 : status
