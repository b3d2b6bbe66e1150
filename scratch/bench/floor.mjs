// The floor: the least a Node program must do to start processes over WebSocket. No retention, no validation, no
// supervision; what a real server costs beyond this is its own doing.
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import pty from "node-pty"
import { WebSocketServer } from "ws"

const highWaterBytes = 1 << 20
const empty = { chunks: [], nextSeq: 1, exited: false, exitCode: null, closed: false, failure: null }

// A pipe and a terminal in one shape. Reading is paused while the peer is slow: without that, memory has no bound.
const startPipe = ({ argv, cwd, env, pipeStdin }, on) => {
  const child = spawn(argv[0], argv.slice(1), { cwd, env, stdio: [pipeStdin ? "pipe" : "ignore", "pipe", "pipe"] })
  for (const stream of ["stdout", "stderr"]) child[stream].on("data", (bytes) => on.output(stream, bytes))
  child.on("error", () => on.exit(127))
  child.on("exit", (code) => on.exit(code))
  child.on("close", on.close)
  return {
    write: (bytes) => child.stdin.write(bytes),
    kill: () => child.kill("SIGKILL"),
    pause: () => child.stdout.pause(),
    resume: () => child.stdout.resume()
  }
}

const startTty = ({ argv, cwd, env }, on) => {
  const child = pty.spawn(argv[0], argv.slice(1), { cwd, env, encoding: null })
  child.onData((bytes) => on.output("pty", bytes))
  child.onExit(({ exitCode }) => {
    on.exit(exitCode)
    on.close()
  })
  return {
    write: (bytes) => child.write(bytes),
    kill: () => child.kill("SIGKILL"),
    pause: () => child.pause(),
    resume: () => child.resume()
  }
}

const serve = (ws, socket) => {
  const processes = new Map()
  const paused = new Set()
  const send = (message) => ws.send(JSON.stringify(message))
  const start = (id, { processId, ...params }) => {
    let seq = 0
    const child = (params.tty ? startTty : startPipe)(
      { ...params, cwd: fileURLToPath(params.cwd) },
      {
        output: (stream, bytes) => {
          send({ method: "process/output", params: { processId, seq: ++seq, stream, chunk: bytes.toString("base64") } })
          if (ws.bufferedAmount < highWaterBytes) return
          child.pause()
          paused.add(child)
        },
        exit: (exitCode) => send({ method: "process/exited", params: { processId, seq: ++seq, exitCode } }),
        close: () => {
          processes.delete(processId)
          paused.delete(child)
          send({ method: "process/closed", params: { processId, seq: ++seq } })
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
    "process/read": (id) => send({ id, result: empty }),
    "process/write": (id, { processId, chunk }) => {
      processes.get(processId).write(Buffer.from(chunk, "base64"))
      send({ id, result: { status: "accepted" } })
    },
    "process/terminate": (id, { processId }) => {
      const child = processes.get(processId)
      child?.kill()
      send({ id, result: { running: child !== undefined } })
    }
  }
  socket.setNoDelay(true)
  socket.on("drain", () => {
    for (const child of paused) child.resume()
    paused.clear()
  })
  ws.on("message", (text) => {
    const { id, method, params } = JSON.parse(text)
    if (method in handlers) handlers[method](id, params)
    else send({ id, error: { code: -32601, message: `unknown method ${method}` } })
  })
  // Not supervision, only manners: nothing the benchmark started may outlive it.
  ws.on("close", () => {
    for (const child of processes.values()) child.kill()
  })
}

const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false })
server.on("connection", (ws, request) => serve(ws, request.socket))
server.on("listening", () => console.log(`ws://127.0.0.1:${server.address().port}`))
