// Bundles the pages of the console into dist/console: index.html for a server, fleet.html for a gateway, and assets whose
// names have a hash of their content.
// Beside each asset are its compressed forms, so that the server only reads files.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { basename, join } from "node:path"
import { fileURLToPath } from "node:url"
import { brotliCompressSync, constants, gzipSync } from "node:zlib"
import { build } from "esbuild"

const source = fileURLToPath(new URL("../src/console", import.meta.url))
const dist = fileURLToPath(new URL("../dist/console", import.meta.url))

const bundle = async (entryPoints) => {
  const { outputFiles } = await build({
    entryPoints: entryPoints.map(([file, out]) => ({ in: join(source, file), out })),
    bundle: true,
    splitting: true,
    format: "esm",
    platform: "browser",
    target: ["chrome105", "firefox115", "safari16.4"],
    jsx: "automatic",
    jsxImportSource: "preact",
    minify: true,
    legalComments: "none",
    entryNames: "[name]-[hash]",
    chunkNames: "[name]-[hash]",
    write: false,
    outdir: dist,
    logLevel: "warning",
    tsconfig: join(source, "tsconfig.json")
  })
  return outputFiles
}

/** Builds the pages. Replaces what an earlier build left. */
export const buildConsole = async () => {
  const files = await bundle([
    ["main.tsx", "main"],
    ["style.css", "style"]
  ])
  // On its own: shared chunks would be more requests for the other page.
  const outputFiles = [...files, ...(await bundle([["fleet.tsx", "fleet"]]))]
  rmSync(dist, { recursive: true, force: true })
  mkdirSync(dist, { recursive: true })
  const named = (pattern) => basename(outputFiles.find(({ path }) => pattern.test(path)).path)
  for (const { path, contents } of outputFiles) {
    writeFileSync(path, contents)
    writeFileSync(`${path}.gz`, gzipSync(contents, { level: 9 }))
    const params = { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: contents.length }
    writeFileSync(`${path}.br`, brotliCompressSync(contents, { params }))
  }
  const html = readFileSync(join(source, "index.html"), "utf8").replace(
    "__STYLE__",
    `console/${named(/style-\w+\.css$/)}`
  )
  const page = (name, script) => writeFileSync(join(dist, name), html.replace("__SCRIPT__", `console/${named(script)}`))
  page("index.html", /main-\w+\.js$/)
  page("fleet.html", /fleet-\w+\.js$/)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await buildConsole()
