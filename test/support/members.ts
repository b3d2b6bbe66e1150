/** The members of requests, from their schemas, and changes of single members. */
import { isRecord } from "effect/Predicate"
import type * as AST from "effect/SchemaAST"

/** The path of a nested member. `[]` stands for the elements of a list. */
const under = (name: string, nested: ReadonlyArray<string>): ReadonlyArray<string> => [
  name,
  ...nested.map((path) => (path.startsWith("[]") ? name + path : `${name}.${path}`))
]

/** All members that a schema reads, nested ones included. */
export const membersOf = (ast: AST.AST): ReadonlyArray<string> => {
  const unique = (paths: ReadonlyArray<string>) => Array.from(new Set(paths))
  switch (ast._tag) {
    case "Transformation":
    case "Refinement":
      return membersOf(ast.from)
    case "Union":
      return unique(ast.types.flatMap(membersOf))
    case "TupleType":
      return unique(ast.rest.flatMap(({ type }) => membersOf(type))).map((path) => `[].${path}`)
    case "TypeLiteral":
      return unique(ast.propertySignatures.flatMap(({ name, type }) => under(String(name), membersOf(type))))
    default:
      return []
  }
}

/** A copy with another value of one member; undefined removes it. */
export const withMember = (params: unknown, path: string, value: unknown): unknown => {
  if (path === "") return value
  const [, index, name = "", rest = ""] = /^(\[\])?\.?([^.[]*)\.?(.*)$/.exec(path) ?? []
  if (index !== undefined) {
    const inner = path.slice(2).replace(/^\./, "")
    return Array.isArray(params) ? params.map((element) => withMember(element, inner, value)) : params
  }
  const members = isRecord(params) ? params : {}
  return { ...members, [name]: withMember(members[name], rest, value) }
}
