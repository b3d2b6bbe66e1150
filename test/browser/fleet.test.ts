/** The page of a fleet in a browser: a gateway with its embedded directory, and hosts. */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { WebSocket } from "ws"
import { assertAccessible, binary, connectionErrors, open, useBrowser } from "./harness.js"

useBrowser()

const tokens = { client: "c".repeat(40), operator: "o".repeat(40), viewer: "v".repeat(40) }
const folder = mkdtempSync(join(tmpdir(), "exec-server-fleet-page-"))
const children: Array<ChildProcess> = []
let url = ""

const launch = (args: ReadonlyArray<string>, env: NodeJS.ProcessEnv = {}): ChildProcess => {
  const child = spawn(process.execPath, [binary, ...args], {
    cwd: folder,
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, EXEC_SERVER_CONTROL_SOCKET: "none", ...env }
  })
  children.push(child)
  return child
}

/** Waits until a program prints something. */
const prints = (child: ChildProcess, from: "stdout" | "stderr", pattern: RegExp): Promise<string> =>
  new Promise((resolve, reject) => {
    let text = ""
    child[from]?.on("data", (data) => {
      text += String(data)
      const found = pattern.exec(text)
      if (found !== null) resolve(found[1] ?? "")
    })
    child.once("exit", () => reject(new Error(`it has ended: ${text}`)))
  })

const host = async (id: string): Promise<ChildProcess> => {
  const args = ["--remote", `http://127.0.0.1:${new URL(url).port}`, "--environment-id", id, "--capacity", "4"]
  const child = launch([...args, "--labels", "gpu,eu"], { EXEC_SERVER_REMOTE_TOKEN: "host" })
  await prints(child, "stderr", /registered with (environment_id)/)
  return child
}

/** A client with a session. */
const client = async (): Promise<WebSocket> => {
  const socket = new WebSocket(url.replace(/^http/, "ws"), { headers: { authorization: `Bearer ${tokens.client}` } })
  await once(socket, "open")
  socket.send(JSON.stringify({ id: 1, method: "initialize", params: { clientName: "t", resumeSessionId: null } }))
  const [answer] = await once(socket, "message")
  assert.isString(JSON.parse(String(answer)).result?.sessionId, String(answer))
  return socket
}

const show = (token: string, allowed: ReadonlyArray<RegExp> = []) => open({ token, allowed, address: `${url}/console` })

beforeAll(async () => {
  const files = Object.entries(tokens).map(([name, token]) => {
    writeFileSync(join(folder, name), token, { mode: 0o600 })
    return join(folder, name)
  })
  const [clientFile = "", operatorFile = "", viewerFile = ""] = files
  const auth = ["--ws-auth", "capability-token", "--ws-token-file", clientFile]
  const roles = ["--console-token-file", operatorFile, "--console-viewer-token-file", viewerFile]
  const gateway = launch(["gateway", "--database", `file:${folder}/db`, "--lease", "4s", ...auth, ...roles])
  url = `http://${await prints(gateway, "stdout", /ws:\/\/(127\.0\.0\.1:\d+)/)}`
  gateway.stderr?.resume()
}, 120_000)

afterAll(async () => {
  for (const child of children.reverse()) {
    if (child.exitCode !== null || child.signalCode !== null) continue
    child.kill()
    await once(child, "exit")
  }
  rmSync(folder, { recursive: true, force: true })
})

describe("the page of a fleet", { timeout: 120_000 }, () => {
  it("shows hosts and sessions; cordons, and places again; what is lost is shown with the reason", async () => {
    const h1 = await host("h1")
    const socket = await client()
    socket.on("error", () => {})
    const page = await show(tokens.operator)
    const row = page.getByRole("region", { name: "Hosts" }).getByRole("row", { name: /h1/ })
    await row.getByText("ready", { exact: true }).waitFor()
    await row.getByText("gpu, eu").waitFor()
    await row.getByText("1 of 4").waitFor()
    await page.getByRole("region", { name: "Sessions" }).getByText("attached").waitFor()
    await page.getByText("Nobody waits for a place.").waitFor()
    assert.notInclude(page.url(), tokens.operator)
    await assertAccessible(page)
    await page.emulateMedia({ colorScheme: "dark" })
    await assertAccessible(page)
    await page.getByRole("button", { name: "Cordon h1" }).click()
    await row.getByText("cordoned").waitFor()
    await page.getByRole("button", { name: "Ready h1" }).click()
    await row.getByText("ready", { exact: true }).waitFor()
    h1.kill("SIGKILL")
    await row.getByText("lost", { exact: true }).waitFor()
    const lost = page.getByRole("region", { name: "Lost in the last hour" }).getByRole("row", { name: /h1/ })
    await lost.getByText("its host").waitFor()
    await page.getByRole("button", { name: "Forget h1" }).click()
    await page.getByText("No host has connected to this fleet yet.").waitFor()
    socket.terminate()
  })

  it("lets a viewer look, and change nothing", async () => {
    await host("h2")
    const page = await show(tokens.viewer, connectionErrors)
    await page.getByRole("row", { name: /h2/ }).getByText("ready", { exact: true }).waitFor()
    assert.strictEqual(await page.getByRole("button", { name: /Cordon|Drain|End/ }).count(), 0)
    const status = await page.evaluate(async (token) => {
      const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" }
      return (await fetch("fleet/hosts/h2/cordon", { method: "POST", headers, body: "{}" })).status
    }, tokens.viewer)
    assert.strictEqual(status, 403)
    await page.getByText("Nobody waits for a place.").waitFor()
    assert.strictEqual(await page.getByText("cordoned").count(), 0)
  })

  it("asks for a token, refuses a wrong one and a client's with a sentence, and takes the right one", async () => {
    const page = await show("", connectionErrors)
    await page.getByText("The gateway asks for a token.").waitFor()
    await assertAccessible(page)
    const signIn = async (token: string) => {
      await page.getByLabel("Token").fill(token)
      await page.getByRole("button", { name: "Sign in" }).click()
    }
    await signIn("wrong")
    await page.getByText("it is wrong, has expired or was revoked").waitFor()
    await signIn(tokens.client)
    await page.getByText("the token of a fleet's viewer or operator").waitFor()
    await signIn(tokens.operator)
    await page.getByRole("heading", { name: "Hosts" }).waitFor()
  })

  it("is served like the console: by GET, with the headers of pages, and to no other name", async () => {
    const response = await fetch(`${url}/console`)
    assert.strictEqual(response.status, 200)
    assert.include(response.headers.get("content-security-policy") ?? "", "frame-ancestors 'none'")
    assert.strictEqual(response.headers.get("x-content-type-options"), "nosniff")
    assert.strictEqual((await fetch(`${url}/console`, { method: "POST" })).status, 405)
    assert.strictEqual((await fetch(`${url}/console/none.js`)).status, 404)
  })
})
