/** Servers of every kind, and test clients for them. All end with the scope. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { createConnection, type Socket } from "node:net"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { TestRunner } from "vitest"
import { type ClientOptions, WebSocket } from "ws"
import * as ExecServer from "../../src/server/ExecServer.js"
import * as Memory from "../../src/transport/Memory.js"
import { realSessions } from "./composed.js"
import { type Carrier, type CarrierEvents, TestClient } from "./TestClient.js"

export const binary = fileURLToPath(new URL("../../dist/bin.js", import.meta.url))

/** Whether a process exists and is not a zombie. */
export const isAlive = (pid: number | null): boolean => {
  if (pid === null) throw new Error("the server did not tell the pid")
  if (!existsSync(`/proc/${pid}/stat`)) return false
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1")
    return !/^\d+ \(.*\) [ZX]/s.test(stat)
  } catch {
    return false
  }
}

/** Live processes whose command line contains a text. */
export const runningWith = (text: string): ReadonlyArray<number> =>
  readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "latin1").includes(text) && isAlive(pid)
      } catch {
        return false
      }
    })

/** Whether bubblewrap is installed and can make namespaces. If not, requests that need it must be refused. */
export const hasBubblewrap =
  spawnSync("bwrap", ["--dev-bind", "/", "/", "--unshare-pid", "--proc", "/proc", "true"]).status === 0

/** Polls until a condition holds. A defect after ten seconds. */
export const eventually = (what: string, holds: () => boolean, withinMs = 10_000): Effect.Effect<void> =>
  Effect.suspend(() => {
    const deadline = Date.now() + withinMs
    const poll: Effect.Effect<void> = Effect.suspend(() => {
      if (holds()) return Effect.void
      if (Date.now() > deadline) return Effect.dieMessage(`never came true: ${what}`)
      return Effect.zipRight(
        Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 20))),
        poll
      )
    })
    return poll
  })

/** Open descriptors of a process. */
export const descriptors = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length

/** Resident memory of a process, in MB. */
export const residentMb = (pid: number): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) / 1024

/** CPU time of a process so far, in seconds; the clock ticks 100 times a second. */
export const cpuSeconds = (pid: number): number => {
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1")
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
  return (Number(fields[11]) + Number(fields[12])) / 100
}

const isGuard = (pid: number) => {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "latin1").startsWith("exec-server-guard")
  } catch {
    return false
  }
}

/** The guard of a server. */
export const guardOf = (server: number): number | undefined => allChildrenOf(server).find(isGuard)

/** The children that a server has started for its clients, zombies included. */
export const childrenOf = (server: number): ReadonlyArray<number> =>
  allChildrenOf(server).filter((pid) => !isGuard(pid))

/** The same, including the guard. */
export const allChildrenOf = (pid: number): ReadonlyArray<number> =>
  readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => {
      try {
        const stat = readFileSync(`/proc/${name}/stat`, "latin1")
        return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]) === pid
      } catch {
        return false
      }
    })
    .map(Number)

/** A running server binary. */
export interface Running {
  readonly child: ChildProcess
  readonly pid: number
  readonly stderr: () => string
  /** Exit code or signal. */
  readonly exit: Effect.Effect<number | string>
}

export interface LaunchOptions {
  readonly args?: ReadonlyArray<string>
  readonly env?: Record<string, string>
  /** The URL on which a WebSocket server listens. */
  readonly listen?: string
  /** A shell command line that ends in `exec "$@"`, to run the server under. */
  readonly under?: string
  /** The command that serves, if it is not the server itself. */
  readonly command?: string
}

/**
 * Starts the built binary; it is killed when the scope closes. Mutation testing changes the code of this process and
 * leaves out tests that start another one.
 */
export const launch = ({ args = [], env = {}, under }: LaunchOptions): Effect.Effect<Running, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      if (process.env["MUTATE"] !== undefined) TestRunner.getCurrentTest()?.context.skip()
      const command = [process.execPath, binary, ...args]
      const [program = "", ...rest] = under === undefined ? command : ["/bin/sh", "-c", under, "sh", ...command]
      const child = spawn(program, rest, {
        stdio: ["pipe", "pipe", "pipe"],
        // A server that is killed would leave its control socket behind.
        env: { ...process.env, EXEC_SERVER_CONTROL_SOCKET: "none", ...env }
      })
      let stderr = ""
      child.stderr.on("data", (chunk) => {
        stderr += chunk
      })
      child.stdin.on("error", () => {})
      const exited = new Promise<number | string>((resolve) => {
        // "close" comes after the last of stderr, and never if a process that outlives the server holds stderr.
        child.once("close", (code, signal) => resolve(signal ?? code ?? -1))
        child.once("exit", (code, signal) => setTimeout(resolve, 500, signal ?? code ?? -1))
      })
      const exit = Effect.promise(() => exited).pipe(
        Effect.timeout("30 seconds"),
        Effect.catchAll(() => Effect.dieMessage(`the server did not exit; stderr: ${stderr}`))
      )
      return { child, pid: child.pid ?? -1, stderr: () => stderr, exit }
    }),
    ({ child, exit }) =>
      Effect.suspend(() => {
        if (child.exitCode !== null || child.signalCode !== null) return Effect.void
        child.kill("SIGTERM")
        return Effect.asVoid(exit)
      })
  )

/** A running WebSocket server, and clients for it. */
export interface WsServer extends Running {
  readonly url: string
  readonly connect: Effect.Effect<TestClient, never, Scope.Scope>
}

/** A binary frame as the equivalent JSON message, marked as binary. */
export const textOf = (frame: Buffer): string => {
  if (frame[0] === 2) {
    const params = {
      attachmentId: frame.readUInt32BE(2),
      seq: Number(frame.readBigUInt64BE(6)),
      stream: ["", "stdout", "stderr", "pty"][frame[1] ?? 0],
      chunk: frame.toString("base64", 14)
    }
    return JSON.stringify({ method: "attachment/output", params, binary: true })
  }
  const idEnd = 4 + frame.readUInt16BE(2)
  const params = {
    processId: frame.toString("utf8", 4, idEnd),
    seq: Number(frame.readBigUInt64BE(idEnd)),
    stream: ["", "stdout", "stderr", "pty"][frame[1] ?? 0],
    chunk: frame.toString("base64", idEnd + 8)
  }
  return JSON.stringify({ method: frame[0] === 1 ? "process/output" : "unknown", params, binary: true })
}

export const webSocketCarrier =
  (ws: WebSocket) =>
  ({ onMessage, onEnd }: CarrierEvents): Carrier => {
    ws.on("message", (data: Buffer, isBinary: boolean) => onMessage(isBinary ? textOf(data) : data.toString()))
    ws.on("error", () => {})
    ws.on("close", (code, reason) => onEnd({ code, reason: reason.toString() }))
    return {
      send: (text) => ws.send(text),
      close: () => ws.close(),
      pause: () => ws.pause(),
      resume: () => ws.resume()
    }
  }

/** Connects to a URL. The scope closes the connection. */
export const connectTo = (url: string, options: ClientOptions = {}): Effect.Effect<TestClient, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.async<TestClient>((resume) => {
      const ws = new WebSocket(url, { perMessageDeflate: false, maxPayload: 2 ** 30, ...options })
      const client = new TestClient(webSocketCarrier(ws))
      ws.once("open", () => resume(Effect.succeed(client)))
      ws.once("error", (error) => resume(Effect.die(error)))
    }),
    (client) => finish(client)
  )

/** Closes a connection. Fails if its client saw events out of order. */
const finish = (client: TestClient) =>
  Effect.sync(() => {
    client.carrier.close()
    assert.deepStrictEqual(client.faults, [])
  })

/** Starts a server on a free port. */
export const webSocketServer = (options: LaunchOptions = {}): Effect.Effect<WsServer, never, Scope.Scope> =>
  Effect.gen(function* () {
    const running = yield* launch({
      ...options,
      args: [
        ...(options.command === undefined ? [] : [options.command]),
        "--listen",
        options.listen ?? "ws://127.0.0.1:0",
        ...(options.args ?? [])
      ]
    })
    const { stdout } = running.child
    if (stdout === null) return yield* Effect.dieMessage("no stdout")
    const lines = createInterface({ input: stdout })
    const url = yield* Effect.async<string>((resume) => {
      lines.once("line", (line) => resume(Effect.succeed(line)))
      lines.once("close", () => resume(Effect.dieMessage(`the server did not start: ${running.stderr()}`)))
    })
    return { ...running, url, connect: connectTo(url) }
  })

/** A server on a free port, and an initialized client. */
export const connected = (options: LaunchOptions = {}) =>
  Effect.gen(function* () {
    const server = yield* webSocketServer(options)
    const client = yield* server.connect
    yield* client.handshake()
    return { server, client }
  })

/** A client on the stdin and stdout of a new server. */
export const stdioClient = (
  options: LaunchOptions = {}
): Effect.Effect<{ readonly client: TestClient; readonly server: Running }, never, Scope.Scope> =>
  Effect.gen(function* () {
    const server = yield* launch(options)
    const { stdin, stdout } = server.child
    if (stdin === null || stdout === null) return yield* Effect.dieMessage("no stdio")
    const client = yield* Effect.acquireRelease(
      Effect.sync(
        () =>
          new TestClient(({ onMessage, onEnd }) => {
            createInterface({ input: stdout, crlfDelay: Number.POSITIVE_INFINITY }).on("line", onMessage)
            server.child.once("exit", (code) => onEnd({ code: code ?? -1, reason: "exit" }))
            return {
              send: (text) => stdin.write(`${text}\n`),
              close: () => stdin.end(),
              pause: () => stdout.pause(),
              resume: () => stdout.resume()
            }
          })
      ),
      finish
    )
    return { client, server }
  })

/** An in-process server with real children. */
export const memoryLayer = ExecServer.layerServe.pipe(
  Layer.provideMerge(realSessions),
  Layer.provideMerge(Memory.layer)
)

/** A client of the in-process server. */
export const memoryClient: Effect.Effect<TestClient, never, Scope.Scope | Memory.Connector> = Effect.gen(function* () {
  const { connect } = yield* Memory.Connector
  return yield* Effect.acquireRelease(
    Effect.sync(
      () =>
        new TestClient(({ onMessage, onEnd }) =>
          connect({ onMessage, onEnd: (ending) => onEnd(ending ?? { code: 1000, reason: "" }) })
        )
    ),
    finish
  )
})

/** A plain TCP connection to a server, for input that no WebSocket library sends. */
export const rawSocket = (url: string): Effect.Effect<Socket, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.async<Socket>((resume) => {
      const { hostname, port } = new URL(url)
      const socket = createConnection({ host: hostname, port: Number(port) })
      socket.on("error", () => {})
      socket.once("connect", () => resume(Effect.succeed(socket)))
    }),
    (socket) => Effect.sync(() => socket.destroy())
  )
