import { assert, describe, it } from "@effect/vitest"
import { delayMs, longestMs } from "../../src/console/Backoff.js"
import * as Format from "../../src/console/Format.js"
import { Lines, textOf } from "../../src/console/Lines.js"
import * as Paste from "../../src/console/Paste.js"
import { addressOf, parse, type Route, tokenOf } from "../../src/console/Route.js"
import { commandOf, visible } from "../../src/console/VisibleText.js"
import { split, variables } from "../../src/console/Words.js"

describe("a paste", () => {
  it("has carriage returns at its line ends, and no control characters", () => {
    assert.deepStrictEqual(Paste.filter("a\tb\r\nc\nd"), { text: "a\tb\rc\rd", lines: 3, removed: 0 })
    assert.deepStrictEqual(Paste.filter("x\u0003\u0000y\u009b"), { text: "xy", lines: 1, removed: 3 })
  })

  it("cannot end itself early", () => {
    const { text } = Paste.filter("harmless\u001b[201~\nrm -rf /\n")
    assert.notInclude(text, "\u001b")
    assert.strictEqual(Paste.bracketed(text).split("\u001b[201~").length, 2)
  })

  it("with a line end at its end is as many lines as it looks", () => {
    assert.strictEqual(Paste.filter("one\n").lines, 1)
    assert.strictEqual(Paste.filter("one\ntwo").lines, 2)
    assert.strictEqual(Paste.filter("").lines, 1)
  })
})

describe("foreign text", () => {
  it("shows what would not be seen", () => {
    assert.strictEqual(visible("a\u0000b\u001b[31m\u007f"), "a\u2400b\u241b[31m\u2421")
    assert.strictEqual(
      visible("\u202egnp.exe\u200b\u2066\ufeff"),
      "\u27e8202E\u27e9gnp.exe\u27e8200B\u27e9\u27e82066\u27e9\u27e8FEFF\u27e9"
    )
    assert.strictEqual(visible("a\u{e0041}\u3164\u034f"), "a\u27e8E0041\u27e9\u27e83164\u27e9\u27e8034F\u27e9")
    assert.strictEqual(visible("\u2764\ufe0f"), "\u2764\ufe0f")
    assert.strictEqual(visible("\ud800"), "\u27e8D800\u27e9")
    assert.strictEqual(visible("caf\u00e9 \u6f22\u5b57 \u{1f600}"), "caf\u00e9 \u6f22\u5b57 \u{1f600}")
  })

  it("is cut", () => assert.strictEqual(visible("x".repeat(2000), 10), `${"x".repeat(10)}\u2026`))

  it("in commands is quoted", () => {
    assert.strictEqual(commandOf(["sh", "-c", "echo 'a' <b>"]), "sh -c 'echo '\\''a'\\'' <b>'")
    assert.strictEqual(commandOf([""]), "''")
    assert.isBelow(commandOf(Array.from({ length: 5000 }, () => "word")).length, 1100)
  })
})

describe("words of a command", () => {
  it("are split as a shell does", () => {
    const words = (line: string) => split(line)
    assert.deepStrictEqual(words(` a  'b c' "d \\" e"f\\ g '' `), {
      _tag: "Words",
      words: ["a", "b c", 'd " ef g', ""]
    })
    assert.deepStrictEqual(words(""), { _tag: "Words", words: [] })
    assert.deepStrictEqual(words("a 'b"), { _tag: "OpenQuote" })
    assert.deepStrictEqual(words('a "b'), { _tag: "OpenQuote" })
    assert.deepStrictEqual(words("a\\"), { _tag: "OpenQuote" })
  })

  it("of an environment are names and values", () => {
    assert.deepStrictEqual(variables("A=1\n\nB=x=y \n"), {
      _tag: "Variables",
      variables: { A: "1", B: "x=y " }
    })
    assert.deepStrictEqual(variables("A=1\nnonsense"), { _tag: "Wrong", line: "nonsense" })
    assert.deepStrictEqual(variables("=x"), { _tag: "Wrong", line: "=x" })
  })
})

describe("an address", () => {
  const routes: ReadonlyArray<Route> = [
    { _tag: "List" },
    { _tag: "Start" },
    { _tag: "Recordings" },
    { _tag: "Server" },
    { _tag: "Process", session: "s-1", processId: "a/b #\u00e9%" },
    { _tag: "Recording", recordingId: "0f" }
  ]
  for (const route of routes) {
    it(`of ${route._tag} leads back to it`, () => assert.deepStrictEqual(parse(addressOf(route)), route))
  }

  it("that is none is the list", () => {
    for (const hash of ["", "#", "#/nowhere", "#token=x", "#/s/only"]) {
      assert.deepStrictEqual(parse(hash), { _tag: "List" })
    }
    assert.deepStrictEqual(parse("#/s/s-1/%zz"), { _tag: "Process", session: "s-1", processId: "%zz" })
  })
})

describe("the token of an address", () => {
  it("is that of a login or a share, whatever it is", () => {
    assert.strictEqual(tokenOf("#token=a%2Fb"), "a/b")
    assert.strictEqual(tokenOf("#share=share-x"), "share-x")
    assert.strictEqual(tokenOf("#token=100%"), "100%")
    for (const hash of ["", "#/", "#token=", "#/token=x"]) assert.isUndefined(tokenOf(hash))
  })
})

describe("lines", () => {
  const bytes = (text: string) => new TextEncoder().encode(text)

  it("of two streams do not mix", () => {
    const lines = new Lines()
    lines.add("stdout", bytes("one "))
    lines.add("stderr", bytes("warning\n"))
    lines.add("stdout", bytes("two\nthree"))
    assert.deepStrictEqual(
      lines.list.map(({ stream, text }) => [stream, text]),
      [
        ["stdout", "one two"],
        ["stderr", "warning"],
        ["stdout", "three"]
      ]
    )
  })

  it("may be split within a character", () => {
    const lines = new Lines()
    const [first, second] = [bytes("caf\u00e9\n").subarray(0, 4), bytes("caf\u00e9\n").subarray(4)]
    lines.add("stdout", first)
    lines.add("stdout", second)
    assert.strictEqual(lines.list[0]?.text, "caf\u00e9")
  })

  it("begin anew at a carriage return", () => {
    const lines = new Lines()
    lines.add("stdout", bytes("10 %\r20 %\r"))
    lines.add("stdout", bytes("30 %\n"))
    assert.strictEqual(lines.list[0]?.text, "30 %")
  })

  it("are bounded in length and number", () => {
    const lines = new Lines()
    lines.add("stdout", bytes("x".repeat(10_000)))
    assert.lengthOf(lines.list, 3)
    for (let i = 0; i < 70; i++) lines.add("stdout", bytes("\n".repeat(1000)))
    assert.isAtMost(lines.list.length, 60_000)
    assert.isAtLeast(lines.list.length, 50_000)
  })

  it("are bounded in all their characters", () => {
    const lines = new Lines()
    const chunk = bytes(`${"x".repeat(3999)}\n`.repeat(100))
    for (let i = 0; i < 100; i++) lines.add("stdout", chunk)
    const characters = lines.list.reduce((sum, { text }) => sum + text.length, 0)
    assert.isAtMost(characters, 20_000_000)
    assert.isAtLeast(characters, 15_000_000)
    assert.strictEqual(lines.list.at(-1)?.number, 10_000)
  })

  it("are shown without escape sequences", () => {
    assert.strictEqual(textOf("\u001b[1;31mred\u001b[0m \u001b]8;;http://x\u0007link\u001b]8;;\u001b\\"), "red link")
  })

  it("tell what is missing", () => {
    const lines = new Lines()
    lines.add("stdout", bytes("open"))
    lines.gap(7)
    lines.add("stdout", bytes("next"))
    assert.deepStrictEqual(
      lines.list.map(({ stream }) => stream),
      ["stdout", "gap", "stdout"]
    )
  })
})

describe("numbers for people", () => {
  it("have units", () => {
    assert.deepStrictEqual([0, 999, 1000, 1_500_000, 123_456_789].map(Format.bytes), [
      "0 B",
      "999 B",
      "1.0 kB",
      "1.5 MB",
      "123 MB"
    ])
    assert.deepStrictEqual([5000, 61_000, 3_700_000, 90_000_000].map(Format.duration), [
      "5 s",
      "1 min 1 s",
      "1 h 1 min",
      "1 d 1 h"
    ])
    assert.deepStrictEqual([5000, 61_000, 3_700_000].map(Format.clock), ["00:05", "01:01", "1:01:40"])
  })

  it("say the truth about an exit", () => {
    assert.strictEqual(Format.exit({ exitCode: 3, signal: null }), "exited with status 3")
    assert.strictEqual(
      Format.exit({ exitCode: 137, signal: "SIGKILL", timedOut: true }),
      "killed by SIGKILL (status 137), its time limit had passed"
    )
  })
})

describe("the pause before an attempt", () => {
  it("doubles, up to a limit, less a part at random", () => {
    assert.deepStrictEqual(
      [1, 2, 3, 4].map((attempt) => delayMs(attempt, 0)),
      [250, 500, 1000, 2000]
    )
    assert.strictEqual(delayMs(1000, 0), longestMs)
    assert.closeTo(delayMs(1000, 1), (longestMs * 2) / 3, 1)
  })
})
