/**
 * The primitive schemas of the wire. Decoding errors are worded like the original server's and name the field.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import * as Option from "effect/Option"
import * as ParseResult from "effect/ParseResult"
import { isRecord } from "effect/Predicate"
import * as Schema from "effect/Schema"
import * as AST from "effect/SchemaAST"
import type * as Types from "effect/Types"
import { checked, defaults, listCheck, textCheck, unbounded } from "./Bounds.js"

/** The longest string value that an error message quotes in full, in characters. */
const maxQuoted = 80

/** The longest error message about params, in characters. */
const maxMessage = 1000

/** Shortens a client's text for an error message. */
export const clip = (text: string): string => (text.length > maxQuoted ? `${text.slice(0, maxQuoted)}...` : text)

const describe = (value: unknown): string => {
  if (value === null || value === undefined) return "null"
  if (typeof value === "boolean") return `boolean \`${value}\``
  if (typeof value === "number") return "number"
  if (typeof value === "string") {
    return `string ${JSON.stringify(clip(value))}`
  }
  return Array.isArray(value) ? "sequence" : "map"
}

const mismatch = (value: unknown, what: string) => `invalid type: ${describe(value)}, expected ${what}`

const expected = (what: string) => ({ message: ({ actual }: ParseResult.ParseIssue) => mismatch(actual, what) })

/** A JSON string. */
export const Text = Schema.String.annotations(expected("a string"))

/** A JSON boolean. */
export const Flag = Schema.Boolean.annotations(expected("a boolean"))

const readTextList = (value: unknown, _: AST.ParseOptions, ast: AST.Declaration) => {
  if (!Array.isArray(value)) return invalid(ast, value, mismatch(value, "a sequence"))
  const index = value.findIndex((element) => typeof element !== "string")
  if (index === -1) return ParseResult.succeed<ReadonlyArray<string>>(value)
  const issue = new ParseResult.Type(ast, value[index], mismatch(value[index], "a string"))
  return ParseResult.fail(new ParseResult.Pointer(index, value, issue))
}

/** A list of anything. */
export const listOf = <A, I, R>(item: Schema.Schema<A, I, R>) => Schema.Array(item).annotations(expected("a sequence"))

/** A list of strings. Not a Schema.Array: that takes microseconds for each. */
export const TextList: Schema.Schema<ReadonlyArray<string>> = checked(
  Schema.declare(
    [],
    { decode: () => readTextList, encode: () => readTextList },
    { jsonSchema: { type: "array", items: { type: "string" } } }
  ),
  listCheck(defaults.items, textCheck(defaults.textBytes))
)

/** An object whose values are all strings. Not a Schema.Record: that would lose the key `__proto__`. */
export const TextMap = Schema.declare(
  (value: unknown): value is { readonly [name: string]: string } =>
    isRecord(value) && Object.values(value).every((member) => typeof member === "string"),
  {
    message: ({ actual }) => {
      if (!isRecord(actual)) return mismatch(actual, "a map")
      const [name, value] = Object.entries(actual).find(([, member]) => typeof member !== "string") ?? []
      return `${mismatch(value, "a string")} of \`${clip(name ?? "")}\``
    },
    jsonSchema: { type: "object", additionalProperties: { type: "string" } }
  }
)

/** An integer in a range, which error messages describe as `range`. */
export const integerBetween = (minimum: number, maximum: number, range: string) =>
  Schema.declare(
    (value: unknown): value is number =>
      typeof value === "number" && Number.isInteger(value) && value >= minimum && value <= maximum,
    {
      message: ({ actual }) =>
        typeof actual === "number"
          ? `invalid number: ${actual} is not an integer ${range}`
          : `invalid type: ${describe(actual)}, expected an integer ${range}`,
      jsonSchema: { type: "integer", minimum, maximum }
    }
  )

/** An unsigned 64-bit integer: a sequence number, a count of bytes or of milliseconds. */
export const Count = integerBetween(0, 2 ** 64, "of 0 or more")

/** The number of a process's event. Limited to 53 bits: above that, adding one would change nothing. */
export const Seq = integerBetween(0, Number.MAX_SAFE_INTEGER - 1, "from 0 to 2^53 - 2")

/** An unsigned 16-bit integer above 0: a count of rows or columns. */
export const Cells = integerBetween(1, 65535, "from 1 to 65535")

/** Any integer. */
export const Integer = integerBetween(Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER, "of 53 bits")

/** One of the given strings; the error message lists them. */
export const oneOf = <const Values extends readonly [string, ...Array<string>]>(
  ...values: Values
): Schema.Schema<Values[number]> => {
  const quoted = values.map((value) => `\`${value}\``)
  const list = values.length > 2 ? `one of ${quoted.join(", ")}` : quoted.join(" or ")
  const message = ({ actual }: ParseResult.ParseIssue) => ({
    message:
      typeof actual === "string"
        ? `unknown variant \`${clip(actual)}\`, expected ${list}`
        : `invalid type: ${describe(actual)}, expected a string`,
    // Otherwise the message names only the first literal.
    override: true
  })
  // `Schema.Literal(...).annotations(...)` would make four classes.
  const literals = AST.Union.make(values.map((value) => new AST.Literal(value)))
  return Schema.make(AST.annotations(literals, { [AST.MessageAnnotationId]: message }))
}

/** Why a string is not strict base64 (standard alphabet, padding required, no white space), and at which offset. */
export const base64Fault = (text: string): string => {
  const symbol = text.search(/[^A-Za-z0-9+/=]/)
  // Not /=+$/: if the padding is not at the end, that takes quadratic time.
  let length = text.length
  while (length > 0 && text[length - 1] === "=") length--
  const padding = text.indexOf("=")
  const fault = symbol !== -1 ? symbol : padding < length ? padding : -1
  if (fault !== -1) return `Invalid symbol ${text.charCodeAt(fault)}, offset ${fault}.`
  return length % 4 !== 1 && text.length % 4 === 0 && text.length - length <= 2
    ? `Invalid last symbol ${text.charCodeAt(length - 1)}, offset ${length - 1}.`
    : "Invalid padding"
}

/** Bytes as they are in JSON. */
export const Base64 = unbounded(
  Schema.String.annotations({ ...expected("a string"), jsonSchema: { type: "string", contentEncoding: "base64" } })
)

/** Bytes: strict base64 in JSON, a Buffer in memory. */
export const Bytes: Schema.Schema<Buffer, string> = Schema.transformOrFail(
  Base64,
  Schema.declare((value: unknown): value is Buffer => Buffer.isBuffer(value)),
  {
    strict: true,
    decode: (text, _, ast) => {
      const bytes = Buffer.from(text, "base64")
      return bytes.toString("base64") === text
        ? ParseResult.succeed(bytes)
        : ParseResult.fail(new ParseResult.Type(ast, text, base64Fault(text)))
    },
    encode: (bytes) => ParseResult.succeed(bytes.toString("base64"))
  }
)

/**
 * Derives something from a schema, once for each schema: the server's start makes hundreds of them, at some kilobytes
 * each.
 */
const derivedOnce = <F extends (schema: never) => unknown>(derive: F): F => {
  const known = new WeakMap<object, unknown>()
  const get = (schema: never): unknown => {
    const derived = known.get(schema) ?? derive(schema)
    known.set(schema, derived)
    return derived
  }
  return get as F
}

/** An optional field; `null` counts as absent. */
export const maybe = derivedOnce(<A, I, R>(schema: Schema.Schema<A, I, R>) =>
  Schema.optionalWith(schema, { nullable: true })
)

/** An optional field of a result. */
export const optional = derivedOnce(<A, I, R>(schema: Schema.Schema<A, I, R>) => Schema.optional(schema))

/** A value or null. */
export const nullOr = derivedOnce(<A, I, R>(schema: Schema.Schema<A, I, R>) => Schema.NullOr(schema))

/** No members, or none that matter. */
export const Empty = Schema.Struct({})

/**
 * A member of a result that not every server sends: an extension of ours, or a recent one. `fallback()` is its default.
 */
export const withFallback = <A, I>(schema: Schema.Schema<A, I>, fallback: () => Types.NoInfer<A>) =>
  Schema.optionalWith(schema, { default: fallback })

/** How much of a value an error message quotes: the number of members, and the depth. */
const quoted = { members: 8, depth: 3 } as const

/** The quoted part of a value. Effect would quote all of it, which takes seconds for a large one. */
const excerpt = (value: unknown, depth: number = quoted.depth): unknown => {
  if (typeof value === "string") return clip(value)
  if (Array.isArray(value)) {
    return depth === 0 ? [] : value.slice(0, quoted.members).map((element) => excerpt(element, depth - 1))
  }
  if (!isRecord(value)) return value
  const names = depth === 0 ? [] : Object.keys(value).slice(0, quoted.members)
  return Object.fromEntries(names.map((name) => [clip(name), excerpt(value[name], depth - 1)]))
}

/** The first error. A formatter would format all of them, with their values. */
const firstIssue = (issue: ParseResult.ParseIssue): ParseResult.ParseIssue => {
  switch (issue._tag) {
    case "Composite": {
      const first = Array.isArray(issue.issues) ? issue.issues[0] : issue.issues
      return new ParseResult.Composite(issue.ast, issue.actual, firstIssue(first))
    }
    case "Pointer":
      return new ParseResult.Pointer(issue.path, issue.actual, firstIssue(issue.issue))
    case "Refinement":
      return new ParseResult.Refinement(issue.ast, issue.actual, issue.kind, firstIssue(issue.issue))
    case "Transformation":
      return new ParseResult.Transformation(issue.ast, issue.actual, issue.kind, firstIssue(issue.issue))
    case "Type":
      return issue.message === undefined && Option.isNone(AST.getMessageAnnotation(issue.ast))
        ? new ParseResult.Type(issue.ast, excerpt(issue.actual))
        : issue
    default:
      return issue
  }
}

/** Formats the first error of a payload, naming the field. */
export const formatParseError = (error: ParseResult.ParseError): string => {
  const [issue] = ParseResult.ArrayFormatter.formatIssueSync(firstIssue(error.issue))
  if (issue === undefined) return "invalid params"
  const message = describeIssue(issue)
  return message.length > maxMessage ? `${message.slice(0, maxMessage)}...` : message
}

const describeIssue = (issue: ParseResult.ArrayFormatterIssue): string => {
  const field = issue.path[issue.path.length - 1]
  if (field === undefined) return issue.message
  const parent = issue.path.slice(0, -1).join(".")
  if (issue._tag === "Missing") {
    return parent === "" ? `missing field \`${String(field)}\`` : `missing field \`${String(field)}\` in \`${parent}\``
  }
  const path = issue.path.join(".")
  return issue.message.startsWith(path) ? issue.message : `${issue.message} (field \`${path}\`)`
}

/** A decoding failure with its own message, for transformations of strings. */
export const invalid = (ast: AST.AST, actual: unknown, message: string) =>
  ParseResult.fail(new ParseResult.Type(ast, actual, message))
