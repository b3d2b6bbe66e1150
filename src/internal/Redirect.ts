/**
 * Derives the next request from a redirect: the rules of the Fetch standard, plus a `referer`.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import * as Either from "effect/Either"

/** A header of a request, its name in lower case. `secret`: a redirect to another origin drops it. */
interface Header {
  readonly name: string
  readonly value: string
  readonly secret: boolean
}

/** What a redirect changes of a request. */
export interface Redirectable {
  readonly method: string
  readonly url: URL
  readonly headers: ReadonlyArray<Header>
  readonly body: Buffer | undefined
}

/** The most redirects of one exchange, as in the original. */
const maxRedirects = 10

const statuses: ReadonlySet<number> = new Set([301, 302, 303, 307, 308])

/** Headers dropped on a redirect to another origin. */
const credentials: ReadonlySet<string> = new Set([
  "authorization",
  "cookie",
  "cookie2",
  "host",
  "proxy-authorization",
  "www-authenticate"
])

/** Headers dropped together with the body. */
const ofBody: ReadonlySet<string> = new Set([
  "content-encoding",
  "content-language",
  "content-location",
  "content-type",
  "expect"
])

const dropsBody = (method: string, status: number) =>
  status === 303 ? method !== "GET" && method !== "HEAD" : (status === 301 || status === 302) && method === "POST"

/** The `referer` for the next server; none after a downgrade from https to http. */
const referer = (from: URL, to: URL): ReadonlyArray<Header> => {
  if (from.protocol === "https:" && to.protocol === "http:") return []
  return [{ name: "referer", value: from.origin === to.origin ? from.href : `${from.origin}/`, secret: false }]
}

/**
 * The request that follows a response. Undefined if there is no redirect; a failure if the redirect cannot be followed.
 * `followed` counts the previous redirects.
 */
export const next = <Request extends Redirectable>(
  request: Request,
  status: number,
  location: string | undefined,
  followed: number
): Either.Either<Request | undefined, "error following redirect"> => {
  if (!statuses.has(status) || location === undefined) return Either.right(undefined)
  // Header values have one character per byte; non-ASCII ones are UTF-8.
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
