/** Copies from a server that wants something else written than was asked for. */
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { command, isOneLine } from "../support/command.js"
import { directory } from "../support/files.js"
import { type Answers, hello, hostileServer, metadata } from "../support/hostile.js"

const root = "/srv/data"

type Listed = ReadonlyArray<{ readonly path: string; readonly kind: string }>

const file = (path: string) => ({ path, kind: "file" })
const folder = (path: string) => ({ path, kind: "directory" })

/** Serves these entries below `root`; every file has the same content. */
const serving = (entries: Listed, more: Answers = {}) =>
  hostileServer({
    "fs/getMetadata": ({ params }) =>
      metadata(
        params.path === root || entries.some(({ path, kind }) => path === params.path && kind === "directory")
          ? "directory"
          : "file"
      ),
    "fs/walk": () => ({ entries, errors: [], truncated: false }),
    "fs/open": ({ params }) => ({ handleId: params.handleId }),
    "fs/readBlock": () => ({ chunk: Buffer.from("owned").toString("base64"), eof: true }),
    "fs/close": () => ({}),
    ...more
  })

/** A home with something to protect, and an empty directory to copy into. */
const home = Effect.map(directory, (path) => {
  mkdirSync(`${path}/into`)
  writeFileSync(`${path}/.bashrc`, "mine")
  return path
})

/** Everything there is below a directory. */
const all = (path: string) => readdirSync(path, { recursive: true, encoding: "utf8" }).sort()

describe("cp -r from a hostile server", () => {
  const listings: ReadonlyArray<readonly [what: string, entries: Listed, message: RegExp]> = [
    ["a path above", [file("/srv/.bashrc")], /lists "\/srv\/.bashrc", which is not below/],
    ["a path with ..", [file(`${root}/../../.bashrc`)], /which is not below/],
    ["a directory ..", [folder(`${root}/..`), file(`${root}/../.bashrc`)], /which is not below/],
    ["a path with .", [folder(`${root}/.`)], /which is not below/],
    ["an empty name", [file(`${root}//etc`)], /which is not below/],
    ["no name", [file(`${root}/`)], /which is not below/],
    ["the directory itself", [file(root)], /which is not below/],
    ["a sibling", [file(`${root}base/x`)], /which is not below/],
    ["a NUL", [file(`${root}/a\0b`)], /which is not below/],
    ["a relative path", [file("../.bashrc")], /which is not below/],
    ["an encoded slash", [file("file:///srv/data/..%2f..%2f.bashrc")], /which is not below/],
    ["escape sequences", [file("\u001b]0;owned\u0007\n../x")], /which is not below/],
    ["a name twice", [file(`${root}/a`), file(`${root}/a`)], /lists "\/srv\/data\/a" twice/],
    ["a file, and something in it", [file(`${root}/a`), file(`${root}/a/passwd`)], /but no directory that it is in/],
    ["something in nothing", [file(`${root}/a/passwd`)], /but no directory that it is in/],
    [
      "more than was asked for",
      Array.from({ length: 50_001 }, (_, i) => file(`${root}/${i}`)),
      /lists more than 50000 entries/
    ],
    [
      "a tree that is too deep",
      Array.from({ length: 8000 }, (_, i) => folder(`${root}${"/d".repeat(i + 1)}`)),
      /below 64 directories/
    ]
  ]
  for (const [what, entries, message] of listings) {
    it.scopedLive(`${what}: refused, and nothing is written`, () =>
      Effect.gen(function* () {
        const path = yield* home
        const url = yield* serving(entries)
        const ended = yield* command(["cp", "-r", "--url", url, `:${root}`, `${path}/into`])
        assert.strictEqual(ended.code, 1, ended.stderr)
        isOneLine(ended.stderr)
        assert.match(ended.stderr, message)
        // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not be there
        assert.notMatch(ended.stderr, /[\u0000-\u0009\u000b-\u001f]/)
        assert.deepStrictEqual(all(path), [".bashrc", "into"])
        assert.strictEqual(readFileSync(`${path}/.bashrc`, "utf8"), "mine")
      })
    )
  }

  it.scopedLive("links that are there already are not followed", () =>
    Effect.gen(function* () {
      const path = yield* home
      mkdirSync(`${path}/into/data`)
      mkdirSync(`${path}/outside`)
      symlinkSync("../../outside", `${path}/into/data/sub`)
      symlinkSync("../../.bashrc", `${path}/into/data/rc`)
      const linked = yield* serving([folder(`${root}/sub`), file(`${root}/sub/x`)])
      const refused = yield* command(["cp", "-r", "--url", linked, `:${root}`, `${path}/into`])
      assert.strictEqual(refused.code, 1)
      assert.match(refused.stderr, /into\/data\/sub: it is a link or a file/)
      const replaced = yield* command([
        "cp",
        "-r",
        "--url",
        yield* serving([file(`${root}/rc`)]),
        `:${root}`,
        `${path}/into`
      ])
      assert.strictEqual(replaced.code, 0, replaced.stderr)
      assert.strictEqual(readFileSync(`${path}/.bashrc`, "utf8"), "mine")
      assert.strictEqual(readFileSync(`${path}/into/data/rc`, "utf8"), "owned")
      assert.deepStrictEqual(all(`${path}/outside`), [])
    })
  )

  it.scopedLive("a link with the name of the copy is not followed", () =>
    Effect.gen(function* () {
      const path = yield* home
      mkdirSync(`${path}/outside`)
      symlinkSync("../outside", `${path}/into/data`)
      const url = yield* serving([file(`${root}/x`)])
      const refused = yield* command(["cp", "-r", "--url", url, `:${root}`, `${path}/into`])
      assert.strictEqual(refused.code, 1)
      assert.deepStrictEqual(all(`${path}/outside`), [])
    })
  )

  it.scopedLive("odd names that are names are copied", () =>
    Effect.gen(function* () {
      const path = yield* home
      const names = ["...", "-r", "a b", "\u001b[31m", "new\nline", ".part-x", "é", "..x"]
      const url = yield* serving([folder(`${root}/sub`), ...names.map((name) => file(`${root}/sub/${name}`))])
      const copied = yield* command(["cp", "-r", "--url", url, `:${root}`, `${path}/into`])
      assert.strictEqual(copied.code, 0, copied.stderr)
      assert.deepStrictEqual(all(`${path}/into/data/sub`), names.sort())
    })
  )
})

describe("cp of a file from a hostile server", () => {
  const contents: ReadonlyArray<readonly [what: string, answers: Answers, message: RegExp]> = [
    [
      "one that never ends",
      { "fs/readBlock": () => ({ chunk: Buffer.alloc(1048576).toString("base64"), eof: false }) },
      /has more than/
    ],
    ["empty blocks without end", { "fs/readBlock": () => ({ chunk: "", eof: false }) }, /gave 0 bytes of 1048576/],
    ["blocks with holes", { "fs/readBlock": () => ({ chunk: "AAAA", eof: false }) }, /gave 3 bytes of 1048576/],
    [
      "a block that is too large",
      { "fs/readBlock": () => ({ chunk: Buffer.alloc(1048577).toString("base64"), eof: true }) },
      /gave 1048577 bytes of 1048576/
    ]
  ]
  for (const [what, answers, message] of contents) {
    it.scopedLive(`${what}: refused, and nothing is left of it`, () =>
      Effect.gen(function* () {
        const path = yield* home
        const url = yield* serving([], answers)
        const ended = yield* command(["cp", "--url", url, ":/srv/file", `${path}/into`])
        assert.strictEqual(ended.code, 1, ended.stderr)
        isOneLine(ended.stderr)
        assert.match(ended.stderr, message)
        assert.deepStrictEqual(all(path), [".bashrc", "into"])
      })
    )
  }

  it.scopedLive("a working directory that is no path: one line", () =>
    Effect.gen(function* () {
      for (const cwd of ["http://host/x", "file:///a%00b", "", "file://host/x", "x"]) {
        const url = yield* serving([], {
          initialize: () => ({ ...hello, environmentInfo: { ...hello.environmentInfo, cwd } })
        })
        const ended = yield* command(["cp", "--url", url, ":x", "/nowhere/x"])
        assert.strictEqual(ended.code, 1, cwd)
        isOneLine(ended.stderr)
        assert.match(ended.stderr, /the server's working directory/)
        assert.isFalse(existsSync("/nowhere"))
      }
    })
  )
})
