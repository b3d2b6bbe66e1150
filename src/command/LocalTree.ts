/**
 * A local directory that a tree is copied into.
 *
 * The names come from a possibly hostile server, and other programs may change the directory meanwhile. So every name
 * is a single component, and is resolved below an open directory without following links: nothing outside of the tree
 * is created or replaced.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { mkdir } from "node:fs/promises"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import { isName } from "../client/ServerNames.js"
import * as Cursor from "../filesystem/Cursor.js"
import { attemptUnless, type SystemError } from "../filesystem/SystemError.js"
import { CommandFailed } from "./CommandExit.js"
import * as LocalFiles from "./LocalFiles.js"

/** The names that lead from the root of a tree to an entry; empty for the root itself. */
export type Names = ReadonlyArray<Buffer>

/** An open local directory. */
export interface LocalTree {
  /** Creates a directory in an existing one, unless it exists. */
  readonly createDirectory: (names: Names) => Effect.Effect<void, CommandFailed>
  /** Creates or replaces a file, once all of its content has arrived. */
  readonly write: <E>(names: Names, content: Stream.Stream<Buffer, E>) => Effect.Effect<void, CommandFailed | E>
}

/** Opens a directory to copy into. Creates it and its parents if missing. */
export const open = (root: string): Effect.Effect<LocalTree, CommandFailed, Scope.Scope> =>
  Effect.gen(function* () {
    const shown = (names: Names) => [root.replace(/\/+$/, ""), ...names].join("/")
    const failed = (names: Names) => (error: SystemError) => {
      const why = error.code === "ENOTDIR" ? "it is a link or a file, and no directory to copy into" : error.message
      return new CommandFailed({ message: `${shown(names)}: ${why}` })
    }
    yield* LocalFiles.createDirectory(root)
    const top = yield* Effect.mapError(Cursor.open(Buffer.from(root), true), failed([]))

    /** Uses the parent directory of an entry, and its name there. */
    const inside = <A, E>(names: Names, use: (directory: Cursor.Cursor, name: Buffer) => Effect.Effect<A, E>) =>
      Effect.gen(function* () {
        const above = names.slice(0, -1)
        const name = names[above.length]
        if (name === undefined || !names.every((each) => isName(each.toString("latin1")))) {
          return yield* new CommandFailed({ message: `${shown(names)}: is no path to copy to` })
        }
        const directory = yield* Effect.mapError(Cursor.open(top.here, false), failed([]))
        for (const [i, each] of above.entries()) {
          yield* Effect.mapError(directory.down(each), failed(names.slice(0, i + 1)))
        }
        return yield* use(directory, name)
      }).pipe(Effect.scoped)

    return {
      createDirectory: (names) =>
        inside(names, (directory, name) =>
          attemptUnless("EEXIST", () => mkdir(directory.at(name))).pipe(
            // An existing entry must be a directory, not a link to one.
            Effect.zipRight(directory.down(name)),
            Effect.mapError(failed(names))
          )
        ),
      write: (names, content) =>
        inside(names, (directory, name) => LocalFiles.write(directory.at(name), content, shown(names)))
    } satisfies LocalTree
  })
