// A well-behaved client in a process of its own: asks one question after another, and tells how long the answers took.
// `node observer.mjs URL PID`; a line on stdin makes it print its figures as JSON and end.
import { readFileSync } from "node:fs"
import { setTimeout as sleep } from "node:timers/promises"
import { WebSocket } from "ws"

const [url, pid] = process.argv.slice(2)

/** Time that the server's main thread has computed so far, in milliseconds: a busy machine is no fault of the server. */
const cpuMs = () => Number(readFileSync(`/proc/${pid}/task/${pid}/schedstat`, "latin1").split(" ")[0]) / 1e6

const ws = new WebSocket(url, { perMessageDeflate: false })
let answered = () => {}
ws.on("message", () => answered())
await new Promise((resolve, reject) => {
  ws.once("open", resolve)
  ws.once("error", reject)
})
const ask = (method, params) => {
  const answer = new Promise((resolve) => {
    answered = resolve
  })
  ws.send(JSON.stringify({ id: 1, method, params }))
  return answer
}

await ask("initialize", { clientName: "observer", resumeSessionId: null })
ws.send('{"method":"initialized"}')
const latencies = []
const busy = []
let over = false
process.stdin.once("data", () => {
  over = true
})
ws.once("close", () => {
  console.log(JSON.stringify({ error: "the server ended the observer's connection" }))
  process.exit(1)
})
console.log("ready")
while (!over) {
  const [startedAt, cpuBefore] = [performance.now(), cpuMs()]
  await ask("environment/status")
  latencies.push(performance.now() - startedAt)
  busy.push(cpuMs() - cpuBefore)
  await sleep(5)
}
const quantile = (sorted, q) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))]
const stalls = busy.filter((ms) => ms > 100).length
for (const list of [latencies, busy]) list.sort((a, b) => a - b)
console.log(
  JSON.stringify({
    questions: latencies.length,
    p50: quantile(latencies, 0.5),
    p99: quantile(latencies, 0.99),
    max: quantile(latencies, 1),
    busyP99: quantile(busy, 0.99),
    busyMax: quantile(busy, 1),
    stalls
  })
)
process.exit(0)
