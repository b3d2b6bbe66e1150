/** Every source file has a place on the pages that say where things are. */
import { readdirSync } from "node:fs"
import { assert, it } from "@effect/vitest"
import { page, root } from "../support/pages.js"

/** Files that are not named: the public doors, which only export modules, and generated code. */
const isUnnamed = (path: string) => /(^|\/)index\.ts$/.test(path) || path.startsWith("remote/gen/")

it("docs/architecture.md or docs/sandbox.md names every file of src", () => {
  const texts = ["docs/architecture.md", "docs/sandbox.md"].map((path) => page(path).text).join("\n")
  const named = new Set(Array.from(texts.matchAll(/\]\(\.\.\/src\/([^)]+)\)/g), ([, path]) => path))
  const files = readdirSync(`${root}src`, { recursive: true, encoding: "utf8" }).filter((path) => /\.tsx?$/.test(path))
  assert.isAbove(files.length, 100)
  assert.deepStrictEqual(
    files.filter((path) => !isUnnamed(path) && !named.has(path)),
    []
  )
})
