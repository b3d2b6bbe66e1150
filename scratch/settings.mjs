// Writes the README's table of settings from the one in src/server/ServerConfig.ts.
//
// With `--check` it writes nothing, and ends with 1 where the two differ.
import { readFileSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { build } from "esbuild"

const root = fileURLToPath(new URL("..", import.meta.url))
const readme = `${root}README.md`

const { outputFiles } = await build({
  entryPoints: [`${root}src/server/ServerConfig.ts`],
  bundle: true,
  platform: "node",
  format: "esm",
  write: false,
  logLevel: "warning"
})
const source = Buffer.from(outputFiles[0].contents).toString("base64")
const { settings, keys, flagName, variableName } = await import(`data:text/javascript;base64,${source}`)

const code = (text) => `\`${text}\``

const rows = keys.map((key) => {
  const { choices, shown } = settings[key]
  // Numbers, and that there is none, are no words to type; a choice may have that name.
  const isWord = choices.includes(shown) || (shown !== "none" && !/^\d+$/.test(shown))
  const names = [key, `--${flagName(key)}`, variableName(key)].map(code)
  return `| ${[...names, isWord ? code(shown) : shown].join(" | ")} |`
})
const head = ["| key | flag | variable | default |", "|---|---|---|---|"]

const before = readFileSync(readme, "utf8")
const lines = before.split("\n")
const start = lines.indexOf(head[0])
if (start === -1) throw new Error("README.md has no table of settings")
const length = lines.slice(start).findIndex((line) => !line.startsWith("|"))
const after = [...lines.slice(0, start), ...head, ...rows, ...lines.slice(start + length)].join("\n")

if (!process.argv.includes("--check")) writeFileSync(readme, after)
else if (before !== after) {
  console.log("the README's table of settings is not that of src/server/ServerConfig.ts; npm run docs writes it")
  process.exitCode = 1
}
