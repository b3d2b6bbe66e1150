/**
 * Limits the size of request members, before they are decoded: decoding a list of a million members would block the
 * server for seconds.
 *
 * Every text and every list of a request has a bound, even without an annotation: `defaults`. Results have none.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import * as Option from "effect/Option"
import { isRecord } from "effect/Predicate"
import type * as Schema from "effect/Schema"
import * as AST from "effect/SchemaAST"

/** Checks a value. Returns a sentence with the member, its size and the limit if it is too large. */
export type Check = (value: unknown, path: string) => string | undefined

/** The bounds of members without an annotation. */
export const defaults = { textBytes: 65536, items: 1024 } as const

/** The longest client-chosen id, in bytes of UTF-8. */
export const maxIdBytes = 1024

/** The annotation of a schema with its own check, which replaces the default. */
const BoundId: unique symbol = Symbol.for("exec-server/Bound")

/** The most UTF-8 bytes per character of a string. */
const maxCharacterBytes = 3

/** A sentence for an excessive size. */
const excess = (path: string, size: number, unit: string, limit: number) =>
  `\`${path}\` has ${size} ${unit}; the limit is ${limit}`

/** Checks the length of a text in bytes of UTF-8. Other values pass: the schema refuses them. */
export const textCheck =
  (limit: number): Check =>
  (value, path) => {
    if (typeof value !== "string" || value.length * maxCharacterBytes <= limit) return undefined
    const bytes = Buffer.byteLength(value)
    return bytes > limit ? excess(path, bytes, "bytes", limit) : undefined
  }

/** Checks the number of elements of a list, and then each element. */
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

/** Gives a schema its own check, which replaces those of the schema and its members. */
export const checked = <S extends Schema.Annotable.All>(schema: S, check: Check): Schema.Annotable.Self<S> =>
  schema.annotations({ [BoundId]: check })

/** Adds a check to those that a schema has already. */
export const alsoChecked = <S extends Schema.Annotable.All>(schema: S, check: Check): Schema.Annotable.Self<S> => {
  const own = checkOf(schema.ast)
  return checked(schema, (value, path) => own?.(value, path) ?? check(value, path))
}

/** A text of at most this many bytes of UTF-8. */
export const maxBytes = <S extends Schema.Annotable.All>(schema: S, limit: number) => checked(schema, textCheck(limit))

/** A list of at most this many elements. */
export const maxItems = <S extends Schema.Annotable.All>(schema: S, limit: number) => {
  const { ast } = schema
  const elements = AST.isTupleType(ast) ? ast.rest.map(({ type }) => checkOf(type)) : []
  return checked(schema, listCheck(limit, firstOf(elements)))
}

/** A member that only the length of the message limits. */
export const unbounded = <S extends Schema.Annotable.All>(schema: S) => checked(schema, () => undefined)

/** Combines checks; the first failure counts. */
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

/** Refuses a list as the name of a variant: Effect's error would quote all of it. */
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

/** The check of values before this schema decodes them; undefined if they are always small. */
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
