/**
 * A file system in memory, with directories and regular files but no links and no permissions. It fails as the real one
 * does. Timestamps come from Effect's clock.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { FileSystem, type Files } from "../filesystem/FileSystem.js"
import { basename, isRoot, join, type NativePath, parent } from "../filesystem/NativePath.js"
import { notAFile, type OpenFile } from "../filesystem/OpenFile.js"
import { type FileError, ofCode, toFileError } from "../filesystem/SystemError.js"
import { checkLimits } from "../filesystem/Walk.js"
import { FileRefused } from "../protocol/Failure.js"

/** A regular file. */
interface FileNode {
  readonly kind: "file"
  readonly createdAtMs: number
  content: Buffer
  modifiedAtMs: number
}

/** A directory; its times do not change. */
interface DirectoryNode {
  readonly kind: "directory"
  readonly createdAtMs: number
}

type Node = FileNode | DirectoryNode

const keyOf = (path: NativePath): string => path.toString("latin1")
const pathOf = (key: string): NativePath => Buffer.from(key, "latin1")
const fail = (code: string): Effect.Effect<never, FileError> => Effect.fail(toFileError(ofCode(code)))

/** Nodes by their paths. */
class Tree {
  private readonly nodes = new Map<string, Node>([["/", { kind: "directory", createdAtMs: 0 }]])

  constructor(private readonly clock: Clock.Clock) {}

  get files(): { readonly [path: string]: Buffer } {
    const files = Array.from(this.nodes).flatMap(
      ([key, node]): Array<[string, Buffer]> =>
        node.kind === "file" ? [[pathOf(key).toString(), Buffer.from(node.content)]] : []
    )
    return Object.fromEntries(files)
  }

  find(path: NativePath): Node | undefined {
    return this.nodes.get(keyOf(path))
  }

  now(): number {
    return this.clock.unsafeCurrentTimeMillis()
  }

  addFile(path: NativePath, content: Buffer): FileNode {
    const now = this.now()
    const node: FileNode = { kind: "file", createdAtMs: now, modifiedAtMs: now, content }
    this.nodes.set(keyOf(path), node)
    return node
  }

  addDirectory(path: NativePath): void {
    this.nodes.set(keyOf(path), { kind: "directory", createdAtMs: this.now() })
  }

  /** Creates a directory and its missing ancestors. */
  addDirectories(path: NativePath): void {
    if (this.find(path) !== undefined) return
    this.addDirectories(parent(path))
    this.addDirectory(path)
  }

  delete(path: NativePath): void {
    for (const below of this.below(path)) this.nodes.delete(keyOf(below))
    this.nodes.delete(keyOf(path))
  }

  /** All descendants of a directory, sorted by bytes. */
  below(path: NativePath): ReadonlyArray<NativePath> {
    const prefix = isRoot(path) ? "/" : `${keyOf(path)}/`
    return Array.from(this.nodes.keys())
      .filter((key) => key.startsWith(prefix) && key !== prefix)
      .sort()
      .map(pathOf)
  }

  /** The entries of a directory, sorted by bytes. */
  in(path: NativePath): ReadonlyArray<NativePath> {
    return this.below(path).filter((found) => parent(found).equals(path))
  }

  /** Why a path cannot exist; undefined if it exists or can be created. */
  obstacle(path: NativePath): "ENOENT" | "ENOTDIR" | undefined {
    if (isRoot(path)) return undefined
    const above = parent(path)
    const node = this.find(above)
    if (node === undefined) return this.obstacle(above) ?? "ENOENT"
    return node.kind === "directory" ? undefined : "ENOTDIR"
  }

  get(path: NativePath): Effect.Effect<Node, FileError> {
    const node = this.find(path)
    return node === undefined ? fail(this.obstacle(path) ?? "ENOENT") : Effect.succeed(node)
  }
}

const openFile = (node: FileNode, tree: Tree): OpenFile => ({
  size: node.content.length,
  readAll: (limit) =>
    Effect.suspend(() =>
      node.content.length > limit
        ? new FileRefused({ message: `file is too large to read: limit is ${limit} bytes` })
        : Effect.succeed(Buffer.from(node.content))
    ),
  read: (offset, length) => Effect.sync(() => Buffer.from(node.content.subarray(offset, offset + length))),
  write: (offset, bytes) =>
    Effect.sync(() => {
      const content = Buffer.alloc(Math.max(node.content.length, offset + bytes.length))
      node.content.copy(content)
      bytes.copy(content, offset)
      node.content = content
      node.modifiedAtMs = tree.now()
    })
})

const walk = (tree: Tree, root: NativePath, options: Parameters<Files["walk"]>[1]): ReturnType<Files["walk"]> =>
  Effect.gen(function* () {
    const { maxDepth, maxDirectories, maxEntries, pruneHiddenDirectories } = options
    yield* checkLimits(options)
    const entries: Array<{ path: NativePath; kind: Node["kind"] }> = []
    const first = yield* tree.get(root)
    const queue = first.kind === "directory" ? [{ path: root, depth: 0 }] : []
    let directories = 0
    for (const { path, depth } of queue) {
      if (directories++ === maxDirectories) return { entries, errors: [], truncated: true }
      for (const found of tree.in(path)) {
        const kind = tree.find(found)?.kind ?? "file"
        if (entries.length === maxEntries) return { entries, errors: [], truncated: true }
        entries.push({ path: found, kind })
        if (kind === "file" || depth >= maxDepth) continue
        if (pruneHiddenDirectories && basename(found).toString().startsWith(".")) continue
        queue.push({ path: found, depth: depth + 1 })
      }
    }
    return { entries, errors: [], truncated: false }
  })

const copy = (
  tree: Tree,
  source: NativePath,
  destination: NativePath,
  recursive: boolean
): Effect.Effect<void, FileError> =>
  Effect.gen(function* () {
    const from = yield* tree.get(source)
    const to = tree.find(destination)
    if (from.kind === "file") {
      if (from === to) return yield* new FileRefused({ message: "fs/copy cannot copy a file to itself" })
      if (to?.kind === "directory") return yield* fail("EISDIR")
      const obstacle = tree.obstacle(destination)
      if (obstacle !== undefined) return yield* fail(obstacle)
      return void tree.addFile(destination, Buffer.from(from.content))
    }
    if (!recursive) {
      return yield* new FileRefused({ message: "fs/copy requires recursive: true when sourcePath is a directory" })
    }
    if (source.equals(destination) || keyOf(destination).startsWith(isRoot(source) ? "/" : `${keyOf(source)}/`)) {
      return yield* new FileRefused({ message: "fs/copy cannot copy a directory to itself or one of its descendants" })
    }
    if (to?.kind === "file") return yield* fail("EEXIST")
    if (tree.obstacle(destination) === "ENOTDIR") return yield* fail("ENOTDIR")
    tree.addDirectories(destination)
    for (const path of tree.in(source)) {
      yield* Effect.suspend(() => copy(tree, path, join(destination, basename(path)), true))
    }
  })

const make = (tree: Tree): Files => ({
  open: (path, mode) =>
    Effect.suspend(() => {
      const found = tree.find(path)
      if (found?.kind === "directory") return mode === "read" ? notAFile(path) : fail("EISDIR")
      if (found !== undefined) {
        if (mode === "replace") found.content = Buffer.alloc(0)
        return Effect.succeed(openFile(found, tree))
      }
      const obstacle = tree.obstacle(path) ?? (mode === "read" ? "ENOENT" : undefined)
      if (obstacle !== undefined) return fail(obstacle)
      return Effect.succeed(openFile(tree.addFile(path, Buffer.alloc(0)), tree))
    }),
  createDirectory: (path, { recursive }) =>
    Effect.suspend(() => {
      const found = tree.find(path)
      if (found !== undefined) return recursive && found.kind === "directory" ? Effect.void : fail("EEXIST")
      const obstacle = tree.obstacle(path)
      if (obstacle === "ENOTDIR" || (obstacle !== undefined && !recursive)) return fail(obstacle)
      return Effect.sync(() => tree.addDirectories(path))
    }),
  getMetadata: (path) =>
    Effect.map(
      Effect.suspend(() => tree.get(path)),
      (node) => ({
        isDirectory: node.kind === "directory",
        isFile: node.kind === "file",
        isSymlink: false,
        size: node.kind === "file" ? node.content.length : 0,
        createdAtMs: node.createdAtMs,
        modifiedAtMs: node.kind === "file" ? node.modifiedAtMs : node.createdAtMs
      })
    ),
  canonicalize: (path) =>
    Effect.as(
      Effect.suspend(() => tree.get(path)),
      path
    ),
  readDirectory: (path) =>
    Effect.flatMap(
      Effect.suspend(() => tree.get(path)),
      ({ kind }) => {
        if (kind === "file") return fail("ENOTDIR")
        return Effect.succeed(
          tree.in(path).map((found) => {
            const isFile = tree.find(found)?.kind === "file"
            return { name: basename(found), isDirectory: !isFile, isFile }
          })
        )
      }
    ),
  walk: (path, options) => walk(tree, path, options),
  remove: (path, { recursive, force }) =>
    Effect.suspend(() => {
      if (isRoot(path)) return new FileRefused({ message: "the root directory is not removed" })
      const found = tree.find(path)
      if (found === undefined) {
        const why = tree.obstacle(path) ?? "ENOENT"
        return force && why === "ENOENT" ? Effect.void : fail(why)
      }
      if (found.kind === "directory" && !recursive && tree.in(path).length > 0) return fail("ENOTEMPTY")
      return Effect.sync(() => tree.delete(path))
    }),
  copy: (source, destination, recursive) => Effect.suspend(() => copy(tree, source, destination, recursive))
})

/**
 * The test's view of the files.
 *
 * @category tags
 */
export class MemoryFileSystem extends Context.Tag("exec-server/testing/MemoryFileSystem")<
  MemoryFileSystem,
  {
    /** The content of every file now, by its path. */
    readonly files: Effect.Effect<{ readonly [path: string]: Buffer }>
  }
>() {
  /** A file system with these files, by absolute path, and the directories above them. */
  static readonly layer = (
    files: { readonly [path: string]: string | Buffer } = {}
  ): Layer.Layer<MemoryFileSystem | FileSystem> =>
    Layer.effectContext(
      Effect.map(Clock.clockWith(Effect.succeed), (clock) => {
        const tree = new Tree(clock)
        for (const [name, content] of Object.entries(files)) {
          const path = Buffer.from(name)
          tree.addDirectories(parent(path))
          tree.addFile(path, Buffer.from(content))
        }
        return Context.make(MemoryFileSystem, { files: Effect.sync(() => tree.files) }).pipe(
          Context.add(FileSystem, { ...make(tree), isConfinable: false })
        )
      })
    )
}

/**
 * A file system with these files, by absolute path, and the directories above them. It cannot be confined: requests
 * with a restrictive sandbox are refused.
 *
 * @category layers
 * @example
 * MemoryFileSystem.layer({ "/etc/motd": "hello" })
 */
export const layer: (files?: {
  readonly [path: string]: string | Buffer
}) => Layer.Layer<MemoryFileSystem | FileSystem> = MemoryFileSystem.layer
