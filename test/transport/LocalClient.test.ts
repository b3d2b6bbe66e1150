/** Which programs of this machine may use a server that asks for no token: what they say, and whose they are. */
import type { IncomingMessage } from "node:http"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { SocketOwner } from "../../src/spawn/SocketOwner.js"
import { refusal } from "../../src/transport/LocalClient.js"
import { exposed } from "../support/exposed.js"
import { answer, receives, upgrade } from "../support/raw.js"
import { rawSocket } from "../support/servers.js"

describe("the Host header", () => {
  it.scopedLive("is an address or a name without a dot: no other name can have led a browser here", () =>
    Effect.gen(function* () {
      const url = yield* exposed({})
      for (const [host, expected] of [
        ["127.0.0.1", 101],
        ["127.0.0.1:80", 101],
        ["192.0.2.1:80", 101],
        ["[2001:db8::1]:80", 101],
        ["[::ffff:127.0.0.1]:80", 101],
        ["[::1]:80", 101],
        ["localhost:80", 101],
        ["host:80", 101],
        ["attacker.example", 403],
        ["127.0.0.1.attacker.example:80", 403],
        ["127.0.0.1:80.attacker.example", 403],
        ["", 403]
      ] as const) {
        const socket = yield* rawSocket(url)
        socket.write(upgrade().replace(/Host: [^\r]*/i, `Host: ${host}`))
        const text = yield* receives(socket, (bytes) => bytes.includes("\r\n"))
        assert.isTrue(String(text).startsWith(`HTTP/1.1 ${expected} `), `${host}: ${text}`)
      }
      assert.strictEqual((yield* answer(`${url}/`, "GET", { host: "attacker.example" })).status, 403)
      assert.strictEqual((yield* answer(`${url}/`, "GET")).status, 400)
    })
  )
})

describe("the owner of a connection", () => {
  const own = process.geteuid?.() ?? Number.NaN
  const from = (remoteAddress: string | undefined, host?: string) =>
    ({ socket: { remoteAddress }, headers: { host } }) as unknown as IncomingMessage
  const { Tcp, Unix, Unknown } = SocketOwner

  it("is the user of the server, or is refused by its number", () => {
    const request = from("127.0.0.1", "127.0.0.1")
    for (const mine of [Tcp({ uid: own, inode: 1 }), Unix({ uid: own, pid: 1 })]) {
      assert.isUndefined(refusal(request, mine))
      const why = `it belongs to user ${own + 1}, but this server runs as user ${own}; `
      assert.isTrue(refusal(request, { ...mine, uid: own + 1 })?.startsWith(why))
    }
  })

  it("is told by the kernel, or nobody may connect", () => {
    assert.match(
      refusal(from("127.0.0.1", "localhost"), Unknown({ reason: "it is closed" })) ?? "",
      /^the kernel does not tell whose connection it is \(it is closed\); pass --allow-local-users/
    )
  })

  it("is on another machine: any name may have led there", () => {
    assert.isUndefined(refusal(from("192.0.2.1", "server.example"), undefined))
  })

  it("of a unix socket is all that matters: no browser finds one by a name", () => {
    const mine = Unix({ uid: own, pid: 1 })
    assert.isUndefined(refusal(from(undefined, "names.example"), mine))
    assert.isDefined(refusal(from(undefined, "names.example"), { ...mine, uid: own + 1 }))
  })

  it("does not make up for a name that is not this machine's, or none", () => {
    for (const host of ["names.example", undefined]) {
      assert.match(refusal(from("::1", host), Tcp({ uid: own, inode: 1 })) ?? "", /^its Host header says /)
    }
  })
})
