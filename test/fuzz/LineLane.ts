/** Lines on the stdin of a server of its own: the same messages, and bytes that are no line. */

import { createInterface } from "node:readline"
import { setTimeout as sleep } from "node:timers/promises"
import { type Batch, Fault, patienceMs } from "./Batch.js"
import { Ledger } from "./Ledger.js"
import * as Messages from "./Messages.js"
import { type Expectation, expectationOf, idOfAnswer } from "./Oracle.js"
import { mix, Random } from "./Random.js"
import * as Target from "./Target.js"
import type { Ground } from "./World.js"

const malformed: Expectation = { _tag: "Answer", ids: ["-1"] }

interface Line {
  readonly bytes: Buffer
  /** Undefined: no answer. */
  readonly expectation: Expectation | undefined
}

const lineOf = (random: Random, id: string, text: string): Line =>
  random.weighted<() => Line>([
    [
      90,
      () => {
        // What is a line to a server ends at the first newline: damage may have put one in.
        const line = text.replaceAll("\n", " ")
        const expectation = expectationOf(line)
        // What ends the connection ends the server: the last line of a batch does that.
        if (expectation._tag !== "Answer") return { bytes: Buffer.from("\n"), expectation: undefined }
        const blank = line.trim() === ""
        return {
          bytes: Buffer.from(`${line}${random.pick(["\n", "\n", "\r\n"])}`),
          expectation: blank ? undefined : expectation
        }
      }
    ],
    [2, () => ({ bytes: Buffer.from(random.pick(["\n", "  \n", "\r\n\n\t\n"])), expectation: undefined })],
    [3, () => ({ bytes: Buffer.from(`{"id":${id},"a":"\xff\n`, "latin1"), expectation: malformed })],
    [1, () => ({ bytes: Buffer.from(`${"x".repeat(Target.maxMessageBytes + 1)}\n`), expectation: malformed })],
    [
      2,
      () => ({
        bytes: Buffer.from(`${Messages.harmless(id).padEnd(Target.maxMessageBytes)}\n`),
        expectation: { _tag: "Answer", ids: [id] }
      })
    ]
  ])()

const endings = [
  "",
  '{"method":"unknown"}\n',
  '{"id":1,"result":{}}\n',
  '{"id":1,"method":"environment/status"',
  "\n\n"
]

/** Sends a batch to a server, which must end well when it has ended. */
export const run = async ({ seed, from, to }: Batch, ground: Ground): Promise<void> => {
  const server = Target.start([])
  const { stdin, stdout } = server.child
  if (stdin === null || stdout === null) throw new Error("no stdio")
  const ledger = new Ledger(ground.tally)
  const replies = new Map<string, string>()
  createInterface({ input: stdout }).on("line", (text) => {
    if (text.startsWith('{"method":')) return void JSON.parse(text)
    const id = idOfAnswer(text)
    if (id?.startsWith('"own')) replies.set(id, text)
    else ledger.answered(text)
  })
  const ask = async (name: string, method: string, params: unknown): Promise<string> => {
    const id = `own ${name}`
    stdin.write(`${JSON.stringify({ id, method, params })}\n`)
    await Target.eventually(`an answer to ${method}`, () => replies.has(JSON.stringify(id)), patienceMs)
    return replies.get(JSON.stringify(id)) ?? ""
  }
  const world = ground.folder(`l${from}`)
  let at = from
  try {
    await ask("initialize", "initialize", { clientName: "fuzz" })
    stdin.write('{"method":"initialized"}\n')
    for (; at < to; at++) {
      const random = new Random(mix(seed, 4, at))
      const id = String(at + 1)
      const { bytes, expectation } = lineOf(random, id, Messages.message(random, id, world))
      if (expectation !== undefined) ledger.sent(`frame ${at}: ${bytes.toString().slice(0, 300)}`, expectation)
      const cut = random.percent(20) ? random.below(bytes.length) : 0
      for (const part of [bytes.subarray(0, cut), bytes.subarray(cut)]) if (part.length > 0) stdin.write(part)
      if (random.percent(5) || stdin.writableLength > 262_144) await sleep(1)
      if (ledger.fault !== undefined) throw new Fault(at, ledger.fault)
    }
    const deadline = performance.now() + patienceMs
    for (let round = 0; ledger.waiting > 0; round++) {
      const { result } = JSON.parse(await ask(`list ${round}`, "process/list", {}))
      for (const { processId } of result?.processes ?? []) {
        await ask(`end ${round} ${processId}`, "process/terminate", { processId })
      }
      await sleep(10)
      if (ledger.fault !== undefined) throw new Fault(at, ledger.fault)
      if (performance.now() > deadline) throw new Fault(at, `unanswered: ${ledger.names().slice(0, 5).join("; ")}`)
    }
    stdin.end(new Random(mix(seed, 5, from)).pick(endings))
    const code = await Promise.race([server.exit, sleep(patienceMs, "nothing", { ref: false })])
    if (code !== 0) throw new Fault(at, `a server on stdio ended with ${code}: ${server.stderr().slice(-2000)}`)
    if (server.stderr() !== "") throw new Fault(at, `the server complains: ${server.stderr().slice(0, 2000)}`)
  } catch (error) {
    throw error instanceof Fault ? error : new Fault(at, `${error}; stderr: ${server.stderr().slice(-2000)}`)
  } finally {
    server.child.kill("SIGKILL")
    await server.exit
    ground.clear(world)
  }
}
