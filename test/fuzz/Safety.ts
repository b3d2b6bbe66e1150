/**
 * The last gate before a message leaves: damage can turn a harmless request into one that removes somebody's files.
 * What a server would make of a message is looked at here, and nothing goes out that speaks of more than the fuzzer's
 * own folder, its own HTTP server and programs that do nothing.
 */
import * as Either from "effect/Either"
import { isRecord } from "effect/Predicate"
import * as Schema from "effect/Schema"
import { FilePath } from "../../src/protocol/PathUri.js"
import { programs, searchPaths, type World } from "./Grammar.js"

const readPath = Schema.decodeUnknownEither(FilePath)

const isOutside = (text: string, { folder, origin }: World): boolean => {
  const path = readPath(text)
  if (Either.isRight(path)) return !`${path.right.bytes.toString("latin1")}/`.startsWith(`${folder}/`)
  if (!URL.canParse(text)) return false
  const { protocol, origin: itsOrigin } = new URL(text)
  return /^(?:https?|wss?):$/.test(protocol) && itsOrigin !== origin
}

/** Programs whose arguments may be anything; the others' are given. */
const isHarmless = (argv: ReadonlyArray<unknown>): boolean => {
  const [program, ...rest] = argv
  if (typeof program !== "string") return true
  if (program !== "" && !programs.includes(program)) return false
  if (program === "sleep") return rest.length === 1 && /^0(?:\.0\d)?$/.test(String(rest[0]))
  return program !== "cat" || rest.length === 0
}

const isSafeValue = (value: unknown, name: string, world: World): boolean => {
  if (typeof value === "string") {
    if (name === "arg0") return programs.includes(value)
    if (name === "PATH") return searchPaths.includes(value)
    return !isOutside(value, world)
  }
  if (Array.isArray(value)) {
    if (name !== "argv") return value.every((element) => isSafeValue(element, "", world))
    return isHarmless(value) && value.slice(1).every((element) => isSafeValue(element, "", world))
  }
  return !isRecord(value) || Object.entries(value).every(([key, member]) => isSafeValue(member, key, world))
}

/** Whether a message may be sent. What is not JSON does nothing. */
export const isSafe = (text: string, world: World): boolean => {
  let message: unknown
  try {
    message = JSON.parse(text)
  } catch {
    return true
  }
  return isSafeValue(message, "", world)
}
