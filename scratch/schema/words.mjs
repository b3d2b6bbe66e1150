/**
 * Gives schemas, methods and failures the words of their doc comments. `rewrite` adds calls of the functions below to a
 * source of src/protocol; the generator runs the result. The program itself does not carry these words.
 */
import * as Schema from "effect/Schema"
import ts from "typescript"

/** The words of methods, failures and error codes, by their names. */
export const words = new Map()

/** Joins the lines of each paragraph. */
export const reflowed = (text) =>
  text
    .split(/\n\n+|\n(?=- )/)
    .map((paragraph) => paragraph.replaceAll(/\s*\n\s*/g, " ").trim())
    .filter((paragraph) => paragraph !== "")
    .join("\n\n")

/** Annotates a member of a struct; returns anything else as it is. A schema keeps its own words, for other members. */
export const described = (text, value) => {
  if (typeof value === "number") words.set(String(value), text)
  const member = Schema.isSchema(value) ? Schema.propertySignature(value) : value
  return Schema.isPropertySignature(member) ? member.annotations({ description: text }) : value
}

/** Gives an exported schema its name and its words. */
export const named = (identifier, text, value) =>
  Schema.isSchema(value) ? value.annotations({ identifier, description: text }) : value

/** Remembers the words of a request or a notification. */
export const told = (kind, text, rpc) => {
  words.set(`${kind} ${rpc._tag}`, text)
  return rpc
}

/** Remembers the words of a class. */
export const tell = (name, text) => words.set(name, text)

/** The words of the doc comment right before a node. */
const wordsBefore = (source, node) => {
  const [range] = (ts.getLeadingCommentRanges(source.text, node.getFullStart()) ?? []).slice(-1)
  const comment = range === undefined ? "" : source.text.slice(range.pos, range.end)
  if (!comment.startsWith("/**")) return ""
  const text = comment.slice(3, -2).replaceAll(/^ *\* ?/gm, "")
  return reflowed(text.replace(/@category[\s\S]*/, ""))
}

const isExported = (statement) => ts.getModifiers(statement)?.some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword)

/** The schemas of this file have no names: they are the words of the others. */
const hasNames = (path) => !path.endsWith("/Schemas.ts")

/** The call that a node becomes an argument of. */
const callAround = (source, node) => {
  const { parent } = node
  const quote = JSON.stringify
  if (ts.isPropertyAssignment(parent) && parent.initializer === node) {
    const isMember = !/^(payload|success)$/.test(parent.name.getText())
    const text = isMember ? wordsBefore(source, parent) : ""
    return text === "" ? undefined : `described(${quote(text)}, `
  }
  if (ts.isVariableDeclaration(parent) && parent.initializer === node && hasNames(source.fileName)) {
    const statement = parent.parent.parent
    const text = isExported(statement) ? wordsBefore(source, statement) : ""
    return text === "" ? undefined : `named(${quote(parent.name.text)}, ${quote(text)}, `
  }
  if (ts.isCallExpression(node) && /^(request|Rpc\.make)$/.test(node.expression.getText())) {
    const text = wordsBefore(source, node)
    const kind = node.expression.getText() === "request" ? "request" : "notification"
    return text === "" ? undefined : `told("${kind}", ${quote(text)}, `
  }
  return undefined
}

/** The source of a module, with the words of its doc comments. */
export const rewrite = (path, text) => {
  const source = ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true)
  const inserted = []
  const visit = (node) => {
    const call = callAround(source, node)
    if (call !== undefined) inserted.push({ at: node.getStart(), text: call })
    ts.forEachChild(node, visit)
    if (call !== undefined) inserted.push({ at: node.end, text: ")" })
    if (ts.isClassDeclaration(node) && isExported(node)) {
      const told = `\ntell(${JSON.stringify(node.name.text)}, ${JSON.stringify(wordsBefore(source, node))})`
      inserted.push({ at: node.end, text: told })
    }
  }
  ts.forEachChild(source, visit)
  let result = ""
  let from = 0
  for (const { at, text: more } of inserted.sort((one, other) => one.at - other.at)) {
    result += text.slice(from, at) + more
    from = at
  }
  return `import { described, named, tell, told } from "words"\n${result}${text.slice(from)}`
}
