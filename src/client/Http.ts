/**
 * HTTP requests from the server's machine, with buffered or streamed response bodies.
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
import { need, needHttp } from "./ServerFeatures.js"

/** The most unread bytes of a streamed body; beyond it the stream fails. */
const maxQueuedBytes = 16777216

type HttpParams = Params<"http/request">

/**
 * A request.
 *
 * @category models
 */
export interface Options
  extends Partial<Pick<HttpParams, "method" | "headers" | "bodyBase64" | "timeoutMs" | "redirectPolicy">> {
  /** An absolute `http` or `https` URL. */
  readonly url: string
}

/**
 * A response, whatever its status. Header names are in lower case; the body is not decoded.
 *
 * @category models
 */
export interface Response<Body> {
  readonly status: number
  readonly headers: ReadonlyArray<HttpHeader>
  readonly body: Body
}

/**
 * The HTTP operations of a client.
 *
 * @category models
 */
export interface Http {
  /** Sends a request; returns the complete response. */
  readonly request: (options: Options) => Effect.Effect<Response<Buffer>, ClientError>
  /**
   * Sends a request; returns the response once its headers have arrived. The body can be read once, while the scope is
   * open. It fails if it is incomplete, if the connection is lost, or if more than 16 MiB of it are unread. The end of
   * the scope ends the exchange; servers of codex receive the rest of the body for nobody.
   */
  readonly stream: (
    options: Options
  ) => Effect.Effect<Response<Stream.Stream<Buffer, ClientError | BodyBroken>>, ClientError, Scope.Scope>
}

type Piece = Take.Take<Buffer, ClientError | BodyBroken>

/** The buffer of one streamed body, between its notifications and its reader. */
class Body {
  readonly queue: Queue.Queue<Piece> = Effect.runSync(Queue.unbounded<Piece>())
  private seq = 0
  private queuedBytes = 0
  private over = false

  get isOver(): boolean {
    return this.over
  }

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

  /** Adds a piece; returns how the body ended, if this is the last one. */
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

/**
 * Makes the HTTP operations of a session.
 *
 * @category constructors
 */
export const make = (session: ClientSession): Effect.Effect<Http> =>
  Effect.sync(() => {
    const bodies = new Map<string, Body>()
    let nextId = 1

    session.subscribe("http/request/bodyDelta", (delta) => {
      bodies.get(delta.requestId)?.accept(delta)
    })
    session.watch((state) => {
      // Streams belong to a connection: they do not survive a reconnect.
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

    /** Fails if the server makes no HTTP requests, or would silently ignore an option. */
    const check = ({ redirectPolicy, headers = [] }: Options) =>
      Effect.all(
        [
          needHttp(features),
          need(features, features.redirectPolicy || redirectPolicy !== "stop", "leave redirects to the client"),
          need(
            features,
            features.headerVariables || headers.every(({ valueEnvVar }) => valueEnvVar === undefined),
            "take a header's value from its environment (valueEnvVar)"
          )
        ],
        { discard: true }
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
            // Register before the request: the first piece may directly follow the response.
            bodies.set(requestId, body)
            return body
          }),
          (body) =>
            Effect.suspend(() => {
              bodies.delete(requestId)
              const isCancellable = features.extensions && session.state()._tag === "Connected"
              return Effect.zipRight(
                Queue.shutdown(body.queue),
                body.isOver || !isCancellable ? Effect.void : Effect.ignore(session.call("http/cancel", { requestId }))
              )
            })
        )
        const { status, headers } = yield* Effect.tapError(answer, (error) =>
          Effect.sync(() => body.end(Take.fail(error)))
        )
        return { status, headers, body: body.stream }
      }).pipe(Effect.withSpan("ExecClient.http.stream"))

    return { request, stream } satisfies Http
  })
