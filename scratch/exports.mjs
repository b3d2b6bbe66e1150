/**
 * Part of `npm run check`. Every export in src, and every static member of an exported class, must have a sentence of
 * JSDoc. Public exports also need a `@category` of those below. Two exports of one name, a type and its schema, share
 * both.
 */
import { readdirSync, readFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import ts from "typescript"

const src = fileURLToPath(new URL("../src", import.meta.url))
// src/remote/gen is generated.
const modules = readdirSync(src, { recursive: true, encoding: "utf8" })
  .filter((file) => /\.tsx?$/.test(file) && !file.startsWith("remote/gen/"))
  .sort()

/** The index files of the package. A module is public if one of them exports it. */
const indexes = ["client", "environment", "mcp", "protocol", "server", "testing"].map((folder) => `${folder}/index.ts`)
const isPublic = new Set(
  indexes.flatMap((index) =>
    ts
      .createSourceFile(index, readFileSync(`${src}/${index}`, "utf8"), ts.ScriptTarget.Latest)
      .statements.filter(ts.isExportDeclaration)
      .map(({ moduleSpecifier }) => join(dirname(index), moduleSpecifier.text).replace(/\.js$/, ".ts"))
  )
)

const categories = [
  "codecs",
  "config",
  "constants",
  "constructors",
  "context",
  "errors",
  "layers",
  "models",
  "predicates",
  "running",
  "schemas",
  "tags",
  "utilities"
]

const has = (node, kind) => ts.canHaveModifiers(node) && ts.getModifiers(node)?.some((found) => found.kind === kind)

/** Whether the comment before a node has text besides its tags. The first comment of a file belongs to the module. */
const isDocumented = (node) =>
  ts
    .getJSDocCommentsAndTags(node)
    .some(
      (found) => ts.isJSDoc(found) && found.pos > 0 && (ts.getTextOfJSDocComment(found.comment) ?? "").trim() !== ""
    )

/** The categories in the comments before a node. */
const categoriesOf = (node) =>
  ts
    .getJSDocTags(node)
    .filter(({ tagName }) => tagName.text === "category")
    .map(({ comment }) => (ts.getTextOfJSDocComment(comment) ?? "").trim())

const declarationsOf = (statement) =>
  ts.isVariableStatement(statement) ? Array.from(statement.declarationList.declarations) : [statement]

/**
 * The exports of a file: names, and the nodes that may carry the comment. Re-exports are checked in their own module.
 */
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

/** The fault in the category of a public export. */
const categoryFault = (found, exported) => {
  const given = new Set(found.filter(({ name }) => name === exported).flatMap(({ node }) => categoriesOf(node)))
  if (given.size === 0) return "is public without a @category"
  if (given.size > 1) return `has several categories: ${Array.from(given).join(", ")}`
  const [category] = given
  return categories.includes(category) ? undefined : `has the category ${category}, not one of ${categories.join(", ")}`
}

const faults = modules.flatMap((path) => {
  const file = ts.createSourceFile(path, readFileSync(`${src}/${path}`, "utf8"), ts.ScriptTarget.Latest, true)
  const found = exportsOf(file)
  const documented = new Set(found.filter(({ node }) => isDocumented(node)).map(({ name }) => name))
  const names = Array.from(new Set(found.map(({ name }) => name)))
  const bare = names
    .filter((name) => !documented.has(name))
    .map((name) => `src/${path}: ${name} is exported without a sentence of JSDoc`)
  // A static member belongs to the category of its class.
  const ownNames = isPublic.has(path) ? names.filter((name) => !name.includes(".")) : []
  const uncategorized = ownNames.flatMap((name) => {
    const fault = categoryFault(found, name)
    return fault === undefined ? [] : [`src/${path}: ${name} ${fault}`]
  })
  return [...bare, ...uncategorized]
})

for (const fault of faults) console.error(fault)
if (faults.length > 0) process.exit(1)
