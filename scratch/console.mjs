// Bundles the page of the console into dist/console: index.html, and assets whose names have a hash of their content.
// Beside each asset are its compressed forms, so that the server only reads files.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { basename, join } from "node:path"
import { fileURLToPath } from "node:url"
import { brotliCompressSync, constants, gzipSync } from "node:zlib"
import { build } from "esbuild"

const source = fileURLToPath(new URL("../src/console", import.meta.url))
const dist = fileURLToPath(new URL("../dist/console", import.meta.url))

/** Builds the page. Replaces what an earlier build left. */
export const buildConsole = async () => {
  const { outputFiles } = await build({
    entryPoints: [
      { in: join(source, "main.tsx"), out: "main" },
      { in: join(source, "style.css"), out: "style" }
    ],
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
  rmSync(dist, { recursive: true, force: true })
  mkdirSync(dist, { recursive: true })
  const named = (pattern) => basename(outputFiles.find(({ path }) => pattern.test(path)).path)
  for (const { path, contents } of outputFiles) {
    writeFileSync(path, contents)
    writeFileSync(`${path}.gz`, gzipSync(contents, { level: 9 }))
    const params = { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: contents.length }
    writeFileSync(`${path}.br`, brotliCompressSync(contents, { params }))
  }
  const html = readFileSync(join(source, "index.html"), "utf8")
    .replace("__STYLE__", `console/${named(/style-\w+\.css$/)}`)
    .replace("__SCRIPT__", `console/${named(/main-\w+\.js$/)}`)
  writeFileSync(join(dist, "index.html"), html)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await buildConsole()
