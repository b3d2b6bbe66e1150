/** A server for a connection of the page: what it sends is read here, and answered here. */
import { Connection, type Host, type Memory } from "../../src/console/Connection.js"
import type { Diagnosis } from "../../src/console/Probe.js"

/** A request or a notification of the page. */
export interface Sent {
  readonly id?: number
  readonly method: string
  readonly params: Readonly<Record<string, unknown>>
}

/** One socket, from the server's side. */
export class FakeSocket {
  binaryType = ""
  onopen: ((event: never) => void) | null = null
  onmessage: ((event: never) => void) | null = null
  onclose: ((event: never) => void) | null = null
  readonly sent: Array<Sent> = []
  isClosed = false

  constructor(
    readonly protocols: ReadonlyArray<string>,
    private readonly answers: (request: Sent, socket: FakeSocket) => unknown
  ) {}

  readonly send = (data: string) => {
    const message: Sent = JSON.parse(data)
    this.sent.push(message)
    if (message.id === undefined) return
    const answer = this.answers(message, this)
    if (answer !== undefined) queueMicrotask(() => this.receive({ id: message.id, ...(answer as object) }))
  }

  readonly close = () => {
    this.isClosed = true
  }

  open(): void {
    this.onopen?.(undefined as never)
  }

  receive(message: object | ArrayBuffer): void {
    const data = message instanceof ArrayBuffer ? message : JSON.stringify(message)
    this.onmessage?.({ data } as never)
  }

  /** The connection is lost, or the server closes it. */
  lose(code = 1006, reason = ""): void {
    this.isClosed = true
    this.onclose?.({ code, reason } as never)
  }

  /** What was sent with this method. */
  of(method: string): ReadonlyArray<Sent> {
    return this.sent.filter((message) => message.method === method)
  }
}

/** The grant of a client. */
export const grant = { subject: "local:0", role: "client", session: "s-1", scope: null, expiresAtMs: null }

/** The answers of a server that goes along with everything. */
export const agreeable = ({ method, params }: Sent): unknown => {
  if (method === "initialize") {
    const sessionId = params["resumeSessionId"] ?? "secret-1"
    return { result: { sessionId, protocolVersion: "exec-server.v0", environmentInfo: null, capabilities: {} } }
  }
  return { result: method === "session/grant" ? grant : {} }
}

/** A connection, its sockets, and what it remembers. */
export const connecting = (
  answers: (request: Sent, socket: FakeSocket) => unknown = agreeable,
  diagnosis: Diagnosis = { _tag: "Unreachable", message: "nothing answers" }
) => {
  const sockets: Array<FakeSocket> = []
  const memory: Memory = { token: undefined, sessionId: undefined }
  const host: Host = {
    memory,
    open: (protocols) => {
      const socket = new FakeSocket(protocols, answers)
      sockets.push(socket)
      return socket
    },
    diagnose: () => Promise.resolve(diagnosis),
    now: Date.now,
    random: () => 0
  }
  const connection = new Connection(host)
  const last = () => {
    const socket = sockets.at(-1)
    if (socket === undefined) throw new Error("there is no socket")
    return socket
  }
  /** Lets everything happen that waits for nothing. */
  const settle = async () => {
    for (let i = 0; i < 30; i++) await Promise.resolve()
  }
  const online = async () => {
    connection.connect()
    last().open()
    await settle()
    return last()
  }
  return { connection, sockets, memory, last, settle, online }
}

/** A binary frame of output of a process. */
export const frame = (processId: string, seq: number, text: string, stream = 3): ArrayBuffer => {
  const id = new TextEncoder().encode(processId)
  const bytes = new TextEncoder().encode(text)
  const view = new DataView(new ArrayBuffer(4 + id.length + 8 + bytes.length))
  view.setUint8(0, 1)
  view.setUint8(1, stream)
  view.setUint16(2, id.length)
  new Uint8Array(view.buffer).set(id, 4)
  view.setBigUint64(4 + id.length, BigInt(seq))
  new Uint8Array(view.buffer).set(bytes, 12 + id.length)
  return view.buffer as ArrayBuffer
}
