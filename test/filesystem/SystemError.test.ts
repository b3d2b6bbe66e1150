import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { attempt, mapToFileError } from "../../src/filesystem/SystemError.js"
import { codeOf } from "../../src/protocol/Failure.js"
import { failureOf } from "../support/fake.js"

for (const [code, expected, message] of [
  ["ENOENT", -32004, "No such file or directory (os error 2)"],
  ["EINVAL", -32600, "Invalid argument (os error 22)"],
  ["EACCES", -32600, "Permission denied (os error 13)"],
  ["EPERM", -32600, "Operation not permitted (os error 1)"],
  ["ENOSPC", -32603, "No space left on device (os error 28)"],
  ["EDQUOT", -32603, "Disk quota exceeded (os error 122)"],
  ["EROFS", -32603, "Read-only file system (os error 30)"],
  ["EIO", -32603, "Input/output error (os error 5)"],
  ["EMFILE", -32603, "Too many open files (os error 24)"],
  ["ENOTEMPTY", -32603, "Directory not empty (os error 39)"],
  ["EXDEV", -32603, "Invalid cross-device link (os error 18)"]
] as const) {
  it.effect(`${code} is ${expected}`, () =>
    Effect.gen(function* () {
      const failure = yield* failureOf(
        mapToFileError(attempt(() => Promise.reject(Object.assign(new Error("x"), { code }))))
      )
      assert.strictEqual(codeOf(failure), expected)
      assert.strictEqual(failure.message, message)
    })
  )
}

it.effect("what is no error of the system's keeps its words", () =>
  Effect.gen(function* () {
    const failure = yield* failureOf(mapToFileError(attempt(() => Promise.reject(new Error("words")))))
    assert.strictEqual(codeOf(failure), -32603)
    assert.strictEqual(failure.message, "words")
  })
)
