/** Mounts whose file systems may stop answering, and which paths lead there. */
import { spawn } from "node:child_process"
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { hangText, make, parse } from "../../src/spawn/SlowMounts.js"
import { deadMount, noDeadMount } from "../support/deadMount.js"
import { folder } from "../support/exposed.js"
import { eventually } from "../support/servers.js"

const line = (path: string, type: string) => `36 27 0:31 / ${path} rw,relatime shared:1 - ${type} source rw\n`

/** A shell that carries out one command after another, in the namespaces that a command line makes. */
const running = (
  under: string
): Effect.Effect<
  { readonly pid: number; readonly run: (command: string) => Effect.Effect<void> },
  never,
  Scope.Scope
> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => spawn("/bin/sh", ["-c", under, "sh", "/bin/sh"], { stdio: ["pipe", "pipe", "ignore"] })),
      (shell) => Effect.sync(() => shell.kill("SIGKILL"))
    ),
    (shell) => {
      let output = ""
      shell.stdout.on("data", (data) => {
        output += String(data)
      })
      return {
        pid: shell.pid ?? Number.NaN,
        run: (command) =>
          Effect.suspend(() => {
            output = ""
            shell.stdin.write(`${command}; echo $?\n`)
            return Effect.zipRight(
              eventually(command, () => output !== ""),
              Effect.sync(() => assert.strictEqual(output, "0\n"))
            )
          })
      }
    }
  )

describe("parse", () => {
  it("finds the file systems of other machines and of processes, and no others", () => {
    const types = ["fuse", "fuseblk", "fuse.sshfs", "nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "autofs", "virtiofs"]
    for (const type of types) assert.deepStrictEqual(parse(line("/m", type)).get("/m"), { path: "/m", type })
    for (const type of ["ext4", "fusectl", "tmpfs", "proc", "overlay", "nfsd"]) {
      assert.strictEqual(parse(line("/m", type)).size, 0, type)
    }
  })

  it("decodes the characters that the table escapes", () => {
    assert.isTrue(parse(line("/a\\040b\\134c", "nfs")).has("/a b\\c"))
  })

  it("leaves out the root, on which the server itself lives, and what is mounted for the system", () => {
    assert.strictEqual(parse(line("/", "virtiofs")).size, 0)
    assert.strictEqual(parse(line("/proc/meminfo", "fuse.lxcfs") + line("/sys/x", "fuse.lxcfs")).size, 0)
    assert.isTrue(parse(line("/process", "nfs")).has("/process"))
  })
})

describe("hangText", () => {
  const mounts = {
    find: (path: string | Buffer) => (String(path).startsWith("/m") ? { path: "/m", type: "nfs" } : undefined),
    findWithin: (path: string | Buffer) => (String(path) === "/" ? { path: "/\xc3\xa9", type: "fuse" } : undefined)
  }
  it("names the path that did not answer, and its mount", () => {
    const wait = "did not answer within 10 s"
    assert.strictEqual(hangText(mounts, ["/", "/m/x"]), `/m/x ${wait}: its file system (nfs at /m) hangs`)
    assert.strictEqual(hangText(mounts, ["/a", "/"]), `/ ${wait}: its file system (fuse at /é) hangs`)
    assert.strictEqual(hangText(mounts, ["/a"]), `a file system ${wait}`)
  })
})

describe("find", () => {
  /** A folder, and a table in which `mount` below it is mounted, and `moünt` as well. */
  const test = (title: string, body: (dir: string, leads: (path: string) => boolean) => void, more = "") =>
    it.scopedLive(title, () =>
      Effect.map(folder, (dir) => {
        mkdirSync(`${dir}/mount`)
        mkdirSync(`${dir}/moünt`)
        const table = `${dir}/table`
        writeFileSync(
          table,
          line("/", "ext4") + more + line(`${dir}/moünt`, "fuse.sshfs") + line(`${dir}/mount`, "nfs4")
        )
        const mounts = make(table)
        assert.isTrue(mounts.isPresent())
        assert.deepStrictEqual(mounts.find(`${dir}/mount`), { path: `${dir}/mount`, type: "nfs4" })
        body(dir, (path) => mounts.find(path) !== undefined)
      })
    )

  test("finds the mount above a path, whatever is between, and no other with a longer name", (dir, leads) => {
    for (const path of [
      "mount/x",
      "mount/x/y",
      "moünt",
      "moünt/x",
      "./mount",
      "/mount/",
      "x/../mount",
      "x/y/../../mount"
    ]) {
      assert.isTrue(leads(`${dir}/${path}`), path)
    }
    for (const path of ["", "x", "mounted", "moun", "x/mount", "x/../y/mount"])
      assert.isFalse(leads(`${dir}/${path}`), path)
    assert.isFalse(leads("/"))
    assert.isFalse(leads("/.."))
    assert.isTrue(leads(`/../..${dir}/mount`))
  })

  test("follows links, also those that lead to others, by their text alone", (dir, leads) => {
    mkdirSync(`${dir}/below`)
    symlinkSync(`${dir}/mount`, `${dir}/absolute`)
    symlinkSync("../mount", `${dir}/below/relative`)
    symlinkSync("moünt/nowhere", `${dir}/dangling`)
    symlinkSync("below/relative", `${dir}/second`)
    symlinkSync("below", `${dir}/folder`)
    symlinkSync("nowhere", `${dir}/elsewhere`)
    for (const path of ["absolute", "absolute/x", "below/relative", "dangling", "second", "folder/relative/x"]) {
      assert.isTrue(leads(`${dir}/${path}`), path)
    }
    for (const path of ["elsewhere", "folder", "folder/x", "below/mount"]) assert.isFalse(leads(`${dir}/${path}`), path)
    // As the system does: `..` is the folder that the link leads to, not the one that it is in.
    assert.isTrue(leads(`${dir}/folder/../mount`))
  })

  test("follows as many links as the system does", (dir, leads) => {
    symlinkSync("mount", `${dir}/1`)
    for (let count = 2; count <= 41; count++) symlinkSync(`${count - 1}`, `${dir}/${count}`)
    assert.isTrue(leads(`${dir}/40`))
    assert.isFalse(leads(`${dir}/41`))
    symlinkSync("loop", `${dir}/loop`)
    assert.isFalse(leads(`${dir}/loop/mount`))
  })

  test("goes on behind what cannot be entered", (dir, leads) => {
    writeFileSync(`${dir}/file`, "")
    const long = "x".repeat(300)
    for (const path of ["file/x", long]) assert.isFalse(leads(`${dir}/${path}`), path)
    for (const path of ["file/x/../../mount", `${long}/../mount`]) assert.isTrue(leads(`${dir}/${path}`), path)
  })

  const many = Array.from({ length: 3000 }, (_, index) => line(`/none/${index}`, "ext4")).join("")
  test("reads a long table to its end", (dir, leads) => assert.isTrue(leads(`${dir}/mount/x`)), many)
})

describe("a table of mounts", () => {
  it.scopedLive("without slow ones has none, nor has one that is missing", () =>
    Effect.map(folder, (dir) => {
      const table = `${dir}/table`
      const missing = make(table)
      assert.isFalse(missing.isPresent())
      writeFileSync(table, line("/m", "ext4"))
      const mounts = make(table)
      assert.isFalse(mounts.isPresent())
      assert.isUndefined(mounts.find("/m"))
      writeFileSync(table, line("/m", "nfs"))
      assert.isTrue(make(table).isPresent())
      // It was looked for once.
      assert.isFalse(missing.isPresent())
    })
  )

  const why = noDeadMount === undefined ? "" : ` (not here: ${noDeadMount})`
  describe.runIf(noDeadMount === undefined)(`that changes${why}`, () => {
    it.scopedLive("is read again", () =>
      Effect.gen(function* () {
        const dead = yield* deadMount("unread")
        const shell = yield* running(dead.under)
        yield* shell.run("true")
        const mounts = make(`/proc/${shell.pid}/mountinfo`)
        assert.deepStrictEqual(mounts.find(`${dead.mount}/x`), { path: dead.mount, type: "fuse.dead" })
        yield* shell.run(`umount -l ${dead.mount}`)
        assert.isFalse(mounts.isPresent())
        assert.isUndefined(mounts.find(`${dead.mount}/x`))
      })
    )
  })
})
