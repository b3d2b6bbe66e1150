/** Terminals in a browser: what is typed, floods, lost connections, those who come later. */
import { assert, describe, it } from "@effect/vitest"
import {
  assertAccessible,
  connectionErrors,
  download,
  open,
  phone,
  place,
  prompt,
  screen,
  shell,
  shows,
  start,
  type,
  useBrowser
} from "./harness.js"

useBrowser()

/** The numbers in lines such as `L17`, in order. */
const numbers = (text: string) => Array.from(text.matchAll(/^L(\d+)$/gm), ([, number]) => Number(number))

const assertConsecutive = (found: ReadonlyArray<number>, last: number) => {
  assert.isAbove(found.length, 5000)
  assert.strictEqual(found.at(-1), last)
  const wrong = found.findIndex((number, i) => i > 0 && number !== (found[i - 1] ?? 0) + 1)
  assert.strictEqual(wrong, -1, `after ${found[wrong - 1]} comes ${found[wrong]}`)
}

describe("a terminal", () => {
  it("has a shell that takes what is typed, and tells how it ends", async () => {
    const page = await open()
    await shell(page)
    await type(page, "printf 'caf\\303\\251 \\346\\274\\242 \\033]2;a title\\007done\\n'; stty size")
    await shows(page, /^caf\u00e9 \u6f22\s*done$/m)
    const [, rows, cols] = /^(\d+) (\d+)$/m.exec(await screen(page)) ?? []
    await page.getByText(`${cols}\u00d7${rows}`).waitFor()
    await page.locator(".title").getByText("a title").waitFor()
    await type(page, "exit 7")
    await page.getByText("exited with status 7").waitFor()
    assert.strictEqual(await page.getByRole("button", { name: "Terminate" }).count(), 0)
  })

  it("follows the size of the window", async () => {
    const page = await open()
    await shell(page)
    await page.setViewportSize({ width: 700, height: 500 })
    await page.waitForFunction(() => !/1\d\d\u00d7/.test(document.body.innerText))
    await type(page, "stty size")
    await shows(page, /^\d+ \d+$/m)
    const [, rows, cols] = /^(\d+) (\d+)$/m.exec(await screen(page)) ?? []
    await page.getByText(`${cols}\u00d7${rows}`).waitFor()
    assert.isBelow(Number(cols), 100)
  })

  it("loses nothing of a flood, and ^C ends it soon", async () => {
    const page = await open()
    await shell(page)
    await type(page, "seq -f L%.0f 300000")
    await shows(page, /^L300000$/m, 60_000)
    assertConsecutive(numbers(await download(page)), 300_000)
    await type(page, "yes | head -c 200MB; echo en''ded")
    await shows(page, /^y\ny\ny$/m)
    await page.waitForTimeout(500)
    const before = Date.now()
    await page.keyboard.press("Control+c")
    await shows(page, prompt)
    assert.isBelow(Date.now() - before, 3000)
    await type(page, "echo st''ill there")
    await shows(page, "still there")
  })

  it("is complete after 14 lost connections", async () => {
    const page = await open({ allowed: connectionErrors })
    await shell(page)
    await type(
      page,
      "for i in $(seq 36); do seq -f L%.0f $((i * 1000 - 999)) $((i * 1000)); sleep 0.1; done; echo en''ded"
    )
    for (let cut = 0; cut < 14; cut++) {
      await page.waitForTimeout(300)
      place().cut()
    }
    await shows(page, "ended", 60_000)
    assertConsecutive(numbers(await download(page)), 36_000)
    await type(page, "echo st''ill there")
    await shows(page, "still there")
  })

  it("is taken over from a connection that is dead and does not know it", async () => {
    const page = await open({ allowed: connectionErrors })
    await shell(page)
    place().freeze()
    await type(page, "echo af''ter")
    // The network of a phone has changed.
    await page.evaluate(() => dispatchEvent(new Event("online")))
    await shows(page, /^after$/m)
    assert.lengthOf(Array.from((await screen(page)).matchAll(/^after$/gm)), 1)
  })

  it("sends what was typed while the connection was lost, once", async () => {
    const page = await open({ allowed: connectionErrors })
    await shell(page)
    place().allowsUpgrades = false
    place().cut()
    await page.getByText("Not connected").waitFor()
    await type(page, "echo ty''ped")
    place().allowsUpgrades = true
    await shows(page, /^typed$/m)
    assert.lengthOf(Array.from((await screen(page)).matchAll(/^typed$/gm)), 1)
  })

  it("comes back as it was when the page is loaded again", async () => {
    const page = await open()
    await shell(page)
    await type(page, "vi -u NONE /etc/passwd 2>/dev/null || less /etc/passwd")
    await shows(page, /^root:x:0:0/m)
    const before = await screen(page)
    await page.reload()
    await page.waitForSelector(".xterm-screen")
    await shows(page, /^root:x:0:0/m)
    assert.strictEqual(await screen(page), before)
    await type(page, ":q")
    await shows(page, prompt)
  })

  it("looks to those who come later as to those who saw everything", async () => {
    const page = await open()
    await shell(page)
    await type(
      page,
      "printf '\\033[2J\\033[3;4H\\033[1;31mred\\033[0m \\033[38;2;10;200;30mgreen\\033[0m \\346\\274\\242 \\360\\237\\230\\200 \\033[7mback\\033[0m\\n'"
    )
    await shows(page, "green")
    await page.locator(".logo").focus()
    const other = await open({ hash: new URL(page.url()).hash })
    await other.waitForSelector(".xterm-screen")
    await shows(other, "green")
    await other.locator(".logo").focus()
    await other.getByText("Fit to my window").waitFor()
    assert.strictEqual(await screen(other), await screen(page))
    // Both stand still: nothing is drawn any more.
    await page.waitForTimeout(300)
    const [one, two] = [page, other].map((each) => each.locator(".xterm-screen").screenshot())
    assert.isTrue((await one)?.equals((await two) ?? Buffer.alloc(0)), "the two look different")
  })

  it("has the size of who takes it, and answers queries once", async () => {
    const page = await open()
    await shell(page)
    const other = await open({ hash: new URL(page.url()).hash, viewport: { width: 800, height: 500 } })
    await other.getByRole("button", { name: "Fit to my window" }).click()
    await page.getByRole("button", { name: "Fit to my window" }).waitFor()
    // What a program asks is answered by one of the two, as if it were typed.
    await type(
      other,
      "read -rs -t 3 -n 7 -d x -p $'\\033[c' answer; echo \"one $(printf %q $answer)\"; stty size; cat -v"
    )
    await shows(other, /^one .*1;2c/m)
    const [, cols] = /^\d+ (\d+)$/m.exec(await screen(other)) ?? []
    await other.getByText(`${cols}\u00d7`).waitFor()
    assert.isBelow(Number(cols), 110)
    // A second answer would have been typed into `cat`.
    await type(other, "end of it")
    await shows(other, /^end of it\nend of it$/m)
    await page.getByRole("button", { name: "Fit to my window" }).click()
    await other.getByRole("button", { name: "Fit to my window" }).waitFor()
  })
})

describe("inverse colours", () => {
  it("are those of the text and the background", async () => {
    const page = await open()
    await shell(page)
    await type(page, "printf '\\033[7minverse\\033[0m\\n'")
    const text = page.locator(".xterm-rows span", { hasText: /^inverse$/ })
    await text.waitFor()
    const [colour, background] = await text.evaluate((element) => {
      const { color, backgroundColor } = getComputedStyle(element)
      return [color, backgroundColor]
    })
    assert.deepStrictEqual([colour, background], ["rgb(253, 253, 252)", "rgb(34, 40, 47)"])
  })
})

describe("the menu", () => {
  it("has a terminal for screen readers, and one that is drawn with the graphics processor", async () => {
    // The processor draws the graphics, where there is no other.
    const page = await open({ allowed: [/GPU stall/] })
    await shell(page)
    await page.locator(".menu summary").click()
    await page.getByLabel("For screen readers").check()
    await type(page, "echo he''ard")
    await page.locator(".xterm-accessibility").getByText("heard", { exact: true }).waitFor()
    await assertAccessible(page)
    await page.getByRole("button", { name: "Draw with the graphics processor" }).click()
    await page.waitForSelector(".xterm-screen canvas")
    await type(page, "exit 3")
    await page.getByText("exited with status 3").waitFor()
  })
})

describe("pastes", () => {
  it("of several lines are confirmed, without control characters, in brackets if the program wants them", async () => {
    const page = await open()
    await shell(page)
    await type(page, "bind 'set enable-bracketed-paste off'; cat -v")
    await page.evaluate(() => navigator.clipboard.writeText("one\ntwo\u001b[201~\u0003\n"))
    await page.getByRole("button", { name: "Paste" }).click()
    const dialog = page.getByRole("dialog")
    await dialog.getByText("Paste 2 lines?").waitFor()
    await dialog.getByRole("button", { name: "Cancel" }).click()
    await page.getByRole("button", { name: "Paste" }).click()
    await dialog.getByRole("button", { name: "Paste" }).click()
    await shows(page, /^two\[201~$/m)
    assert.notInclude(await screen(page), "^[")
    await page.getByText("2 control characters were left out").waitFor()
  })

  it("of one line need no question", async () => {
    const page = await open()
    await shell(page)
    await page.evaluate(() => navigator.clipboard.writeText("echo pas''ted"))
    await page.getByRole("button", { name: "Paste" }).click()
    await shows(page, "$ echo pas''ted")
    await page.keyboard.press("Enter")
    await shows(page, /^pasted$/m)
  })
})

describe("search", () => {
  it("finds lines above the screen", async () => {
    const page = await open()
    await shell(page)
    await type(page, "clear; echo needle-1; seq 200; echo needle-2")
    await shows(page, /^needle-2$/m)
    await page.keyboard.press("Control+Shift+f")
    await page.getByRole("searchbox").fill("NEEDLE-")
    await page.getByText(/\d of \d/).waitFor()
    await page.keyboard.press("Enter")
    await shows(page, /^needle-1$/m)
    await page.keyboard.press("Escape")
    await page.waitForFunction(() => document.activeElement?.classList.contains("xterm-helper-textarea"))
  })
})

describe("hostile output", () => {
  it("shows as text, copies only with consent, and leads nowhere by itself", async () => {
    const page = await open()
    await page.evaluate(() => navigator.clipboard.writeText("before"))
    await start(
      page,
      "printf '\\033]2;<img src=x onerror=alert(1)>\\342\\200\\256\\007'; printf '\\033]52;c;aGFja2Vk\\007\\033]52;c;?\\007'; sleep 2; printf '\\033]52;c;YWdhaW4=\\007'; printf '\\033]8;;javascript:alert(1)\\007bad\\033]8;;\\007 \\033]8;;http://127.0.0.1:1/\\007link\\033]8;;\\007\\n'; sleep 1000; : '<script>alert(1)</script>\u202e'"
    )
    await page.getByRole("dialog").getByText("hacked").waitFor()
    await page.getByRole("button", { name: "Cancel" }).click()
    assert.strictEqual(await page.evaluate(() => navigator.clipboard.readText()), "before")
    await page.getByText("<img src=x onerror=alert(1)>\u27e8202E\u27e9").waitFor()
    await page.getByRole("heading", { name: "<script>alert(1)</script>\u27e8202E\u27e9" }).waitFor()
    assert.strictEqual(await page.locator("img, #page script").count(), 0)
    const link = page.locator(".xterm-rows").getByText("link")
    await link.waitFor({ state: "attached" })
    // What was refused is not asked again.
    assert.strictEqual(await page.getByRole("dialog").count(), 0)
    // The emulator draws links, and handles clicks on them, on its own.
    await link.hover({ force: true })
    await link.click({ force: true })
    await page.getByRole("dialog").getByText("http://127.0.0.1:1/").waitFor()
    await page.getByRole("button", { name: "Cancel" }).click()
    assert.lengthOf(page.context().pages(), 1)
  })
})

describe("a phone", () => {
  it("has the keys that its keyboard lacks, and a line to write in", async () => {
    const page = await open(phone)
    await shell(page)
    await page.getByRole("button", { name: "Compose" }).tap()
    await page.getByLabel("Text to send").fill("cat -v")
    await page.getByRole("button", { name: "Send" }).tap()
    await page.getByRole("button", { name: "Esc" }).tap()
    await page.getByRole("button", { name: "Up", exact: true }).tap()
    await shows(page, "^[^[[A")
    await page.getByRole("button", { name: "Ctrl", exact: true }).tap()
    await page.locator(".xterm-helper-textarea").focus()
    await page.keyboard.type("c")
    await shows(page, prompt)
    await type(page, "clear; seq 200")
    await shows(page, /^200$/m)
    const client = await page.context().newCDPSession(page)
    const touch = (kind: "touchStart" | "touchMove" | "touchEnd", y?: number) =>
      client.send("Input.dispatchTouchEvent", { type: kind, touchPoints: y === undefined ? [] : [{ x: 100, y }] })
    await touch("touchStart", 300)
    for (let y = 310; y <= 500; y += 10) await touch("touchMove", y)
    await touch("touchEnd")
    await shows(page, /^(?![\s\S]*\b200\b)/)
    // What is opened below the terminal leaves it usable.
    await page.getByText("Usage").tap()
    await page.waitForSelector(".uplot")
    await page.waitForTimeout(300)
    assert.isAbove((await page.locator(".xterm-screen").boundingBox())?.height ?? 0, 120)
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth)
    assert.isAtMost(overflow, 0)
  })
})
