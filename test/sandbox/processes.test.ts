/** Sandboxed processes: what they see, what they reach, and how they try to get out. */
import {
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync
} from "node:fs"
import { createServer } from "node:net"
import { constants, tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { at, entry, readRoot, root, sandbox, special } from "../support/sandbox.js"
import { connected, connectTo, eventually, hasBubblewrap, isAlive, webSocketServer } from "../support/servers.js"
import { startParams, type TestClient } from "../support/TestClient.js"

/** A project that may be written, beside something that is nobody's business. */
const project = Effect.acquireRelease(
  Effect.sync(() => {
    const dir = mkdtempSync(join(tmpdir(), "sandbox-"))
    for (const folder of ["ws", "ws/sub", "private"]) mkdirSync(join(dir, folder))
    writeFileSync(join(dir, "private/secret"), "secret")
    writeFileSync(join(dir, "ws/hello"), "hello")
    return dir
  }),
  (dir) => Effect.sync(() => rmSync(dir, { recursive: true }))
)

/** Runs a script in a sandbox, and gives its end with all it said. */
const runs = (client: TestClient, id: string, script: string, box: object, more: object = {}) =>
  Effect.gen(function* () {
    const { sandboxType } = yield* client.sh(id, script, { sandbox: box, ...more })
    assert.strictEqual(sandboxType, "linuxSeccomp")
    const { exitCode, sandboxDenied } = yield* client.closed(id)
    const output = (["stdout", "stderr", "pty"] as const).map((stream) => client.output(id, stream).toString()).join("")
    return { exitCode, sandboxDenied, output }
  })

const listening = (path: string | number) =>
  Effect.acquireRelease(
    Effect.async<ReturnType<typeof createServer>>((resume) => {
      const server = createServer((socket) => socket.end("reached"))
      server.listen(path as string, () => resume(Effect.succeed(server)))
    }),
    (server) => Effect.sync(() => server.close())
  )

describe("without bubblewrap", () => {
  it.scopedLive("what restricts anything is refused, in words that say what to install", () =>
    Effect.gen(function* () {
      const dir = yield* project
      const server = yield* webSocketServer({ env: { PATH: dir } })
      const client = yield* server.connect
      yield* client.handshake()
      const start = { processId: "p", argv: ["/bin/true"], cwd: "/tmp", env: {}, tty: false }
      for (const box of [sandbox([]), sandbox([entry(root, "write")])]) {
        const { error } = yield* client.call("process/start", { ...start, sandbox: box })
        assert.strictEqual(error.code, -32600)
        assert.match(
          error.message,
          /cannot enforce a restricted sandbox: bubblewrap \(bwrap\) is not installed; install it/
        )
      }
      const { error } = yield* client.call("fs/readFile", { path: `${dir}/ws/hello`, sandbox: sandbox([readRoot]) })
      assert.strictEqual(error.code, -32600)
      assert.match(error.message, /bubblewrap \(bwrap\) is not installed/)
      // The id is free, and what restricts nothing runs.
      yield* client.ask("process/start", { ...start, sandbox: sandbox([entry(root, "write")], {}, "enabled") })
      yield* client.closed("p")
    })
  )
})

describe.runIf(hasBubblewrap)("sandboxed processes", () => {
  it.scopedLive("`tmpdir` is the TMPDIR of the process itself", () =>
    Effect.gen(function* () {
      const dir = yield* project
      const { client } = yield* connected({ env: { TMPDIR: `${dir}/private` } })
      const env = { PATH: "/usr/bin:/bin", TMPDIR: `${dir}/ws/sub` }
      const box = sandbox([readRoot, entry(special("tmpdir"), "write")])
      const script = `echo a > ${dir}/ws/sub/a && echo own; echo b > ${dir}/private/b && echo server`
      const { output } = yield* runs(client, "p", script, box, { env })
      assert.match(output, /own/)
      assert.notMatch(output, /^server/m)
    })
  )

  for (const tty of [false, true]) {
    it.scopedLive(`${tty ? "terminal" : "pipe"}: a denied write is the system's own answer, and is reported`, () =>
      Effect.gen(function* () {
        const { client } = yield* connected()
        const dir = yield* project
        const denied = yield* runs(client, "p", `echo hi; touch ${dir}/ws/new`, sandbox([readRoot]), { tty })
        assert.deepInclude(denied, { exitCode: 1, sandboxDenied: true })
        assert.match(denied.output, /hi\r?\n.*Read-only file system/)
        assert.isTrue((yield* client.ask("process/read", { processId: "p" })).sandboxDenied)
        // Not every failure is a denial, and not every end with such words is a failure.
        assert.isFalse((yield* runs(client, "q", "exit 3", sandbox([readRoot]), { tty })).sandboxDenied)
        assert.isFalse((yield* runs(client, "r", "echo Permission denied", sandbox([readRoot]), { tty })).sandboxDenied)
        assert.deepStrictEqual(readdirSync(`${dir}/ws`), ["hello", "sub"])
      })
    )
  }

  it.scopedLive("what may be written is, what is protected or denied is not, and nothing is left behind", () =>
    Effect.gen(function* () {
      const { client } = yield* connected()
      const dir = yield* project
      mkdirSync(`${dir}/ws/.git`)
      const box = sandbox(
        [
          readRoot,
          entry(special("project_roots"), "write"),
          entry(special("project_roots", ".codex"), "read"),
          entry(at(`${dir}/private`), "deny"),
          entry(at(`${dir}/ws/sub`), "none")
        ],
        { cwd: `file://${dir}/ws` }
      )
      const script = `
        echo new > new && echo written
        for path in .git/hook .codex/x .codex sub/x; do (echo x > $path) 2>/dev/null && echo "wrote $path"; done
        mv sub other 2>/dev/null && echo moved; rmdir .codex 2>/dev/null && echo removed
        cat ${dir}/private/secret 2>/dev/null && echo seen; ls sub 2>/dev/null && echo listed; true`
      const { output } = yield* runs(client, "p", script, box, { cwd: `file://${dir}/ws` })
      assert.strictEqual(output, "written\n")
      assert.deepStrictEqual(readdirSync(`${dir}/ws`).sort(), [".git", "hello", "new", "sub"])
    })
  )

  it.scopedLive("an external sandbox leaves the network to the server: restricted, none can be reached", () =>
    Effect.gen(function* () {
      const { client } = yield* connected()
      const script = "echo $(tail -n +3 /proc/net/dev | wc -l)"
      const box = { permissions: { type: "external", network: "restricted" }, windowsSandboxLevel: "disabled" }
      assert.strictEqual((yield* runs(client, "p", script, box)).output, "1\n")
      const { sandboxType } = yield* client.sh("q", script, {
        sandbox: { ...box, permissions: { type: "external", network: "enabled" } }
      })
      assert.strictEqual(sandboxType, "none")
      yield* client.closed("q")
      const all = readFileSync("/proc/net/dev", "utf8").trim().split("\n").length - 2
      assert.strictEqual(client.output("q").toString(), `${all}\n`)
    })
  )

  it.scopedLive("only what is allowed is there, and its libraries", () =>
    Effect.gen(function* () {
      const { client } = yield* connected()
      const dir = yield* project
      const box = sandbox([entry(special("minimal"), "read"), entry(at(`${dir}/ws`), "read")])
      const script = `cat hello; ls /home /root ${dir}/private /; ls ${dir}; touch /new`
      const { output } = yield* runs(client, "p", script, box, { cwd: `file://${dir}/ws` })
      assert.match(output, /^hello/)
      assert.match(output, /cannot access '\/home': No such file[\s\S]*cannot access '\/root': No such file/)
      assert.match(output, /\nws\n/)
      assert.match(output, /'\/new': Read-only file system/)
      const refused = (sandbox: object, cwd: string) =>
        Effect.map(
          client.call("process/start", { processId: "q", argv: ["/bin/true"], cwd, env: {}, tty: false, sandbox }),
          ({ error }) => error
        )
      const missing = (path: string) => ({ code: -32603, message: `No such file or directory (os error 2): ${path}` })
      assert.deepStrictEqual(yield* refused(sandbox([]), "/"), missing("/bin/true"))
      assert.deepStrictEqual(yield* refused(box, `${dir}/ws/none`), missing(`${dir}/ws/none`))
    })
  )

  it.scopedLive("links, .., other roots, hard links, mounts and descriptors do not lead out", () =>
    Effect.gen(function* () {
      const { client } = yield* connected()
      const dir = yield* project
      symlinkSync(`${dir}/private/secret`, `${dir}/ws/link`)
      const box = sandbox([entry(special("minimal"), "read"), entry(at(`${dir}/ws`), "write")])
      const secret = `${dir}/private/secret`
      const script = `
        cat link; cat ../private/secret; cat /proc/self/root${secret}; cat /proc/1/root${secret}; cat /proc/1/cwd${secret}
        ln ${secret} hard; ln -s ${secret} soft; cat soft
        for fd in /proc/1/fd/* /proc/self/fd/*; do cat $fd${secret} $fd/../private/secret; done
        unshare -r -m sh -c "umount -l ${dir}; mount -t tmpfs x /tmp; umount -l /tmp; mount -o remount,rw,bind /usr; touch /usr/sandbox-escape; cat ${secret}"
        mount --bind / /tmp; chroot /proc/1/root cat ${secret}; true`
      const { output } = yield* runs(client, "p", `exec 2>/dev/null; ${script}`, box, { cwd: `file://${dir}/ws` })
      assert.notInclude(output, "secret")
      assert.throws(() => readFileSync("/usr/sandbox-escape"))
    })
  )

  it.scopedLive("what was allowed to be written stays what it was: a hard link is made within it or not at all", () =>
    Effect.gen(function* () {
      const { client } = yield* connected()
      const dir = yield* project
      const box = sandbox([readRoot, entry(at(`${dir}/ws`), "write")])
      const script = `ln hello ok && echo made; ln ${dir}/private/secret hard && echo x > hard; true`
      const { output } = yield* runs(client, "p", script, box, { cwd: `file://${dir}/ws` })
      assert.match(output, /made/)
      assert.strictEqual(readFileSync(`${dir}/private/secret`, "utf8"), "secret")
      // One that is there already is the same file, and read-only where its other name is.
      linkSync(`${dir}/ws/hello`, `${dir}/private/hello`)
      const again = yield* runs(client, "q", `echo x > ${dir}/private/hello`, box)
      assert.match(again.output, /Read-only file system/)
    })
  )

  it.scopedLive("the server and its other processes cannot be seen, signalled or traced", () =>
    Effect.gen(function* () {
      const { client, server } = yield* connected()
      const { pid } = yield* client.start("other", ["sleep", "1000"])
      const script = `kill -9 ${server.pid} ${pid} -1; ls /proc/${server.pid}/root; cat /proc/${server.pid}/environ; true`
      const { output } = yield* runs(client, "p", script, sandbox([readRoot]))
      assert.isTrue(isAlive(server.pid))
      assert.isTrue(isAlive(pid))
      assert.notInclude(output, "PATH")
      yield* client.ask("process/terminate", { processId: "other" })
    })
  )

  it.scopedLive(
    "the namespace's first process cannot be reached: not its descriptors, not its memory, not by ptrace",
    () =>
      Effect.gen(function* () {
        const dir = yield* project
        const { client } = yield* connected()
        const box = sandbox([readRoot, entry(at(dir), "write")])
        const script = [
          "head -c 1 /proc/1/environ",
          "head -c 1 /proc/1/mem",
          "echo ended 0 > /proc/1/fd/3",
          "yes | tr -d '\\n' | head -c 5000000 > /proc/1/fd/3",
          "exit 7"
        ].join("; ")
        const { exitCode, output } = yield* runs(client, "p", script, box)
        assert.strictEqual(exitCode, 7)
        assert.match(output, /\/proc\/1\/environ'?.*: Permission denied/)
        assert.match(output, /\/proc\/1\/mem'?.*: Permission denied/)
        assert.lengthOf(output.match(/\/proc\/1\/fd\/3: Permission denied/g) ?? [], 2)
      })
  )

  for (const listen of ["ws://127.0.0.1:0", "unix"]) {
    it.scopedLive(`a process with the network cannot become a client of the server that confines it: ${listen}`, () =>
      Effect.gen(function* () {
        const dir = yield* project
        const path = join(dir, "ws/socket")
        const server = yield* webSocketServer({ listen: listen === "unix" ? `unix://${path}` : listen })
        const url = listen === "unix" ? `ws+unix:${path}:/` : server.url
        const client = yield* connectTo(url)
        yield* client.handshake()
        const box = sandbox([readRoot, entry(at(dir), "write")], {}, "enabled")
        const where = listen === "unix" ? { path } : { host: "127.0.0.1", port: Number(new URL(server.url).port) }
        // One that lets a child of its own speak, and ends: what is at the other end is not who connected.
        const script = `
          const socket = require("node:net").connect(${JSON.stringify(where)})
          socket.on("error", (error) => console.log(error.code))
          socket.on("close", () => console.log("closed"))
          socket.on("data", (data) => console.log(data.toString("latin1")))
          const text = JSON.stringify({ id: 1, method: "initialize", params: { clientName: "inside" } })
          const frame = Buffer.concat([Buffer.from([0x81, 0x80 | text.length, 0, 0, 0, 0]), Buffer.from(text)])
          socket.write("GET / HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n" +
            "Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\\r\\n\\r\\n")
          socket.write(frame)
          setTimeout(() => process.exit(0), 1500)`
        yield* client.ask("process/start", {
          processId: "inside",
          argv: [process.execPath, "-e", script],
          cwd: "/",
          env: {},
          tty: false,
          sandbox: box
        })
        yield* client.closed("inside")
        const output = client.output("inside", "stdout").toString()
        if (listen === "unix") assert.notInclude(output, "sessionId")
        else assert.include(output, "a process in a sandbox of this server cannot be its client")
        assert.notInclude(output, "environmentInfo")
        // Others still can, while one is confined.
        yield* client.ask("process/start", {
          processId: "sleeper",
          argv: ["/bin/sleep", "1000"],
          cwd: "/",
          env: {},
          tty: false,
          sandbox: box
        })
        const other = yield* connectTo(url)
        yield* other.handshake()
      })
    )
  }

  it.scopedLive("variables of the dynamic loader act on the program, never on what encloses it", () =>
    Effect.gen(function* () {
      const { client } = yield* connected()
      const env = { PATH: "/usr/bin:/bin", LD_PRELOAD: "/no/such.so", PWD: "/as/given" }
      const { output, exitCode } = yield* runs(client, "p", 'echo "$LD_PRELOAD"', sandbox([readRoot]), { env })
      assert.match(output, /\/no\/such\.so\n/)
      assert.strictEqual(exitCode, 0)
      assert.strictEqual(output.match(/cannot be preloaded/g)?.length, 1)
    })
  )

  it.scopedLive("an isolated network reaches nothing outside: no port, no abstract socket, no socket with a path", () =>
    Effect.gen(function* () {
      const { client } = yield* connected()
      const dir = yield* project
      const address = (yield* listening(0)).address()
      const port = typeof address === "object" ? address?.port : undefined
      yield* listening(`${dir}/socket`)
      yield* listening(`\0${dir}`)
      const script = `
        const { connect } = require("node:net")
        for (const to of [{ host: "127.0.0.1", port: ${port} }, { path: "${dir}/socket" }, { path: "\\0${dir}" }]) {
          connect(to).on("data", (data) => console.log(String(data))).on("error", ({ code }) => console.log(code))
        }`
      const argv = (id: string, box: object) =>
        Effect.gen(function* () {
          yield* client.start(id, [process.execPath, "-e", script], { sandbox: box })
          yield* client.closed(id)
          return client.output(id).toString().trim().split("\n").sort()
        })
      assert.deepStrictEqual(yield* argv("p", sandbox([readRoot])), ["ECONNREFUSED", "EPERM", "EPERM"])
      assert.deepStrictEqual(yield* argv("q", sandbox([entry(root, "write")])), ["ECONNREFUSED", "EPERM", "EPERM"])
      assert.deepStrictEqual(yield* argv("r", sandbox([readRoot], {}, "enabled")), ["reached", "reached", "reached"])
    })
  )

  it.scopedLive("a process that swaps a folder for a link gets nobody to write where it leads", () =>
    Effect.gen(function* () {
      const { client } = yield* connected()
      const dir = yield* project
      const swap = "while :; do mv sub away; ln -s ../private sub; rm sub; mv away sub; done 2>/dev/null"
      const attacker = sandbox([readRoot, entry(at(`${dir}/ws`), "write")])
      yield* client.sh("swap", `echo up; ${swap}`, { sandbox: attacker, cwd: `file://${dir}/ws` })
      yield* client.sees("swap", "up")
      let refused = 0
      for (let i = 0; i < 40; i++) {
        const box = sandbox([readRoot, entry(at(`${dir}/ws/sub`), "write")])
        const { error } = yield* client.call("process/start", {
          processId: `p${i}`,
          argv: ["/bin/sh", "-c", `echo pwned > ${dir}/private/secret; echo x > ${dir}/ws/sub/secret`],
          cwd: "/",
          env: {},
          tty: false,
          sandbox: box
        })
        if (error === undefined) yield* client.closed(`p${i}`)
        else {
          refused++
          assert.match(
            error.message,
            /contains the link|was replaced|could not start|No such file|neither it nor its parent|cannot create a placeholder/
          )
        }
      }
      yield* client.ask("process/terminate", { processId: "swap" })
      yield* client.closed("swap")
      assert.isAbove(refused, 0)
      assert.strictEqual(readFileSync(`${dir}/private/secret`, "utf8"), "secret")
      assert.deepStrictEqual(readdirSync(`${dir}/private`), ["secret"])
    })
  )

  it.scopedLive("the server's own socket, tokens and audit log are never there, whatever the entries allow", () =>
    Effect.gen(function* () {
      const dir = yield* project
      writeFileSync(`${dir}/private/token`, "correct-token")
      symlinkSync("private/token", `${dir}/token`)
      writeFileSync(`${dir}/config.toml`, "maxSessions = 7\n")
      const path = `${dir}/ws/socket`
      const auth = ["--ws-auth", "capability-token", "--ws-token-file", `${dir}/token`]
      const more = ["--audit-log", `${dir}/audit`, "--config", `${dir}/config.toml`]
      yield* webSocketServer({ listen: `unix://${path}`, args: [...auth, ...more] })
      const client = yield* connectTo(`ws+unix:${path}:/`, { headers: { Authorization: "Bearer correct-token" } })
      yield* client.handshake()
      const own = [`${dir}/private/token`, `${dir}/config.toml`, `${dir}/audit`]
      const connect = `
        const socket = require("node:net").connect(${JSON.stringify({ path })})
        socket.on("error", ({ code }) => console.log(code)).on("connect", () => console.log("connected"))`
      const script = `
        for file in ${own.join(" ")}; do cat $file && echo x >> $file; rm -f $file; mv $file ${dir}/ws/moved; done 2>/dev/null
        ${process.execPath} -e '${connect}'; cat ${dir}/private/secret`
      const named = entry(at(`${dir}/private/token`), "read")
      const boxes = {
        read: sandbox([readRoot], {}, "enabled"),
        named: sandbox([readRoot, named], {}, "enabled"),
        write: sandbox([readRoot, entry(at(dir), "write"), named], {}, "enabled"),
        files: { permissions: { type: "external", network: "restricted" }, windowsSandboxLevel: "disabled" }
      }
      for (const [id, box] of Object.entries(boxes)) {
        const { output } = yield* runs(client, id, script, box)
        assert.match(output, /^(EACCES|ECONNREFUSED|EPERM)\nsecret$/, id)
        for (const file of own) {
          const { error } = yield* client.call("fs/readFile", { path: `file://${file}`, sandbox: boxes.write })
          assert.match(error.message, /os error 13/)
        }
      }
      assert.strictEqual(readFileSync(`${dir}/private/token`, "utf8"), "correct-token")
    })
  )

  for (const network of ["enabled", "restricted"]) {
    it.scopedLive(`network ${network}: no io_uring, no keyrings, no vsock, and ordinary calls as ever`, () =>
      Effect.gen(function* () {
        const { client } = yield* connected()
        const addKey = process.arch === "x64" ? 248 : 217
        const script = `
          my $buffer = "\\0" x 256;
          for my $number (425, 426, 427, ${[addKey, addKey + 1, addKey + 2].join(", ")}) {
            $! = 0; syscall($number, 0, $buffer, 0, 0, 0); print $! + 0, " ";
          }
          print socket(my $vsock, 40, 1, 0) ? "vsock" : $! + 0, " ";
          print socket(my $inet, 2, 1, 0) ? "inet" : $! + 0`
        const box = sandbox([readRoot], {}, network)
        yield* client.start("p", ["perl", "-e", script], { sandbox: box, env: { PATH: "/usr/bin:/bin" } })
        yield* client.closed("p")
        const { ENOSYS, EPERM } = constants.errno
        assert.strictEqual(client.output("p", "stdout").toString(), `${`${ENOSYS} `.repeat(6)}${EPERM} inet`)
      })
    )
  }

  it.scopedLive("sandboxes with many writable folders take nothing from later ones", () =>
    Effect.gen(function* () {
      const { client } = yield* connected()
      const dir = yield* project
      for (let round = 0; round < 6; round++) {
        const folders = Array.from({ length: 180 }, (_, i) => `${dir}/${round}-${i}`)
        for (const folder of folders) mkdirSync(folder)
        const box = sandbox([readRoot, ...folders.map((folder) => entry(at(folder), "write"))])
        assert.strictEqual((yield* runs(client, `p${round}`, "true", box)).exitCode, 0)
      }
      const minimal = sandbox([entry(special("minimal"), "read")])
      assert.strictEqual((yield* runs(client, "minimal", "echo hi", minimal, { cwd: "file:///" })).output, "hi\n")
    })
  )

  it.scopedLive("a link is refused while a sandboxed process can replace it, and followed afterwards", () =>
    Effect.gen(function* () {
      const { client } = yield* connected()
      const dir = yield* project
      symlinkSync("sub", `${dir}/ws/link`)
      const writer = sandbox([readRoot, entry(at(`${dir}/ws`), "write")])
      yield* client.sh("writer", "echo up; sleep 1000", { sandbox: writer })
      yield* client.sees("writer", "up")
      const box = sandbox([readRoot, entry(at(`${dir}/ws/link`), "write")])
      const { error } = yield* client.call("process/start", startParams("early", ["true"], { sandbox: box }))
      assert.strictEqual(error.code, -32600)
      assert.match(error.message, /contains the link .*ws\/link, which a running sandbox .* can change/)
      yield* client.ask("process/terminate", { processId: "writer" })
      yield* client.closed("writer")
      assert.strictEqual((yield* runs(client, "late", `echo a > ${dir}/ws/link/a`, box)).exitCode, 0)
    })
  )

  it.scopedLive("a server that is killed leaves neither the process nor the place it held", () =>
    Effect.gen(function* () {
      const { client, server } = yield* connected()
      const dir = yield* project
      const box = sandbox([readRoot, entry(at(`${dir}/ws`), "write"), entry(at(`${dir}/ws/.not yet`), "deny")])
      const { pid } = yield* client.sh("p", "echo up; sleep 1000", { sandbox: box })
      yield* client.sees("p", "up")
      assert.include(readdirSync(`${dir}/ws`), ".not yet")
      server.child.kill("SIGKILL")
      yield* server.exit
      yield* eventually("nothing is left", () => !isAlive(pid) && !readdirSync(`${dir}/ws`).includes(".not yet"))
    })
  )
})

describe.runIf(hasBubblewrap)("what belongs to the machine", () => {
  it.scopedLive("cannot be set through /proc, by root either", () =>
    Effect.gen(function* () {
      const { client } = yield* connected()
      const script = `
        for path in $(find /proc/sys /proc/pressure /proc/irq -type f 2>/dev/null); do
          (exec 3<>$path) 2>/dev/null && echo "opened $path"
        done
        cat /proc/sys/kernel/ostype`
      for (const [id, entries] of [
        ["root", [readRoot]],
        ["minimal", [entry(special("minimal"), "read")]]
      ] as const) {
        const { output } = yield* runs(client, id, script, sandbox([...entries]), { cwd: "/usr" })
        assert.strictEqual(output, "Linux\n")
      }
    })
  )
})

describe.runIf(hasBubblewrap)("a place where nothing may appear", () => {
  const script = 'mkdir .git 2>/dev/null; (echo x > .git/config) 2>/dev/null && echo "wrote"; echo tried'

  it.scopedLive("is held until the last one is gone that it is held from", () =>
    Effect.gen(function* () {
      const dir = yield* project
      const { client } = yield* connected()
      const box = sandbox([
        entry(special("minimal"), "read"),
        entry(at(`${dir}/ws`), "write"),
        entry(at(`${dir}/ws/.git`), "read")
      ])
      const options = { sandbox: box, cwd: `${dir}/ws`, pipeStdin: true }
      yield* client.sh("first", "echo ready; read line", options)
      yield* client.sees("first", "ready")
      yield* client.sh("second", `echo ready; read line; ${script}`, options)
      yield* client.sees("second", "ready")
      yield* client.ask("process/write", { processId: "first", chunk: "Cg==" })
      yield* client.closed("first")
      yield* client.ask("process/write", { processId: "second", chunk: "Cg==" })
      yield* client.closed("second")
      assert.strictEqual(client.output("second", "stdout").toString(), "ready\ntried\n")
      yield* eventually("the place is given back", () => !readdirSync(`${dir}/ws`).includes(".git"))
    })
  )
})
