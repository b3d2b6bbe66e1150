// Bundles the command: dist/bin.js runs dist/server-<hash>.cjs, dist/run-<hash>.cjs or dist/commands-<hash>.cjs from its
// compile cache.
// Removes what earlier builds left.
//
// Compiling the bundle would take a third of the server's start-up (`node scratch/bench.mjs --only startup`).
import { spawnSync } from "node:child_process"
import { createHash } from "node:crypto"
import { chmodSync, readdirSync, rmSync, writeFileSync } from "node:fs"
import Module from "node:module"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { build } from "esbuild"
import { buildConsole } from "./console.mjs"
import { buildSchema } from "./schema.mjs"

const dist = fileURLToPath(new URL("../dist", import.meta.url))
const warm = fileURLToPath(new URL("warm.mjs", import.meta.url))

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

// What runs first in a server that is replaced.
await build({
  entryPoints: [fileURLToPath(new URL("../src/upgrade/handover.ts", import.meta.url))],
  bundle: true,
  platform: "node",
  target: "node20",
  format: "cjs",
  outfile: join(dist, "handover.cjs"),
  minifyWhitespace: true,
  logLevel: "warning"
})

await buildConsole()
await buildSchema()

// Bundled on their own: few need them, and each start reads the whole file of the others.
const apart = {
  name: "apart",
  setup: ({ onResolve }) =>
    onResolve({ filter: /\/(Sdk|bin)\.js$/ }, ({ path }) => ({
      path: path.replace(/^.*\/|\.js$/g, ""),
      external: true
    }))
}

// Large, and needed by few: what a gateway's database needs is loaded from its package.
const external = ["pg", "@electric-sql/pglite"]

/** Bundles a program, and returns the name of its file. */
const bundle = async (kind, entry, left = []) => {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL(`../src/${entry}`, import.meta.url))],
    bundle: true,
    platform: "node",
    target: "node20",
    format: "cjs",
    plugins: [apart],
    external: ["node-pty", ...external, ...left],
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
  writeFileSync(join(dist, `${name}.cjs`), source)
  return name
}

// It never gets there: `binServer.ts` leaves remote mode and `--mcp` to `bin.ts`.
const server = await bundle("server", "binServer.ts", [
  "../remote/RemoteTransport.js",
  "../remote/SigV4.js",
  "../fleet/HostTransport.js",
  "./McpServing.js"
])
// Neither does this: `binRun.ts` leaves other machines to `bin.ts`.
const run = await bundle("run", "binRun.ts", [
  "../remote/noise/KeyPair.js",
  "../remote/noise/NoiseClient.js",
  "../remote/Registration.js",
  "../remote/RelayClient.js"
])
const commands = await bundle("commands", "bin.ts")
const sdk = await bundle("sdk", "mcp/Sdk.ts")

const bundles = [server, run, commands, sdk, "handover"]
for (const file of readdirSync(dist)) {
  const [, name] = /^(.*)\.(?:cjs|cache)$/.exec(file) ?? []
  if (name !== undefined && !bundles.includes(name)) rmSync(join(dist, file))
}

const bin = join(dist, "bin.js")
writeFileSync(
  bin,
  `#!/usr/bin/env node
import { createRequire } from "node:module"

// Includes Node's own modules: imported, each would first be wrapped in an ES module.
const require = createRequire(import.meta.url)
const { closeSync, fstatSync, openSync, readSync } = require("node:fs")
const { join } = require("node:path")
const { fileURLToPath } = require("node:url")
const vm = require("node:vm")

const folder = fileURLToPath(new URL(".", import.meta.url))

const open = (file) => {
  const descriptor = openSync(file)
  return { descriptor, size: fstatSync(descriptor).size }
}

/** Reads a file into the beginning of this memory. */
const read = ({ descriptor, size }, memory) => {
  let length = 0
  for (let part = -1; part !== 0 && length < size; length += part) {
    part = readSync(descriptor, memory, length, size - length)
  }
  closeSync(descriptor)
  return memory.subarray(0, length)
}

// Missing, or made by another version of Node.js: the bundle is compiled normally.
const openCache = (file) => {
  try {
    return open(file)
  } catch {
    return undefined
  }
}

/** What was loaded, by its path: for the build. */
export const scripts = new Map()

const names = { bin: "${commands}", Sdk: "${sdk}" }

const run = (name) => {
  const file = join(folder, name + ".cjs")
  const [source, cache] = [open(file), openCache(file.replace(/cjs$/, "cache"))]
  // For both, one after the other: memory that was not used before is slow.
  const memory = Buffer.allocUnsafeSlow(Math.max(source.size, cache?.size ?? 0))
  const script = new vm.Script(read(source, memory).latin1Slice(), {
    filename: file,
    cachedData: cache && read(cache, memory),
    importModuleDynamically: vm.constants?.USE_MAIN_CONTEXT_DEFAULT_LOADER
  })
  const module = { exports: {} }
  const load = (id) => (id in names ? run(names[id]) : require(id))
  scripts.set(file, script)
  script.runInThisContext()(module.exports, load, module, file, folder)
  return module.exports
}

// A server has flags only.
const [, , first = "-"] = process.argv
run(first.startsWith("-") ? "${server}" : first === "run" ? "${run}" : names.bin)
`
)
chmodSync(bin, 0o755)

// Removes modules whose source was moved or deleted. The others were overwritten in place, so that a running program
// always finds its modules.
const bundled = [
  "bin.ts",
  "binServer.ts",
  "binRun.ts",
  join("sandbox", "fileWorker.ts"),
  join("screen", "screenWorker.ts"),
  join("upgrade", "handover.ts")
]
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

// Each run adds the functions that it has compiled to the caches.
for (const args of [
  ["--listen", "ws://127.0.0.1:0"],
  ["run", "--", "true"],
  // By the bundle of all commands, for what they have in common.
  ["run", "--env", "local", "--", "true"],
  ["mcp"]
]) {
  const { status, stderr } = spawnSync(process.execPath, [warm, bin, ...args], {
    encoding: "utf8",
    timeout: 60_000,
    // Without the servers of whoever builds it.
    env: { ...process.env, CODEX_HOME: dist, EXEC_SERVER_URL: "" }
  })
  if (status !== 0) throw new Error(`exec-server ${args.join(" ")} exited with ${status}: ${stderr}`)
}
