/**
 * The HTTP exchanges of one connection: limits on their resources, and the bodies of streamed ones.
 *
 * Streams belong to the connection, not to the session: they cannot be resumed.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import type { Body, Response } from "../http/Exchange.js"
import { defaults, type Limits } from "../http/HttpLimits.js"
import { HttpFailed, InvalidParams, LimitReached } from "../protocol/Failure.js"
import { type HttpBodyDelta, type HttpRequestResult, maxBodyDeltaBytes } from "../protocol/HttpApi.js"
import { highWaterBytes, type Peer } from "./Peer.js"

/** An exchange that has not begun. It is aborted when its scope closes. */
type Run = Effect.Effect<Response, HttpFailed | InvalidParams, Scope.Scope>

const noBody = Buffer.alloc(0)

/** The destination of the chunks of streamed bodies. */
export interface Deltas {
  /** Sends one chunk. Its bytes must not change afterwards. */
  readonly send: (delta: HttpBodyDelta) => void
  /** The number of sent bytes that have not left this process. */
  readonly buffered: () => number
}

/** Sends chunks to a peer as JSON. */
export const toPeer = (peer: Pick<Peer, "send" | "buffered">): Deltas => ({
  // The base64 is built once, and needs no JSON escaping.
  send: ({ requestId, seq, deltaBase64, done, error }) =>
    peer.send(
      `{"method":"http/request/bodyDelta","params":{"requestId":${JSON.stringify(requestId)},"seq":${seq},"deltaBase64":"${deltaBase64.toString("base64")}","done":${done},"error":${JSON.stringify(error)}}}`
    ),
  buffered: peer.buffered
})

/** An exchange with a streamed body. */
interface Streamed {
  readonly scope: Scope.CloseableScope
  readonly cancelled: Deferred.Deferred<never, HttpFailed>
}

/** The exchanges of one connection. */
export class HttpExchanges {
  private readonly streams = new Map<string, Streamed>()
  private readonly paused = new Set<Body>()
  private underWay = 0
  private bufferedBytes = 0

  constructor(
    private readonly deltas: Deltas,
    private readonly limits: Pick<Limits, "maxHttpRequestsPerConnection" | "httpBufferBytesPerConnection">
  ) {}

  /** The streamed bodies that have not ended. */
  get open(): number {
    return this.streams.size
  }

  /** Runs an exchange to its end and returns the whole response. */
  buffer(run: Run): Effect.Effect<HttpRequestResult, HttpFailed | InvalidParams | LimitReached> {
    return Effect.scoped(
      Effect.gen(this, function* () {
        yield* this.slot
        const { status, headers, body } = yield* run
        return { status, headers, bodyBase64: yield* this.collect(body) }
      })
    )
  }

  /**
   * Runs an exchange until its headers arrived. Notifications deliver the body. The first one is sent after the current
   * fiber has ended, whose request is answered in the same turn.
   */
  stream(requestId: string, run: Run): Effect.Effect<HttpRequestResult, HttpFailed | InvalidParams | LimitReached> {
    return Effect.uninterruptibleMask((restore) =>
      Effect.gen(this, function* () {
        const streamed = { scope: yield* Scope.make(), cancelled: yield* Deferred.make<never, HttpFailed>() }
        if (this.streams.has(requestId)) {
          const message = `http/request streamResponse requestId \`${requestId}\` is already active`
          return yield* new InvalidParams({ message })
        }
        this.streams.set(requestId, streamed)
        const { status, headers, body } = yield* restore(
          Effect.raceFirst(Effect.zipRight(this.slot, run), Deferred.await(streamed.cancelled))
        ).pipe(
          Scope.extend(streamed.scope),
          Effect.onError(() => this.close(requestId))
        )
        yield* Effect.withFiberRuntime<void>((fiber) => {
          fiber.addObserver(() => queueMicrotask(() => this.deliver(requestId, streamed, body)))
          return Effect.void
        })
        return { status, headers, bodyBase64: noBody }
      })
    )
  }

  /** Ends a streamed exchange. Before its response, the exchange fails; of its body nothing more is sent. */
  cancel(requestId: string): Effect.Effect<void> {
    return Effect.suspend(() => {
      const streamed = this.streams.get(requestId)
      if (streamed === undefined) return Effect.void
      Deferred.unsafeDone(streamed.cancelled, new HttpFailed({ message: "http/request was cancelled" }))
      return this.close(requestId)
    })
  }

  /** The peer accepts data again: resumes paused bodies. */
  onDrain(): void {
    const held = Array.from(this.paused)
    this.paused.clear()
    for (const body of held) body.resume()
  }

  /** Aborts all streams at the end of the connection. */
  get end(): Effect.Effect<void> {
    return Effect.suspend(() =>
      this.streams.size === 0
        ? Effect.void
        : Effect.forEach(Array.from(this.streams.keys()), (id) => this.close(id), { discard: true })
    )
  }

  private close(requestId: string): Effect.Effect<void> {
    return Effect.suspend(() => {
      const streamed = this.streams.get(requestId)
      this.streams.delete(requestId)
      return streamed === undefined ? Effect.void : Scope.close(streamed.scope, Exit.void)
    })
  }

  /** One of the connection's limited exchanges, until the scope closes. */
  private readonly slot: Effect.Effect<void, LimitReached, Scope.Scope> = Effect.acquireRelease(
    Effect.suspend(() => {
      const { maxHttpRequestsPerConnection: value } = this.limits
      if (this.underWay >= value) {
        const advice = "wait for an exchange to end"
        return new LimitReached({ limit: "maxHttpRequestsPerConnection", value, advice })
      }
      this.underWay++
      return Effect.void
    }),
    () =>
      Effect.sync(() => {
        this.underWay--
      })
  )

  /** Pauses a body, streamed or not, while the peer is congested. */
  private throttle(body: Body): void {
    if (this.deltas.buffered() <= highWaterBytes) return
    this.paused.add(body)
    body.pause()
  }

  private collect(body: Body): Effect.Effect<Buffer, HttpFailed | LimitReached, Scope.Scope> {
    const { httpBufferBytesPerConnection: value } = this.limits
    // One growing buffer: a body may arrive in pieces of one byte, each with its own overhead.
    let bytes = noBody
    let length = 0
    const release = Effect.sync(() => {
      this.bufferedBytes -= length
      this.paused.delete(body)
    })
    const collected = Effect.async<Buffer, HttpFailed | LimitReached>((resume) =>
      body.listen({
        onData: (chunk) => {
          if (this.bufferedBytes + chunk.length > value) {
            body.pause()
            const advice = "ask for the response as a stream, or for fewer at a time"
            return resume(new LimitReached({ limit: "httpBufferBytesPerConnection", value, advice }))
          }
          if (length + chunk.length > bytes.length) {
            const grown = Buffer.allocUnsafe(Math.max(length + chunk.length, 2 * bytes.length))
            bytes.copy(grown, 0, 0, length)
            bytes = grown
          }
          chunk.copy(bytes, length)
          length += chunk.length
          this.bufferedBytes += chunk.length
          this.throttle(body)
        },
        onEnd: () => resume(Effect.succeed(bytes.subarray(0, length))),
        onError: (reason) => resume(new HttpFailed({ message: `failed to read http/request response body: ${reason}` }))
      })
    )
    return Effect.zipRight(
      Effect.addFinalizer(() => release),
      collected
    )
  }

  private deliver(requestId: string, streamed: Streamed, body: Body): void {
    // It may have been cancelled, or the connection may have ended, in the meantime.
    if (this.streams.get(requestId) !== streamed) return
    let seq = 0
    const send = (piece: Buffer) =>
      this.deltas.send({ requestId, seq: ++seq, deltaBase64: piece, done: false, error: null })
    const finish = (error: string | null) => {
      this.paused.delete(body)
      // The id is free before the client is notified of the end.
      Effect.runFork(this.close(requestId))
      this.deltas.send({ requestId, seq: ++seq, deltaBase64: noBody, done: true, error })
    }
    body.listen({
      onData: (chunk) => {
        for (let start = 0; start < chunk.length; start += maxBodyDeltaBytes) {
          send(chunk.subarray(start, start + maxBodyDeltaBytes))
        }
        this.throttle(body)
      },
      onEnd: () => finish(null),
      onError: finish
    })
  }
}

/** The exchanges of the current request's connection. Outside of a connection, streams are discarded. */
export class CurrentHttpExchanges extends Context.Reference<CurrentHttpExchanges>()(
  "exec-server/CurrentHttpExchanges",
  {
    defaultValue: () => new HttpExchanges({ send: () => {}, buffered: () => 0 }, defaults)
  }
) {}
