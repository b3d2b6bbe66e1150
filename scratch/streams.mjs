// What many streams cost one executor: node scratch/streams.mjs [STREAMS] [FLOOD]
//
// 1. STREAMS clients (2000) on an encrypted relay at a time: memory, descriptors and CPU time of each.
// 2. FLOOD streams (10,000) of a plain relay, opened and reset one after another: how long another client waits, and the
//    CPU time of `initialize`.
//
// The status is 1 if a stream is not served, or if that client waits too long. Linux alone: it reads /proc.
import { readdirSync, readFileSync } from "node:fs"
import * as RelayFrame from "../dist/remote/RelayFrame.js"
import { encrypted, end, opened, rendezvous } from "./relay/ends.mjs"

const count = Number(process.argv[2] ?? 2000)
const flood = Number(process.argv[3] ?? 10_000)

/** How many clients connect at a time. */
const atATime = 32

/** The longest wait of another client during the flood, in milliseconds. */
const maxWaitMs = 3000

/** How many streams one client has at a time: no more than a rendezvous allows. */
const streamsPerClient = 16

const initialize = (id) => `{"id":${id},"method":"initialize","params":{"clientName":"probe","resumeSessionId":null}}`
const status = (id) => `{"id":${id},"method":"environment/status","params":{}}`

/** CPU time in milliseconds, memory in KiB, and descriptors of a process. */
const usageOf = ({ pid }) => {
  const [user, system] = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ").slice(11, 13)
  const memory = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))
  // A tick is 10 ms.
  return {
    cpuMs: (Number(user) + Number(system)) * 10,
    kib: Number(memory[1]),
    descriptors: readdirSync(`/proc/${pid}/fd`).length
  }
}

const perStream = (before, after, streams) => {
  const of = (key, digits) => ((after[key] - before[key]) / streams).toFixed(digits)
  return `${of("kib", 0)} KiB, ${of("descriptors", 2)} descriptors and ${of("cpuMs", 1)} ms of CPU time each`
}

/** An encrypted client that calls one method at a time. */
const client = async (url) => {
  let answered = () => {}
  let over
  const link = await encrypted(
    url,
    (text) => answered(text),
    () => {},
    (reason) => {
      over = reason
      answered(undefined)
    }
  )
  const call = async (text) => {
    const answer = await new Promise((resolve) => {
      answered = resolve
      if (over === undefined) link.send(text)
      else resolve(undefined)
    })
    if (answer === undefined) throw new Error(`a stream has ended: ${over}`)
    if (!answer.includes('"result"')) throw new Error(`a stream was refused: ${answer}`)
  }
  await call(initialize(1))
  link.send('{"method":"initialized"}')
  return { call, close: link.close }
}

const many = async () => {
  const { url, relay, executor } = await rendezvous(["--encrypted"], ["--max-sessions", String(count)])
  const ends = { executor, rendezvous: relay }
  const usage = () => Object.entries(ends).map(([name, process]) => [name, usageOf(process)])
  const before = usage()
  const clients = []
  let left = count
  const started = performance.now()
  const openSome = async () => {
    while (left-- > 0) clients.push(await client(url))
  }
  await Promise.all(Array.from({ length: atATime }, openSome))
  const seconds = (performance.now() - started) / 1000
  await Promise.all(clients.map(({ call }) => call(status(2))))
  console.log(`${clients.length} encrypted streams on one executor, opened in ${seconds.toFixed(1)} s, are all served`)
  const after = usage()
  for (const [i, [name, had]] of before.entries()) console.log(`${name}: ${perStream(had, after[i][1], count)}`)
  for (const { close } of clients) close()
}

/** A socket of a plain rendezvous, frame by frame. */
const rawClient = async (url) => {
  const ws = await opened(url)
  const waiting = new Map()
  ws.on("message", (bytes) => {
    const { streamId, body } = RelayFrame.decode(bytes).right
    const resolve = waiting.get(streamId)
    waiting.delete(streamId)
    resolve?.(body._tag === "Data" ? String(Buffer.from(body.payload)) : body.reason)
  })
  const frame = (streamId, body) =>
    ws.send(RelayFrame.encode({ streamId, ack: 0, ackBits: 0, reliable: false, acknowledged: false, body }))
  const send = (streamId, seq, text) =>
    frame(streamId, { _tag: "Data", seq, index: 0, count: 1, payload: Buffer.from(text) })
  return {
    send,
    call: async (streamId, seq, text) => {
      const answer = await new Promise((resolve) => {
        waiting.set(streamId, resolve)
        send(streamId, seq, text)
      })
      if (!answer.includes('"result"')) throw new Error(`stream ${streamId} is not served: ${answer}`)
    },
    reset: (streamId) => frame(streamId, { _tag: "Reset", reason: "gone" })
  }
}

const flooded = async () => {
  const { url, executor } = await rendezvous([])
  const [flooder, bystander] = [await rawClient(url), await rawClient(url)]
  await bystander.call("bystander", 0, initialize(1))
  bystander.send("bystander", 1, '{"method":"initialized"}')

  let over = false
  let longest = 0
  const waits = (async () => {
    for (let i = 2; !over; i++) {
      const asked = performance.now()
      await bystander.call("bystander", i, status(i))
      longest = Math.max(longest, performance.now() - asked)
    }
  })()
  for (let i = 0; i < flood; i++) {
    flooder.send(`flood${i}`, 0, initialize(1))
    flooder.reset(`flood${i}`)
  }
  await flooder.call("last", 0, initialize(1))
  over = true
  await waits
  console.log(`${flood} streams opened and reset: another client waited ${longest.toFixed(0)} ms at most`)

  const round = async (name) => {
    const before = usageOf(executor)
    const serve = async (lane) => {
      for (let i = lane; i < flood / 4; i += streamsPerClient - 1) {
        const streamId = `${name}-${i}`
        await flooder.call(streamId, 0, initialize(1))
        flooder.reset(streamId)
      }
    }
    await Promise.all(Array.from({ length: streamsPerClient - 1 }, (_, lane) => serve(lane)))
    return (usageOf(executor).cpuMs - before.cpuMs) / (flood / 4)
  }
  const costs = []
  for (let i = 0; i < 4; i++) costs.push(await round(`round${i}`))
  console.log(`a stream with \`initialize\` and its reset take ${Math.min(...costs).toFixed(2)} ms of CPU time`)
  if (longest > maxWaitMs) throw new Error(`the other client waited longer than ${maxWaitMs} ms`)
}

try {
  await many()
  await flooded()
} catch (error) {
  console.error(`node scratch/streams.mjs: ${error.message}`)
  process.exitCode = 1
} finally {
  end()
}
process.exit()
