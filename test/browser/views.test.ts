/** The views in a browser: lists, forms, roles, links, recordings, and that everybody can use them. */
import { readFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import {
  assertAccessible,
  connectionErrors,
  open,
  phone,
  place,
  prompt,
  screen,
  shell,
  shows,
  start,
  type,
  useBrowser,
  watch
} from "./harness.js"

useBrowser()

const go = (page: Awaited<ReturnType<typeof open>>, hash: string) => page.evaluate((to) => location.assign(to), hash)

describe("the list", () => {
  it("has what runs in all sessions, as it changes", async () => {
    const [page, other] = [await open(), await open()]
    await start(other, "sleep 1000; : findable")
    const row = page.getByRole("row", { name: /findable/ })
    await row.getByText("running").waitFor()
    await page.getByRole("searchbox").fill("nothing like that")
    await page.getByText("Nothing matches.").waitFor()
    await page.getByRole("searchbox").fill("FINDABLE")
    await row.waitFor()
    await other.getByRole("button", { name: "Terminate" }).click()
    await other.getByRole("dialog").getByRole("button", { name: "Terminate" }).click()
    await row.getByText("SIGTERM").waitFor()
    await page.getByLabel("State").selectOption("running")
    await page.getByText("Nothing matches.").waitFor()
  })
})

describe("the form", () => {
  it("says what is wrong", async () => {
    const page = await open({ hash: "#/start" })
    await page.getByLabel("Run it with the shell").uncheck()
    await page.getByLabel("Command").fill("echo 'open")
    await page.getByRole("button", { name: "Start", exact: true }).click()
    await page.getByText("a quote that is not closed").waitFor()
    await page.getByLabel("Command").fill("/nowhere/program")
    await page.getByRole("button", { name: "Start", exact: true }).click()
    await page.getByText("No such file or directory").waitFor()
  })

  it("starts with an environment, a directory, a time limit and restarts", async () => {
    const page = await open({ hash: "#/start" })
    await page.getByLabel("Command").fill('echo "$NAME in $PWD"; exit 4')
    await page.getByLabel("Working directory").fill("/usr")
    await page.getByLabel("Pipes").check()
    await page.getByText("More:").click()
    await page.getByLabel("Environment", { exact: true }).fill("NAME=value")
    await page.getByLabel("Time limit").fill("60")
    await page.getByRole("combobox", { name: "Restart" }).selectOption("onFailure")
    await page.getByLabel("At most so many").fill("1")
    await page.getByRole("button", { name: "Start", exact: true }).click()
    await shows(page, /value in \/usr[\s\S]*value in \/usr/)
    await page.getByText("exited with status 4").waitFor()
    await page.getByText("restarted 1\u00d7").waitFor()
  })
})

describe("a process on pipes", () => {
  it("has stdout and stderr apart, takes lines, and shows what would not be seen", async () => {
    const page = await open({ hash: "#/start" })
    await page
      .getByLabel("Command")
      .fill("echo out; echo problem >&2; printf 'a\\342\\200\\256b\\n'; read line; echo \"got $line\"")
    await page.getByLabel("Pipes").check()
    await page.getByLabel("It reads what is typed").check()
    await page.getByRole("button", { name: "Start", exact: true }).click()
    await shows(page, "problem")
    assert.strictEqual(await page.locator(".line.stderr bdi").innerText(), "problem")
    await shows(page, "a\u27e8202E\u27e9b")
    await page.getByLabel("Stream").selectOption("stderr")
    await page.getByText("1 lines").waitFor()
    await page.getByLabel("Stream").selectOption("all")
    await page.getByLabel("Line for stdin").fill("hello")
    await page.getByRole("button", { name: "Send" }).click()
    await shows(page, "got hello")
    await page.getByText("exited with status 0").waitFor()
  })
})

describe("signals", () => {
  it("reach the process; killing it takes a confirmation", async () => {
    const page = await open()
    await start(page, "trap 'echo caught' USR1; echo ready; while :; do sleep 0.1; done")
    await shows(page, "ready")
    await page.getByLabel("Send a signal").selectOption("SIGUSR1")
    await shows(page, "caught")
    await page.getByRole("button", { name: "Kill" }).click()
    await page.getByRole("dialog").getByRole("button", { name: "Cancel" }).click()
    await page.getByRole("button", { name: "Kill" }).click()
    await page.getByRole("dialog").getByRole("button", { name: "Kill" }).click()
    await page.getByText("killed by SIGKILL (status 137)").waitFor()
  })
})

describe("a viewer", () => {
  it("sees everything, and changes nothing", async () => {
    const page = await open()
    await shell(page)
    await type(page, "echo vis''ible")
    await shows(page, /^visible$/m)
    const viewer = await open({ token: place().viewer })
    await viewer.getByRole("row", { name: /bash/ }).first().waitFor()
    assert.strictEqual(await viewer.getByRole("link", { name: "Start a command" }).count(), 0)
    await go(viewer, new URL(page.url()).hash)
    await shows(viewer, /^visible$/m)
    await viewer.getByText("view only").waitFor()
    for (const name of ["Terminate", "Kill", "Record", "Share", "Paste", "Keys", "Fit to my window"]) {
      assert.strictEqual(await viewer.getByRole("button", { name, exact: true }).count(), 0, name)
    }
    await viewer.locator(".xterm-helper-textarea").focus()
    await viewer.keyboard.type("echo intru''der\n")
    await type(page, "echo af''ter")
    await shows(viewer, /^after$/m)
    assert.notInclude(await screen(viewer), "intru")
  })
})

describe("a link to one process", () => {
  it("shows that, and nothing else, until it is revoked", async () => {
    const page = await open()
    await shell(page)
    await type(page, "echo sha''red")
    await page.getByRole("button", { name: "Share" }).click()
    await page.getByLabel("They may").selectOption("operator")
    await page.getByRole("button", { name: "Make a link" }).click()
    const link = await page.getByLabel("The link").inputValue()
    assert.match(link, /\/tools\/console#share=share-/)
    const guest = await open({ token: "", hash: new URL(link).hash })
    await shows(guest, /^shared$/m)
    assert.strictEqual(new URL(guest.url()).hash, "")
    assert.strictEqual(await guest.getByRole("navigation").count(), 0)
    await guest.getByText("access ends in").waitFor()
    await go(guest, "#/server")
    await shows(guest, /^shared$/m)
    await type(guest, "echo gu''est")
    await shows(page, /^guest$/m)
    await page.getByRole("button", { name: "Revoke" }).click()
    await guest.getByText("the share was revoked").waitFor()
  })
})

describe("signing in", () => {
  it("takes a token, which is in no address and no cookie", async () => {
    const page = await open({ token: "wrong-token-wrong-token", allowed: connectionErrors })
    await page.getByText("does not accept this token").waitFor()
    assert.strictEqual(new URL(page.url()).hash, "")
    await page.getByLabel("Token").fill(place().operator)
    await page.getByRole("button", { name: "Sign in" }).click()
    await page.getByRole("link", { name: "Start a command" }).waitFor()
    await page.reload()
    await page.getByRole("link", { name: "Start a command" }).waitFor()
    assert.deepStrictEqual(await page.context().cookies(), [])
    assert.notInclude(JSON.stringify(await page.evaluate(() => ({ ...localStorage }))), place().operator)
  })

  it("says why there is no connection", async () => {
    place().allowsUpgrades = false
    const page = await open({ allowed: connectionErrors })
    await page.getByText("opens no WebSocket").waitFor()
    place().allowsUpgrades = true
    await page.getByRole("link", { name: "Start a command" }).waitFor()
  })

  it("of a second window with the same session takes it over", async () => {
    const page = await open()
    await shell(page)
    const session = await page.evaluate(() => sessionStorage.getItem("exec-server.session"))
    const token = await page.evaluate(() => sessionStorage.getItem("exec-server.token"))
    const second = await page.context().newPage()
    watch(second)
    await second.addInitScript(
      ([session = "", token = ""]) => {
        sessionStorage.setItem("exec-server.session", session)
        sessionStorage.setItem("exec-server.token", token)
      },
      [session ?? "", token ?? ""]
    )
    await second.goto(page.url())
    await shows(second, prompt)
    await page.getByText("open in another window").waitFor()
    await page.getByRole("button", { name: "Use it here" }).click()
    await shows(page, prompt)
    await second.getByText("open in another window").waitFor()
  })
})

describe("a recording", () => {
  it("is made, played, sought in and removed", async () => {
    const page = await open()
    await start(page, "for i in 1 2 3 4 5 6 7 8; do echo step $i; sleep 0.25; done; sleep 1000")
    await page.getByRole("button", { name: "Record", exact: true }).click()
    await shows(page, "step 8")
    await page.getByRole("button", { name: "Stop recording" }).click()
    await page.getByText("The recording is under Recordings").waitFor()
    await page.getByRole("link", { name: "Recordings" }).click()
    const row = page.getByRole("row", { name: /step/ })
    const [file] = await Promise.all([
      page.waitForEvent("download"),
      row.getByRole("button", { name: "Download" }).click()
    ])
    assert.match(file.suggestedFilename(), /^[0-9a-f]{32}\.cast$/)
    assert.match(readFileSync(await file.path(), "utf8"), /^\{"version":3,/)
    await row.getByRole("link").click()
    await shows(page, "step 8")
    const position = page.getByLabel("Position")
    await position.fill("0")
    await shows(page, /^(?![\s\S]*step 8)/)
    await page.getByLabel("Speed").selectOption("8")
    await shows(page, "step 8")
    await position.focus()
    for (let i = 0; i < 4; i++) await page.keyboard.press("ArrowLeft")
    await shows(page, /^(?![\s\S]*step 8)/)
    await shows(page, "step 8")
    await page.getByLabel("Speed").selectOption("0.5")
    await position.fill("0")
    await page.getByRole("button", { name: "Pause" }).press("Enter")
    await page.getByRole("button", { name: "Play" }).waitFor()
    const paused = await position.inputValue()
    await page.waitForTimeout(300)
    assert.strictEqual(await position.inputValue(), paused)
    for (const colorScheme of ["light", "dark"] as const) {
      await page.emulateMedia({ colorScheme })
      await assertAccessible(page)
    }
    await page.getByRole("link", { name: "All recordings" }).click()
    await row.getByRole("button", { name: "Remove" }).click()
    await page.getByRole("dialog").getByRole("button", { name: "Remove" }).click()
    await page.getByText("There are none").waitFor()
  })
})

describe("every view", () => {
  for (const colorScheme of ["light", "dark"] as const) {
    it(`is accessible when it is ${colorScheme}`, async () => {
      const page = await open({ colorScheme, token: "wrong-token-wrong-token", allowed: connectionErrors })
      await page.getByLabel("Token").waitFor()
      await assertAccessible(page)
      await page.getByLabel("Token").fill(place().operator)
      await page.getByRole("button", { name: "Sign in" }).click()
      await page.getByRole("link", { name: "Start a command" }).waitFor()
      await shell(page)
      const terminal = new URL(page.url()).hash
      await assertAccessible(page)
      await page.getByRole("button", { name: "Keys" }).click()
      await page.getByRole("button", { name: "Compose" }).click()
      await page.getByText("Usage").click()
      await page.waitForSelector(".uplot")
      await assertAccessible(page)
      await page.getByRole("button", { name: "Share" }).click()
      await page.getByRole("button", { name: "Make a link" }).click()
      await page.getByLabel("The link").waitFor()
      await assertAccessible(page)
      await page.keyboard.press("Escape")
      await page.getByRole("button", { name: "Kill" }).click()
      await page.getByRole("dialog").waitFor()
      await assertAccessible(page)
      await page.keyboard.press("Escape")
      await page.evaluate(() => navigator.clipboard.writeText("one\ntwo\n"))
      await page.getByRole("button", { name: "Paste" }).click()
      await page.getByRole("dialog").getByText("Paste 2 lines?").waitFor()
      await assertAccessible(page)
      await page.keyboard.press("Escape")
      await page.getByRole("button", { name: "Find" }).click()
      await page.getByRole("searchbox").fill("$")
      await assertAccessible(page)
      await start(page, "echo out; echo err >&2", "pipes")
      await shows(page, "err")
      await assertAccessible(page)
      for (const hash of ["#/", "#/start", "#/recordings", "#/server", "#/s/none/none"]) {
        await go(page, hash)
        await page.getByRole("heading", { level: 1 }).waitFor()
        if (hash === "#/server") await page.waitForSelector(".uplot")
        await assertAccessible(page)
      }
      assert.notInclude(await page.locator("body").innerText(), "file://")
      await page.setViewportSize(phone.viewport ?? { width: 390, height: 760 })
      for (const hash of ["#/", terminal]) {
        await go(page, hash)
        await page.getByRole("heading", { level: 1 }).waitFor()
        await assertAccessible(page)
      }
    })
  }

  it("gives the keyboard back when a dialog is closed", async () => {
    const page = await open()
    await shell(page)
    for (const name of ["Terminate", "Kill"]) {
      await page.getByRole("button", { name, exact: true }).focus()
      await page.keyboard.press("Enter")
      const cancel = page.getByRole("dialog").getByRole("button", { name: "Cancel" })
      await cancel.press("Enter")
      await cancel.waitFor({ state: "detached" })
      await page.waitForFunction((text) => document.activeElement?.textContent === text, name)
    }
    await page.evaluate(() => navigator.clipboard.writeText("echo 1\necho 2\n"))
    await page.getByRole("button", { name: "Paste" }).click()
    await page.getByRole("dialog").getByRole("button", { name: "Paste" }).press("Enter")
    await page.waitForFunction(() => document.activeElement?.classList.contains("xterm-helper-textarea"))
  })

  it("is reached by the keyboard, the terminal is left with it, and the theme is chosen", async () => {
    const page = await open()
    await shell(page)
    await page.keyboard.press("Control+Shift+x")
    await page.waitForFunction(() => document.activeElement?.textContent === "Find")
    await page.getByLabel("Theme").selectOption("dark")
    await page.waitForSelector(':root[data-theme="dark"]')
    await page.reload()
    await page.waitForSelector(':root[data-theme="dark"]')
    await page.waitForFunction(() => document.activeElement?.classList.contains("xterm-helper-textarea"))
    await page.locator(".logo").focus()
    const seen = new Set<string>()
    for (let i = 0; i < 40 && !seen.has("Terminal input"); i++) {
      await page.keyboard.press("Tab")
      seen.add(
        await page.evaluate(
          () => document.activeElement?.getAttribute("aria-label") ?? document.activeElement?.textContent ?? ""
        )
      )
    }
    for (const name of [
      "Processes",
      "Recordings",
      "Server",
      "Terminate",
      "Kill",
      "Share",
      "Find",
      "Copy",
      "Terminal input"
    ]) {
      assert.include(Array.from(seen), name)
    }
  })
})
