/** Who a client is that did not authenticate. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Grant from "../../src/session/Grant.js"
import { SocketOwner } from "../../src/spawn/SocketOwner.js"

const { Tcp, Unix, Unknown } = SocketOwner

it("is a user of this machine, where the kernel tells", () => {
  for (const owner of [Tcp({ uid: 1000, inode: 7 }), Unix({ uid: 1000, pid: 7 })]) {
    assert.deepStrictEqual(Grant.ofOwner(owner), { id: "local:1000" })
  }
})

it("is nobody in particular, where it is on another machine or the kernel does not tell", () => {
  assert.deepStrictEqual(Grant.ofOwner(undefined), { id: "anonymous" })
  assert.deepStrictEqual(Grant.ofOwner(Unknown({ reason: "it is closed" })), { id: "anonymous" })
})

it.effect("has no grant of an application's middleware, unless that gives one", () =>
  Effect.gen(function* () {
    assert.isUndefined(yield* Grant.CurrentGrant)
  })
)
