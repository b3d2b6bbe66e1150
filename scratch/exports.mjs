/**
 * Part of `npm run check`: every export of every module of src has a sentence of JSDoc, and so has every static member
 * of an exported class. Two exports of one name, a type and its schema, share one.
 */
import { readdirSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import ts from "typescript"

const src = fileURLToPath(new URL("../src", import.meta.url))
// src/remote/gen is generated.
const modules = readdirSync(src, { recursive: true, encoding: "utf8" })
  .filter((file) => file.endsWith(".ts") && !file.startsWith("remote/gen/"))
  .sort()

const has = (node, kind) => ts.canHaveModifiers(node) && ts.getModifiers(node)?.some((found) => found.kind === kind)

/** Whether a comment before a node says something beside its tags; the first one of a file belongs to the module. */
const isDocumented = (node) =>
  ts
    .getJSDocCommentsAndTags(node)
    .some(
      (found) => ts.isJSDoc(found) && found.pos > 0 && (ts.getTextOfJSDocComment(found.comment) ?? "").trim() !== ""
    )

const declarationsOf = (statement) =>
  ts.isVariableStatement(statement) ? Array.from(statement.declarationList.declarations) : [statement]

/** What is exported: names with the nodes that may carry the comment. What a module only hands on is told of elsewhere. */
const exportsOf = (file) =>
  file.statements
    .filter((statement) => has(statement, ts.SyntaxKind.ExportKeyword))
    .flatMap((statement) =>
      declarationsOf(statement).flatMap((declaration) => {
        const name = declaration.name?.getText(file) ?? "default"
        const statics = ts.isClassDeclaration(declaration)
          ? declaration.members.filter(
              (member) => has(member, ts.SyntaxKind.StaticKeyword) && !has(member, ts.SyntaxKind.PrivateKeyword)
            )
          : []
        const members = statics.map((member) => ({ name: `${name}.${member.name?.getText(file)}`, node: member }))
        return [{ name, node: statement }, ...members]
      })
    )

const bare = modules.flatMap((path) => {
  const file = ts.createSourceFile(path, readFileSync(`${src}/${path}`, "utf8"), ts.ScriptTarget.Latest, true)
  const found = exportsOf(file)
  const documented = new Set(found.filter(({ node }) => isDocumented(node)).map(({ name }) => name))
  return Array.from(new Set(found.map(({ name }) => name)))
    .filter((name) => !documented.has(name))
    .map((name) => `src/${path}: ${name} is exported without a sentence of JSDoc`)
})

for (const fault of bare) console.error(fault)
if (bare.length > 0) process.exit(1)
