/**
 * The server side of the file worker: runs calls on a file system.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import type { Files } from "../filesystem/FileSystem.js"
import type { NativePath } from "../filesystem/NativePath.js"
import type { OpenFile } from "../filesystem/OpenFile.js"
import { CallLimit, type FileError, type Limit, ofCode, toFileError } from "../filesystem/SystemError.js"
import { type Answers, type Call, toBytes, toText } from "./Frames.js"

/** The result of a call: a JSON value, and bytes beside it. */
export interface Answer {
  readonly value: Answers[Call["call"]]
  readonly payload: Buffer
}

const none = Buffer.alloc(0)
const answerOf = (value: Answer["value"]): Answer => ({ value, payload: none })
const done = Effect.as(answerOf(null))
const bytes = Effect.map((payload: Buffer): Answer => ({ value: null, payload }))

/**
 * Makes a handler of calls. Open files stay open until a `close` call. `limitOf` returns the time limit of an operation
 * on the given paths.
 */
export const make = (
  files: Files,
  limitOf: (paths: ReadonlyArray<NativePath>) => Limit
): ((call: Call, payload: Buffer) => Effect.Effect<Answer, FileError>) => {
  const open = new Map<
    number,
    { readonly file: OpenFile; readonly path: NativePath; readonly scope: Scope.CloseableScope }
  >()
  let nextHandle = 1

  const fileOf = (handle: number): Effect.Effect<OpenFile, FileError> =>
    Effect.suspend((): Effect.Effect<OpenFile, FileError> => {
      const found = open.get(handle)
      return found === undefined ? toFileError(ofCode("EBADF")) : Effect.succeed(found.file)
    })

  const pathsOf = (call: Call): ReadonlyArray<NativePath> => {
    if ("handle" in call) {
      const found = open.get(call.handle)
      return found === undefined ? [] : [found.path]
    }
    return "to" in call ? [toBytes(call.path), toBytes(call.to)] : [toBytes(call.path)]
  }

  const run = (call: Call, payload: Buffer): Effect.Effect<Answer, FileError> => {
    switch (call.call) {
      case "open":
        return Effect.flatMap(Scope.make(), (scope) =>
          files.open(toBytes(call.path), call.mode, call).pipe(
            Scope.extend(scope),
            Effect.onError((cause) => Scope.close(scope, Exit.failCause(cause))),
            Effect.map((file) => {
              const handle = nextHandle++
              open.set(handle, { file, path: toBytes(call.path), scope })
              return answerOf({ handle, size: file.size })
            })
          )
        )
      case "readAll":
        return bytes(Effect.flatMap(fileOf(call.handle), (file) => file.readAll(call.limit)))
      case "read":
        return bytes(Effect.flatMap(fileOf(call.handle), (file) => file.read(call.offset, call.length)))
      case "write":
        return done(Effect.flatMap(fileOf(call.handle), (file) => file.write(call.offset, payload)))
      case "close": {
        const found = open.get(call.handle)
        open.delete(call.handle)
        return done(found === undefined ? Effect.void : Scope.close(found.scope, Exit.void))
      }
      case "createDirectory":
        return done(files.createDirectory(toBytes(call.path), call.options))
      case "getMetadata":
        return Effect.map(files.getMetadata(toBytes(call.path), call), answerOf)
      case "canonicalize":
        return Effect.map(files.canonicalize(toBytes(call.path)), (path) => answerOf(toText(path)))
      case "readDirectory":
        return Effect.map(files.readDirectory(toBytes(call.path)), (entries) =>
          answerOf(entries.map(({ name, isDirectory, isFile }) => [toText(name), isDirectory, isFile] as const))
        )
      case "walk":
        return Effect.map(files.walk(toBytes(call.path), call.options), ({ entries, errors, truncated }) =>
          answerOf({
            entries: entries.map(({ path, kind }) => [toText(path), kind === "directory"] as const),
            errors: errors.map(({ path, message }) => [toText(path), message] as const),
            truncated
          })
        )
      case "remove":
        return done(files.remove(toBytes(call.path), call.options))
      case "copy":
        return done(files.copy(toBytes(call.path), toBytes(call.to), call.recursive))
    }
  }
  return (call, payload) => Effect.provideService(run(call, payload), CallLimit, limitOf(pathsOf(call)))
}
