/** A server under a service manager: what it is told, and sockets that it passes. The manager is a fake one. */
import { spawnSync } from "node:child_process"
import { randomUUID } from "node:crypto"
import { chmodSync, existsSync, statSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { directory } from "../support/files.js"
import { type ManagerOptions, managed } from "../support/manager.js"
import { nobody, upgradeAs } from "../support/otherUser.js"
import { connectTo, eventually } from "../support/servers.js"

const listen = ["--listen", "ws://127.0.0.1:0"]

/** The address in the status of a server that is ready. */
const addressIn = (told: string) => /^READY=1\nSTATUS=listening on (\S+)$/.exec(told)?.[1] ?? ""

/** Everything of the environment of the server. */
const envPolicy = { inherit: "all", ignoreDefaultExcludes: true, exclude: [], set: {}, includeOnly: [] }

/** A process runs, and says what it has inherited. */
const inherited = (url: string) =>
  Effect.gen(function* () {
    const client = yield* connectTo(url)
    yield* client.handshake()
    yield* client.sh("p", "env; ls /proc/self/fd | tr '\\n' ' '; exit 7", { env: {}, envPolicy })
    yield* client.closed("p")
    assert.strictEqual((yield* client.exited("p")).exitCode, 7)
    return String(client.output("p"))
  })

describe("a service manager", () => {
  for (const kind of ["a path", "an abstract address"] as const) {
    it.scopedLive(`at ${kind} is told when the server listens and when it ends`, () =>
      Effect.gen(function* () {
        const folder = yield* directory
        const notify = kind === "a path" ? join(folder, "notify") : `@exec-server-${randomUUID()}`
        const server = yield* managed({ notify, env: { WATCHDOG_USEC: "60000000" } }, listen)
        const { told, from } = yield* server.hears("READY=1")
        assert.strictEqual(from, server.pid)
        const output = yield* inherited(addressIn(told))
        assert.include(output, "PATH=")
        assert.notMatch(output, /NOTIFY_SOCKET|LISTEN_|WATCHDOG_/)
        server.command("term")
        yield* server.hears("STOPPING=1\nSTATUS=")
        assert.strictEqual(yield* server.exit, 0)
        assert.deepStrictEqual(
          server.told().map(({ told }) => told.split("\n")[0]),
          ["READY=1", "STOPPING=1"]
        )
      })
    )
  }

  it.scopedLive("hears the event loop turn, if it wants to", () =>
    Effect.gen(function* () {
      const env = { WATCHDOG_USEC: "100000" }
      const server = yield* managed({ notify: `@exec-server-${randomUUID()}`, env }, listen)
      const { told } = yield* server.hears("READY=1")
      yield* eventually("it hears it again and again", () => server.told().length > 5)
      assert.match(server.told()[5]?.told ?? "", /^WATCHDOG=1$/)
      assert.notMatch(yield* inherited(addressIn(told)), /WATCHDOG_/)
    })
  )

  it.scopedLive("of another process does not", () =>
    Effect.gen(function* () {
      const env = { WATCHDOG_USEC: "20000", WATCHDOG_PID: "1" }
      const server = yield* managed({ notify: `@exec-server-${randomUUID()}`, env }, listen)
      yield* inherited(addressIn((yield* server.hears("READY=1")).told))
      server.command("term")
      yield* server.exit
      assert.notInclude(
        server.told().map(({ told }) => told),
        "WATCHDOG=1"
      )
    })
  )

  it.scopedLive("that reads nothing costs nothing, and misses nothing once it does", () =>
    Effect.gen(function* () {
      const options = { notify: `@exec-server-${randomUUID()}`, env: { WATCHDOG_USEC: "2000" }, deaf: true }
      const sockets = [{ name: "one", tcp: "127.0.0.1" }]
      const server = yield* managed({ ...options, sockets }, ["--listen", "fd://"])
      for (let i = 0; i < 3; i++) yield* inherited(`ws://127.0.0.1:${server.addresses[0]}`)
      server.command("hear")
      assert.strictEqual((yield* server.hears("READY=1")).told, server.told()[0]?.told)
      const before = server.told().length
      yield* eventually("it goes on", () => server.told().length > before + 20)
    })
  )

  it.scopedLive("that is not there is a warning", () =>
    Effect.gen(function* () {
      const folder = yield* directory
      const env = { NOTIFY_SOCKET: join(folder, "none") }
      const server = yield* managed({ env, sockets: [{ tcp: "127.0.0.1" }] }, ["--listen", "fd://"])
      yield* inherited(`ws://127.0.0.1:${server.addresses[0]}`)
      assert.match(server.printed(), /level=WARN .*the service manager at \/.*\/none cannot be told how the server is/)
    })
  )

  it.scopedLive("is told nothing by a server on stdio, which is part of another program", () =>
    Effect.gen(function* () {
      const server = yield* managed({ notify: `@exec-server-${randomUUID()}` }, [])
      assert.strictEqual(yield* server.exit, 0)
      assert.deepStrictEqual(server.told(), [])
    })
  )
})

describe("--listen fd://", () => {
  const notify = () => `@exec-server-${randomUUID()}`

  it.scopedLive("serves on a port that was passed, and leaves no process its descriptor", () =>
    Effect.gen(function* () {
      const sockets = [{ name: "web", tcp: "127.0.0.1" }]
      const server = yield* managed({ notify: notify(), sockets }, ["--listen", "fd://"])
      const url = addressIn((yield* server.hears("READY=1")).told)
      assert.strictEqual(url, `ws://127.0.0.1:${server.addresses[0]}`)
      const output = yield* inherited(url)
      assert.notInclude(output, "LISTEN_")
      assert.match(output, /\n0 1 2 3 $/, "3 is the folder that ls reads")
      server.command("term")
      assert.strictEqual(yield* server.exit, 0)
    })
  )

  it.scopedLive("serves on a unix socket that was passed, and leaves it there", () =>
    Effect.gen(function* () {
      const path = join(yield* directory, "socket")
      const server = yield* managed({ notify: notify(), sockets: [{ unix: path }] }, ["--listen", "fd://"])
      assert.strictEqual(addressIn((yield* server.hears("READY=1")).told), `unix://${path}`)
      yield* inherited(`ws+unix://${path}:/`)
      server.command("term")
      assert.strictEqual(yield* server.exit, 0)
      assert.isTrue(existsSync(path))
    })
  )

  it.scopedLive("serves on one without a file", () =>
    Effect.gen(function* () {
      const unix = notify()
      const server = yield* managed({ notify: notify(), sockets: [{ unix }] }, ["--listen", "fd://"])
      assert.strictEqual(addressIn((yield* server.hears("READY=1")).told), `unix://${unix}`)
    })
  )

  for (const chosen of ["b", "4"]) {
    it.scopedLive(`fd://${chosen} is one of several`, () =>
      Effect.gen(function* () {
        const sockets = ["a", "b"].map((name) => ({ name, tcp: "127.0.0.1" }))
        const server = yield* managed({ notify: notify(), sockets }, ["--listen", `fd://${chosen}`])
        const url = addressIn((yield* server.hears("READY=1")).told)
        assert.strictEqual(url, `ws://127.0.0.1:${server.addresses[1]}`)
        yield* inherited(url)
      })
    )
  }

  const tcp = { name: "web", tcp: "127.0.0.1" }
  const refusals: ReadonlyArray<readonly [string, ManagerOptions, ReadonlyArray<string>, RegExp]> = [
    ["no sockets", {}, ["fd://"], /LISTEN_FDS is not set; it is for sockets that a service manager passes/],
    ["no pid", { env: { LISTEN_FDS: "1" } }, ["fd://"], /LISTEN_PID is not set/],
    ["another pid", { sockets: [tcp], pid: 1 }, ["fd://"], /LISTEN_PID is "1", but this is process \d+/],
    ["none of them", { sockets: [] }, ["fd://"], /LISTEN_FDS is "0", which is not a number of sockets/],
    ["several", { sockets: [tcp, { ...tcp, name: "b" }] }, ["fd://"], /choose it: web \(fd:\/\/3\), b \(fd:\/\/4\)/],
    ["another name", { sockets: [tcp] }, ["fd://x"], /no socket of this name was passed: there is web \(fd:\/\/3\)/],
    ["datagrams", { sockets: [{ unix: notify(), type: "dgram" }] }, ["fd://"], /not a stream.*ListenStream=/],
    ["one that does not listen", { sockets: [{ type: "unbound" }] }, ["fd://"], /does not listen.*Accept=no/],
    ["a path", { sockets: [tcp] }, ["fd:///x"], /expected fd:\/\/, fd:\/\/NAME or fd:\/\/NUMBER/],
    [
      "everybody",
      { sockets: [{ tcp: "0.0.0.0" }] },
      ["fd://"],
      /refusing to listen on fd:\/\/ \(0\.0\.0\.0 port \d+\)/
    ],
    [
      "TLS on a unix socket",
      { sockets: [{ unix: notify() }] },
      ["fd://", "--tls-cert", "c", "--tls-key", "k"],
      /TLS is for ws:\/\/IP:PORT/
    ]
  ]
  for (const [what, options, args, message] of refusals) {
    it.scopedLive(`is refused with ${what}`, () =>
      Effect.gen(function* () {
        const server = yield* managed(options, ["--listen", ...args])
        assert.strictEqual(yield* server.exit, 2, server.printed())
        assert.match(server.printed(), message)
        assert.lengthOf(server.printed().trim().split("\n"), 1)
      })
    )
  }

  it.scopedLive("serves everybody on a public address if that is wanted", () =>
    Effect.gen(function* () {
      const server = yield* managed({ notify: notify(), sockets: [{ tcp: "0.0.0.0" }] }, [
        "--listen",
        "fd://",
        "--insecure"
      ])
      yield* server.hears("READY=1")
      yield* inherited(`ws://127.0.0.1:${server.addresses[0]}`)
    })
  )

  it.scopedLive.skipIf(process.getuid?.() !== 0)("serves no other user, also where the mode of the socket would", () =>
    Effect.gen(function* () {
      const folder = yield* directory
      chmodSync(folder, 0o755)
      const path = join(folder, "socket")
      const server = yield* managed({ notify: notify(), sockets: [{ unix: path, mode: 0o666 }] }, ["--listen", "fd://"])
      yield* server.hears("READY=1")
      assert.strictEqual(statSync(path).mode & 0o777, 0o666)
      assert.match(yield* upgradeAs(nobody, { path }), / 403 /)
      yield* inherited(`ws+unix://${path}:/`)
    })
  )
})

it("sockets that are passed but not used are a warning", () => {
  const { binary, under } = { binary: "dist/bin.js", under: 'LISTEN_FDS=1 LISTEN_PID=$$ exec "$@" </dev/null' }
  const { stderr } = spawnSync("/bin/sh", ["-c", under, "sh", process.execPath, binary], { encoding: "utf8" })
  assert.include(stderr, "the service manager has passed sockets, but only --listen fd:// uses one")
})
