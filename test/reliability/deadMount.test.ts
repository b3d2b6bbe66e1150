/** A file system that does not answer: whoever touches it waits in vain, and nobody else. */
import { chmodSync, symlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { deadMount, noDeadMount } from "../support/deadMount.js"
import { webSocketServer } from "../support/servers.js"

const why = noDeadMount === undefined ? "" : ` (not here: ${noDeadMount})`

describe.runIf(noDeadMount === undefined)(`a file system that does not answer${why}`, () => {
  for (const mode of ["unread", "read"] as const) {
    it.scopedLive(`${mode}: starts on it fail by name, others go on, and the server ends in time`, () =>
      Effect.gen(function* () {
        const dead = yield* deadMount(mode)
        const script = join(dead.folder, "script")
        writeFileSync(script, `#!${dead.mount}/interpreter\n`)
        chmodSync(script, 0o755)
        symlinkSync(dead.mount, join(dead.folder, "link"))
        const server = yield* webSocketServer({ under: dead.under })
        const client = yield* server.connect
        const other = yield* server.connect
        yield* client.handshake()
        yield* other.handshake()
        const start = (processId: string, argv: ReadonlyArray<string>, cwd: string, tty = false) =>
          client.post("process/start", { processId, argv, cwd, env: { PATH: `${dead.folder}/link:/bin` }, tty })
        const posted = [
          start("cwd", ["/bin/true"], dead.mount),
          start("link", ["/bin/true"], join(dead.folder, "link")),
          start("tty", ["/bin/true"], dead.mount, true),
          start("program", [`${dead.mount}/program`], "/"),
          start("path", ["true"], "/"),
          start("interpreter", [script], "/")
        ]
        yield* other.start("fine", ["/bin/echo", "on"])
        assert.deepInclude(yield* other.closed("fine"), { exitCode: 0 })
        yield* client.start("own", ["/bin/echo", "on"])
        assert.deepInclude(yield* client.closed("own"), { exitCode: 0 })

        const messages: Array<string> = []
        for (const id of posted) {
          const { error } = yield* client.reply(id)
          messages.push(error?.message)
        }
        const hangs = "did not answer within 10 s: its file system (fuse.dead) hangs"
        for (const i of [0, 1, 2]) assert.include(messages[i], `the working directory`)
        assert.include(messages[0], `the working directory ${dead.mount} ${hangs}`)
        assert.include(messages[3], `the program path ${dead.mount}/program ${hangs}`)
        assert.include(messages[4], `the program path ${dead.folder}/link/true ${hangs}`)
        assert.include(messages[5], "the program did not start within 10 s: a file system hangs that it needs")

        yield* other.start("still", ["/bin/echo", "on"])
        assert.deepInclude(yield* other.closed("still"), { exitCode: 0 })

        const since = Date.now()
        server.child.kill("SIGTERM")
        assert.strictEqual(yield* server.exit, 0)
        assert.isBelow(Date.now() - since, 8000)
      })
    )
  }
})
