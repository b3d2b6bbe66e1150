import { assert, describe, it } from "@effect/vitest"
import * as Dialect from "../../src/protocol/Dialect.js"

describe("Dialect", () => {
  for (const [params, dialect] of [
    [{ clientName: "x" }, "v0"],
    [{ clientName: "x", other: 1 }, "v0"],
    [{ clientName: "x", resumeSessionId: null }, "session"],
    [{ clientName: "x", resumeSessionId: "id" }, "session"],
    [{ clientName: "x", capabilities: {} }, "session"],
    [{ clientName: "x", capabilities: { lifecycle: true } }, "session"],
    [{ clientName: "x", resumeSessionId: null, capabilities: {} }, "session"]
  ] as const) {
    it(`${JSON.stringify(params)} is of the ${dialect} dialect`, () => {
      assert.strictEqual(Dialect.of(params), dialect)
    })
  }
})
