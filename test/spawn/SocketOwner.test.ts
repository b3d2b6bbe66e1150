/** Who is at the other end of a connection within this machine. */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { createConnection, createServer, type Server, type Socket } from "node:net"
import { networkInterfaces } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as SocketOwner from "../../src/spawn/SocketOwner.js"
import { child, pidOf } from "../support/children.js"
import { folder } from "../support/exposed.js"

type Place = { readonly host: string; readonly port: number } | { readonly path: string }

/** A server that has accepted a connection, which `connect` makes to where it listens: the server's end of it. */
const accepted = (place: Place, connect: (where: Place) => void) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.async<{ readonly server: Server; readonly socket: Socket }>((resume) => {
        const server = createServer((socket) => {
          // It may be reset.
          socket.on("error", () => {})
          resume(Effect.succeed({ server, socket }))
        })
        server.listen(place, () => {
          const address = server.address()
          connect(
            typeof address === "object" && address !== null && "host" in place
              ? { ...place, port: address.port }
              : place
          )
        })
      }),
      ({ server, socket }) =>
        Effect.sync(() => {
          socket.destroy()
          server.close()
        })
    ),
    ({ socket }) => socket
  )

/** A connection that this process makes, and its own end. */
const acceptedFromHere = (place: Place, to?: string) =>
  Effect.gen(function* () {
    let client: Socket | undefined
    const socket = yield* accepted(place, (where) => {
      client = createConnection("host" in where && to !== undefined ? { ...where, host: to } : where)
    })
    yield* Effect.addFinalizer(() => Effect.sync(() => client?.destroy()))
    return { socket, end: () => void client?.destroy() }
  })

/** A program that connects and waits, and the server's end of its connection. */
const acceptedFromChild = (place: Place) =>
  Effect.gen(function* () {
    let pid = Number.NaN
    let end = () => {}
    yield* Effect.addFinalizer(() => Effect.sync(() => end()))
    const socket = yield* accepted(place, (where) => {
      const script = `require("node:net").connect(${JSON.stringify(where)}).resume()`
      const running = spawn(process.execPath, ["-e", script], { stdio: "ignore" })
      pid = pidOf(running)
      end = () => void running.kill("SIGKILL")
    })
    return { socket, pid }
  })

const local = { host: "127.0.0.1", port: 0 }
const uid = process.getuid?.() ?? Number.NaN

describe("the owner of a connection", () => {
  for (const [host, to] of [
    ["127.0.0.1", "127.0.0.1"],
    ["::1", "::1"],
    ["::", "127.0.0.1"],
    ["127.10.200.30", "127.10.200.30"],
    ["::", "127.10.200.30"],
    ["127.0.0.1", "::ffff:127.0.0.1"]
  ] as const) {
    it.scopedLive(`is found for one from ${to} to ${host}, by diagnostics as in the table`, () =>
      Effect.gen(function* () {
        const { socket, end } = yield* acceptedFromHere({ host, port: 0 }, to)
        const owner = SocketOwner.of(socket)
        assert.strictEqual(owner?._tag === "Tcp" ? owner.uid : undefined, uid)
        const { remoteAddress = "", remotePort = 0, localAddress = "", localPort = 0 } = socket
        const ends = { remoteAddress, remotePort, localAddress, localPort }
        assert.deepStrictEqual(SocketOwner.findInTable(ends), owner)
        assert.isUndefined(SocketOwner.findInTable({ ...ends, remotePort: 1 }))
        const closed = once(socket, "close")
        socket.resume()
        end()
        yield* Effect.promise(() => closed)
        assert.strictEqual(SocketOwner.of(socket)?._tag, "Unknown")
      })
    )
  }

  it.scopedLive("is on another machine, and nobody here, where the address is not one of this machine's own", () =>
    Effect.sync(() => {
      const socket = { remoteAddress: "192.0.2.1", remotePort: 1, localAddress: "192.0.2.2", localPort: 2 }
      assert.isUndefined(SocketOwner.of(socket as unknown as Socket))
    })
  )

  it.live("may be here, where the address is one of this machine's own", () =>
    Effect.sync(() => {
      for (const { address } of Object.values(networkInterfaces()).flatMap((all) => all ?? [])) {
        const socket = { remoteAddress: address, remotePort: 1, localAddress: address, localPort: 2 }
        const owner = SocketOwner.of(socket as unknown as Socket)
        assert.strictEqual(owner?._tag, "Unknown", address)
      }
    })
  )

  it.live("cannot be found where the socket does not know both of its ends", () =>
    Effect.sync(() => {
      const ends = { remoteAddress: "127.0.0.1", remotePort: 1, localAddress: "127.0.0.1", localPort: 2 }
      for (const missing of Object.keys(ends)) {
        const socket = { ...ends, [missing]: undefined } as unknown as Socket
        const reason = "Bad file descriptor (os error 9)"
        assert.deepStrictEqual(SocketOwner.of(socket), SocketOwner.SocketOwner.Unknown({ reason }), missing)
      }
    })
  )

  it.scopedLive("is closed already: nobody can say who it was", () =>
    Effect.gen(function* () {
      const { socket, end } = yield* acceptedFromHere(local)
      const ended = once(socket, "end")
      socket.resume()
      end()
      yield* Effect.promise(() => ended)
      assert.strictEqual(SocketOwner.of(socket)?._tag, "Unknown")
    })
  )

  it.scopedLive("of a unix socket is the process that connected", () =>
    Effect.gen(function* () {
      const { socket, pid } = yield* acceptedFromChild({ path: join(yield* folder, "socket") })
      assert.deepStrictEqual(SocketOwner.of(socket), SocketOwner.SocketOwner.Unix({ uid, pid }))
    })
  )
})

describe("an owner is one of some processes, or is not", () => {
  const connections = {
    TCP: Effect.succeed(local),
    "a unix socket": Effect.map(folder, (path) => ({ path: join(path, "socket") }))
  }

  for (const [what, place] of Object.entries(connections)) {
    it.scopedLive(`by ${what}`, () =>
      Effect.gen(function* () {
        const { socket, pid } = yield* acceptedFromChild(yield* place)
        const owner = SocketOwner.of(socket)
        if (owner === undefined) return yield* Effect.dieMessage("it has no owner")
        const other = pidOf(yield* child("/bin/sleep", "1000"))
        assert.isTrue(SocketOwner.isWithin(owner, new Set([pid])))
        assert.isTrue(SocketOwner.isWithin(owner, new Set([other, pid])))
        assert.isTrue(SocketOwner.isWithin(owner, new Set([process.pid])), "it descends from this process")
        assert.isFalse(SocketOwner.isWithin(owner, new Set([other])))
        assert.isFalse(SocketOwner.isWithin(owner, new Set()))
      })
    )
  }

  it.scopedLive("it may be, where nobody holds the socket, or nobody can say who connected", () =>
    Effect.gen(function* () {
      const pid = pidOf(yield* child("/bin/sleep", "1000"))
      const { Tcp, Unix, Unknown } = SocketOwner.SocketOwner
      const gone = 2 ** 22 + 1
      for (const owner of [Tcp({ uid, inode: 0 }), Unix({ uid, pid: gone }), Unknown({ reason: "" })]) {
        assert.isTrue(SocketOwner.isWithin(owner, new Set([pid])), owner._tag)
        assert.isFalse(SocketOwner.isWithin(owner, new Set()), owner._tag)
      }
    })
  )

  it.scopedLive("it is, though only one of them holds the socket, and though others hold it as well", () =>
    Effect.gen(function* () {
      let client: Socket | undefined
      const socket = yield* accepted(local, (where) => {
        client = createConnection(where)
      })
      if (client === undefined) return yield* Effect.dieMessage("there is no connection")
      // The shell has the other end as its input, and so has this process; the program that the shell starts has not.
      const script = "sleep 1000 </dev/null & echo; wait"
      const stdio = [client, "pipe", "ignore"] as const
      const shell = spawn("/bin/sh", ["-c", script], { detached: true, stdio: [...stdio] })
      yield* Effect.addFinalizer(() =>
        Effect.sync(() => {
          process.kill(-pidOf(shell), "SIGKILL")
          client?.destroy()
        })
      )
      if (shell.stdout === null) return yield* Effect.dieMessage("no stdout")
      const { stdout } = shell
      yield* Effect.promise(() => once(stdout, "data"))
      const owner = SocketOwner.of(socket)
      assert.strictEqual(owner?._tag, "Tcp")
      if (owner === undefined) return
      assert.isTrue(SocketOwner.isWithin(owner, new Set([pidOf(shell)])))
      client.destroy()
      assert.isTrue(SocketOwner.isWithin(owner, new Set([pidOf(shell)])))
    })
  )

  it.scopedLive("it is not where all of these are gone, whoever it may be", () =>
    Effect.sync(() => {
      const { Tcp, Unix, Unknown } = SocketOwner.SocketOwner
      const gone = 2 ** 22 + 1
      for (const owner of [Tcp({ uid, inode: 0 }), Unix({ uid, pid: gone }), Unknown({ reason: "" })]) {
        assert.isFalse(SocketOwner.isWithin(owner, new Set([gone])), owner._tag)
      }
    })
  )
})
