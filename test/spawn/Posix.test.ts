import {
  accessSync,
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync
} from "node:fs"
import { constants as os, tmpdir } from "node:os"
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
    try {
      Posix.loadFrom(folder)
    } catch (error) {
      assert.instanceOf((error as Error).cause, Error)
    }
  })

  it("that is broken is named in one line, with what builds it", () => {
    writeFileSync(join(folder, "posix.node"), "no shared object")
    assert.throws(() => Posix.loadFrom(folder), refusal(".*(file too short|invalid ELF header|slice is not valid).*"))
  })
})

describe("a system call", () => {
  const codeOf = (call: () => unknown) => {
    try {
      call()
    } catch (error) {
      return (error as NodeJS.ErrnoException).code
    }
    return undefined
  }

  it("that fails throws with the code that node:fs would give", () => {
    const none = -1
    const calls: ReadonlyArray<readonly [code: string, call: () => unknown]> = [
      ["EBADF", () => Posix.setUpTerminal(none)],
      ["EBADF", () => Posix.eof(none)],
      ["EBADF", () => Posix.rawOutput(none)],
      ["EBADF", () => Posix.onWritable(none, () => {})],
      ["EBADF", () => Posix.peerCredentials(none)],
      ["ENOENT", () => Posix.setRoot(join(folder, "none"))],
      ["EINVAL", () => Posix.socketOwner("nowhere", 1, "127.0.0.1", 1)],
      ["ENOENT", () => Posix.spawn(join(folder, "none"), ["none"], [], "/", [-1, -1, -1], () => {})],
      ["ENOENT", () => Posix.spawn("/bin/true", ["true"], [], join(folder, "none"), [-1, -1, -1], () => {})]
    ]
    for (const [code, call] of calls) {
      assert.strictEqual(codeOf(call), code, String(call))
      assert.throws(call, `system call failed: ${code}`)
    }
    const file = openSync("/dev/null", "r")
    for (const call of [Posix.setUpTerminal, Posix.eof, Posix.rawOutput])
      assert.strictEqual(
        codeOf(() => call(file)),
        "ENOTTY"
      )
    closeSync(file)
  })

  it("for the size of what is no pipe says no; a pipe gets what it is asked for", () => {
    const [readEnd, writeEnd] = Posix.pipe()
    assert.isTrue(Posix.setPipeSize(writeEnd, 65536))
    closeSync(readEnd)
    closeSync(writeEnd)
    assert.isFalse(Posix.setPipeSize(-1, 65536))
  })

  it("to a guard that is gone is no error, and to one without room says so", () => {
    const [own, theirs] = Posix.guardSocket()
    assert.isTrue(Posix.tell(own, "a line"))
    let isRoom = true
    for (let index = 0; index < 100_000 && isRoom; index++) isRoom = Posix.tell(own, "a line")
    assert.isFalse(isRoom)
    closeSync(theirs)
    assert.isTrue(Posix.tell(own, "a line"))
    closeSync(own)
  })

  it("that waits for room is cancelled by itself, and calls back no more", async () => {
    const [own, theirs] = Posix.guardSocket()
    const called: Array<string> = []
    const cancel = Posix.onWritable(own, () => called.push("cancelled"))
    Posix.onWritable(own, () => called.push("other"))
    cancel()
    cancel()
    for (let turn = 0; turn < 100 && called.length === 0; turn++)
      await new Promise((resolve) => setTimeout(resolve, 20))
    assert.deepStrictEqual(called, ["other"])
    closeSync(own)
    closeSync(theirs)
  })
})

describe("a start that is abandoned while it waits", () => {
  // The child waits for room on the socket of its guard.
  const full = () => {
    const [own, theirs] = Posix.guardSocket()
    while (Posix.tell(own, "?"));
    return { own, close: () => void [own, theirs].map(closeSync) }
  }
  /** Whether a child of this process sleeps. */
  const isWaiting = () => {
    const children = readdirSync("/proc/self/task").map((task) =>
      readFileSync(`/proc/self/task/${task}/children`, "utf8").trim()
    )
    const pid = children.find((pid) => pid !== "")
    return pid !== undefined && / S /.test(readFileSync(`/proc/${pid}/stat`, "utf8"))
  }

  for (const moment of ["before its child exists", "once its child exists"]) {
    it(`${moment} ends without a program`, async () => {
      const { own, close } = full()
      const events: Array<string> = []
      const options = { files: ["/bin/true"], argv: ["true"], env: [], cwd: "/", stdio: [-1, -1, -1] } as const
      await new Promise<void>((resolve) => {
        const abandon = Posix.spawnSlowly({
          ...options,
          guard: own,
          onExit: (code, signal) => {
            events.push(`exit ${code} ${signal}`)
            resolve()
          },
          onStarted: (result) => {
            events.push(result > 0 ? "started" : `failed ${result}`)
            if (result < 0) resolve()
          }
        })
        if (moment === "once its child exists") while (!isWaiting());
        abandon()
      })
      // The thread may be so fast that its child exists in either case.
      const killed = ["exit -1 9", "started"]
      const isEarly = moment === "before its child exists" && events.length === 1
      assert.deepStrictEqual(events.sort(), isEarly ? [`failed -${os.errno.ECANCELED}`] : killed)
      close()
    })
  }
})

it("the programs that it comes with can be executed", () => {
  for (const program of [Posix.initProgram(), Posix.guardProgram()]) accessSync(program, constants.X_OK)
})
