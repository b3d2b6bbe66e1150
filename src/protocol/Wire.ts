/**
 * The message envelope: parses and formats JSON-RPC 2.0 without the `jsonrpc` member, which is never sent and is
 * ignored when received (as in the original).
 *
 * @since 0.1.0
 */

import * as Brand from "effect/Brand"
import * as Either from "effect/Either"
import { isRecord } from "effect/Predicate"
import { maxIdBytes, textCheck } from "./Bounds.js"
import type { NotificationJson, NotificationMethod } from "./ExecNotifications.js"

/**
 * A request's id as JSON text: a string of at most 1 KiB, or a signed 64-bit integer, which exceeds a JavaScript
 * number.
 *
 * @category models
 */
export type RequestId = string & Brand.Brand<"RequestId">
const RequestId = Brand.nominal<RequestId>()

/**
 * The id of the response to a malformed message (May, current).
 *
 * @category constants
 */
export const malformedId = RequestId("-1")

/**
 * The W3C trace context of a request. It does not affect the response.
 *
 * @category models
 */
export interface Trace {
  readonly traceparent?: string
  readonly tracestate?: string
}

/**
 * A message from a peer.
 *
 * @category models
 */
export type Message =
  | {
      readonly _tag: "Request"
      readonly id: RequestId
      readonly method: string
      readonly params: unknown
      readonly trace: Trace | undefined
    }
  | { readonly _tag: "Notification"; readonly method: string; readonly params: unknown }
  | { readonly _tag: "Response"; readonly id: RequestId; readonly body: ResponseBody }
  | { readonly _tag: "Malformed"; readonly detail: string }

/**
 * The outcome in a response: a result or an error.
 *
 * @category models
 */
export type ResponseBody =
  | { readonly _tag: "Result"; readonly result: unknown }
  | { readonly _tag: "Error"; readonly code: number; readonly message: string }

/**
 * The deepest nesting accepted. The protocol needs far less, and a message of brackets alone costs much memory.
 *
 * @category constants
 */
export const maxDepth = 64

/**
 * The most values of a message: members, elements, lists and objects. The longest responses have fewer than three
 * million. A value may take thirty times the memory of its text.
 *
 * @category constants
 */
export const maxValues = 8_000_000

/**
 * The most values of a message to a server, which serves others meanwhile: parsing this many takes less than a second.
 * The arguments and the environment of a start are at most 233,000.
 *
 * @category constants
 */
export const maxRequestValues = 500_000

const i64 = { min: -(2n ** 63n), max: 2n ** 63n - 1n }

const malformed = (detail: string): Message => ({ _tag: "Malformed", detail })

/** The index after the closing quotation mark of the string that begins at `start`. */
const stringEnd = (text: string, start: number): number => {
  let end = text.indexOf('"', start + 1)
  for (; end !== -1; end = text.indexOf('"', end + 1)) {
    let slashes = 0
    while (text[end - 1 - slashes] === "\\") slashes++
    if (slashes % 2 === 0) return end + 1
  }
  return text.length
}

const code = {
  quote: 0x22,
  comma: 0x2c,
  openBracket: 0x5b,
  closeBracket: 0x5d,
  openBrace: 0x7b,
  closeBrace: 0x7d
} as const

/**
 * Why a message is not parsed: it nests too deep, or has too many values. Scans the text without allocating.
 *
 * @category utilities
 */
export const excessOf = (text: string, maxValues: number): string | undefined => {
  if (text.length <= maxDepth) return undefined
  let depth = 0
  let values = 0
  for (let i = 0; i < text.length; i++) {
    switch (text.charCodeAt(i)) {
      case code.quote:
        i = stringEnd(text, i) - 1
        break
      case code.openBracket:
      case code.openBrace:
        if (++depth > maxDepth) return `recursion limit exceeded: nested deeper than ${maxDepth}`
        values++
        break
      case code.comma:
        values++
        break
      case code.closeBracket:
      case code.closeBrace:
        depth--
    }
  }
  return values > maxValues ? `the message has ${values} values; the limit is ${maxValues}` : undefined
}

const idNumber = /\s*:\s*(-?\d+)\s*[,}]/y

/** The digits of the top-level integer `id` in the text of valid JSON; undefined if it is no integer. */
const idDigits = (text: string): string | undefined => {
  let depth = 0
  let digits: string | undefined
  for (let i = 0; i < text.length; i++) {
    const character = text[i]
    if (character === "{" || character === "[") depth++
    else if (character === "}" || character === "]") depth--
    else if (character === '"') {
      const end = stringEnd(text, i)
      if (depth === 1 && text.slice(i, end) === '"id"') {
        idNumber.lastIndex = end
        const found = idNumber.exec(text)
        // Of several ids the last one wins, as in JSON.parse. The string "id" as a value is not followed by a colon.
        if (found !== null || /^\s*:/.test(text.slice(end, end + 16))) digits = found?.[1]
      }
      i = end - 1
    }
  }
  return digits
}

/** The usual position of the id, first in the message; then the text need not be searched. */
const leadingId = /^\{\s*(?:"jsonrpc"\s*:\s*"2.0"\s*,\s*)?"id"\s*:\s*-?\d+\s*[,}]/

const idCheck = textCheck(maxIdBytes)

/** The id, or what is wrong with it. */
const parseId = (id: unknown, text: string): Either.Either<RequestId, string> => {
  const excess = idCheck(id, "id")
  if (excess !== undefined) return Either.left(excess)
  const found = typeof id === "string" ? RequestId(JSON.stringify(id)) : integerId(id, text)
  return found === undefined ? Either.left("`id` must be a string or a 64-bit integer") : Either.right(found)
}

const integerId = (id: unknown, text: string): RequestId | undefined => {
  if (typeof id !== "number" || !Number.isInteger(id)) return undefined
  if (Number.isSafeInteger(id) && leadingId.test(text)) return RequestId(String(id))
  const digits = idDigits(text)
  if (digits === undefined) return undefined
  const exact = BigInt(digits)
  return exact >= i64.min && exact <= i64.max ? RequestId(String(exact)) : undefined
}

const parseResponse = (message: Record<string, unknown>, text: string): Message => {
  if (!("id" in message)) return malformed("missing field `id`")
  const parsed = parseId(message["id"], text)
  if (Either.isLeft(parsed)) return malformed(parsed.left)
  const id = parsed.right
  if ("error" in message) {
    const error = message["error"]
    return isRecord(error) && typeof error["code"] === "number" && typeof error["message"] === "string"
      ? { _tag: "Response", id, body: { _tag: "Error", code: error["code"], message: error["message"] } }
      : malformed("`error` must be an object with `code` and `message`")
  }
  return { _tag: "Response", id, body: { _tag: "Result", result: message["result"] } }
}

/**
 * Parses one message, of at most `limit` values. Never throws: invalid text becomes `Malformed`, with a sentence that
 * says why.
 *
 * @category codecs
 */
export const parse = (text: string, limit: number = maxValues): Message => {
  const excess = excessOf(text, limit)
  if (excess !== undefined) return malformed(excess)
  let message: unknown
  try {
    message = JSON.parse(text)
  } catch (error) {
    return malformed(text.trim() === "" ? "EOF while parsing a value: the message is empty" : String(error))
  }
  if (!isRecord(message)) return malformed("expected a JSON-RPC object")
  const method = message["method"]
  if (method === undefined) {
    return "result" in message || "error" in message
      ? parseResponse(message, text)
      : malformed("missing field `method`, `result` or `error`")
  }
  if (typeof method !== "string") return malformed("`method` must be a string")
  if (!("id" in message)) return { _tag: "Notification", method, params: message["params"] }
  const id = parseId(message["id"], text)
  if (Either.isLeft(id)) return malformed(id.left)
  const trace = message["trace"] ?? undefined
  if (trace !== undefined && !isRecord(trace)) return malformed("`trace` must be an object")
  return { _tag: "Request", id: id.right, method, params: message["params"], trace }
}

/**
 * Formats a response with a result.
 *
 * @category codecs
 */
export const success = (id: RequestId, result: unknown): string => `{"id":${id},"result":${JSON.stringify(result)}}`

/**
 * Formats a response with a result except for one string member: its value, which must need no escapes, goes between
 * `head` and `tail`. A large value is then sent in parts.
 *
 * @category codecs
 */
export const successAround = (
  id: RequestId,
  result: { readonly [name: string]: unknown },
  name: string
): { readonly head: string; readonly tail: string } => {
  const { [name]: _, ...rest } = result
  const before = JSON.stringify(rest).slice(0, -1)
  return { head: `{"id":${id},"result":${before}${before === "{" ? "" : ","}${JSON.stringify(name)}:"`, tail: '"}}' }
}

/**
 * Formats a response with an error.
 *
 * @category codecs
 */
export const failure = (id: RequestId, code: number, message: string): string =>
  `{"error":{"code":${code},"message":${JSON.stringify(message)}},"id":${id}}`

/**
 * Formats a notification.
 *
 * @category codecs
 */
export const notification = <M extends NotificationMethod>(method: M, params: NotificationJson<M>): string =>
  `{"method":${JSON.stringify(method)},"params":${JSON.stringify(params)}}`
