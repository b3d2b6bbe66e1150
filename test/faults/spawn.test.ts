/** The system starts no further process: EAGAIN for want of processes, ENOMEM for want of memory. */
import { spawnSync } from "node:child_process"
import { rmSync, writeFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { directory } from "../support/files.js"
import { childrenOf, descriptors, eventually, webSocketServer } from "../support/servers.js"
import { startParams } from "../support/TestClient.js"

/** A user of nobody's, for whom alone the limit counts; root is never limited. */
const asNobody = "setpriv --reuid=54321 --clear-groups"
const canBeNobody = spawnSync("sh", ["-c", `prlimit --nproc=40 ${asNobody} ${process.execPath} -e 0`]).status === 0

/**
 * In the place of the C library's: there is no memory while a file is there. The real function must be jumped to, not
 * called, because it returns twice; `-O2` makes it so.
 */
const shim = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>

typedef int start(void);
extern int access(const char *, int);
static start *real;
static const char *flag;

__attribute__((constructor)) static void find(void) {
  real = (start *)dlsym(RTLD_NEXT, "vfork");
  flag = getenv("NO_MEMORY");
}

int vfork(void) {
  if (access(flag, 0) == 0) {
    errno = ENOMEM;
    return -1;
  }
  return real();
}
`

describe("the system starts no further process", () => {
  it.scopedLive.runIf(canBeNobody)("starts fail with EAGAIN, nothing leaks, and all is well afterwards", () =>
    Effect.gen(function* () {
      const server = yield* webSocketServer({
        under: `exec prlimit --nproc=40 ${asNobody} "$@"`,
        args: ["--allow-local-users"]
      })
      const client = yield* server.connect
      yield* client.handshake()
      yield* client.start("first", ["true"], { tty: true })
      yield* client.closed("first")
      const before = descriptors(server.pid)
      const running: Array<string> = []
      let refusals = 0
      for (let i = 0; i < 60; i++) {
        const more = { tty: i % 2 === 0, pipeStdin: true }
        const { error } = yield* client.call("process/start", startParams(`p${i}`, ["sleep", "1000"], more))
        if (error === undefined) running.push(`p${i}`)
        else {
          refusals++
          assert.deepStrictEqual(error, {
            code: -32603,
            message: "Resource temporarily unavailable (os error 11): sleep"
          })
        }
      }
      assert.isAbove(refusals, 0)
      assert.isAbove(running.length, 0)
      assert.deepStrictEqual(yield* client.ask("environment/status"), { status: "ready" })
      // Ending them takes no process either.
      for (const processId of running) client.post("process/terminate", { processId })
      for (const processId of running) assert.strictEqual((yield* client.closed(processId)).signal, "SIGKILL")
      yield* eventually("descriptors are back", () => descriptors(server.pid) <= before)
      assert.strictEqual(childrenOf(server.pid).length, 0)
      yield* client.start("again", ["true"], { tty: true })
      assert.strictEqual((yield* client.closed("again")).exitCode, 0)
    })
  )

  it.scopedLive("starts fail with ENOMEM, what runs goes on, nothing leaks, and all is well afterwards", () =>
    Effect.gen(function* () {
      const folder = yield* directory
      const flag = `${folder}/no-memory`
      writeFileSync(`${folder}/shim.c`, shim)
      const flags = ["-O2", "-fno-builtin", "-shared", "-fPIC"]
      const built = spawnSync("cc", [...flags, "-o", `${folder}/shim.so`, `${folder}/shim.c`, "-ldl"])
      assert.strictEqual(built.status, 0, String(built.stderr))
      const server = yield* webSocketServer({
        under: `export NO_MEMORY=${flag}; LD_PRELOAD=${folder}/shim.so exec "$@"`
      })
      const client = yield* server.connect
      yield* client.handshake()
      yield* client.start("first", ["cat"], { pipeStdin: true })
      yield* client.start("terminal", ["true"], { tty: true })
      yield* client.closed("terminal")
      const before = descriptors(server.pid)
      writeFileSync(flag, "")
      for (let i = 0; i < 200; i++) {
        const more = { tty: i % 2 === 0, pipeStdin: true }
        const { error } = yield* client.call("process/start", startParams("refused", ["true"], more))
        assert.deepStrictEqual(error, { code: -32603, message: "Cannot allocate memory (os error 12): true" })
      }
      yield* client.write("first", "still here\n")
      yield* client.sees("first", "still here\n")
      rmSync(flag)
      yield* eventually("descriptors are back", () => descriptors(server.pid) <= before)
      assert.strictEqual(childrenOf(server.pid).length, 1)
      yield* client.start("refused", ["true"], { tty: true })
      assert.strictEqual((yield* client.closed("refused")).exitCode, 0)
    })
  )
})
