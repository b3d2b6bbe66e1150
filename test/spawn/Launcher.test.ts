import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import { type ChildSpec, ExitStatus } from "../../src/spawn/Child.js"
import { Guard } from "../../src/spawn/Guard.js"
import { Launcher } from "../../src/spawn/Launcher.js"
import { ProcessTrees } from "../../src/spawn/ProcessTrees.js"

const root = mkdtempSync(join(tmpdir(), "launch-"))
afterAll(() => rmSync(root, { recursive: true }))

const file = (path: string, content: string, mode = 0o755) => {
  const full = join(root, path)
  writeFileSync(full, content)
  chmodSync(full, mode)
  return full
}
mkdirSync(join(root, "work"))
const tool = file("tool", "#!/bin/sh\nexit 7\n")
const plain = file("plain", "", 0o644)

const spec = (argv: ReadonlyArray<string>, more: Partial<ChildSpec> = {}): ChildSpec => ({
  argv,
  cwd: join(root, "work"),
  env: { PATH: `${root}:/usr/bin:/bin` },
  io: { _tag: "Pipe", stdin: false },
  ...more
})

const nothing = [-1, -1, -1] as const

const runtime = ManagedRuntime.make(
  Launcher.layer.pipe(Layer.provide(ProcessTrees.layer), Layer.provide(Guard.layerNone))
)
afterAll(() => runtime.dispose())

const attempt = (asked: ChildSpec) =>
  runtime.runSync(Effect.either(Effect.flatMap(Launcher, ({ launch }) => launch(asked, nothing))))

const launch = (asked: ChildSpec) => Either.getOrThrowWith(attempt(asked), ({ message }) => new Error(message))

const ending = (asked: ChildSpec): Promise<ExitStatus> => new Promise((end) => launch(asked).onExit(end))

const refusal = (asked: ChildSpec): string =>
  Either.match(attempt(asked), {
    onLeft: ({ message }) => message,
    onRight: () => "it was started"
  })

const missing = "No such file or directory (os error 2)"
const denied = "Permission denied (os error 13)"
const tooLong = "Argument list too long (os error 7)"

describe("launch", () => {
  it("a missing program, one that is not executable, and a folder", () => {
    assert.strictEqual(refusal(spec(["/no/such"])), missing)
    assert.strictEqual(refusal(spec(["./tool"])), missing)
    assert.strictEqual(refusal(spec([plain])), denied)
    assert.strictEqual(refusal(spec([root])), denied)
    assert.strictEqual(refusal(spec([`${tool}/x`])), "Not a directory (os error 20)")
  })

  it("a working directory that is missing, or none", () => {
    assert.strictEqual(refusal(spec([tool], { cwd: join(root, "nowhere") })), missing)
    assert.strictEqual(refusal(spec([tool], { cwd: tool })), "Not a directory (os error 20)")
    const isOfCwd = (asked: ChildSpec) => Either.flip(attempt(asked)).pipe(Either.map((error) => error.isOfCwd))
    assert.deepStrictEqual(isOfCwd(spec([tool], { cwd: tool })), Either.right(true))
    assert.deepStrictEqual(isOfCwd(spec([plain])), Either.right(false))
  })

  it("arguments and variables that are longer than the system takes", async () => {
    assert.strictEqual(refusal(spec([tool, "x".repeat(131_072)])), tooLong)
    assert.strictEqual(refusal(spec([tool, "€".repeat(43_691)])), tooLong)
    assert.strictEqual(refusal(spec([tool], { env: { A: "x".repeat(131_070) } })), tooLong)
    assert.deepStrictEqual(await ending(spec([tool, "x".repeat(131_071)])), ExitStatus.Exited({ code: 7 }))
  })

  it("a script whose interpreter, or a binary whose loader, is missing", () => {
    assert.strictEqual(refusal(spec([file("script", "#! /no/such/interpreter -x\n")])), missing)
    // An ELF header and one program header: PT_INTERP, naming a loader that is not there.
    const elf = Buffer.alloc(200)
    elf.write(`7f454c460201010000000000000000000200${process.arch === "arm64" ? "b700" : "3e00"}01000000`, "hex")
    elf.writeBigUInt64LE(64n, 32)
    for (const [value, offset] of [
      [64, 52],
      [56, 54],
      [1, 56]
    ] as const) {
      elf.writeUInt16LE(value, offset)
    }
    elf.writeUInt32LE(3, 64)
    elf.writeUInt32LE(4, 68)
    elf.writeBigUInt64LE(120n, 72)
    elf.writeBigUInt64LE(16n, 96)
    elf.write("/no/such/loader\0", 120)
    const binary = file("binary", "")
    writeFileSync(binary, elf)
    assert.strictEqual(refusal(spec([binary])), missing)
  })

  it("a file without an interpreter is run by the shell", async () => {
    const bare = file("bare", 'test "$#:$1" = "2:a b" && exit 9\n')
    assert.deepStrictEqual(await ending(spec([bare, "a b", "c"])), ExitStatus.Exited({ code: 9 }))
  })

  it("a child starts with every signal at its default and none blocked", async () => {
    // Node.js itself ignores SIGPIPE; signals 32 and 33 are the C library's own.
    const check = `
      while read -r name value; do
        case $name in SigBlk:) blocked=$value;; SigIgn:) ignored=$value;; esac
      done < /proc/self/status
      exit $(( (0x$blocked | 0x$ignored) != 0 ))`
    assert.deepStrictEqual(await ending(spec(["/bin/sh", "-c", check])), ExitStatus.Exited({ code: 0 }))
  })

  it("who listens late is told as well", async () => {
    const leader = launch(spec([tool]))
    // Another child's end, started later, is reported later or in the same turn.
    await ending(spec(["/bin/sh", "-c", "sleep 0.2"]))
    assert.deepStrictEqual(await new Promise((end) => leader.onExit(end)), ExitStatus.Exited({ code: 7 }))
  })

  it("a hundred at once, each with an end of its own", async () => {
    const codes = Array.from({ length: 100 }, (_, code) => code)
    const ends = await Promise.all(codes.map((code) => ending(spec(["/bin/sh", "-c", `exit ${code}`]))))
    assert.deepStrictEqual(
      ends,
      codes.map((code) => ExitStatus.Exited({ code }))
    )
  })
})
