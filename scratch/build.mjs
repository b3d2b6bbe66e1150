// Bundles the command: dist/bin.js starts dist/main-<hash>.cjs from compiled code that was made with it.
//
// Compiling the bundle is a third of the server's start-up; `node scratch/bench.mjs --only startup` shows it.
import { createHash } from "node:crypto"
import { chmodSync, readdirSync, rmSync, writeFileSync } from "node:fs"
import Module from "node:module"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import v8 from "node:v8"
import { build } from "esbuild"

const dist = fileURLToPath(new URL("../dist", import.meta.url))

// What carries out sandboxed requests on files, in a process of its own.
await build({
  entryPoints: [fileURLToPath(new URL("../src/sandbox/fileWorker.ts", import.meta.url))],
  bundle: true,
  platform: "node",
  target: "node20",
  format: "esm",
  outdir: dist,
  logLevel: "warning",
  banner: { js: 'import { createRequire as r } from "node:module"; const require = r(import.meta.url)' }
})

const { outputFiles } = await build({
  entryPoints: [fileURLToPath(new URL("../src/bin.ts", import.meta.url))],
  bundle: true,
  platform: "node",
  target: "node20",
  format: "cjs",
  external: ["node-pty"],
  write: false,
  // A start reads all of it, and once counts its lines. Names stay, for stack traces.
  minifyWhitespace: true,
  logLevel: "warning",
  // What a module in a bundle of this format does not have.
  define: { "import.meta.url": "importMetaUrl" },
  banner: { js: 'const importMetaUrl = require("node:url").pathToFileURL(__filename).href' }
})
// In the function that gives a module its scope, so that a start need not copy it into one.
const source = Module.wrap(outputFiles[0].text)

// V8 tells compiled code from another by its length alone: the name says which one it is.
const name = `main-${createHash("sha256").update(source).digest("hex").slice(0, 16)}`
for (const file of readdirSync(dist)) if (file.startsWith("main-")) rmSync(join(dist, file))
writeFileSync(join(dist, `${name}.cjs`), source)

const bin = join(dist, "bin.js")
writeFileSync(
  bin,
  `#!/usr/bin/env node
import { createRequire } from "node:module"

// Node's own modules as well: imported, each would be wrapped in a module of this kind first.
const require = createRequire(import.meta.url)
const { readFileSync } = require("node:fs")
const { join } = require("node:path")
const { fileURLToPath } = require("node:url")
const vm = require("node:vm")

const folder = fileURLToPath(new URL(".", import.meta.url))
const file = join(folder, "${name}.cjs")

// Made by another version of Node.js, or not there: the bundle is compiled as usual.
const compiled = () => {
  try {
    return readFileSync(file.replace(/cjs$/, "cache"))
  } catch {
    return undefined
  }
}

export const script = new vm.Script(readFileSync(file, "latin1"), {
  filename: file,
  cachedData: compiled(),
  importModuleDynamically: vm.constants?.USE_MAIN_CONTEXT_DEFAULT_LOADER
})
script.runInThisContext()({}, require, { exports: {} }, file, folder)
`
)
chmodSync(bin, 0o755)

// The functions that a start needs are compiled by now, and kept.
process.argv = [process.execPath, bin, "--listen", "ws://127.0.0.1:0"]
process.stderr.write = () => true
process.stdout.write = () => {
  setImmediate(async () => {
    const { script } = await import(bin)
    // Compiled code is taken only with the flags that it was made with, and the server has set these.
    for (const flag of ["semi-space-growth-factor=2", "parallel-scavenge", "concurrent-array-buffer-sweeping"]) {
      v8.setFlagsFromString(`--${flag}`)
    }
    writeFileSync(join(dist, `${name}.cache`), script.createCachedData())
    process.exit()
  })
  return true
}
await import(bin)
