/**
 * HTTP requests made where the server runs: whole responses, and bodies as streams.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Take from "effect/Take"
import { type HttpBodyDelta, type HttpHeader, maxBodyDeltaBytes } from "../protocol/HttpApi.js"
import type { Params } from "./Api.js"
import { BodyBroken, type ClientError, ProtocolViolation } from "./ClientError.js"
import type { ClientSession } from "./ClientSession.js"
import { need } from "./ServerFeatures.js"

/** Bytes of one streamed body that wait for their reader; beyond it the stream fails. */
const maxQueuedBytes = 16777216

type HttpParams = Params<"http/request">

/** What to ask for. */
export interface Options
  extends Partial<Pick<HttpParams, "method" | "headers" | "bodyBase64" | "timeoutMs" | "redirectPolicy">> {
  /** An absolute `http` or `https` URL. */
  readonly url: string
}

/** A response, whatever its status. Header names are in lower case; the body is not decoded. */
export interface Response<Body> {
  readonly status: number
  readonly headers: ReadonlyArray<HttpHeader>
  readonly body: Body
}

/** The HTTP side of a client. */
export interface Http {
  /** Makes a request, and gives the whole response. */
  readonly request: (options: Options) => Effect.Effect<Response<Buffer>, ClientError>
  /**
   * Makes a request, and gives the response when its headers are there. The body can be read once, while the scope is
   * open. It fails when it is not whole, when the connection is lost, and when 16 MiB of it wait to be read.
   */
  readonly stream: (
    options: Options
  ) => Effect.Effect<Response<Stream.Stream<Buffer, ClientError | BodyBroken>>, ClientError, Scope.Scope>
}

type Piece = Take.Take<Buffer, ClientError | BodyBroken>

/** The way of one body from notifications to its reader. */
class Body {
  readonly queue: Queue.Queue<Piece> = Effect.runSync(Queue.unbounded<Piece>())
  private seq = 0
  private queuedBytes = 0
  private over = false

  constructor(private readonly requestId: string) {}

  accept(delta: HttpBodyDelta): void {
    const last = this.take(delta)
    if (last !== undefined) this.end(last)
  }

  end(last: Piece): void {
    this.offer(last)
    this.over = true
  }

  readonly stream = Stream.fromQueue(this.queue).pipe(
    Stream.flattenTake,
    Stream.tap((piece) =>
      Effect.sync(() => {
        this.queuedBytes -= piece.length
      })
    )
  )

  /** Takes a piece; gives the end of the body, if this is it. */
  private take({ seq, deltaBase64: piece, done, error }: HttpBodyDelta): Piece | undefined {
    const { requestId } = this
    const expected = ++this.seq
    const violation = (detail: string) => Take.fail(new ProtocolViolation({ detail }))
    const broken = (reason: string) => Take.fail(new BodyBroken({ requestId, reason }))
    if (seq !== expected) {
      return violation(`http response stream \`${requestId}\` received seq ${seq}, expected ${expected}`)
    }
    if (piece.length > maxBodyDeltaBytes)
      return violation(`http response body delta exceeds ${maxBodyDeltaBytes} bytes`)
    if (this.queuedBytes + piece.length > maxQueuedBytes) return broken("body delta channel filled before delivery")
    this.queuedBytes += piece.length
    if (piece.length > 0) this.offer(Take.of(piece))
    if (error !== null) return broken(error)
    return done ? Take.end : undefined
  }

  private offer(piece: Piece): void {
    if (!this.over) Queue.unsafeOffer(this.queue, piece)
  }
}

/** The HTTP side of a session. */
export const make = (session: ClientSession): Effect.Effect<Http> =>
  Effect.sync(() => {
    const bodies = new Map<string, Body>()
    let nextId = 1

    session.subscribe("http/request/bodyDelta", (delta) => {
      bodies.get(delta.requestId)?.accept(delta)
    })
    session.watch((state) => {
      // Streams belong to the connection: the next one knows nothing of them.
      const error = state._tag === "Recovering" ? state.disconnect : state._tag === "Ended" ? state.error : undefined
      if (error !== undefined) for (const body of bodies.values()) body.end(Take.fail(error))
    })

    const send = (
      { url, method = "GET", headers = [], redirectPolicy = "follow", ...others }: Options,
      stream: boolean
    ) => {
      const requestId = `http-${nextId++}`
      const params = { ...others, method, url, headers, redirectPolicy, requestId, streamResponse: stream }
      return { requestId, answer: session.ask("http/request", params) }
    }

    const { features } = session

    /** What a server would leave out without a word. */
    const check = ({ redirectPolicy, headers = [] }: Options) =>
      Effect.zipRight(
        need(features, features.redirectPolicy || redirectPolicy !== "stop", "leave redirects to the client"),
        need(
          features,
          features.headerVariables || headers.every(({ valueEnvVar }) => valueEnvVar === undefined),
          "take a header's value from its environment (valueEnvVar)"
        )
      )

    const request = (options: Options) =>
      Effect.zipRight(
        check(options),
        Effect.suspend(() => send(options, false).answer)
      ).pipe(
        Effect.map(({ bodyBase64, ...response }) => ({ ...response, body: bodyBase64 })),
        Effect.withSpan("ExecClient.http.request")
      )

    const stream = (options: Options) =>
      Effect.gen(function* () {
        yield* check(options)
        const { requestId, answer } = send(options, true)
        const body = yield* Effect.acquireRelease(
          Effect.sync(() => {
            const body = new Body(requestId)
            // Before it is asked for: the first piece may come right behind the answer.
            bodies.set(requestId, body)
            return body
          }),
          (body) =>
            Effect.suspend(() => {
              bodies.delete(requestId)
              return Queue.shutdown(body.queue)
            })
        )
        const { status, headers } = yield* answer
        return { status, headers, body: body.stream }
      }).pipe(Effect.withSpan("ExecClient.http.stream"))

    return { request, stream } satisfies Http
  })
