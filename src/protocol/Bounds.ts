/**
 * How large the members of a request may be. A server checks that before it decodes them: decoding a list of a million
 * members would take seconds, in which nobody else is served.
 *
 * Every text and every list of a request has a bound, also without an annotation: `defaults`. Results have none.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import * as Option from "effect/Option"
import { isRecord } from "effect/Predicate"
import type * as Schema from "effect/Schema"
import * as AST from "effect/SchemaAST"

/** What is too large about a value: a sentence that names the member, its size and the limit. */
export type Check = (value: unknown, path: string) => string | undefined

/** The bounds of members that have no annotation. */
export const defaults = { textBytes: 65536, items: 1024 } as const

/** The longest id that a client may choose, in bytes of UTF-8. */
export const maxIdBytes = 1024

/** The annotation of a schema with what its values are checked for, in place of the default. */
const BoundId: unique symbol = Symbol.for("exec-server/Bound")

/** The most bytes of UTF-8 that a character of a string becomes. */
const maxCharacterBytes = 3

/** Says that a member has so many of something, and how many it may have. */
const excess = (path: string, size: number, unit: string, limit: number) =>
  `\`${path}\` has ${size} ${unit}; the limit is ${limit}`

/** Checks the length of a text in bytes of UTF-8. What is no text passes: its schema refuses it. */
export const textCheck =
  (limit: number): Check =>
  (value, path) => {
    if (typeof value !== "string" || value.length * maxCharacterBytes <= limit) return undefined
    const bytes = Buffer.byteLength(value)
    return bytes > limit ? excess(path, bytes, "bytes", limit) : undefined
  }

/** Checks the number of elements of a list, and then each of them. */
export const listCheck =
  (limit: number, element: Check | undefined): Check =>
  (value, path) => {
    if (!Array.isArray(value)) return undefined
    if (value.length > limit) return excess(path, value.length, "elements", limit)
    if (element === undefined) return undefined
    for (const [index, item] of value.entries()) {
      const found = element(item, `${path}.${index}`)
      if (found !== undefined) return found
    }
    return undefined
  }

/** Gives a schema a check of its own, which stands in place of those of the schema and its members. */
export const checked = <S extends Schema.Annotable.All>(schema: S, check: Check): Schema.Annotable.Self<S> =>
  schema.annotations({ [BoundId]: check })

/** A check besides those that a schema has without it. */
export const alsoChecked = <S extends Schema.Annotable.All>(schema: S, check: Check): Schema.Annotable.Self<S> => {
  const own = checkOf(schema.ast)
  return checked(schema, (value, path) => own?.(value, path) ?? check(value, path))
}

/** A text of at most so many bytes of UTF-8. */
export const maxBytes = <S extends Schema.Annotable.All>(schema: S, limit: number) => checked(schema, textCheck(limit))

/** A list of at most so many elements. */
export const maxItems = <S extends Schema.Annotable.All>(schema: S, limit: number) => {
  const { ast } = schema
  const elements = AST.isTupleType(ast) ? ast.rest.map(({ type }) => checkOf(type)) : []
  return checked(schema, listCheck(limit, firstOf(elements)))
}

/** A member of which the length of the message is the only bound. */
export const unbounded = <S extends Schema.Annotable.All>(schema: S) => checked(schema, () => undefined)

/** Several checks in a row; the first that finds something is heard. */
export const firstOf = (checks: ReadonlyArray<Check | undefined>): Check | undefined => {
  const present = checks.filter((check) => check !== undefined)
  if (present.length <= 1) return present[0]
  return (value, path) => {
    for (const check of present) {
      const found = check(value, path)
      if (found !== undefined) return found
    }
    return undefined
  }
}

/** Effect writes out what stands in place of the name of a variant, a list with all that it holds. */
const notAList: Check = (value, path) =>
  Array.isArray(value) ? `invalid type: sequence, expected a string (field \`${path}\`)` : undefined

const structCheck = (ast: AST.TypeLiteral): Check | undefined =>
  firstOf(
    ast.propertySignatures.map(({ name, type }): Check | undefined => {
      const check = checkOf(type)
      const key = String(name)
      return check === undefined
        ? undefined
        : (value, path) =>
            isRecord(value) && value[key] !== undefined
              ? check(value[key], path === "" ? key : `${path}.${key}`)
              : undefined
    })
  )

/** What values are checked for before this schema decodes them; undefined if they can only be small. */
export const checkOf = (ast: AST.AST): Check | undefined => {
  const own = AST.getAnnotation<Check>(ast, BoundId)
  if (Option.isSome(own)) return own.value
  switch (ast._tag) {
    case "Literal":
      return typeof ast.literal === "string" ? notAList : undefined
    case "StringKeyword":
      return textCheck(defaults.textBytes)
    case "TupleType":
      return listCheck(defaults.items, firstOf(ast.rest.map(({ type }) => checkOf(type))))
    case "TypeLiteral":
      return structCheck(ast)
    case "Union":
      return firstOf(ast.types.map(checkOf))
    case "Transformation":
    case "Refinement":
      return checkOf(ast.from)
    default:
      return undefined
  }
}
