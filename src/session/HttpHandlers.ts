/**
 * The handlers of HTTP requests.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { HttpLimits } from "../http/HttpLimits.js"
import * as HttpRequest from "../http/HttpRequest.js"
import { HttpRunner } from "../http/HttpRunner.js"
import { HttpApi } from "../protocol/HttpApi.js"
import { CurrentHttpExchanges } from "./HttpExchanges.js"

/** The handlers, for the layer of all handlers. */
export const make = Effect.gen(function* () {
  const { run } = yield* HttpRunner
  const { httpEnvAllow } = yield* HttpLimits
  return HttpApi.of({
    "http/request": (params) =>
      Effect.gen(function* () {
        const exchanges = yield* CurrentHttpExchanges
        const response = Effect.flatMap(HttpRequest.fromParams(params, process.env, httpEnvAllow), run)
        return yield* params.streamResponse ? exchanges.stream(params.requestId, response) : exchanges.buffer(response)
      }),
    "http/cancel": ({ requestId }) =>
      Effect.flatMap(CurrentHttpExchanges, (exchanges) => Effect.as(exchanges.cancel(requestId), {}))
  })
})
