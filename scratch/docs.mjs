// Writes dist/api.md from the sources: every public export with its description and its type.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { dirname } from "node:path"
import { fileURLToPath } from "node:url"
import ts from "typescript"

const root = fileURLToPath(new URL("..", import.meta.url))
const doors = ["client", "server", "protocol", "mcp", "testing"]
const indexes = doors.map((door) => `${root}src/${door}/index.ts`)

const { config } = ts.readConfigFile(`${root}tsconfig.json`, (path) => readFileSync(path, "utf8"))
const { options } = ts.parseJsonConfigFileContent({ ...config, include: [], files: indexes }, ts.sys, root)
const program = ts.createProgram(indexes, options)
const checker = program.getTypeChecker()

const target = (symbol) => (symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol)
const textOf = (symbol) => ts.displayPartsToString(symbol.getDocumentationComment(checker)).trim()
const examplesOf = (symbol) =>
  symbol
    .getJsDocTags(checker)
    .filter(({ name }) => name === "example")
    .map(({ text }) => ts.displayPartsToString(text).trim())

/** The first sentence of a module's comment. */
const moduleText = (file) => {
  const [, text = ""] = /^\/\*\*\n([\s\S]*?)\*\//.exec(file.text) ?? []
  return text
    .replace(/^ \* ?/gm, "")
    .replace(/@since.*/, "")
    .trim()
}

const formatFlags = ts.TypeFormatFlags.NoTruncation | ts.TypeFormatFlags.UseAliasDefinedOutsideCurrentScope

/** The signature or the type of a symbol, if it is short; otherwise nothing. */
const signatureOf = (symbol) => {
  const [declaration] = symbol.declarations ?? []
  if (declaration === undefined) return ""
  if (ts.isVariableDeclaration(declaration)) {
    const type = checker.typeToString(checker.getTypeOfSymbol(symbol), declaration, formatFlags)
    return type.length < 400 ? `const ${symbol.name}: ${type}` : `const ${symbol.name}`
  }
  if (ts.isClassDeclaration(declaration)) return `class ${symbol.name}`
  const text = declaration.getText()
  return text.length < 2000 ? text.replace(/^export /, "") : `${ts.SyntaxKind[declaration.kind]} ${symbol.name}`
}

/** The static members of a class, mostly layers. */
const staticsOf = (symbol) => {
  const declaration = symbol.declarations?.find(ts.isClassDeclaration)
  return (declaration?.members ?? []).flatMap((member) => {
    const isStatic =
      ts.canHaveModifiers(member) && ts.getModifiers(member)?.some(({ kind }) => kind === ts.SyntaxKind.StaticKeyword)
    const found = isStatic && member.name !== undefined ? checker.getSymbolAtLocation(member.name) : undefined
    return found === undefined ? [] : [found]
  })
}

const lines = ["# API", ""]

for (const [index, door] of doors.entries()) {
  const file = program.getSourceFile(indexes[index])
  lines.push(`## exec-server/${door}`, "", moduleText(file), "")
  for (const exported of checker.getExportsOfModule(checker.getSymbolAtLocation(file))) {
    const module = target(exported)
    const source = module.declarations?.find(ts.isSourceFile)
    lines.push(`### ${exported.name}`, "", source === undefined ? "" : moduleText(source), "")
    for (const member of checker.getExportsOfModule(module)) {
      const symbol = target(member)
      // Re-exports are described in their own module.
      if (symbol.declarations?.some((declaration) => declaration.getSourceFile() !== source)) continue
      lines.push(`#### ${exported.name}.${member.name}`, "", textOf(symbol), "")
      const signature = signatureOf(symbol)
      if (signature !== "") lines.push("```ts", signature, "```", "")
      for (const example of examplesOf(symbol)) lines.push("```ts", example, "```", "")
      for (const found of staticsOf(symbol)) {
        const type = checker.typeToString(checker.getTypeOfSymbol(found), undefined, formatFlags)
        lines.push(`- \`${member.name}.${found.name}: ${type}\` ${textOf(found)}`, "")
      }
    }
  }
}

const path = `${root}dist/api.md`
mkdirSync(dirname(path), { recursive: true })
writeFileSync(path, lines.join("\n"))
console.log(path)
