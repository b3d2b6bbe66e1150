/** Commands and servers that are started without standard input, output or errors. */
import { existsSync, readlinkSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { directory, shell } from "../support/files.js"
import { binary, eventually, launch } from "../support/servers.js"

describe("standard descriptors that are closed at the start", () => {
  it.scopedLive("are no sockets or files later, of a server or of a command, and both work", () =>
    Effect.gen(function* () {
      const folder = yield* directory
      const socket = `${folder}/socket`
      const under = 'exec "$@" <&- >&- 2>&-'
      const { pid } = yield* launch({ args: ["--listen", `unix://${socket}`], under })
      yield* eventually("it listens", () => existsSync(socket))
      const names = [0, 1, 2].map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`))
      assert.deepStrictEqual(names, ["/dev/null", "/dev/null", "/dev/null"])
      const run = `${process.execPath} ${binary} run --url unix://${socket} -- sh -c 'echo out; cat'`
      assert.strictEqual(shell(folder, `${run} <&-`), "out\n")
      assert.strictEqual(shell(folder, `${run} <&- 2>&-`), "out\n")
      assert.strictEqual(shell(folder, `${run} <&- 2>&- >&-; echo $?`), "0\n")
    })
  )
})
