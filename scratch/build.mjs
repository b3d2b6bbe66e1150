// Bundles the command: dist/bin.js runs dist/main-<hash>.cjs from its compile cache. Removes what earlier builds left.
//
// Compiling the bundle would take a third of the server's start-up (`node scratch/bench.mjs --only startup`).
import { createHash } from "node:crypto"
import { chmodSync, readdirSync, rmSync, writeFileSync } from "node:fs"
import Module from "node:module"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import v8 from "node:v8"
import { build } from "esbuild"
import { buildConsole } from "./console.mjs"
import { buildSchema } from "./schema.mjs"

const dist = fileURLToPath(new URL("../dist", import.meta.url))

// The worker process for sandboxed file requests, and the thread that emulates terminals.
await build({
  entryPoints: ["sandbox/fileWorker", "screen/screenWorker"].map((name) =>
    fileURLToPath(new URL(`../src/${name}.ts`, import.meta.url))
  ),
  entryNames: "[name]",
  bundle: true,
  platform: "node",
  target: "node20",
  format: "esm",
  outdir: dist,
  logLevel: "warning",
  banner: { js: 'import { createRequire as r } from "node:module"; const require = r(import.meta.url)' }
})

await buildConsole()
await buildSchema()

// Bundled on its own: only one command needs it, and each start reads the whole file of the others.
const sdk = {
  name: "sdk",
  setup: ({ onResolve }) => onResolve({ filter: /\/Sdk\.js$/ }, () => ({ path: "./sdk", external: true }))
}

/** Bundles a program, and returns the name of its file. */
const bundle = async (kind, entry, plugins) => {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL(`../src/${entry}`, import.meta.url))],
    bundle: true,
    platform: "node",
    target: "node20",
    format: "cjs",
    external: ["node-pty"],
    plugins,
    // What is loaded later is required, by the function that dist/bin.js passes.
    supported: { "dynamic-import": false },
    write: false,
    // Each start reads the whole file. Names stay, for stack traces.
    minifyWhitespace: true,
    logLevel: "warning",
    // Not available in bundles of this format.
    define: { "import.meta.url": "importMetaUrl" },
    banner: { js: 'const importMetaUrl = require("node:url").pathToFileURL(__filename).href' }
  })
  // Wrapped like a CommonJS module here, so that a start need not copy the text.
  const source = Module.wrap(outputFiles[0].text)
  // V8 identifies cached code only by the length of its source. The name identifies the content.
  const name = `${kind}-${createHash("sha256").update(source).digest("hex").slice(0, 16)}`
  for (const file of readdirSync(dist)) if (file.startsWith(`${kind}-`)) rmSync(join(dist, file))
  writeFileSync(join(dist, `${name}.cjs`), source)
  return name
}

const name = await bundle("main", "bin.ts", [sdk])
const sdkName = await bundle("sdk", "mcp/Sdk.ts", [])

const bin = join(dist, "bin.js")
writeFileSync(
  bin,
  `#!/usr/bin/env node
import { createRequire } from "node:module"

// Includes Node's own modules: imported, each would first be wrapped in an ES module.
const require = createRequire(import.meta.url)
const { readFileSync } = require("node:fs")
const { join } = require("node:path")
const { fileURLToPath } = require("node:url")
const vm = require("node:vm")

const folder = fileURLToPath(new URL(".", import.meta.url))

// Missing, or made by another version of Node.js: the bundle is compiled normally.
const compiled = (file) => {
  try {
    return readFileSync(file.replace(/cjs$/, "cache"))
  } catch {
    return undefined
  }
}

const run = (name) => {
  const file = join(folder, name + ".cjs")
  const script = new vm.Script(readFileSync(file, "latin1"), {
    filename: file,
    cachedData: compiled(file),
    importModuleDynamically: vm.constants?.USE_MAIN_CONTEXT_DEFAULT_LOADER
  })
  const module = { exports: {} }
  const load = (id) => (id === "./sdk" ? run("${sdkName}").exports : require(id))
  script.runInThisContext()(module.exports, load, module, file, folder)
  return { script, exports: module.exports }
}

export const bundles = { run, script: run("${name}").script }
`
)
chmodSync(bin, 0o755)

// Removes modules whose source was moved or deleted. The others were overwritten in place, so that a running program
// always finds its modules.
const bundled = ["bin.ts", join("sandbox", "fileWorker.ts"), join("screen", "screenWorker.ts")]
const sources = readdirSync(fileURLToPath(new URL("../src", import.meta.url)), { recursive: true })
const current = new Set(["bin.js", "fileWorker.js", "screenWorker.js"])
const isCompiled = (path) => path.endsWith(".ts") && !path.startsWith("console/") && !bundled.includes(path)
for (const source of sources.filter(isCompiled)) {
  for (const extension of ["js", "js.map", "d.ts"]) current.add(source.replace(/ts$/, extension))
}
for (const path of readdirSync(dist, { recursive: true })) {
  const isModule = /\.(js|js\.map|d\.ts)$/.test(path) && !/^(docs-|console\/)/.test(path)
  if (isModule && !current.has(path)) rmSync(join(dist, path))
}

// Runs one start, and caches the functions that it has compiled.
process.argv = [process.execPath, bin, "--listen", "ws://127.0.0.1:0"]
process.stderr.write = () => true
process.stdout.write = () => {
  setImmediate(async () => {
    const { bundles } = await import(bin)
    const sdk = bundles.run(sdkName)
    // V8 rejects cached code that was made with other flags, and the server has set these.
    for (const flag of ["semi-space-growth-factor=2", "parallel-scavenge", "concurrent-array-buffer-sweeping"]) {
      v8.setFlagsFromString(`--${flag}`)
    }
    writeFileSync(join(dist, `${name}.cache`), bundles.script.createCachedData())
    writeFileSync(join(dist, `${sdkName}.cache`), sdk.script.createCachedData())
    process.exit()
  })
  return true
}
await import(bin)
