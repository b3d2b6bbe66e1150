/**
 * Makes HTTP requests. A mock is one line: `Layer.succeed(HttpRunner, { run: () => Effect.succeed(text(200, "ok")) })`.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { HttpFailed } from "../protocol/Failure.js"
import { Exchange, type Response } from "./Exchange.js"
import type { HttpRequest } from "./HttpRequest.js"
import { ProxyRoutes } from "./ProxyRoutes.js"

/**
 * Makes requests.
 *
 * @category models
 */
export interface Shape {
  /**
   * Sends a request, follows redirects, and succeeds when the headers of the response have arrived. The body is read
   * while it is listened to. When the scope closes, the exchange is aborted.
   */
  readonly run: (request: HttpRequest) => Effect.Effect<Response, HttpFailed, Scope.Scope>
}

const make = Effect.gen(function* () {
  const routes = yield* Effect.acquireRelease(
    Effect.sync(() => new ProxyRoutes(process.env)),
    (routes) => Effect.sync(() => routes.destroy())
  )
  const run = (request: HttpRequest) =>
    Effect.acquireRelease(
      Effect.sync(() => new Exchange(request, routes)),
      (exchange) => Effect.sync(() => exchange.abort())
    ).pipe(
      Effect.flatMap((exchange) =>
        Effect.async<Response, HttpFailed>((resume) =>
          exchange.start({
            onResponse: (response) => resume(Effect.succeed(response)),
            onError: (reason) => resume(new HttpFailed({ message: `http/request failed: ${reason}` }))
          })
        )
      ),
      Effect.withSpan("HttpRunner.run", { captureStackTrace: false })
    )
  return { run } satisfies Shape
})

/**
 * The service that makes HTTP requests.
 *
 * @category tags
 */
export class HttpRunner extends Context.Tag("exec-server/HttpRunner")<HttpRunner, Shape>() {
  /** Makes requests on the network, through the proxies in the server's environment. */
  static readonly layer: Layer.Layer<HttpRunner> = Layer.scoped(HttpRunner, make)
}

/**
 * A response with a complete body, for mocks.
 *
 * @category utilities
 */
export const text = (status: number, body: string, headers: Response["headers"] = []): Response => ({
  status,
  headers,
  body: {
    listen: ({ onData, onEnd }) => {
      onData(Buffer.from(body))
      onEnd()
    },
    pause: () => {},
    resume: () => {}
  }
})

/**
 * Makes requests on the network, through the proxies in the server's environment.
 *
 * @category layers
 */
export const layer: Layer.Layer<HttpRunner> = HttpRunner.layer
