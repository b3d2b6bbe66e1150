/**
 * A browser, a server, and what stands between them: a proxy below a path, which cuts connections when it is told to.
 *
 * Every page fails its test with what it reports: errors of scripts, of the console, and violations of its content security
 * policy.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { randomBytes } from "node:crypto"
import { once } from "node:events"
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import * as http from "node:http"
import { createRequire } from "node:module"
import * as net from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { afterAll, afterEach, assert, beforeAll } from "@effect/vitest"
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core"

const dist = fileURLToPath(new URL("../../dist/", import.meta.url))

/** The built command. */
export const binary = join(dist, "bin.js")

const executablePath = ["/usr/bin/chromium-headless-shell", "/usr/bin/chromium"].find(existsSync)

const axeSource = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8")

/** Where the page is: not at the root, as behind a proxy. */
const prefix = "/tools"

/** A server behind a proxy. */
export interface Place {
  /** The address of the page. */
  readonly url: string
  readonly operator: string
  readonly viewer: string
  /** Ends all open connections. */
  readonly cut: () => void
  /** Passes nothing on any more on all open connections, and ends none: their two ends do not notice. */
  readonly freeze: () => void
  /** Whether WebSockets are passed on. */
  allowsUpgrades: boolean
  readonly stop: () => Promise<void>
}

const listening = async (child: ChildProcess): Promise<number> => {
  for await (const data of child.stdout ?? []) {
    const found = /ws:\/\/127\.0\.0\.1:(\d+)/.exec(String(data))
    if (found !== null) return Number(found[1])
  }
  throw new Error("the server has ended")
}

const begin = async (): Promise<Place> => {
  const folder = mkdtempSync(join(tmpdir(), "exec-server-browser-"))
  const [operator, viewer] = [randomBytes(24).toString("hex"), randomBytes(24).toString("hex")]
  const file = (name: string, content: string) => {
    writeFileSync(join(folder, name), content, { mode: 0o600 })
    return join(folder, name)
  }
  const flags = ["--listen", "ws://127.0.0.1:0", "--recordings-dir", join(folder, "recordings")]
  const tokens = ["--console-token-file", file("o", operator), "--console-viewer-token-file", file("v", viewer)]
  const child = spawn(process.execPath, [binary, ...flags, ...tokens], {
    cwd: folder,
    stdio: ["ignore", "pipe", "ignore"],
    env: { ...process.env, PS1: "$ ", HOME: folder }
  })
  const port = await listening(child)
  const sockets = new Set<net.Socket>()
  const freezes = new Set<() => void>()

  const front = http.createServer((request, response) => {
    const path = (request.url ?? "").slice(prefix.length).split("?")[0] ?? ""
    const onward = http.request({ port, path, method: request.method ?? "GET", headers: request.headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 500, answer.headers)
      answer.pipe(response)
    })
    request.pipe(onward)
  })
  const place = {
    url: "",
    operator,
    viewer,
    cut: () => {
      for (const socket of sockets) socket.destroy()
    },
    freeze: () => {
      for (const freeze of freezes) freeze()
    },
    allowsUpgrades: true,
    stop: async () => {
      for (const socket of sockets) socket.destroy()
      front.close()
      child.kill()
      if (child.exitCode === null) await once(child, "exit")
      rmSync(folder, { recursive: true, force: true })
    }
  }
  front.on("upgrade", (request, socket: net.Socket, head) => {
    if (!place.allowsUpgrades) {
      socket.end("HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n")
      return
    }
    sockets.add(socket)
    const onward = net.connect(port, "127.0.0.1", () => {
      const lines = Object.entries(request.headers).map(([name, value]) => `${name}: ${value}\r\n`)
      onward.write(`GET / HTTP/1.1\r\n${lines.join("")}\r\n`)
      onward.write(head)
      socket.pipe(onward).pipe(socket)
    })
    const freeze = () => {
      socket.unpipe(onward)
      onward.unpipe(socket)
    }
    freezes.add(freeze)
    onward.on("error", () => socket.destroy()).on("close", () => socket.destroy())
    socket
      .on("error", () => onward.destroy())
      .on("close", () => {
        sockets.delete(socket)
        freezes.delete(freeze)
        onward.destroy()
      })
  })
  front.listen(0, "127.0.0.1")
  await once(front, "listening")
  place.url = `http://127.0.0.1:${(front.address() as net.AddressInfo).port}${prefix}/console`
  return place
}

let browser: Browser | undefined
let current: Place | undefined
let pages: Array<{ readonly page: Page; readonly reports: Array<string>; allowed: ReadonlyArray<RegExp> }> = []

/** Gives each test of a file the browser and the server of that file. */
export const useBrowser = (): void => {
  beforeAll(async () => {
    if (executablePath === undefined) {
      throw new Error("there is no browser: apt-get install --no-install-recommends chromium-headless-shell")
    }
    browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] })
    current = await begin()
  })
  afterEach(async () => {
    const ended = pages
    pages = []
    for (const { page } of ended) await page.context().close()
    if (current !== undefined) current.allowsUpgrades = true
    for (const { reports, allowed } of ended) {
      assert.deepStrictEqual(
        reports.filter((text) => !allowed.some((pattern) => pattern.test(text))),
        []
      )
    }
  })
  afterAll(async () => {
    await browser?.close()
    await current?.stop()
  })
}

/** The server of this file. */
export const place = (): Place => {
  assert.isDefined(current)
  return current
}

/** How a page is opened. */
export interface Options extends BrowserContextOptions {
  /** The token in its address; that of the operator by default, none if it is empty. */
  readonly token?: string
  /** What it may report. */
  readonly allowed?: ReadonlyArray<RegExp>
  /** The view. */
  readonly hash?: string
  /** Where the page is, if not at the server of this file. */
  readonly address?: string
}

/** What the browser reports of connections that are cut on purpose. */
export const connectionErrors = [/WebSocket connection to/, /Failed to load resource/, /WebSocket is closed/]

/** A phone. */
export const phone: BrowserContextOptions = { viewport: { width: 390, height: 760 }, hasTouch: true, isMobile: true }

/** Opens a page in a context of its own. */
export const open = async (options: Options = {}): Promise<Page> => {
  const { token = place().operator, allowed = [], hash = "", address = place().url, ...more } = options
  assert.isDefined(browser)
  const context = await browser.newContext({
    viewport: { width: 1100, height: 700 },
    permissions: ["clipboard-read", "clipboard-write"],
    ...more
  })
  context.setDefaultTimeout(20_000)
  const page = await context.newPage()
  watch(page, allowed)
  await page.goto(address + (token === "" ? hash : `#token=${token}`))
  if (token !== "" && hash !== "") await page.evaluate((to) => location.assign(to), hash)
  return page
}

/** Fails the test with what the page reports. */
export const watch = (page: Page, allowed: ReadonlyArray<RegExp> = []): void => {
  const reports: Array<string> = []
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") reports.push(message.text())
  })
  page.on("pageerror", (error) => reports.push(String(error.stack)))
  pages.push({ page, reports, allowed })
}

/** Starts a command in the page. */
export const start = async (page: Page, command: string, kind: "terminal" | "pipes" = "terminal"): Promise<void> => {
  await page.evaluate(() => location.assign("#/start"))
  await page.getByLabel("Command").fill(command)
  await page.getByLabel(kind === "pipes" ? "Pipes" : "A terminal").check()
  await page.getByRole("button", { name: "Start", exact: true }).click()
  await page.waitForSelector(kind === "pipes" ? ".log" : ".xterm-screen")
}

/** The prompt of that shell. */
export const prompt = /^\$$/m

/** Starts a shell without anybody's settings, and waits for its prompt. */
export const shell = async (page: Page): Promise<void> => {
  await start(page, "exec env PS1='$ ' bash --norc --noprofile -i")
  await shows(page, prompt)
  await page.locator(".xterm-helper-textarea").focus()
}

/** Types a line. */
export const type = async (page: Page, line: string): Promise<void> => {
  await page.locator(".xterm-helper-textarea").focus()
  await page.keyboard.type(`${line}\n`)
}

/** What the terminal, or the log, shows now. */
export const screen = async (page: Page): Promise<string> => {
  const text = await page.locator(".xterm-rows, .log").first().innerText()
  return text
    .replaceAll("\u00a0", " ")
    .split("\n")
    .map((line) => line.trimEnd())
    .join("\n")
}

/** Waits until the terminal, or the log, shows something. */
export const shows = async (page: Page, wanted: string | RegExp, withinMs = 20_000): Promise<void> => {
  const end = Date.now() + withinMs
  for (;;) {
    const text = await screen(page)
    if (typeof wanted === "string" ? text.includes(wanted) : wanted.test(text)) return
    if (Date.now() > end) assert.fail(`not shown: ${wanted}; instead:\n${text}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

/** All that the terminal has, those lines above the screen too, as it is downloaded. */
export const download = async (page: Page): Promise<string> => {
  await page.locator(".menu summary").click()
  const [file] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("button", { name: "Download what is shown" }).click()
  ])
  await page.locator(".menu summary").click()
  return readFileSync((await file.path()) ?? "", "utf8")
}

/** Fails if the page violates a rule of accessibility. */
export const assertAccessible = async (page: Page): Promise<void> => {
  await page.evaluate(axeSource)
  const found = await page.evaluate(async () => {
    const { axe } = window as unknown as {
      axe: { run: () => Promise<{ violations: ReadonlyArray<{ id: string; nodes: ReadonlyArray<{ html: string }> }> }> }
    }
    const { violations } = await axe.run()
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 200)).join(" ")}`)
  })
  assert.deepStrictEqual(found, [])
}
