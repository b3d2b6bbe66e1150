/**
 * What a redirect makes of a request: the rules of the Fetch standard, and a `referer`.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import * as Either from "effect/Either"
import type { Header, HttpRequest } from "./HttpRequest.js"

/** How many redirects of one exchange are followed (the original's number). */
export const maxRedirects = 10

const statuses: ReadonlySet<number> = new Set([301, 302, 303, 307, 308])

/** Headers that are dropped when a redirect leads to another origin. */
const credentials: ReadonlySet<string> = new Set([
  "authorization",
  "cookie",
  "cookie2",
  "host",
  "proxy-authorization",
  "www-authenticate"
])

/** Headers that are dropped with the body. */
const ofBody: ReadonlySet<string> = new Set([
  "content-encoding",
  "content-language",
  "content-location",
  "content-type",
  "expect"
])

const dropsBody = (method: string, status: number) =>
  status === 303 ? method !== "GET" && method !== "HEAD" : (status === 301 || status === 302) && method === "POST"

/** The `referer` that the next server gets; none after a downgrade from https to http. */
const referer = (from: URL, to: URL): ReadonlyArray<Header> => {
  if (from.protocol === "https:" && to.protocol === "http:") return []
  return [{ name: "referer", value: from.origin === to.origin ? from.href : `${from.origin}/`, secret: false }]
}

/**
 * The request that follows a response: undefined if the response is the last one, a failure if it leads nowhere that
 * could be asked. `followed` counts the redirects before this one.
 */
export const next = (
  request: HttpRequest,
  status: number,
  location: string | undefined,
  followed: number
): Either.Either<HttpRequest | undefined, "error following redirect"> => {
  if (request.redirectPolicy === "stop" || !statuses.has(status) || location === undefined) {
    return Either.right(undefined)
  }
  // Header values come as one character a byte; the bytes are UTF-8 where they are not ASCII.
  const target = Buffer.from(location, "latin1").toString()
  if (!URL.canParse(target, request.url.href)) return Either.right(undefined)
  const url = new URL(target, request.url.href)
  if (followed >= maxRedirects || (url.protocol !== "http:" && url.protocol !== "https:")) {
    return Either.left("error following redirect")
  }
  url.username = ""
  url.password = ""
  url.hash = ""
  const crosses = url.origin !== request.url.origin
  const bodiless = dropsBody(request.method, status)
  const kept = request.headers.filter(
    ({ name, secret }) =>
      name !== "referer" && !(crosses && (secret || credentials.has(name))) && !(bodiless && ofBody.has(name))
  )
  return Either.right({
    ...request,
    url,
    method: bodiless ? "GET" : request.method,
    body: bodiless ? undefined : request.body,
    headers: [...referer(request.url, url), ...kept]
  })
}
