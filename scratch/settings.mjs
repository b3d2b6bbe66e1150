// Writes the tables of docs/configuration.md from the settings in src/server/ServerConfig.ts.
//
// With `--check` it writes nothing, and exits with 1 if the tables differ.
import { readFileSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { build } from "esbuild"

const root = fileURLToPath(new URL("..", import.meta.url))
const page = `${root}docs/configuration.md`

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

const row = (key) => {
  const { choices, shown, help, minimum, originalVariable } = settings[key]
  // Only words that can be typed are shown as code: not numbers, descriptions or "none", unless it is a choice.
  const isWord = choices.includes(shown) || (shown !== "none" && !/^\d+$| /.test(shown))
  const names = [key, `--${flagName(key)}`, variableName(key)].map(code)
  const more = [
    ...(minimum > 0 ? [`at least ${minimum}`] : []),
    ...(originalVariable === undefined ? [] : [`also read from ${code(originalVariable)}`])
  ]
  return `| ${[...names, isWord ? code(shown) : shown, [help, ...more].join("; ")].join(" | ")} |`
}
const head = ["| key | flag | variable | default | meaning |", "|---|---|---|---|---|"]
const tables = [...new Set(keys.map((key) => settings[key].group))].map((group) => {
  const rows = keys.filter((key) => settings[key].group === group).map(row)
  return [`### ${group}`, "", ...head, ...rows].join("\n")
})
const [begin, end] = ["<!-- written by npm run docs -->", "<!-- the end of what npm run docs writes -->"]

const before = readFileSync(page, "utf8")
const [intro, rest = ""] = before.split(begin)
const [, tail] = rest.split(end)
if (tail === undefined) throw new Error(`docs/configuration.md has no lines ${begin} and ${end}`)
const after = `${intro}${begin}\n\n${tables.join("\n\n")}\n\n${end}${tail}`

if (!process.argv.includes("--check")) writeFileSync(page, after)
else if (before !== after) {
  console.log(
    "the tables of docs/configuration.md are not those of src/server/ServerConfig.ts; npm run docs writes them"
  )
  process.exitCode = 1
}
