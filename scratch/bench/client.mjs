// A cheap client: it shares the machine with the server it measures.
import { connect } from "node:net"
import { setTimeout as sleep } from "node:timers/promises"
import WebSocket from "ws"

const timeoutMs = 60_000
const chunkMarker = Buffer.from('"chunk":"')
const [quote, padding] = Buffer.from('"=')
let processes = 0

/** Fails when a promise takes too long. */
export const within = (promise, ms, what) => {
  const late = sleep(ms, undefined, { ref: false }).then(() => {
    throw new Error(`${what}: not within ${ms / 1000} s`)
  })
  return Promise.race([promise, late])
}

/** Only this server supports binary output. */
export class NoBinaryOutput extends Error {}

/** One connection. */
class Client {
  #socket
  /** Whether messages are sent one by one, in segments of their own. */
  #alone
  #corked = false
  #nextId = 1
  #binary
  /** Pending waits: answers by id, and ends of processes by process id. */
  #waiters = new Map()
  /** Called for every chunk, with its decoded length and a function that returns its bytes. */
  onChunk = () => {}
  /** Whether messages with chunks are parsed like others, so that answers may have some. */
  parsesChunks = false

  constructor(url, { binary = false, alone = false } = {}) {
    this.#binary = binary
    this.#alone = alone
    const createConnection = ({ host, port }) => {
      this.#socket = connect({ host, port, noDelay: true })
      return this.#socket
    }
    this.ws = new WebSocket(url, { perMessageDeflate: false, skipUTF8Validation: true, createConnection })
    this.ws.on("message", (data, isBinary) => (isBinary ? this.#receiveFrame(data) : this.#receive(data)))
    this.ws.on("close", () => this.#fail(new Error("the server closed the connection")))
  }

  async initialize() {
    await new Promise((resolve, reject) => this.ws.once("open", resolve).on("error", reject))
    const capabilities = this.#binary ? { binaryOutput: true } : undefined
    const params = { clientName: "bench", resumeSessionId: null, capabilities }
    const { capabilities: granted } = await this.request("initialize", params)
    if (this.#binary && granted?.binaryOutput !== true) throw new NoBinaryOutput()
    this.#send({ method: "initialized" })
  }

  /** Finding the chunk and counting its bytes costs a fraction of JSON.parse. */
  #receive(data) {
    const marker = this.parsesChunks ? -1 : data.indexOf(chunkMarker)
    if (marker >= 0) {
      const start = marker + chunkMarker.length
      const end = data.indexOf(quote, start)
      let last = end - 1
      while (data[last] === padding) last--
      const length = Math.floor(((last + 1 - start) * 3) / 4)
      return this.onChunk(length, () => Buffer.from(data.latin1Slice(start, end), "base64"))
    }
    const message = JSON.parse(data)
    const key = message.method === "process/closed" ? message.params.processId : message.id
    this.#waiters.get(key)?.resolve(message)
    this.#waiters.delete(key)
  }

  #receiveFrame(data) {
    const start = 12 + data.readUInt16BE(2)
    this.onChunk(data.length - start, () => data.subarray(start))
  }

  #wait(key) {
    const promise = new Promise((resolve, reject) => this.#waiters.set(key, { resolve, reject }))
    // The caller gets the failure. Without a caller, it must not be reported as unhandled.
    promise.catch(() => {})
    return promise
  }

  #fail(error) {
    for (const { reject } of this.#waiters.values()) reject(error)
    this.#waiters.clear()
  }

  /**
   * Batches the messages that one read triggers. Otherwise a busy client's system calls would dominate the measurement.
   */
  #send(message) {
    if (!this.#alone && !this.#corked) {
      this.#corked = true
      this.#socket.cork()
      process.nextTick(() => {
        this.#corked = false
        this.#socket.uncork()
      })
    }
    this.ws.send(JSON.stringify(message))
  }

  /** Sends a request; returns the answer, a result or an error. */
  call(method, params) {
    const id = this.#nextId++
    const answer = this.#wait(id)
    this.#send({ id, method, params })
    return answer
  }

  async request(method, params) {
    const { result, error } = await this.call(method, params)
    if (error !== undefined) throw new Error(`${method}: ${error.message}`)
    return result
  }

  /** Starts a process. `closed` resolves with its last event. */
  async start(argv, { tty = false, pipeStdin = false } = {}) {
    const processId = `bench-${++processes}`
    const closed = this.#wait(processId)
    const env = { PATH: "/usr/bin:/bin" }
    await this.request("process/start", { processId, argv, cwd: "file:///tmp", env, tty, pipeStdin })
    return { processId, closed }
  }

  async run(argv, options) {
    await (await this.start(argv, options)).closed
  }

  async terminate({ processId, closed }) {
    await this.request("process/terminate", { processId })
    await closed
  }

  close() {
    this.#fail(new Error("given up"))
    this.ws.terminate()
  }
}

/** Connects and initializes. */
export const open = async (url) => {
  const client = new Client(url)
  await client.initialize()
  return client
}

/** Runs a function with new connections, for a bounded time. */
export const withClients = async (count, url, what, f, options = {}) => {
  const clients = []
  const work = async () => {
    while (clients.length < count) {
      clients.push(new Client(url, options))
      await clients.at(-1).initialize()
    }
    return f(...clients)
  }
  return within(work(), timeoutMs, what).finally(() => {
    for (const client of clients) client.close()
  })
}
