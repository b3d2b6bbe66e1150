/**
 * Credentials by AWS Signature Version 4: every request is signed by a secret that is not sent.
 *
 * @since 0.1.0
 */
import aws4 from "aws4"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as AwsKeys from "./AwsKeys.js"
import { RemoteAuth, type Shape } from "./RemoteAuth.js"

/** The length is not part of the signature: it follows from the body, which is. */
const unsigned = { "content-length": true } as const

/**
 * Signs the method, the URL, the headers and the body of each request.
 *
 * @category constructors
 */
export const make = (options: AwsKeys.Options): Shape => ({
  headers: ({ host, pathname, search }, { method, headers, body }) =>
    Effect.map(
      Effect.suspend(() => AwsKeys.resolve(options)),
      ({ credentials, region }) => {
        const { service } = options
        const request = {
          host,
          path: pathname + search,
          method,
          headers: { ...headers },
          service,
          region,
          extraHeadersToIgnore: unsigned,
          ...(body === undefined ? {} : { body })
        }
        const signed = aws4.sign(request, credentials).headers ?? {}
        return Object.fromEntries(
          ["Authorization", "X-Amz-Date", "X-Amz-Security-Token"].flatMap((name) =>
            signed[name] === undefined ? [] : [[name.toLowerCase(), String(signed[name])]]
          )
        )
      }
    )
})

/**
 * Credentials by signatures.
 *
 * @category layers
 */
export const layer = (options: AwsKeys.Options): Layer.Layer<RemoteAuth> => Layer.succeed(RemoteAuth, make(options))
