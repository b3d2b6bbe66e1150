/**
 * The Connect protocol over HTTP, with JSON: single answers, and streams of enveloped messages.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import type { IncomingMessage, ServerResponse } from "node:http"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { formatParseError } from "../protocol/Schemas.js"
import * as Bodies from "./Bodies.js"
import { type Failure, fail } from "./Failure.js"

/** The bytes before each message of a stream: flags, and the length in four bytes. */
const headerBytes = 5

const compressedFlag = 1
const endFlag = 2

/** The media types that are served. */
const unaryType = "application/json"
const streamType = "application/connect+json"

const envelope = (flags: number, value: unknown): Buffer => {
  const body = Buffer.from(JSON.stringify(value))
  const header = Buffer.alloc(headerBytes)
  header.writeUInt8(flags, 0)
  header.writeUInt32BE(body.length, 1)
  return Buffer.concat([header, body])
}

/** A message of a stream. */
export const message = (value: unknown): Buffer => envelope(0, value)

/** The end of a stream. */
const endOf = (failure: Failure | undefined): Buffer =>
  envelope(endFlag, failure === undefined ? {} : { error: failure.body })

const header = (request: IncomingMessage, name: string): string | undefined => {
  const value = request.headers[name]
  return typeof value === "string" ? value : undefined
}

const typeOf = (request: IncomingMessage): string =>
  (header(request, "content-type") ?? "").split(";", 1)[0]?.trim().toLowerCase() ?? ""

/** Whether a request has the media type of a method; `isStream` of a method that streams. */
export const isServed = (request: IncomingMessage, isStream: boolean): boolean =>
  typeOf(request) === (isStream ? streamType : unaryType)

/** Answers a request in a media type that is not served. */
export const refuseType = (request: IncomingMessage, response: ServerResponse, isStream: boolean): void => {
  const wanted = isStream ? streamType : unaryType
  const failure = fail("unimplemented", `${typeOf(request) || "no content type"} is not served here: send ${wanted}`)
  response.writeHead(415, { "accept-post": wanted, "content-type": unaryType, connection: "close" })
  response.end(JSON.stringify(failure.body))
}

/** The deadline that a client gives, in milliseconds; undefined if there is none. */
export const timeoutMsOf = (request: IncomingMessage): Either.Either<number | undefined, Failure> => {
  const given = header(request, "connect-timeout-ms")
  if (given === undefined || given === "0") return Either.right(undefined)
  return /^\d{1,10}$/.test(given)
    ? Either.right(Number(given))
    : Either.left(fail("invalid_argument", `Connect-Timeout-Ms is ${given}; it must be a number of milliseconds`))
}

const parse = <A, I>(schema: Schema.Schema<A, I>, body: Buffer): Either.Either<A, Failure> =>
  Either.try({
    try: (): unknown => JSON.parse(body.length === 0 ? "{}" : body.toString()),
    catch: () => fail("invalid_argument", "the message is not JSON")
  }).pipe(
    Either.flatMap((value) =>
      Either.mapLeft(Schema.decodeUnknownEither(schema)(value), (error) =>
        fail("invalid_argument", `the message is invalid: ${formatParseError(error)}`)
      )
    )
  )

/** Decodes the body of a request for a single answer. */
export const decodeUnary = <A, I>(
  request: IncomingMessage,
  schema: Schema.Schema<A, I>,
  body: Buffer
): Effect.Effect<A, Failure> =>
  Effect.flatMap(Bodies.decode(body, header(request, "content-encoding")), (plain) => parse(schema, plain))

const decodeEnvelope = <A, I>(
  request: IncomingMessage,
  schema: Schema.Schema<A, I>,
  { flags, body }: Envelope
): Effect.Effect<A, Failure> => {
  if ((flags & ~compressedFlag) !== 0) return fail("invalid_argument", `a message has the unknown flags ${flags}`)
  const encoding = (flags & compressedFlag) === 0 ? undefined : header(request, "connect-content-encoding")
  return Effect.flatMap(Bodies.decode(body, encoding), (plain) => parse(schema, plain))
}

interface Envelope {
  readonly flags: number
  readonly body: Buffer
}

/** Splits pieces of a body into envelopes. */
class Splitter {
  private readonly pieces: Array<Buffer> = []
  private size = 0
  /** How many bytes the next envelope has at least. */
  private needed = headerBytes

  get isEmpty(): boolean {
    return this.size === 0
  }

  push(piece: Buffer): Either.Either<ReadonlyArray<Envelope>, Failure> {
    this.pieces.push(piece)
    this.size += piece.length
    if (this.size < this.needed) return Either.right([])
    const found: Array<Envelope> = []
    let rest = Buffer.concat(this.pieces)
    for (this.needed = headerBytes; rest.length >= this.needed; this.needed = headerBytes) {
      const length = rest.readUInt32BE(1)
      if (length > Bodies.maxBytes) {
        return Either.left(fail("resource_exhausted", `a message is longer than ${Bodies.maxBytes} bytes`))
      }
      this.needed = headerBytes + length
      if (rest.length < this.needed) break
      found.push({ flags: rest.readUInt8(0), body: rest.subarray(headerBytes, this.needed) })
      rest = rest.subarray(this.needed)
    }
    this.pieces.splice(0, this.pieces.length, rest)
    this.size = rest.length
    return Either.right(found)
  }
}

/** Decodes the one message of a request that is answered by a stream. */
export const decodeOne = <A, I>(
  request: IncomingMessage,
  schema: Schema.Schema<A, I>,
  body: Buffer
): Effect.Effect<A, Failure> => {
  const splitter = new Splitter()
  return Effect.flatMap(splitter.push(body), ([first, ...others]) =>
    first === undefined || others.length > 0 || !splitter.isEmpty
      ? fail("invalid_argument", "the body must be one message in an envelope")
      : decodeEnvelope(request, schema, first)
  )
}

/** The messages of a request that streams, as they come. */
export const messages = <A, I>(request: IncomingMessage, schema: Schema.Schema<A, I>): Stream.Stream<A, Failure> => {
  const splitter = new Splitter()
  const cut = fail("invalid_argument", "the body ends within a message")
  return Bodies.pieces(request).pipe(
    Stream.mapEffect((piece) => splitter.push(piece)),
    Stream.flatMap(Stream.fromIterable),
    Stream.mapEffect((envelope) => decodeEnvelope(request, schema, envelope)),
    Stream.concat(Stream.suspend(() => (splitter.isEmpty ? Stream.empty : Stream.fail(cut))))
  )
}

/** Answers a request once. */
export const answer = (response: ServerResponse, result: Either.Either<object, Failure>): void => {
  const [status, body] = Either.isRight(result) ? [200, result.right] : [result.left.status, result.left.body]
  const text = JSON.stringify(body)
  response.writeHead(status, { "content-type": unaryType, "content-length": Buffer.byteLength(text) }).end(text)
}

/** An answer in messages. What is sent after its end is dropped. */
export class Answers {
  private hasBegun = false

  constructor(private readonly response: ServerResponse) {}

  /** Whether the client is gone, or the answer has ended. */
  get isOver(): boolean {
    return this.response.destroyed || this.response.writableEnded
  }

  /** Whether the client reads more slowly than it is sent to. */
  get isCongested(): boolean {
    return !this.isOver && this.response.writableNeedDrain
  }

  /** Sends a message, as made by `message`. */
  send(bytes: Buffer): void {
    if (this.isOver) return
    this.begin()
    this.response.write(bytes)
  }

  /** Ends the stream. */
  end(failure?: Failure): void {
    if (this.isOver) return
    this.begin()
    this.response.end(endOf(failure))
  }

  /** Waits until the client has read, or is gone. */
  readonly drained: Effect.Effect<void> = Effect.async<void>((resume) => {
    const { response } = this
    const done = () => {
      response.off("drain", done).off("close", done)
      resume(Effect.void)
    }
    if (!this.isCongested) return resume(Effect.void)
    response.on("drain", done).on("close", done)
    return Effect.sync(() => response.off("drain", done).off("close", done))
  })

  /** Waits until the answer has been sent, or the client is gone. */
  readonly closed: Effect.Effect<void> = Effect.async<void>((resume) => {
    const { response } = this
    const done = () => resume(Effect.void)
    if (response.destroyed || response.writableFinished) return resume(Effect.void)
    response.once("close", done)
    return Effect.sync(() => response.off("close", done))
  })

  private begin(): void {
    if (this.hasBegun) return
    this.hasBegun = true
    this.response.writeHead(200, { "content-type": streamType })
  }
}
