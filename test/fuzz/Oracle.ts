/** What has to come of a message, judged from its text alone and by other means than the server's. */
import { isRecord } from "effect/Predicate"

/** What a server must do with a message. */
export type Expectation =
  /** Exactly one answer, under one of these ids (as JSON texts). */
  | { readonly _tag: "Answer"; readonly ids: ReadonlyArray<string> }
  /** The connection ends with code 1002. */
  | { readonly _tag: "Close" }
  /** Nothing, an answer with id -1 or the end of the connection, by what came before or what is meant by `id`. */
  | { readonly _tag: "Unsure" }

const malformed: Expectation = { _tag: "Answer", ids: ["-1"] }

const isContainer = (value: unknown): value is object => typeof value === "object" && value !== null

const isDeep = (root: object): boolean => {
  let level: ReadonlyArray<object> = [root]
  for (let depth = 1; level.length > 0; depth++) {
    if (depth > 64) return true
    level = level.flatMap((container) => Object.values(container).filter(isContainer))
  }
  return false
}

const min = -(2n ** 63n)
const max = 2n ** 63n - 1n

const idsOf = (id: unknown, text: string): ReadonlyArray<string> => {
  if (typeof id === "string") return [JSON.stringify(id)]
  if (typeof id !== "number") return ["-1"]
  const keys = text.match(/"(?:i|\\u0069)(?:d|\\u0064)"/gi)?.length ?? 0
  const written = Array.from(text.matchAll(/"id"\s*:\s*(-?\d+)\s*[,}]/g), ([, digits = ""]) => BigInt(digits))
  const valid = written.filter((digits) => digits >= min && digits <= max).map(String)
  // One `id` in the whole text: there is no doubt which one is meant.
  if (keys === 1) return valid.length === 1 ? valid : ["-1"]
  return [...valid, "-1"]
}

/** Judges a message. */
export const expectationOf = (text: string): Expectation => {
  let message: unknown
  try {
    message = JSON.parse(text)
  } catch {
    return malformed
  }
  if (!isRecord(message) || isDeep(message)) return malformed
  const { method, id, error, trace } = message
  const ids = idsOf(id, text)
  if (method === undefined) {
    if (!("id" in message) || !("result" in message || "error" in message)) return malformed
    const isError = isRecord(error) && typeof error["code"] === "number" && typeof error["message"] === "string"
    if ("error" in message && !isError) return malformed
    if (!ids.includes("-1")) return { _tag: "Close" }
    return ids.length === 1 ? malformed : { _tag: "Unsure" }
  }
  if (typeof method !== "string") return malformed
  // A client that has attached before may acknowledge.
  const mayCome = method === "initialized" || method === "attachment/ack"
  if (!("id" in message)) return { _tag: mayCome ? "Unsure" : "Close" }
  if (trace !== undefined && trace !== null && !isRecord(trace)) return malformed
  return { _tag: "Answer", ids }
}

/** The id of an answer, as the server wrote it. */
export const idOfAnswer = (text: string): string | undefined =>
  (/^\{"id":(-?\d+|"(?:[^"\\]|\\.)*"),"result":/.exec(text) ?? /"id":(-?\d+|"(?:[^"\\]|\\.)*")\}$/.exec(text))?.[1]
