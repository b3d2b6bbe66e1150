/**
 * Part of `npm run check`. Every setting, every command, and every flag and argument of a command must have a help
 * text. Reads the program's own tables.
 */
import { mkdirSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { build } from "esbuild"

const root = fileURLToPath(new URL("..", import.meta.url))
const bundle = `${root}node_modules/.cache/help.mjs`

mkdirSync(`${root}node_modules/.cache`, { recursive: true })
await build({
  stdin: {
    contents: `
      export { root } from "./src/command/Cli.js"
      export { all, nameOf } from "./src/command/Grammar.js"
      export { keys, settings } from "./src/server/ServerConfig.js"`,
    resolveDir: root
  },
  bundle: true,
  packages: "external",
  platform: "node",
  format: "esm",
  outfile: bundle,
  logLevel: "warning"
})
const tables = await import(bundle)

const isSilent = (text) => text.trim() === ""
const faults = []

for (const key of tables.keys) {
  if (isSilent(tables.settings[key].help))
    faults.push(`the setting ${key} has no help; src/server/ServerConfig.ts has it`)
}
for (const command of tables.all(tables.root)) {
  const name = `\`${tables.nameOf(command)}\``
  if (isSilent(command.summary)) faults.push(`${name} has no summary`)
  for (const flag of command.flags) if (isSilent(flag.help)) faults.push(`--${flag.name} of ${name} has no help`)
  for (const word of command.words) if (isSilent(word.help)) faults.push(`${word.name} of ${name} has no help`)
}

for (const fault of faults) console.error(fault)
if (faults.length > 0) process.exit(1)
