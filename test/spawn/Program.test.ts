import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, assert, describe, it } from "@effect/vitest"
import { type ChildSpec, SpawnError } from "../../src/spawn/Child.js"
import { find } from "../../src/spawn/Program.js"
import { cpuMs } from "../support/growth.js"

const root = mkdtempSync(join(tmpdir(), "program-"))
afterAll(() => rmSync(root, { recursive: true }))

const file = (path: string, content = "#!/bin/sh\n", mode = 0o755) => {
  const full = join(root, path)
  writeFileSync(full, content)
  chmodSync(full, mode)
  return full
}
for (const folder of ["bin", "other", "work", "work/sub"]) mkdirSync(join(root, folder))
const tool = file("bin/tool")
const both = file("other/both")
file("bin/both", "", 0o644)
file("bin/plain", "", 0o644)
const local = file("work/local")
const inSub = file("work/sub/deep")
symlinkSync(tool, join(root, "bin/link"))
symlinkSync(join(root, "nowhere"), join(root, "bin/dangling"))

const pipe = { _tag: "Pipe", stdin: false } as const
const pty = { _tag: "Pty", rows: 24, cols: 80 } as const
const spec = (name: string, more: Partial<ChildSpec> = {}): ChildSpec => ({
  argv: [name],
  cwd: join(root, "work"),
  env: { PATH: `${root}/bin:${root}/other` },
  io: pipe,
  ...more
})

const refusal = (asked: ChildSpec): string => {
  try {
    find(asked)
  } catch (error) {
    assert.instanceOf(error, SpawnError)
    return (error as SpawnError).message
  }
  throw new Error("it was found")
}

const missing = "No such file or directory (os error 2)"
const denied = "Permission denied (os error 13)"

describe("find", () => {
  it("looks a name up in the child's own PATH", () => {
    assert.strictEqual(find(spec("tool")), tool)
    assert.strictEqual(find(spec("link")), join(root, "bin/link"))
    assert.strictEqual(refusal(spec("tool", { env: { PATH: `${root}/other` } })), missing)
  })

  it("goes on where a file of that name cannot be executed, and says so if there is no other", () => {
    assert.strictEqual(find(spec("both")), both)
    assert.strictEqual(refusal(spec("plain")), denied)
    assert.strictEqual(refusal(spec("dangling")), missing)
  })

  it("uses the C library's path where there is no PATH", () => {
    assert.match(find(spec("sh", { env: {} })), /^\/(usr\/)?bin\/sh$/)
    assert.strictEqual(refusal(spec("tool", { env: {} })), missing)
  })

  it("an empty or relative part of PATH is below the working directory", () => {
    assert.strictEqual(find(spec("local", { env: { PATH: `${root}/bin:` } })), local)
    assert.strictEqual(find(spec("deep", { env: { PATH: "sub" } })), inSub)
  })

  it("takes a name with a slash as it is, from the working directory", () => {
    assert.strictEqual(find(spec(tool)), tool)
    assert.strictEqual(find(spec("./local")), local)
    assert.strictEqual(find(spec("sub/deep")), inSub)
    assert.strictEqual(find(spec("../bin/tool")), tool)
  })

  it("does not look for a name that no file can have", () => {
    const PATH = Array.from({ length: 1024 }, (_, i) => `${root}/${i}`).join(":")
    const name = "x".repeat(1_000_000)
    const taken = cpuMs(() => assert.strictEqual(refusal(spec(name, { env: { PATH } })), missing))
    assert.isBelow(taken, 2000)
  })

  for (const io of [pipe, pty]) {
    describe(io._tag, () => {
      it("no program", () => {
        const kind = io._tag === "Pty" ? "PTY" : "pipe"
        assert.strictEqual(refusal(spec("", { io })), `missing program for ${kind} spawn`)
      })

      it("a missing program, and one that is not executable", () => {
        assert.strictEqual(refusal(spec("nosuch", { io })), missing)
        assert.strictEqual(refusal(spec("plain", { io })), denied)
      })

      it("NUL bytes", () => {
        for (const more of [{ argv: ["tool", "a\0b"] }, { arg0: "\0" }]) {
          assert.strictEqual(refusal(spec("tool", { io, ...more })), "nul byte found in provided data")
        }
        for (const env of [{ A: "a\0" }, { "A\0": "a" }]) {
          assert.strictEqual(refusal(spec("tool", { io, env })), "data provided contains a nul byte")
        }
      })
    })
  }
})
