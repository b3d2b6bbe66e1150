/** The disk is full: what does not fit is refused in the system's words, and what fits goes on. */
import { Buffer } from "node:buffer"
import { spawnSync } from "node:child_process"
import { readFileSync, writeFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { directory } from "../support/files.js"
import { webSocketServer } from "../support/servers.js"
import type { TestClient } from "../support/TestClient.js"

const mount = "mount -t tmpfs -o size=1m none"

/** Whether a file system can be mounted that nobody else sees. */
const canMount = spawnSync("unshare", ["-m", "sh", "-c", `${mount} /mnt`]).status === 0

const bytes = (count: number) => Buffer.alloc(count, "x").toString("base64")

const refusesWrites = (client: TestClient, folder: string, message: string) =>
  Effect.gen(function* () {
    const error = { code: -32603, message }
    const large = { path: `${folder}/large`, dataBase64: bytes(3_000_000) }
    assert.deepStrictEqual((yield* client.call("fs/writeFile", large)).error, error)
    yield* client.ask("fs/remove", { path: `${folder}/large` })
    yield* client.ask("fs/open", { path: `${folder}/blocks`, handleId: "h", mode: "replace" })
    const write = (offset: number) => client.call("fs/writeBlock", { handleId: "h", offset, chunk: bytes(600_000) })
    assert.deepStrictEqual((yield* write(0)).result, {})
    assert.deepStrictEqual((yield* write(600_000)).error, error)
    // Within what is there already it goes on.
    assert.deepStrictEqual((yield* write(0)).result, {})
    yield* client.ask("fs/close", { handleId: "h" })
    yield* client.ask("fs/remove", { path: `${folder}/blocks` })
  })

describe("the disk is full", () => {
  it.scopedLive.runIf(canMount)(
    "writes, blocks, copies and directories are refused; with space again they succeed",
    () =>
      Effect.gen(function* () {
        const folder = yield* directory
        const under = `exec unshare -m sh -c '${mount} ${folder} && exec "$@"' sh "$@"`
        const server = yield* webSocketServer({ under })
        const client = yield* server.connect
        yield* client.handshake()
        yield* refusesWrites(client, folder, "No space left on device (os error 28)")
        yield* client.ask("fs/writeFile", { path: `${folder}/f`, dataBase64: bytes(700_000) })
        const copy = { sourcePath: `${folder}/f`, destinationPath: `${folder}/g`, recursive: false }
        const copied = yield* client.call("fs/copy", copy)
        assert.deepStrictEqual(copied.error, { code: -32603, message: "No space left on device (os error 28)" })
        // What a process writes there fails as it would anywhere, and its output is none of that.
        yield* client.sh("p", `head -c 3000000 /dev/zero > ${folder}/h; echo $?`)
        assert.strictEqual((yield* client.closed("p")).exitCode, 0)
        assert.strictEqual(client.output("p", "stdout").toString(), "1\n")
        for (const name of ["f", "g", "h"]) yield* client.ask("fs/remove", { path: `${folder}/${name}` })
        yield* client.ask("fs/writeFile", { path: `${folder}/f`, dataBase64: bytes(400_000) })
        yield* client.ask("fs/copy", copy)
        assert.strictEqual((yield* client.ask("fs/getMetadata", { path: `${folder}/g` })).size, 400_000)
      })
  )

  it.scopedLive("a file may not grow any more (RLIMIT_FSIZE)", () =>
    Effect.gen(function* () {
      const folder = yield* directory
      const server = yield* webSocketServer({ under: 'ulimit -f 1800; exec "$@"' })
      const client = yield* server.connect
      yield* client.handshake()
      yield* refusesWrites(client, folder, "File too large (os error 27)")
    })
  )

  for (const stream of ["2>/dev/full", '2>"$LOG"']) {
    it.scopedLive(`a server whose log cannot be written (${stream}) serves all the same`, () =>
      Effect.gen(function* () {
        const folder = yield* directory
        const log = `${folder}/log`
        writeFileSync(log, Buffer.alloc(1024))
        const server = yield* webSocketServer({
          // A log that may not grow any more, opened to append as an operator would.
          under: `ulimit -f 2; exec "$@" ${stream.replace(">", ">>")}`,
          env: { LOG: log, EXEC_SERVER_LOG_LEVEL: "all" }
        })
        const client = yield* server.connect
        yield* client.handshake()
        // What is refused is logged.
        for (let i = 0; i < 30; i++) {
          const other = yield* server.connect
          other.raw('{"method":"unknown"}')
          assert.strictEqual((yield* other.ended()).code, 1002)
        }
        assert.deepStrictEqual(yield* client.ask("environment/status"), { status: "ready" })
        assert.isAtMost(readFileSync(log).length, 1024)
        server.child.kill("SIGTERM")
        assert.strictEqual(yield* server.exit, 0)
      })
    )
  }
})
