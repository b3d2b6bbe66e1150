/**
 * The parameters of the tools: their schemas, from which both the JSON Schema and the checks derive.
 *
 * @since 0.1.0
 */
import * as Either from "effect/Either"
import * as JSONSchema from "effect/JSONSchema"
import { isRecord } from "effect/Predicate"
import * as Schema from "effect/Schema"

/** The parameters of a tool by name. */
export type Fields = Readonly<Record<string, Parameter>>

/** One parameter. */
export interface Parameter<out A = unknown> {
  readonly schema: Schema.Schema.AnyNoContext
  /** Whether a value is one of the schema's; faster than to ask the schema. */
  readonly accepts: (value: unknown) => boolean
  /** The type of its values, for the compiler alone. */
  readonly value?: A
  readonly isRequired: boolean
  /** What it must be, for messages. */
  readonly expected: string
}

/** The values of parameters. */
export type ValuesOf<F extends Fields> = {
  readonly [K in keyof F]: F[K] extends Parameter<infer A> ? A : never
}

/** Makes a parameter that must be given. */
export const required = <A>({ schema, accepts, expected }: Parameter<A | undefined>): Parameter<A> => ({
  schema,
  accepts,
  expected,
  isRequired: true
})

/** A parameter with the JSON Schema and the test of its values. */
const make = <A>(
  json: object,
  accepts: (value: unknown) => boolean,
  expected: string,
  description: string | undefined
): Parameter<A | undefined> => ({
  schema: Schema.declare((value: unknown): value is A | undefined => accepts(value), {
    jsonSchema: json,
    ...(description === undefined ? {} : { description })
  }),
  accepts,
  isRequired: false,
  expected
})

const isText = (value: unknown): value is string => typeof value === "string"

/** A text. */
export const text = (description?: string): Parameter<string | undefined> =>
  make({ type: "string" }, isText, "a text", description)

/** A switch. */
export const toggle = (description?: string): Parameter<boolean | undefined> =>
  make({ type: "boolean" }, (value) => typeof value === "boolean", "true or false", description)

/** A list of texts, none of them empty. */
export const texts = (description?: string): Parameter<ReadonlyArray<string> | undefined> =>
  make(
    { type: "array", items: { type: "string" } },
    (value) => Array.isArray(value) && value.every((one) => isText(one) && one !== ""),
    "a list of texts that are not empty",
    description
  )

/** One of some words. */
export const word = <const A extends string>(words: ReadonlyArray<A>, description?: string): Parameter<A | undefined> =>
  make(
    { type: "string", enum: words },
    (value) => words.some((one) => one === value),
    `one of ${words.join(", ")}`,
    description
  )

const rangeOf = ({ minimum, maximum }: { readonly minimum?: number; readonly maximum?: number }): string => {
  if (minimum !== undefined && maximum !== undefined) return ` from ${minimum} to ${maximum}`
  return minimum === undefined ? "" : ` of at least ${minimum}`
}

/** An integer, within limits if there are any. */
export const integer = (
  limits: { readonly minimum?: number; readonly maximum?: number },
  description?: string
): Parameter<number | undefined> => {
  const { minimum = Number.MIN_SAFE_INTEGER, maximum = Number.MAX_SAFE_INTEGER } = limits
  return make(
    { type: "integer", ...limits },
    (value) => typeof value === "number" && Number.isSafeInteger(value) && value >= minimum && value <= maximum,
    `an integer${rangeOf(limits)}`,
    description
  )
}

/** A JSON value. */
type Json = string | number | boolean | null | Array<Json> | { [key: string]: Json }

/** The JSON Schema of an object with these parameters and no others. */
export const jsonSchemaOf = (fields: Fields) => {
  const names = Object.keys(fields).filter((name) => fields[name]?.isRequired === true)
  const properties = Object.entries(fields).map(([name, { schema }]) => {
    const { $schema: _, ...json } = JSONSchema.make(schema)
    // The cast is safe: a JSON Schema is JSON.
    return [name, json as unknown as Json] as const
  })
  return {
    type: "object" as const,
    properties: Object.fromEntries(properties),
    ...(names.length === 0 ? {} : { required: names }),
    additionalProperties: false
  }
}

const shown = (value: unknown): string => {
  const text = JSON.stringify(value) ?? String(value)
  return text.length > 100 ? `${text.slice(0, 100)}...` : text
}

/** Reads the arguments of a call; Left says what is wrong, and what would be right. A null is not given. */
export const read = <F extends Fields>(tool: string, fields: F, given: unknown): Either.Either<ValuesOf<F>, string> => {
  if (given !== undefined && !isRecord(given)) return Either.left(`the arguments of ${tool} must be an object`)
  const values: Record<string, unknown> = {}
  const names = Object.keys(fields)
  for (const [name, value] of Object.entries(given ?? {})) {
    const field = Object.hasOwn(fields, name) ? fields[name] : undefined
    if (field === undefined) {
      const known = names.length === 0 ? "none" : names.join(", ")
      return Either.left(`${tool} has no parameter ${name.slice(0, 100)}; it has ${known}`)
    }
    if (value === null) continue
    if (!field.accepts(value)) {
      return Either.left(`${name} of ${tool} must be ${field.expected}, not ${shown(value)}`)
    }
    values[name] = value
  }
  const missing = names.filter((name) => fields[name]?.isRequired === true && values[name] === undefined)
  if (missing.length > 0) {
    return Either.left(`${tool} needs ${missing.map((name) => `${name} (${fields[name]?.expected})`).join(" and ")}`)
  }
  // The cast is safe: each value was checked by its own schema, and those that must be given are there.
  return Either.right(values as ValuesOf<F>)
}
