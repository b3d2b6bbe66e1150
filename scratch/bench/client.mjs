// A client that costs little, because it shares the machine with the server it measures.
import { connect as connectSocket } from "node:net"
import WebSocket from "ws"

export const timeoutMs = 60_000

/** Fails when a promise takes too long. */
export const within = (promise, ms, what) => {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${ms / 1000} s`)), ms)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

const chunkMarker = Buffer.from('"chunk":"')
const quote = 34
const padding = 61

/** How many bytes the base64 text between two positions stands for. */
const decodedLength = (data, start, end) => {
  let length = end - start
  for (let i = 0; i < 2 && data[start + length - 1] === padding; i++) length--
  return Math.floor((length * 3) / 4)
}

let processes = 0

/** One initialized connection. */
export class Client {
  #ws
  #socket
  #nextId = 1
  #pending = new Map()
  #closed = new Map()
  /** Called with the decoded length of every chunk, and a function that gives its bytes. */
  onChunk = () => {}

  static async connect(url) {
    const client = new Client()
    await within(client.#open(url), timeoutMs, `connecting to ${url}`)
    return client
  }

  async #open(url) {
    this.#ws = new WebSocket(url, {
      perMessageDeflate: false,
      skipUTF8Validation: true,
      maxPayload: 0,
      createConnection: ({ host, port }) => (this.#socket = connectSocket({ host, port, noDelay: true }))
    })
    this.#ws.on("message", (data) => this.#receive(data))
    await new Promise((resolve, reject) => this.#ws.once("open", resolve).once("error", reject))
    this.#ws.on("error", () => {}).once("close", () => this.#fail(new Error("the server closed the connection")))
    await this.request("initialize", { clientName: "bench", resumeSessionId: null })
    this.#ws.send('{"method":"initialized"}')
  }

  /** Output is not parsed: finding the chunk and counting costs a fraction of JSON.parse. */
  #receive(data) {
    const marker = data.indexOf(chunkMarker)
    if (marker < 0) return this.#dispatch(JSON.parse(data))
    const start = marker + chunkMarker.length
    const end = data.indexOf(quote, start)
    this.onChunk(decodedLength(data, start, end), () => Buffer.from(data.latin1Slice(start, end), "base64"))
  }

  #dispatch(message) {
    const { id, method, params } = message
    const [waiters, key] = method === undefined ? [this.#pending, id] : [this.#closed, params?.processId]
    if (method !== undefined && method !== "process/closed") return
    waiters.get(key)?.resolve(message)
    waiters.delete(key)
  }

  #fail(error) {
    for (const waiters of [this.#pending, this.#closed]) {
      for (const { reject } of waiters.values()) reject(error)
      waiters.clear()
    }
  }

  #wait(waiters, key) {
    const promise = new Promise((resolve, reject) => waiters.set(key, { resolve, reject }))
    // Whoever waits sees the failure; that nobody may be waiting any more is no second one.
    promise.catch(() => {})
    return promise
  }

  /** The answer, be it a result or an error. */
  call(method, params) {
    const id = this.#nextId++
    const answer = this.#wait(this.#pending, id)
    this.#ws.send(JSON.stringify({ id, method, params }))
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
    const closed = this.#wait(this.#closed, processId)
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

  /** Keeps requests in flight until `count` were answered. One write for all that one read made due, as the
      system calls of a busy client would otherwise be what is measured. */
  pump(count, inFlight, method, params) {
    const tail = `,"method":"${method}"${params === undefined ? "" : `,"params":${JSON.stringify(params)}`}}`
    const listeners = this.#ws.listeners("message")
    this.#ws.removeAllListeners("message")
    return new Promise((resolve, reject) => {
      let sent = 0
      let answered = 0
      let corked = false
      const send = () => {
        if (sent === count) return
        if (!corked) {
          corked = true
          this.#socket.cork()
          process.nextTick(() => {
            corked = false
            this.#socket.uncork()
          })
        }
        this.#ws.send(`{"id":${++sent}${tail}`)
      }
      this.#ws.on("message", () => (++answered === count ? resolve() : send()))
      this.#ws.once("close", () => reject(new Error("the server closed the connection")))
      for (let i = 0; i < inFlight; i++) send()
    }).finally(() => {
      this.#ws.removeAllListeners("message")
      for (const listener of listeners) this.#ws.on("message", listener)
    })
  }

  close() {
    this.#fail(new Error("given up"))
    this.#ws.terminate()
  }
}

/** Runs something on a connection of its own, for a bounded time. */
export const withClient = async (url, what, f) => {
  const client = await Client.connect(url)
  try {
    return await within(f(client), timeoutMs, what)
  } finally {
    client.close()
  }
}
