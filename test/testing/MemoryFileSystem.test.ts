/** The same steps on files in memory and on the machine's: they say the same. */
import { Buffer } from "node:buffer"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/TestClock"
import { FileSystem } from "../../src/filesystem/FileSystem.js"
import { MemoryFileSystem } from "../../src/testing/MemoryFileSystem.js"
import { directory } from "../support/files.js"

type Files = FileSystem["Type"]

const following = { followSymlinks: true }
const walking = {
  maxDepth: 9,
  maxDirectories: 99,
  maxEntries: 99,
  followDirectorySymlinks: false,
  pruneHiddenDirectories: false
}

const write = (files: Files, path: Buffer, text: string) =>
  Effect.scoped(Effect.flatMap(files.open(path, "replace", following), (file) => file.write(0, Buffer.from(text))))

const read = (files: Files, path: Buffer, limit = 1000) =>
  Effect.scoped(Effect.flatMap(files.open(path, "read", following), (file) => Effect.map(file.readAll(limit), String)))

/** Each step with the paths it takes; what it gives is compared. */
const steps: ReadonlyArray<
  readonly [string, (files: Files, at: (name: string) => Buffer) => Effect.Effect<unknown, unknown>]
> = [
  ["a file", (files, at) => write(files, at("a"), "hello")],
  ["its content", (files, at) => read(files, at("a"))],
  ["too much of it", (files, at) => read(files, at("a"), 4)],
  ["a shorter content", (files, at) => Effect.zipRight(write(files, at("a"), "hi"), read(files, at("a")))],
  [
    "a hole",
    (files, at) =>
      Effect.scoped(
        Effect.flatMap(files.open(at("a"), "replace", following), (file) =>
          Effect.zipRight(file.write(3, Buffer.from("x")), read(files, at("a")))
        )
      )
  ],
  [
    "a block",
    (files, at) =>
      Effect.scoped(
        Effect.flatMap(files.open(at("a"), "read", following), (file) => Effect.map(file.read(2, 9), String))
      )
  ],
  ["no file", (files, at) => read(files, at("b"))],
  ["below a file", (files, at) => read(files, at("a/b"))],
  ["far below nothing", (files, at) => write(files, at("n/o/p"), "")],
  ["a directory below nothing", (files, at) => files.createDirectory(at("n/o"), { ...following, recursive: false })],
  ["a directory below a file", (files, at) => files.createDirectory(at("a/o"), { ...following, recursive: true })],
  ["directories", (files, at) => files.createDirectory(at("d/e/f"), { ...following, recursive: true })],
  ["the same again", (files, at) => files.createDirectory(at("d/e/f"), { ...following, recursive: true })],
  ["the same, not recursive", (files, at) => files.createDirectory(at("d"), { ...following, recursive: false })],
  [
    "a directory in the place of a file",
    (files, at) => files.createDirectory(at("a"), { ...following, recursive: true })
  ],
  ["a directory as a file", (files, at) => read(files, at("d"))],
  ["a directory as a file to write", (files, at) => write(files, at("d"), "")],
  ["files in it", (files, at) => Effect.zipRight(write(files, at("d/z"), "z"), write(files, at("d/e/y"), "y"))],
  ["a listing of a file", (files, at) => files.readDirectory(at("a"))],
  ["a listing of nothing", (files, at) => files.readDirectory(at("b"))],
  ["a walk", (files, at) => files.walk(at("d"), walking)],
  ["a walk that ends early", (files, at) => files.walk(at("d"), { ...walking, maxEntries: 2 })],
  ["a walk of two directories", (files, at) => files.walk(at("d"), { ...walking, maxDirectories: 2 })],
  ["a shallow walk", (files, at) => files.walk(at("d"), { ...walking, maxDepth: 0 })],
  ["a walk that goes too deep", (files, at) => files.walk(at("d"), { ...walking, maxDepth: 65 })],
  [
    "a walk past hidden directories",
    (files, at) =>
      files
        .createDirectory(at("d/.h/in"), { ...following, recursive: true })
        .pipe(
          Effect.zipRight(files.walk(at("d"), { ...walking, pruneHiddenDirectories: true })),
          Effect.tap(files.remove(at("d/.h"), { ...following, recursive: true, force: false }))
        )
  ],
  ["a walk of nothing", (files, at) => files.walk(at("b"), walking)],
  ["a walk of a file", (files, at) => files.walk(at("a"), walking)],
  ["a copy", (files, at) => Effect.zipRight(files.copy(at("a"), at("c"), false), read(files, at("c")))],
  ["a copy onto itself", (files, at) => files.copy(at("a"), at("a"), false)],
  ["a copy onto a directory", (files, at) => files.copy(at("a"), at("d"), false)],
  ["a copy to nowhere", (files, at) => files.copy(at("a"), at("n/o"), false)],
  ["a copy of nothing", (files, at) => files.copy(at("b"), at("c"), false)],
  ["a copy of a tree", (files, at) => files.copy(at("d"), at("d2"), false)],
  ["a copy of a tree into itself", (files, at) => files.copy(at("d"), at("d/e/g"), true)],
  ["a copy of a tree onto a file", (files, at) => files.copy(at("d"), at("a"), true)],
  ["a copied tree", (files, at) => Effect.zipRight(files.copy(at("d"), at("d2"), true), files.walk(at("d2"), walking))],
  [
    "a removed directory that is not empty",
    (files, at) => files.remove(at("d"), { ...following, recursive: false, force: true })
  ],
  ["a removed tree", (files, at) => files.remove(at("d"), { ...following, recursive: true, force: false })],
  ["the same, again", (files, at) => files.remove(at("d"), { ...following, recursive: true, force: false })],
  ["the same, by force", (files, at) => files.remove(at("d"), { ...following, recursive: true, force: true })],
  [
    "nothing below a file, by force",
    (files, at) => files.remove(at("a/b"), { ...following, recursive: true, force: true })
  ],
  ["the root", (files) => files.remove(Buffer.from("/"), { ...following, recursive: true, force: true })],
  ["where a path leads", (files, at) => files.canonicalize(at("a"))],
  ["where nothing leads", (files, at) => files.canonicalize(at("b"))],
  ["what is left", (files, at) => files.walk(at("d2"), walking)]
]

/** What a step gave, with the directory it was in taken out. */
const outcomes = (files: Files, root: string) =>
  Effect.forEach(steps, ([name, step]) =>
    step(files, (path) => Buffer.from(`${root}/${path}`)).pipe(
      Effect.either,
      Effect.map((result) => {
        const text = JSON.stringify(result, (_, value) =>
          value?.type === "Buffer" ? Buffer.from(value.data).toString() : value
        )
        return `${name}: ${text.replaceAll(root, "")}`
      })
    )
  )

describe("files in memory", () => {
  it.scopedLive("do what the machine's do, failures and their words included", () =>
    Effect.gen(function* () {
      const root = yield* directory
      const real = yield* Effect.provide(
        Effect.flatMap(FileSystem, (files) => outcomes(files, root)),
        FileSystem.layer
      )
      const inMemory = yield* Effect.gen(function* () {
        const files = yield* FileSystem
        yield* files.createDirectory(Buffer.from(root), { ...following, recursive: true })
        return yield* outcomes(files, root)
      }).pipe(Effect.provide(MemoryFileSystem.layer()))
      assert.deepStrictEqual(inMemory, real)
    })
  )

  it.effect("are there from the start, and can be looked at", () =>
    Effect.gen(function* () {
      const files = yield* FileSystem
      yield* TestClock.adjust(5000)
      yield* write(files, Buffer.from("/etc/more"), "more")
      const entries = yield* files.readDirectory(Buffer.from("/etc"))
      assert.deepStrictEqual(
        entries.map(({ name, isFile }) => [String(name), isFile]),
        [
          ["more", true],
          ["motd", true]
        ]
      )
      const { size, createdAtMs, isSymlink } = yield* files.getMetadata(Buffer.from("/etc/more"), following)
      assert.deepStrictEqual([size, createdAtMs, isSymlink], [4, 5000, false])
      const all = yield* (yield* MemoryFileSystem).files
      assert.deepStrictEqual(
        Object.entries(all).map(([path, content]) => [path, String(content)]),
        [
          ["/etc/motd", "hello"],
          ["/etc/more", "more"]
        ]
      )
    }).pipe(Effect.provide(MemoryFileSystem.layer({ "/etc/motd": "hello" })))
  )
})
