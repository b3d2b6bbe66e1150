/**
 * The open files of one connection, by handle id.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import * as Effect from "effect/Effect"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { FileRefused, UnknownFileHandle } from "../protocol/Failure.js"
import type { NativePath } from "./NativePath.js"
import type { OpenFile } from "./OpenFile.js"

/** The most open files of one connection. */
const maxHandles = 128

/** The longest handle id, in bytes. */
const maxIdBytes = 32

/** An open file, and the path that it was opened by. */
interface Entry {
  readonly file: OpenFile
  readonly path: NativePath
}

/** Open files by handle id. Callers must not run `add` and `close` of one handle id concurrently. */
export class Handles {
  private readonly open = new Map<string, Entry & { readonly scope: Scope.CloseableScope }>()
  private opening = 0

  /** Closing `scope` closes all files. */
  constructor(private readonly scope: Scope.Scope) {}

  get size(): number {
    return this.open.size
  }

  /** Opens a file under a new handle id; refused if the id is too long or in use, or too many files are open. */
  add<E>(
    handleId: string,
    path: NativePath,
    open: Effect.Effect<OpenFile, E, Scope.Scope>
  ): Effect.Effect<void, E | FileRefused> {
    return Effect.suspend((): Effect.Effect<void, E | FileRefused> => {
      const refuse = (message: string) => new FileRefused({ message })
      if (Buffer.byteLength(handleId) > maxIdBytes) {
        return refuse(`file handle ID must not exceed ${maxIdBytes} bytes`)
      }
      if (this.open.has(handleId)) return refuse(`file handle \`${handleId}\` already exists`)
      if (this.open.size + this.opening >= maxHandles) {
        return refuse(`at most ${maxHandles} file handles may be open per connection`)
      }
      this.opening++
      return Effect.flatMap(Scope.fork(this.scope, ExecutionStrategy.sequential), (scope) =>
        Scope.extend(open, scope).pipe(
          Effect.flatMap((file) =>
            Effect.sync(() => {
              this.open.set(handleId, { file, path, scope })
            })
          ),
          Effect.onError((cause) => Scope.close(scope, Exit.failCause(cause)))
        )
      ).pipe(
        Effect.ensuring(
          Effect.sync(() => {
            this.opening--
          })
        ),
        Effect.uninterruptible
      )
    })
  }

  /** Finds an open file. */
  get(handleId: string): Effect.Effect<Entry, UnknownFileHandle> {
    return Effect.suspend(() => {
      const found = this.open.get(handleId)
      return found === undefined ? new UnknownFileHandle({ handleId }) : Effect.succeed(found)
    })
  }

  /** Closes a file if it is open, and returns whether it was. */
  close(handleId: string): Effect.Effect<boolean> {
    return Effect.suspend(() => {
      const found = this.open.get(handleId)
      this.open.delete(handleId)
      return found === undefined ? Effect.succeed(false) : Effect.as(Scope.close(found.scope, Exit.void), true)
    })
  }

  /** Closes all files whose handle ids are `wanted`. */
  closeAll(wanted: (handleId: string) => boolean): Effect.Effect<void> {
    return Effect.suspend(() =>
      Effect.forEach([...this.open.keys()].filter(wanted), (handleId) => this.close(handleId), { discard: true })
    )
  }
}
