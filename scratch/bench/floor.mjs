// The floor: the least that a Node.js program must do to start processes over WebSocket, without retention, validation
// or supervision. The difference to it is a real server's own cost.
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import pty from "node-pty"
import { WebSocketServer } from "ws"

const highWaterBytes = 1 << 20

const startTty = ([file, ...args], options, on) => {
  const child = pty.spawn(file, args, { ...options, encoding: null })
  child.onData((bytes) => on.output("pty", bytes))
  child.onExit(({ exitCode }) => {
    on.exit(exitCode)
    on.close()
  })
  return child
}

/** A child on pipes, with the interface of node-pty. */
const startPipe = ([file, ...args], { pipeStdin, ...options }, on) => {
  const child = spawn(file, args, { ...options, stdio: [pipeStdin ? "pipe" : "ignore", "pipe", "pipe"] })
  for (const stream of ["stdout", "stderr"]) child[stream].on("data", (bytes) => on.output(stream, bytes))
  child.on("exit", on.exit).on("close", on.close)
  return {
    write: (bytes) => child.stdin.write(bytes),
    kill: (signal) => child.kill(signal),
    pause: () => child.stdout.pause(),
    resume: () => child.stdout.resume()
  }
}

const serve = (ws, socket) => {
  const processes = new Map()
  const paused = new Set()
  const send = (message) => ws.send(JSON.stringify(message))
  const start = (id, { processId, argv, cwd, tty, ...options }) => {
    let seq = 0
    const notify = (method, params) => send({ method, params: { processId, seq: ++seq, ...params } })
    const child = (tty ? startTty : startPipe)(
      argv,
      { ...options, cwd: fileURLToPath(cwd) },
      {
        output: (stream, bytes) => {
          notify("process/output", { stream, chunk: bytes.toString("base64") })
          // Without this, a peer slower than the child would make memory grow without bound.
          if (ws.bufferedAmount < highWaterBytes) return
          child.pause()
          paused.add(child)
        },
        exit: (exitCode) => notify("process/exited", { exitCode }),
        close: () => {
          processes.delete(processId)
          notify("process/closed")
        }
      }
    )
    processes.set(processId, child)
    send({ id, result: { processId } })
  }
  const handlers = {
    initialize: (id) => send({ id, result: { sessionId: "floor" } }),
    initialized: () => {},
    "environment/status": (id) => send({ id, result: { status: "ready" } }),
    "process/start": start,
    "process/read": (id) => send({ id, result: { chunks: [], nextSeq: 1, exited: false, closed: false } }),
    "process/write": (id, { processId, chunk }) => {
      processes.get(processId).write(Buffer.from(chunk, "base64"))
      send({ id, result: { status: "accepted" } })
    },
    "process/terminate": (id, { processId }) => {
      processes.get(processId)?.kill("SIGKILL")
      send({ id, result: { running: processes.has(processId) } })
    }
  }
  socket.setNoDelay(true).on("drain", () => {
    for (const child of paused) child.resume()
    paused.clear()
  })
  ws.on("message", (text) => {
    const { id, method, params } = JSON.parse(text)
    handlers[method](id, params)
  })
  // Nothing that the benchmark started may outlive it.
  ws.on("close", () => {
    for (const child of processes.values()) child.kill("SIGKILL")
  })
}

const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false })
server.on("connection", (ws, request) => serve(ws, request.socket))
server.on("listening", () => console.log(`ws://127.0.0.1:${server.address().port}`))
