import { Buffer } from "node:buffer"
import { assert, describe, it } from "@effect/vitest"
import * as Exit from "effect/Exit"
import { ServerError } from "../../src/client/ClientError.js"
import * as Subject from "../../src/client/Subject.js"

const missing = "No such file or directory (os error 2)"

const named = (method: "fs/readFile" | "process/start" | "process/read", params: object, reason: string) => {
  const answer = Exit.fail(new ServerError({ code: -32603, reason }))
  const told = Subject.named({ method, params, text: "" }, answer)
  return Exit.match(told, {
    onFailure: (cause) => (cause._tag === "Fail" && cause.error._tag === "ServerError" ? cause.error : undefined),
    onSuccess: () => undefined
  })
}

const path = { path: { bytes: Buffer.from("/asked"), form: "plain" } }
const start = { argv: ["tool"], cwd: { path: "/folder", form: "plain" } }

describe("what the error of a system call is about", () => {
  it("is what the server says, once", () => {
    const error = named("fs/readFile", path, `${missing}: /told`)
    assert.deepInclude(error, { reason: missing, about: "/told" })
    assert.strictEqual(error?.message, `exec-server rejected request (-32603): ${missing}: /told`)
    assert.deepInclude(named("process/start", start, `${missing}: tool`), { reason: missing, about: "tool" })
  })

  it("is what the request says, where the server does not", () => {
    assert.deepInclude(named("fs/readFile", path, missing), { reason: missing, about: "/asked" })
    assert.deepInclude(named("process/start", start, missing), { reason: missing, about: "tool in /folder" })
  })

  it("is not asked of other errors", () => {
    for (const reason of ["path contains a symbolic link", `cannot make /x: ${missing}`]) {
      const error = named("fs/readFile", path, reason)
      assert.deepInclude(error, { reason })
      assert.notProperty(error, "about")
    }
  })
})
