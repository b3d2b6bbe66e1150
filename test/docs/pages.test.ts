/** What the pages have in common: every block of code is run or checked, every link leads somewhere. */
import { execFile } from "node:child_process"
import { existsSync, readFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { directory } from "../support/files.js"
import { page, pages, root } from "../support/pages.js"
import { isOwnScript, runPage } from "../support/shell.js"

/** What runs or checks the blocks of each language. */
const languages = ["json", "sh", "console", "ts", "text", "toml", "ini", "dockerfile", "mermaid"]

/** What a heading is called in links. */
const anchorOf = (heading: string) =>
  heading
    .toLowerCase()
    .replaceAll(/[^\w\- ]/g, "")
    .replaceAll(" ", "-")

const anchorsOf = (path: string) =>
  Array.from(readFileSync(path, "utf8").matchAll(/^#+ (.*)$/gm), ([, heading = ""]) => anchorOf(heading))

describe.each(pages.map((page) => [page.path, page] as const))("%s", (path, { text, blocks }) => {
  it("has blocks of known languages", () => {
    for (const { language, line } of blocks) assert.include(languages, language, `${path}:${line}`)
  })

  it("has links that lead somewhere", () => {
    for (const [, target = ""] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^https?:/.test(target)) continue
      const [file = "", anchor] = target.split("#")
      const found = file === "" ? join(root, path) : join(root, dirname(path), file)
      assert.isTrue(existsSync(found), `${path}: ${target}`)
      if (anchor !== undefined) assert.include(anchorsOf(found), anchor, `${path}: ${target}`)
    }
  })
})

describe("README.md", () => {
  const lines = readFileSync(`${root}README.md`, "utf8").split("\n")

  it("has at most 150 lines of at most 120 characters", () => {
    assert.isAtMost(lines.length - 1, 150)
    for (const line of lines) assert.isAtMost(line.length, 120, line)
  })

  it("leads to every page", () => {
    for (const { path } of pages.slice(1)) assert.include(lines.join("\n"), `](${path})`)
  })
})

describe("the shell blocks of", () => {
  for (const page of pages) {
    if (!page.blocks.some((block) => ["sh", "console"].includes(block.language) && !isOwnScript(block))) continue
    it.live(page.path, () => runPage(page))
  }
})

describe("commands of the package itself", () => {
  const { scripts, name, version } = JSON.parse(readFileSync(`${root}package.json`, "utf8"))

  it.scopedLive("put the command on the PATH by `npm link`", () =>
    Effect.gen(function* () {
      const prefix = yield* directory
      const run = (file: string, ...args: ReadonlyArray<string>) =>
        Effect.async<string>((resume) => {
          const env = { ...process.env, npm_config_prefix: prefix }
          execFile(file, args, { cwd: root, env }, (error, stdout) => resume(Effect.succeed(error?.message ?? stdout)))
        })
      yield* run("npm", "link", "--ignore-scripts", "--offline", "--no-audit", "--no-fund")
      assert.strictEqual(yield* run(join(prefix, "bin", "exec-server"), "--version"), `${version}\n`)
    })
  )

  it("have scripts and files", () => {
    const texts = [...pages, page("CONTRIBUTING.md")].flatMap(({ blocks }) => blocks.filter(isOwnScript))
    assert.isNotEmpty(texts)
    for (const { page, line, text } of texts) {
      for (const [, script = ""] of text.matchAll(/npm (?:run )?([\w:]+)/g)) {
        if (!["ci", "install", "link", "pack"].includes(script)) assert.property(scripts, script, `${page}:${line}`)
      }
      for (const [, tarball] of text.matchAll(/([\w.-]+\.tgz)/g)) assert.strictEqual(tarball, `${name}-${version}.tgz`)
      for (const [, file = ""] of text.matchAll(/\b((?:scratch|test)\/[\w/.]+)/g)) {
        assert.isTrue(existsSync(`${root}${file}`), `${page}:${line}: ${file}`)
      }
    }
  })
})

describe("docs/configuration.md", () => {
  it.live("has the settings that there are, each with its flag, its variable and its default", () =>
    Effect.map(
      Effect.async<string>((resume) => {
        execFile(process.execPath, ["scratch/settings.mjs", "--check"], { cwd: root }, (_, stdout, stderr) =>
          resume(Effect.succeed(stdout + stderr))
        )
      }),
      (found) => assert.strictEqual(found, "")
    )
  )
})
