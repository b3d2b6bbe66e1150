/**
 * HTTP requests without a network: the test supplies the responses, and every request is recorded.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import type { BodyEvents, Response } from "../http/Exchange.js"
import type { HttpRequest } from "../http/HttpRequest.js"
import { HttpRunner } from "../http/HttpRunner.js"
import { HttpFailed } from "../protocol/Failure.js"

/**
 * A piece of a body. `after` is the delay since the previous piece.
 *
 * @category models
 */
export interface Piece {
  readonly after?: Duration.DurationInput
  readonly bytes: string | Buffer
}

/**
 * The response to a request, or its failure.
 *
 * @category models
 */
export interface Answer {
  readonly status?: number
  readonly headers?: Response["headers"]
  /** The delay before the headers. */
  readonly after?: Duration.DurationInput
  readonly body?: string | ReadonlyArray<Piece>
  /** Fails the request with this reason instead of a response. */
  readonly failure?: string
  /** Breaks the body off with this reason instead of ending it. */
  readonly breaksWith?: string
}

/**
 * Answers a request. With undefined the request fails.
 *
 * @category models
 */
export type Routes = (request: HttpRequest) => Answer | undefined

const piecesOf = (body: Answer["body"]): ReadonlyArray<Piece> =>
  typeof body === "string" ? [{ bytes: body }] : (body ?? [])

type Run = (effect: Effect.Effect<void>) => unknown

/** Reports a body piece by piece. Pieces that fall due during a pause are reported on `resume`. */
const bodyOf = ({ body, breaksWith }: Answer, run: Run): Response["body"] => {
  let paused = false
  let waiting: Array<() => void> = []
  const report = (event: () => void) => {
    if (paused) waiting.push(event)
    else event()
  }
  const play = (events: BodyEvents) =>
    Effect.gen(function* () {
      for (const { after = 0, bytes } of piecesOf(body)) {
        if (Duration.greaterThan(after, 0)) yield* Effect.sleep(after)
        report(() => events.onData(Buffer.from(bytes)))
      }
      report(() => (breaksWith === undefined ? events.onEnd() : events.onError(breaksWith)))
    })
  return {
    listen: (events) => void run(play(events)),
    pause: () => {
      paused = true
    },
    resume: () => {
      paused = false
      const due = waiting
      waiting = []
      for (const event of due) report(event)
    }
  }
}

const runner = (routes: Routes, requests: Array<HttpRequest>): HttpRunner["Type"] => ({
  run: (request) =>
    Effect.gen(function* () {
      requests.push(request)
      const answer = routes(request)
      if (answer === undefined) {
        return yield* new HttpFailed({ message: `http/request failed: no answer to ${request.method} ${request.url}` })
      }
      const { status = 200, headers = [], after = 0, failure } = answer
      if (Duration.greaterThan(after, 0)) yield* Effect.sleep(after)
      if (failure !== undefined) return yield* new HttpFailed({ message: `http/request failed: ${failure}` })
      return { status, headers, body: bodyOf(answer, yield* FiberSet.makeRuntime<never>()) }
    })
})

/**
 * The test's view of the requests.
 *
 * @category tags
 */
export class ScriptedHttp extends Context.Tag("exec-server/testing/ScriptedHttp")<
  ScriptedHttp,
  {
    /** Every request, in order. */
    readonly requests: ReadonlyArray<HttpRequest>
  }
>() {
  /** Requests answered by routes; redirects are not followed. */
  static readonly layer = (routes: Routes): Layer.Layer<ScriptedHttp | HttpRunner> =>
    Layer.effectContext(
      Effect.sync(() => {
        const requests: Array<HttpRequest> = []
        return Context.make(ScriptedHttp, { requests }).pipe(Context.add(HttpRunner, runner(routes, requests)))
      })
    )
}

/**
 * Requests answered by routes; redirects are not followed.
 *
 * @category layers
 * @example
 * ScriptedHttp.layer(({ url }) => (url.pathname === "/slow" ? { after: "1 second", body: "ok" } : undefined))
 */
export const layer: (routes: Routes) => Layer.Layer<ScriptedHttp | HttpRunner> = ScriptedHttp.layer
