import { assert, describe, it } from "@effect/vitest"
import { hangText, parse } from "../../src/spawn/SlowMounts.js"

const line = (path: string, type: string) => `36 27 0:31 / ${path} rw,relatime shared:1 - ${type} source rw\n`

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
