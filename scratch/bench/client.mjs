// A client that costs little, because it shares the machine with the server it measures.
import { connect } from "node:net"
import WebSocket from "ws"

const timeoutMs = 60_000
const chunkMarker = Buffer.from('"chunk":"')
const [quote, padding] = Buffer.from('"=')
let processes = 0

/** Fails when a promise takes too long. */
export const within = (promise, ms, what) => {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${ms / 1000} s`)), ms)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

/** How many bytes the base64 text between two positions stands for. */
const decodedLength = (data, start, end) => {
  let length = end - start
  for (let i = 0; i < 2 && data[start + length - 1] === padding; i++) length--
  return Math.floor((length * 3) / 4)
}

/** One initialized connection. */
export class Client {
  #socket
  #corked = false
  #nextId = 1
  /** What is waited for: answers by id, ends of processes by process id. */
  #waiters = new Map()
  /** Called with the decoded length of every chunk, and a function that gives its bytes. */
  onChunk = () => {}

  constructor(url) {
    const createConnection = ({ host, port }) => {
      this.#socket = connect({ host, port, noDelay: true })
      return this.#socket
    }
    this.ws = new WebSocket(url, { perMessageDeflate: false, skipUTF8Validation: true, createConnection })
    this.ws.on("message", (data) => this.#receive(data))
    this.ws.on("error", (error) => this.#fail(error))
    this.ws.on("close", () => this.#fail(new Error("the server closed the connection")))
  }

  static async connect(url) {
    const client = new Client(url)
    const opened = client.#wait("open")
    client.ws.once("open", () => client.#settle("open"))
    const initialized = opened.then(() => client.request("initialize", { clientName: "bench", resumeSessionId: null }))
    await within(initialized, timeoutMs, `connecting to ${url}`).catch((error) => {
      client.close()
      throw error
    })
    client.#send({ method: "initialized" })
    return client
  }

  /** Output is not parsed: finding the chunk and counting costs a fraction of JSON.parse. */
  #receive(data) {
    const marker = data.indexOf(chunkMarker)
    if (marker >= 0) {
      const start = marker + chunkMarker.length
      const end = data.indexOf(quote, start)
      return this.onChunk(decodedLength(data, start, end), () => Buffer.from(data.latin1Slice(start, end), "base64"))
    }
    const message = JSON.parse(data)
    if (message.method === undefined) this.#settle(message.id, message)
    else if (message.method === "process/closed") this.#settle(message.params.processId)
  }

  #wait(key) {
    const promise = new Promise((resolve, reject) => this.#waiters.set(key, { resolve, reject }))
    // Whoever waits sees the failure; that nobody waits any more is no second one.
    promise.catch(() => {})
    return promise
  }

  #settle(key, value) {
    this.#waiters.get(key)?.resolve(value)
    this.#waiters.delete(key)
  }

  #fail(error) {
    for (const { reject } of this.#waiters.values()) reject(error)
    this.#waiters.clear()
  }

  /** One write for all that one read made due: else a busy client's system calls would be what is measured. */
  #send(message) {
    if (!this.#corked) {
      this.#corked = true
      this.#socket.cork()
      process.nextTick(() => {
        this.#corked = false
        this.#socket.uncork()
      })
    }
    this.ws.send(JSON.stringify(message))
  }

  /** The answer, be it a result or an error. */
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

  /** Starts a process; `closed` is when its last event came. */
  start(argv, options) {
    const processId = `bench-${++processes}`
    const closed = this.#wait(processId)
    const env = { PATH: "/usr/bin:/bin" }
    const params = { processId, argv, cwd: "file:///tmp", env, tty: false, pipeStdin: false, ...options }
    const started = this.request("process/start", params)
    started.catch(() => {})
    return { processId, started, closed }
  }

  async run(argv, options) {
    const { started, closed } = this.start(argv, options)
    await started
    await closed
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

/** Runs something on a connection of its own, for a bounded time. */
export const withClient = async (url, what, f) => {
  const client = await Client.connect(url)
  return within(f(client), timeoutMs, what).finally(() => client.close())
}
