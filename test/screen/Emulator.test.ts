/** Copies of screens: of real programs, at every boundary of their output, compared cell by cell. */
import { Buffer } from "node:buffer"
import { spawnSync } from "node:child_process"
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Emulator } from "../../src/screen/Emulator.js"
import { Unfinished } from "../../src/screen/Unfinished.js"
import { Random } from "../fuzz/Random.js"
import { directory } from "../support/files.js"
import { stateOf } from "../support/screens.js"
import { memoryClient, memoryLayer } from "../support/servers.js"
import type { TestClient } from "../support/TestClient.js"

const rows = 24
const cols = 80

/** A prime, so that the ends fall everywhere in repeated sequences. */
const pieceBytes = 211

/** A screen after these outputs. */
const screenOf = (outputs: ReadonlyArray<Buffer>): Emulator => {
  const emulator = new Emulator(rows, cols, 1000)
  for (const output of outputs) emulator.write(output)
  return emulator
}

/** A screen after a copy of another one, and further outputs. */
const copied = (emulator: Emulator, more: ReadonlyArray<Buffer> = []): Emulator =>
  screenOf([emulator.serialize(1000), ...more])

/** The same output in smaller pieces, which end anywhere. */
const finer = (pieces: ReadonlyArray<Buffer>): ReadonlyArray<Buffer> =>
  pieces.flatMap((piece) =>
    Array.from({ length: Math.ceil(piece.length / pieceBytes) }, (_, i) =>
      piece.subarray(i * pieceBytes, (i + 1) * pieceBytes)
    )
  )

/** A program, and what is typed into it, each after the output has been still. */
interface Session {
  readonly argv: ReadonlyArray<string>
  readonly keys: ReadonlyArray<string>
}

const text = Array.from({ length: 300 }, (_, i) => `line ${i}: \u{1f600} \u4e2d\u6587 ${"x".repeat(i % 90)}`).join("\n")

const sessions = (folder: string): Readonly<Record<string, Session>> => ({
  bash: {
    argv: ["bash", "--norc", "--noprofile", "-i"],
    keys: [
      "printf '\\033[1;31mred\\033[0m \\033[44m%s\\n' blue; seq 50\r",
      "printf 'wide \\xe4\\xb8\\xad\\xf0\\x9f\\x98\\x80'\r",
      "printf '\\033]0;title\\007\\033[5;10r\\033[7;3Hin a region'\r",
      "exit\r"
    ]
  },
  less: { argv: ["less", `${folder}/text`], keys: [" ", "/line 99\r", "G", "k", "q"] },
  vim: {
    argv: ["vim", "-u", "NONE", "-n", `${folder}/text`],
    keys: [":set nu nowrap hlsearch\r", "G", "/x\r", "ihello \u4e2d\u001b", ":split\r", "\u000fu", ":qa!\r"]
  },
  htop: { argv: ["htop", "-d", "5"], keys: ["\u001b[B", "\u001b[B", "t", "q"] },
  tmux: {
    argv: ["tmux", "-S", `${folder}/socket`, "-f", "/dev/null", "new", "sh"],
    keys: [
      "seq 30\r",
      "\u0002%",
      "echo right\r",
      '\u0002"',
      "ls -l /\r",
      "\u0002o",
      "\u0002z",
      "\u0002:",
      "kill-server\r"
    ]
  }
})

/** The output of a program on a terminal, in the pieces that it came in. */
const record = (client: TestClient, name: string, { argv, keys }: Session) =>
  Effect.gen(function* () {
    const env = { PATH: "/usr/bin:/bin", TERM: "xterm-256color", LANG: "C.UTF-8", HOME: "/nowhere" }
    yield* client.start(name, argv, { tty: true, env, size: { rows, cols } })
    const pieces = () =>
      client.messages
        .filter(({ method, params }) => method === "process/output" && params.processId === name)
        .map(({ params }): Buffer => Buffer.from(params.chunk, "base64"))
    const still = Effect.gen(function* () {
      for (let before = -1, seen = pieces().length; before !== seen; seen = pieces().length) {
        before = seen
        yield* client.call("process/read", { processId: name, afterSeq: seen, waitMs: 300 })
      }
    })
    for (const key of keys) {
      yield* still
      yield* client.write(name, key)
    }
    yield* client.closed(name)
    return pieces()
  })

describe("the copy of a screen, and what follows", () => {
  for (const name of ["bash", "less", "vim", "htop", "tmux"]) {
    const isThere = spawnSync("/bin/sh", ["-c", `command -v ${name}`]).status === 0
    it.scopedLive.skipIf(!isThere && process.env["CI"] === undefined)(
      `of ${name} equal those of a terminal that saw everything`,
      () =>
        Effect.gen(function* () {
          const folder = yield* directory
          writeFileSync(join(folder, "text"), text)
          // The server of tmux is no descendant of the process, and would outlive a test that fails.
          const endTmux = Effect.sync(() => spawnSync("tmux", ["-S", `${folder}/socket`, "kill-server"]))
          yield* Effect.addFinalizer(() => (name === "tmux" ? endTmux : Effect.void))
          const client = yield* memoryClient
          yield* client.handshake()
          const session = sessions(folder)[name]
          if (session === undefined) return
          const pieces = finer(yield* record(client, name, session))
          assert.isAbove(pieces.length, 5)
          const end = stateOf(screenOf(pieces))
          const original = new Emulator(rows, cols, 1000)
          const differing: Array<number> = []
          for (const [index, piece] of pieces.entries()) {
            original.write(piece)
            const copy = copied(original, pieces.slice(index + 1))
            if (JSON.stringify(stateOf(copy)) !== JSON.stringify(end)) differing.push(index)
          }
          assert.deepStrictEqual(differing, [], `of ${pieces.length} places`)
        }).pipe(Effect.provide(memoryLayer)),
      120_000
    )
  }
})

describe("the copy of a screen", () => {
  const equal = (output: string) => {
    const original = screenOf([Buffer.from(output)])
    assert.deepStrictEqual(stateOf(copied(original)), stateOf(original), JSON.stringify(output))
  }

  it("keeps the colours of the normal screen out of the alternate one", () => {
    equal("\u001b[1;7;31mred\u001b[?1049h\u001b[0mplain")
  })

  it("has the hidden cursor, the encoding of the mouse, the region, the origin and the saved cursor", () => {
    equal("a\u001b[?25lb")
    for (const encoding of [1006, 1016]) equal(`\u001b[?1003h\u001b[?${encoding}hx`)
    equal("one\r\ntwo\u001b[5;10r\u001b[7;3Hthere\u001b[31m")
    equal("\u001b[5;10r\u001b[?6h\u001b[2;2Hthere")
    equal("\u001b[3;4H\u001b7\u001b[10;10Hx")
    equal(`\u001b[5;10r\u001b[7;1H${"x".repeat(80)}`)
  })

  it("has no more lines above than asked for", () => {
    const original = screenOf([Buffer.from(Array.from({ length: 200 }, (_, i) => `${i}`).join("\r\n"))])
    assert.isBelow(original.serialize(0).length, original.serialize(50).length)
    assert.isTrue(original.serialize(0).toString().includes("176\r\n") && !original.serialize(0).includes("175\r\n"))
  })

  it("knows the title, cut if it is long", () => {
    const original = screenOf([Buffer.from("\u001b]0;first\u0007\u001b]2;second\u001b\\")])
    assert.strictEqual(original.title, "second")
    original.write(Buffer.from(`\u001b]0;${"x".repeat(5000)}\u0007`))
    assert.strictEqual(original.title?.length, 1024)
  })

  it("at any byte of anything goes on as the original", () => {
    const parts = [
      "text ",
      "\u4e2d\u6587",
      "\u{1f600}",
      "\u001b[1;31m",
      "\u001b[0m",
      "\u001b]0;a title\u0007",
      "\u001b]2;another\u001b\\",
      "\r\n",
      "\u001b[3;5H",
      "\u001b[K",
      "\u001b[?25l",
      "\u001b[?25h",
      "\u001bP+q544e\u001b\\",
      "\u001b[2J"
    ]
    for (let seed = 1; seed <= 5; seed++) {
      const random = new Random(seed)
      const output = Buffer.from(Array.from({ length: 40 }, () => random.pick(parts)).join(""))
      const end = stateOf(screenOf([output]))
      for (let cut = 1; cut < output.length; cut++) {
        const copy = copied(screenOf([output.subarray(0, cut)]), [output.subarray(cut)])
        assert.deepStrictEqual(stateOf(copy), end, `seed ${seed}, ${JSON.stringify(output.toString())} at ${cut}`)
      }
    }
  })
})

describe("an unfinished end", () => {
  it("is known however the output is cut", () => {
    for (const [output, expected] of [
      ["abc", ""],
      ["abc\u001b", "\u001b"],
      ["abc\u001b[1;3", "\u001b[1;3"],
      ["abc\u001b[1;3m", ""],
      ["\u001b]0;title", "\u001b]0;title"],
      ["\u001b]0;title\u0007", ""],
      ["\u001b(B", ""],
      ["\u001b(", "\u001b("],
      ["\u001b[1\u0018x", ""]
    ] as const) {
      const bytes = Buffer.from(output)
      for (let cut = 0; cut <= bytes.length; cut++) {
        const unfinished = new Unfinished()
        unfinished.push(bytes.subarray(0, cut))
        unfinished.push(bytes.subarray(cut))
        assert.strictEqual(unfinished.bytes.toString(), expected, `${JSON.stringify(output)} at ${cut}`)
      }
    }
    const character = Buffer.from("\u{1f600}")
    for (let cut = 1; cut < 4; cut++) {
      const unfinished = new Unfinished()
      for (const byte of [0x61, ...character.subarray(0, cut)]) unfinished.push(Buffer.from([byte]))
      assert.deepStrictEqual(unfinished.bytes, character.subarray(0, cut))
    }
  })

  it("is bounded", () => {
    const unfinished = new Unfinished()
    unfinished.push(Buffer.from("\u001b]0;"))
    for (let i = 0; i < 10; i++) unfinished.push(Buffer.alloc(100_000, 0x61))
    assert.isBelow(unfinished.bytes.length, 300_000)
  })
})

describe("sequences with huge numbers", () => {
  const huge = 2_000_000_000
  for (const [name, final, bound] of [
    ["lines inserted", "L", rows],
    ["lines deleted", "M", rows],
    ["lines scrolled up", "S", rows],
    ["lines scrolled down", "T", rows],
    ["tabs", "I", cols],
    ["tabs back", "Z", cols],
    ["repetitions", "b", rows * cols]
  ] as const) {
    it(`show what those of the size of the screen do: ${name}`, () => {
      const before = "one\r\ntwo\r\nthree\u001b[44m\u001b[2;3Hx"
      const [numbered, bounded] = [huge, bound].map((count) =>
        screenOf([Buffer.from(`${before}\u001b[${count}${final}`), Buffer.from("end")])
      )
      assert.deepStrictEqual(numbered && stateOf(numbered), bounded && stateOf(bounded))
    })
  }

  it("repeat a character with many marks no more often than they fit", () => {
    const emulator = screenOf([Buffer.from(`e${"\u0301".repeat(10_000)}\u001b[${huge}bend`)])
    assert.isBelow(emulator.serialize(1000).length, 100_000)
  })

  it("do what they say up to the size of the screen", () => {
    const filled = Array.from({ length: rows }, (_, row) => `line ${row}`).join("\r\n")
    const emulator = screenOf([Buffer.from(`${filled}\u001b[H\u001b[3Lx\u001b[4by`)])
    assert.include(emulator.serialize(0).toString(), "xxxxxy")
  })
})
