/**
 * The envelope: text to message and message to text. The shape of JSON-RPC 2.0 without the `jsonrpc` member, which
 * is never sent and ignored when it comes.
 *
 * @since 0.1.0
 */

import * as Brand from "effect/Brand"
import { isRecord } from "effect/Predicate"
import type { NotificationJson, NotificationMethod } from "./ExecNotifications.js"

/** The JSON text of a request's id: a string, or a signed 64-bit integer that is echoed digit for digit. */
export type RequestId = string & Brand.Brand<"RequestId">
const RequestId = Brand.nominal<RequestId>()

/** The id under which a message that could not be understood is answered (May and now). */
export const malformedId = RequestId("-1")

/** W3C trace context of a request; optional, and of no effect on the answer. */
export interface Trace {
  readonly traceparent?: string
  readonly tracestate?: string
}

/** A message from a peer. */
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

/** What a response carries. */
export type ResponseBody =
  | { readonly _tag: "Result"; readonly result: unknown }
  | { readonly _tag: "Error"; readonly code: number; readonly message: string }

/** Nesting beyond this is refused: nothing in the protocol comes near it, and a message of brackets costs much memory. */
export const maxDepth = 64

const i64 = { min: -(2n ** 63n), max: 2n ** 63n - 1n }

const malformed = (detail: string): Message => ({ _tag: "Malformed", detail })

/** The end of the string that begins at a quotation mark: the index behind its closing one. */
const stringEnd = (text: string, start: number): number => {
  let end = text.indexOf('"', start + 1)
  for (; end !== -1; end = text.indexOf('"', end + 1)) {
    let slashes = 0
    while (text[end - 1 - slashes] === "\\") slashes++
    if (slashes % 2 === 0) return end + 1
  }
  return text.length
}

const code = { quote: 0x22, openBracket: 0x5b, closeBracket: 0x5d, openBrace: 0x7b, closeBrace: 0x7d } as const

/** Whether brackets nest too deep outside of strings: seen in the text, before anything is built of it. */
const tooDeep = (text: string): boolean => {
  if (text.length <= maxDepth) return false
  let depth = 0
  for (let i = 0; i < text.length; i++) {
    switch (text.charCodeAt(i)) {
      case code.quote:
        i = stringEnd(text, i) - 1
        break
      case code.openBracket:
      case code.openBrace:
        if (++depth > maxDepth) return true
        break
      case code.closeBracket:
      case code.closeBrace:
        depth--
    }
  }
  return false
}

const idNumber = /\s*:\s*(-?\d+)\s*[,}]/y

/** The digits of the top-level `id` of valid JSON, if it is written as an integer. */
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
        // The last one of several counts, as in JSON.parse; a value is no key, for no number follows it.
        if (found !== null || /^\s*:/.test(text.slice(end, end + 16))) digits = found?.[1]
      }
      i = end - 1
    }
  }
  return digits
}

/** Where clients write the id; saves the search through the rest of the message. */
const leadingId = /^\{\s*(?:"jsonrpc"\s*:\s*"2.0"\s*,\s*)?"id"\s*:\s*-?\d+\s*[,}]/

const parseId = (id: unknown, text: string): RequestId | undefined => {
  if (typeof id === "string") return RequestId(JSON.stringify(id))
  if (typeof id !== "number" || !Number.isInteger(id)) return undefined
  if (Number.isSafeInteger(id) && leadingId.test(text)) return RequestId(String(id))
  const digits = idDigits(text)
  if (digits === undefined) return undefined
  const exact = BigInt(digits)
  return exact >= i64.min && exact <= i64.max ? RequestId(String(exact)) : undefined
}

const parseResponse = (message: Record<string, unknown>, text: string): Message => {
  if (!("id" in message)) return malformed("missing field `id`")
  const id = parseId(message["id"], text)
  if (id === undefined) return malformed("`id` must be a string or a 64-bit integer")
  if ("error" in message) {
    const error = message["error"]
    return isRecord(error) && typeof error["code"] === "number" && typeof error["message"] === "string"
      ? { _tag: "Response", id, body: { _tag: "Error", code: error["code"], message: error["message"] } }
      : malformed("`error` must be an object with `code` and `message`")
  }
  return { _tag: "Response", id, body: { _tag: "Result", result: message["result"] } }
}

/** Reads one message. Never throws: what is not a message is `Malformed`, with a sentence that says why. */
export const parse = (text: string): Message => {
  if (tooDeep(text)) return malformed(`recursion limit exceeded: nested deeper than ${maxDepth}`)
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
  if (id === undefined) return malformed("`id` must be a string or a 64-bit integer")
  const trace = message["trace"] ?? undefined
  if (trace !== undefined && !isRecord(trace)) return malformed("`trace` must be an object")
  return { _tag: "Request", id, method, params: message["params"], trace }
}

/** A request's result. */
export const success = (id: RequestId, result: unknown): string => `{"id":${id},"result":${JSON.stringify(result)}}`

/** The same around one member whose value, a string that needs no escapes, comes in between. */
export const successAround = (
  id: RequestId,
  result: { readonly [name: string]: unknown },
  name: string
): { readonly head: string; readonly tail: string } => {
  const { [name]: _, ...others } = result
  const before = JSON.stringify(others).slice(0, -1)
  return { head: `{"id":${id},"result":${before}${before === "{" ? "" : ","}${JSON.stringify(name)}:"`, tail: '"}}' }
}

/** A request's failure. */
export const failure = (id: RequestId, code: number, message: string): string =>
  `{"error":{"code":${code},"message":${JSON.stringify(message)}},"id":${id}}`

/** A notification of those that the protocol has. */
export const notification = <M extends NotificationMethod>(method: M, params: NotificationJson<M>): string =>
  `{"method":${JSON.stringify(method)},"params":${JSON.stringify(params)}}`
