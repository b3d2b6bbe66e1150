import { assert, describe, it } from "@effect/vitest"
import * as Either from "effect/Either"
import { load } from "../../src/remote/RendezvousConfig.js"

const isRefused = (listen: string) =>
  Either.isLeft(
    load(
      {
        listen,
        executorTokenFile: undefined,
        clientTokenFile: undefined,
        publicUrl: undefined,
        tlsCert: undefined,
        tlsKey: undefined,
        insecure: false
      },
      {}
    )
  )

describe("a rendezvous without tokens", () => {
  for (const host of ["127.0.0.1", "127.1.2.3", "[::1]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]"]) {
    it(`may listen on ${host}`, () => assert.isFalse(isRefused(`ws://${host}:0`)))
  }

  for (const host of ["0.0.0.0", "[::]", "10.0.0.1", "[::2]", "[::ffff:10.0.0.1]"]) {
    it(`may not listen on ${host}`, () => assert.isTrue(isRefused(`ws://${host}:0`)))
  }
})
