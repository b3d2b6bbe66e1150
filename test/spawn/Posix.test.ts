import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, assert, describe, it } from "@effect/vitest"
import * as Posix from "../../src/spawn/Posix.js"

const folder = mkdtempSync(join(tmpdir(), "native-"))
afterAll(() => rmSync(folder, { recursive: true }))

describe("the native module", () => {
  const refusal = (reason: string) =>
    new RegExp(`^the native module ${folder}/posix\\.node cannot be loaded: ${reason}; run npm rebuild in /.+$`)

  it("that was not built is named in one line, with what builds it", () => {
    assert.throws(() => Posix.loadFrom(folder), refusal("Cannot find module '.*'"))
  })

  it("that is broken is named in one line, with what builds it", () => {
    writeFileSync(join(folder, "posix.node"), "no shared object")
    assert.throws(() => Posix.loadFrom(folder), refusal(".*(file too short|invalid ELF header|slice is not valid).*"))
  })
})
