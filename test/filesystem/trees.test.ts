/** Large and deep trees: removed and copied whole, while others are served. */
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, statSync, writeSync } from "node:fs"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { directory, refuses, shell } from "../support/files.js"
import { descriptors, eventually, type WsServer, webSocketServer } from "../support/servers.js"
import type { TestClient } from "../support/TestClient.js"

const test = (
  title: string,
  body: (client: TestClient, dir: string, server: WsServer) => Effect.Effect<unknown, unknown, Scope.Scope>
) =>
  it.scopedLive(title, () =>
    Effect.gen(function* () {
      const dir = yield* directory
      const server = yield* webSocketServer()
      const client = yield* server.connect
      yield* client.handshake()
      // The first request about files opens the mount table for good.
      yield* client.ask("fs/getMetadata", { path: dir })
      yield* body(client, dir, server)
    })
  )

const levels = 8000

/** A chain of directories with a file in each: its paths are far longer than the system takes. */
const deep = `
  python3 -c '
import os
os.mkdir("deep")
os.chdir("deep")
for i in range(${levels}):
    open("f", "w").write(str(i))
    os.mkdir("d")
    os.chdir("d")
'`

/** The number of directories in the chain, and of files in it. */
const depth = (dir: string, name: string) =>
  shell(
    dir,
    `python3 -c '
import os
os.chdir("${name}")
dirs = files = 0
while True:
    files += os.path.exists("f")
    if not os.path.exists("d"): break
    os.chdir("d")
    dirs += 1
print(dirs, files)
'`
  ).trim()

test(`a tree of ${levels} levels is walked as far as paths go, copied and removed`, (client, dir, server) =>
  Effect.gen(function* () {
    shell(dir, deep)
    const before = descriptors(server.pid)
    const sourcePath = `${dir}/deep`
    const options = { maxDepth: 64, maxDirectories: 10000, maxEntries: 50000 }
    for (const followDirectorySymlinks of [false, true]) {
      const walk = (path: string) => client.ask("fs/walk", { path, options: { ...options, followDirectorySymlinks } })
      const shallow = yield* walk(sourcePath)
      assert.deepInclude(shallow, { errors: [], truncated: false })
      assert.strictEqual(shallow.entries.length, 2 * 65)
      // The longest path that the system takes is found, and nothing below it.
      const { errors, truncated } = yield* walk(`${sourcePath}${"/d".repeat(2000)}`)
      assert.isFalse(truncated)
      // What cannot be examined is no directory that is followed.
      const expected = followDirectorySymlinks ? [] : ["File name too long (os error 36)"]
      assert.deepStrictEqual(
        errors.map(({ message }: { readonly message: string }) => message),
        expected
      )
    }
    const path = `${sourcePath}${"/d".repeat(levels)}`
    for (const method of ["fs/readDirectory", "fs/getMetadata", "fs/remove", "fs/createDirectory", "fs/canonicalize"]) {
      yield* refuses(client, method, { path }, -32603, "File name too long (os error 36)")
    }
    yield* client.ask("fs/copy", { sourcePath, destinationPath: `${dir}/copy`, recursive: true })
    assert.strictEqual(depth(dir, "copy"), `${levels} ${levels}`)
    for (const name of ["deep", "copy"]) {
      yield* client.ask("fs/remove", { path: `${dir}/${name}` })
      assert.isFalse(existsSync(`${dir}/${name}`))
    }
    assert.strictEqual(descriptors(server.pid), before)
  }))

/** The CPU time that a process has used, in milliseconds. */
const cpuMs = (pid: number) => {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? []
  return (Number(fields[11]) + Number(fields[12])) * 10
}

test("a tree is copied to the longest of paths, half of which is missing, in little time", (client, dir, server) =>
  Effect.gen(function* () {
    mkdirSync(`${dir}/tree`)
    const there = `${dir}${"/a".repeat(950)}`
    mkdirSync(there, { recursive: true })
    const before = cpuMs(server.pid)
    const destinationPath = `${there}${"/b".repeat(950)}`
    yield* client.ask("fs/copy", { sourcePath: `${dir}/tree`, destinationPath, recursive: true })
    assert.isTrue(existsSync(destinationPath))
    assert.isBelow(cpuMs(server.pid) - before, 5000)
  }))

/** 20 directories of 20 files, and one with so many files beside a directory. */
const wide = (many: number) => `
  mkdir wide; cd wide
  for i in $(seq 20); do mkdir d$i; (cd d$i; seq 20 | xargs touch); done
  mkdir many; cd many; seq ${many} | xargs touch; mkdir sub; echo x > sub/x
`

test("a wide tree is copied and removed, and others are served meanwhile", (client, dir, server) =>
  Effect.gen(function* () {
    // More names in one directory than are listed at a time.
    shell(dir, wide(9000))
    const other = yield* server.connect
    yield* other.handshake()
    const before = descriptors(server.pid)
    const busy = <A>(work: Effect.Effect<A>) =>
      Effect.gen(function* () {
        let answered = 0
        const ping = Effect.forever(Effect.tap(other.ask("environment/status"), () => answered++))
        yield* Effect.raceFirst(work, ping)
        // Far fewer than there were, far more than a blocked server would answer.
        assert.isAbove(answered, 20)
      })
    yield* busy(client.ask("fs/copy", { sourcePath: `${dir}/wide`, destinationPath: `${dir}/copy`, recursive: true }))
    assert.strictEqual(readdirSync(`${dir}/copy`).length, 21)
    assert.strictEqual(readdirSync(`${dir}/copy/many`).length, 9001)
    assert.strictEqual(statSync(`${dir}/copy/many/sub/x`).size, 2)
    yield* busy(client.ask("fs/remove", { path: `${dir}/wide` }))
    assert.deepStrictEqual(readdirSync(dir), ["copy"])
    const { entries } = yield* client.ask("fs/readDirectory", { path: `${dir}/copy/many` })
    assert.strictEqual(entries.length, 9001)
    const options = { maxDepth: 9, maxDirectories: 10000, maxEntries: 50000, followDirectorySymlinks: false }
    const walked = yield* client.ask("fs/walk", { path: `file://${dir}/copy`, options })
    assert.strictEqual(walked.entries.length, 9423)
    assert.strictEqual(descriptors(server.pid), before)
  }))

test("removal stops at links and at what it may not remove", (client, dir) =>
  Effect.gen(function* () {
    shell(dir, "mkdir -p keep/in tree/a/b; echo x > keep/in/x; ln -s $PWD/keep tree/a/link; ln -s .. tree/a/b/up")
    yield* client.ask("fs/remove", { path: `${dir}/tree` })
    assert.deepStrictEqual(readdirSync(dir), ["keep"])
    assert.strictEqual(statSync(`${dir}/keep/in/x`).size, 2)
    yield* refuses(client, "fs/remove", { path: "/proc/self/fd" }, -32600, "Operation not permitted (os error 1)")
  }))

test("a sparse file stays sparse, with its content and its size", (client, dir) =>
  Effect.gen(function* () {
    shell(
      dir,
      `truncate -s 1G sparse
      printf begin | dd of=sparse conv=notrunc status=none
      printf middle | dd of=sparse bs=1 seek=700000001 conv=notrunc status=none
      truncate -s 1G empty
      truncate -s 8T giant; printf middle | dd of=giant bs=1 seek=5000000000001 conv=notrunc status=none
      cp sparse ends; printf end >> ends
      head -c 3000000 /dev/zero > zeros
      mkdir tree; cp --sparse=always sparse tree/sparse
      cp zeros old; head -c 5000000 /dev/urandom > full; cp full old`
    )
    for (const name of ["sparse", "empty", "ends", "zeros", "full"]) {
      // What was there before leaves nothing behind.
      const destinationPath = `${dir}/${name === "empty" ? "old" : `${name}.copy`}`
      yield* client.ask("fs/copy", { sourcePath: `${dir}/${name}`, destinationPath, recursive: false })
      shell(dir, `cmp ${name} ${destinationPath}`)
      assert.isAtMost(statSync(destinationPath).blocks, statSync(`${dir}/${name}`).blocks + 1024, name)
    }
    // Reading through its holes would take an hour.
    yield* client.ask("fs/copy", { sourcePath: `${dir}/giant`, destinationPath: `${dir}/giant.copy`, recursive: false })
    assert.strictEqual(statSync(`${dir}/giant.copy`).size, 2 ** 43)
    assert.isBelow(statSync(`${dir}/giant.copy`).blocks, 4096)
    shell(dir, "tail -c +5000000000002 giant.copy | head -c 6 | grep -qx middle")
    yield* client.ask("fs/copy", { sourcePath: `${dir}/tree`, destinationPath: `${dir}/tree.copy`, recursive: true })
    shell(dir, "cmp tree/sparse tree.copy/sparse")
    assert.isBelow(statSync(`${dir}/tree.copy/sparse`).blocks, 4096)
  }))

test("files of the kernel, whose sizes are not what they have, are copied whole", (client, dir) =>
  Effect.gen(function* () {
    const all = [
      "/proc/filesystems",
      "/proc/kallsyms",
      "/proc/sys/kernel/ostype",
      "/sys/kernel/uevent_helper",
      "/sys/kernel/profiling",
      "/sys/kernel/fscaps"
    ]
    const files = all.filter((path) => existsSync(path) && statSync(path).isFile())
    assert.isAtLeast(files.length, 3)
    for (const sourcePath of files) {
      yield* client.ask("fs/copy", { sourcePath, destinationPath: `${dir}/copy`, recursive: false })
      assert.isTrue(readFileSync(sourcePath).equals(readFileSync(`${dir}/copy`)), sourcePath)
    }
  }))

/** The bytes that a process has read so far. */
const bytesRead = (pid: number) => Number(/rchar: (\d+)/.exec(readFileSync(`/proc/${pid}/io`, "utf8"))?.[1])

it.scopedLive("a copy ends with the session of its client, and the queue goes on", () =>
  Effect.gen(function* () {
    const dir = yield* directory
    // A block of data in each MiB, which are too many to be copied during this test.
    shell(dir, "mkdir tree")
    const endless = openSync(`${dir}/tree/endless`, "w")
    for (let i = 0; i < 50_000; i++) writeSync(endless, "x", i * 1048576)
    closeSync(endless)
    const server = yield* webSocketServer({ args: ["--detached-session-ttl-ms", "200"] })
    const client = yield* server.connect
    yield* client.handshake()
    client.post("fs/copy", { sourcePath: `${dir}/tree`, destinationPath: `${dir}/copy`, recursive: true })
    client.post("fs/writeFile", { path: `${dir}/after`, dataBase64: "" })
    yield* eventually("the copy has begun", () => existsSync(`${dir}/copy/endless`))
    client.carrier.close()
    yield* eventually("what was received later is carried out", () => existsSync(`${dir}/after`))
    const before = bytesRead(server.pid)
    yield* Effect.sleep(500)
    assert.isBelow(bytesRead(server.pid) - before, 100_000_000)
    assert.isBelow(statSync(`${dir}/copy/endless`).size, 50_000 * 1048576)
    const other = yield* server.connect
    yield* other.handshake()
    assert.deepStrictEqual(yield* other.ask("environment/status"), { status: "ready" })
  })
)

test("a client that hangs up during a copy does not end it, and its session can be taken up at once", (client, dir, server) =>
  Effect.gen(function* () {
    shell(dir, wide(2000))
    const other = yield* server.connect
    const { sessionId } = yield* other.handshake()
    other.post("fs/copy", { sourcePath: `${dir}/wide`, destinationPath: `${dir}/copy`, recursive: true })
    other.post("fs/remove", { path: `${dir}/wide` })
    // Only once both were received.
    yield* other.ask("environment/status")
    other.carrier.close()
    yield* other.ended()
    const again = yield* server.connect
    yield* again.resume(sessionId)
    // Behind what the lost connection had asked for.
    yield* refuses(again, "fs/getMetadata", { path: `${dir}/wide` }, -32004, "No such file or directory (os error 2)")
    assert.strictEqual(readdirSync(`${dir}/copy/many`).length, 2001)
    assert.deepStrictEqual(yield* client.ask("environment/status"), { status: "ready" })
  }))

test("the server's end does not wait for a copy", (client, dir, server) =>
  Effect.gen(function* () {
    shell(dir, wide(9000))
    client.post("fs/copy", { sourcePath: `${dir}/wide`, destinationPath: `${dir}/copy`, recursive: true })
    yield* eventually("the copy has begun", () => existsSync(`${dir}/copy`))
    server.child.kill("SIGTERM")
    yield* server.exit
    assert.isBelow(Number(shell(dir, "find copy | wc -l")), 9000)
  }))
