/** What a browser loads, compressed. `npm run build` first. */
import { readdirSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { gzipSync } from "node:zlib"
import { assert, describe, it } from "@effect/vitest"

const folder = fileURLToPath(new URL("../../dist/console/", import.meta.url))
const files = readdirSync(folder).filter((name) => /\.(js|css|html)$/.test(name))
const sizeOf = (name: string) => gzipSync(readFileSync(folder + name), { level: 9 }).length
const total = (names: ReadonlyArray<string>) => names.reduce((sum, name) => sum + sizeOf(name), 0)

/** What a file loads without being asked for more. */
const closure = (names: ReadonlyArray<string>): ReadonlyArray<string> => {
  const found = new Set(names)
  for (const name of found) {
    const text = readFileSync(folder + name, "utf8")
    for (const [, imported] of text.matchAll(/(?:from|import)\s*"\.\/([^"]+)"/g)) {
      if (imported !== undefined) found.add(imported)
    }
  }
  return Array.from(found)
}

const named = (pattern: RegExp) => files.filter((name) => pattern.test(name))

describe("the page", () => {
  it("with a terminal is at most 130 kB in at most 5 requests", () => {
    const first = closure(named(/^(index\.html|main-|style-|Screen-)/))
    assert.isAtLeast(first.length, 4)
    assert.isAtMost(first.length, 5, first.join(" "))
    assert.isAtMost(total(first), 130_000)
  })

  it("without WebGL is at most 160 kB", () => {
    assert.isAtMost(total(files.filter((name) => !/^(addon-webgl|fleet)/.test(name))), 160_000)
  })

  it("of a fleet is at most 25 kB in 3 requests", () => {
    const all = closure(named(/^(fleet\.html|fleet-|style-)/))
    assert.lengthOf(all, 3)
    assert.isAtMost(total(all), 25_000)
  })

  it("is compressed beforehand, and nothing else is in its folder", () => {
    const pages = ["index.html", "fleet.html"]
    const assets = files.filter((name) => !pages.includes(name))
    const expected = [...pages, ...assets.flatMap((name) => [name, `${name}.br`, `${name}.gz`])]
    assert.sameMembers(readdirSync(folder), expected)
    for (const name of assets) assert.match(name, /^[\w-]+-[A-Z0-9]{8}\.(js|css)$/)
  })

  it("has relative addresses, and a place for the nonce", () => {
    for (const page of ["index.html", "fleet.html"]) {
      const html = readFileSync(folder + page, "utf8")
      assert.include(html, 'nonce="__NONCE__"')
      for (const [, address] of html.matchAll(/(?:src|href)="([^"]+)"/g)) {
        assert.match(address ?? "", /^(console\/|data:)/)
      }
    }
  })
})
