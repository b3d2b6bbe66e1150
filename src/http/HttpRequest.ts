/**
 * Checks requests before they are sent, and inserts environment variables into their headers.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import * as Either from "effect/Either"
import { isServerSecret } from "../internal/ServerSecrets.js"
import { InvalidParams } from "../protocol/Failure.js"
import type { HttpRequestParams } from "../protocol/HttpApi.js"

/**
 * A header to send.
 *
 * @category models
 */
export interface Header {
  /** In lower case. */
  readonly name: string
  /** UTF-8 bytes, one per character. */
  readonly value: string
  /** Contains a variable of the server's environment: a redirect to another origin drops it. */
  readonly secret: boolean
}

/**
 * A request that can be sent.
 *
 * @category models
 */
export interface HttpRequest {
  readonly method: string
  /** Without user name, password and fragment. */
  readonly url: URL
  readonly headers: ReadonlyArray<Header>
  readonly body: Buffer | undefined
  /** The deadline of the whole exchange, in milliseconds. */
  readonly timeoutMs: number | undefined
  readonly redirectPolicy: "follow" | "stop"
}

/**
 * Variables for headers and proxies.
 *
 * @category models
 */
export interface Environment {
  readonly [name: string]: string | undefined
}

/** A token of RFC 9110: a method or the name of a header. */
const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/

// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not be in a header
const control = /[\0-\x08\x0a-\x1f\x7f]/

/** Framing headers are set here: a wrong one from a client would corrupt the next request of the connection. */
const framing: ReadonlySet<string> = new Set(["content-length", "trailer", "transfer-encoding"])

const asBytes = (text: string) => Buffer.from(text).toString("latin1")

/** Why a URL is invalid, as the original says it. */
const urlFault = (text: string): string => {
  const trimmed = text.trim()
  if (!/^[A-Za-z][A-Za-z0-9+.-]*:/.test(trimmed)) return "relative URL without a base"
  const authority = /^[^:]*:[\\/]*([^\\/?#]*)/.exec(trimmed)?.[1] ?? ""
  const [, host = "", port = ""] = /^(?:.*@)?(\[[^\]]*\]?|[^:]*)(?::(.*))?$/s.exec(authority) ?? []
  if (host === "") return "empty host"
  if (!/^\d*$/.test(port) || Number(port) > 65535) return "invalid port number"
  if (host.startsWith("[")) return "invalid IPv6 address"
  return /(^|\.)(\d+|0x[0-9a-f]*)\.?$/i.test(host) ? "invalid IPv4 address" : "invalid international domain name"
}

const parseUrl = (text: string): Either.Either<URL, string> => {
  if (!URL.canParse(text)) return Either.left(`http/request url is invalid: ${urlFault(text)}`)
  const url = new URL(text)
  return url.protocol === "http:" || url.protocol === "https:"
    ? Either.right(url)
    : Either.left(`http/request only supports http and https URLs, got ${url.protocol.slice(0, -1)}`)
}

/** Decodes percent-encoding to one character per byte. Invalid encodings stay unchanged. */
const decoded = (text: string): string =>
  text.replace(/%([0-9a-f]{2})/gi, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 16)))

/**
 * The `authorization` header for the user name and password of a URL.
 *
 * @category utilities
 */
export const basicAuthorization = ({ username, password }: URL): string =>
  `Basic ${Buffer.from(`${decoded(username)}:${decoded(password)}`, "latin1").toString("base64")}`

/**
 * Checks a request, in the order of its members. Failures have the original's texts. Headers may name the `allowed` variables; by
 * default, all but the server's own secrets.
 *
 * @category constructors
 */
export const fromParams = (
  params: HttpRequestParams,
  environment: Environment,
  allowed?: ReadonlyArray<string> | undefined
): Either.Either<HttpRequest, InvalidParams> => {
  const refuse = (message: string) => Either.left(new InvalidParams({ message }))
  if (!token.test(params.method)) return refuse("http/request method is invalid: invalid HTTP method")
  const parsed = parseUrl(params.url)
  if (Either.isLeft(parsed)) return refuse(parsed.left)
  const url = parsed.right
  const headers: Array<Header> = []
  for (const { name, value, valueEnvVar } of params.headers) {
    if (!token.test(name)) return refuse("http/request header name is invalid: invalid HTTP header name")
    if (valueEnvVar !== undefined && isServerSecret(valueEnvVar)) {
      return refuse(
        `http/request header ${name} names ${valueEnvVar}, which may hold a secret of the server itself; ` +
          "give the value under another name"
      )
    }
    if (valueEnvVar !== undefined && allowed !== undefined && !allowed.includes(valueEnvVar)) {
      return refuse(
        `http/request header ${name} names the variable ${valueEnvVar}, which httpEnvAllow does not allow; ` +
          "add it to that setting of the server, or send the value itself"
      )
    }
    const variable = valueEnvVar === undefined ? "" : environment[valueEnvVar]
    if (variable === undefined) {
      return refuse(`http/request header ${name} requires executor environment variable ${valueEnvVar}`)
    }
    if (control.test(value + variable)) {
      return refuse(`http/request header value is invalid for ${name}: failed to parse header value`)
    }
    const lower = name.toLowerCase()
    if (framing.has(lower)) continue
    headers.push({ name: lower, value: asBytes(value + variable), secret: valueEnvVar !== undefined })
  }
  const has = (wanted: string) => headers.some(({ name }) => name === wanted)
  if ((url.username !== "" || url.password !== "") && !has("authorization")) {
    headers.push({ name: "authorization", value: basicAuthorization(url), secret: false })
  }
  if (!has("accept")) headers.push({ name: "accept", value: "*/*", secret: false })
  url.username = ""
  url.password = ""
  url.hash = ""
  return Either.right({
    method: params.method,
    url,
    headers,
    body: params.bodyBase64,
    timeoutMs: params.timeoutMs,
    redirectPolicy: params.redirectPolicy
  })
}
