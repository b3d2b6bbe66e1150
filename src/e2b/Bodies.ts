/**
 * The bodies of requests: how long they may be, how long they may take, and how much memory they may need in all.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import type { IncomingMessage } from "node:http"
import { promisify } from "node:util"
import { gunzip } from "node:zlib"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { Failure, fail } from "./Failure.js"

/** The longest body of a request that is no file, in bytes; also uncompressed. */
export const maxBytes = 16_777_216

/** What the bodies of all requests that are no files may need at a time, in bytes. */
const maxTotalBytes = 134_217_728

/** How long a client may take to send the next piece of a body, in milliseconds. */
const pieceMs = 60_000

/** How long a body that is no file may take in all, in milliseconds. */
const wholeMs = 60_000

const unzip = promisify(gunzip)

const tooLong = () => fail("resource_exhausted", `the body of the request is longer than ${maxBytes} bytes`)

const late = () => fail("deadline_exceeded", `nothing of the body has come for ${pieceMs / 1000} s`)

const broken = (error: unknown): Failure =>
  error instanceof Failure
    ? error
    : fail("invalid_argument", `the body of the request is broken: ${error instanceof Error ? error.message : error}`)

/** Uncompresses what a client has sent with this encoding. */
export const decode = (bytes: Buffer, encoding: string | undefined): Effect.Effect<Buffer, Failure> => {
  if (encoding === undefined || encoding === "" || encoding === "identity") return Effect.succeed(bytes)
  if (encoding !== "gzip") return fail("unimplemented", `the encoding ${encoding} is not served: gzip and identity are`)
  return Effect.tryPromise({ try: () => unzip(bytes, { maxOutputLength: maxBytes }), catch: broken })
}

/** A body that comes in pieces. A pause of a minute fails, and a client that is too fast waits. */
export const streamOf = (body: AsyncIterable<Buffer>): Stream.Stream<Buffer, Failure> =>
  Stream.fromAsyncIterable(body, broken).pipe(Stream.timeoutFail(late, pieceMs))

/** The pieces of the body of a request. */
export const pieces = (request: IncomingMessage): Stream.Stream<Buffer, Failure> =>
  // The connection is still needed for the answer.
  streamOf(request.iterator({ destroyOnReturn: false }))

/** Waits for something that is read from a body. */
export const awaited = <A>(read: () => Promise<A>): Effect.Effect<A, Failure> =>
  Effect.timeoutFail(Effect.tryPromise({ try: read, catch: broken }), { duration: pieceMs, onTimeout: late })

/** The memory that bodies need. */
export class Bodies {
  private total = 0

  /** Reads a whole body, and gives its memory back once `use` is done. */
  readonly using = <A, E, R>(
    request: IncomingMessage,
    use: (body: Buffer) => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | Failure, R> =>
    Effect.suspend(() => {
      const kept: Array<Buffer> = []
      let size = 0
      const read = Stream.runForEach(pieces(request), (piece) => {
        size += piece.length
        this.total += piece.length
        kept.push(piece)
        if (size > maxBytes) return tooLong()
        return this.total > maxTotalBytes
          ? fail("resource_exhausted", "the bodies of other requests take all memory; try again later")
          : Effect.void
      }).pipe(
        Effect.timeoutFail({
          duration: wholeMs,
          onTimeout: () => fail("deadline_exceeded", `the body did not come within ${wholeMs / 1000} s`)
        }),
        Effect.map(() => Buffer.concat(kept.splice(0)))
      )
      return Effect.ensuring(
        Effect.flatMap(read, use),
        Effect.sync(() => {
          this.total -= size
        })
      )
    })
}
