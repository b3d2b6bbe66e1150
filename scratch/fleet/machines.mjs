// The parts of a fleet on this machine, for scripts: PostgreSQL in a folder of its own, gateways, hosts, and TCP proxies
// that can be cut or made deaf. All end with `close`.
import { execFileSync, spawn, spawnSync } from "node:child_process"
import { chmodSync, chownSync, mkdtempSync, readdirSync, rmSync } from "node:fs"
import { createConnection, createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import pg from "pg"

export const binary = fileURLToPath(new URL("../../dist/bin.js", import.meta.url))

const freePort = () =>
  new Promise((resolve) => {
    const server = createServer()
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address()
      server.close(() => resolve(port))
    })
  })

/**
 * A program that counts lines until it is ended, with a pause between two in seconds; it ignores further arguments. Perl
 * waits without a process of its own: the starts of `sleep` for all clients would be most of the load.
 */
export const counting = (pause) => [
  "perl",
  "-e",
  `$| = 1; while (1) { print ++$i, "\\n"; select(undef, undef, undef, ${pause}) }`
]

/** Waits until something holds. */
export const until = async (what, holds, withinMs = 30_000) => {
  const end = Date.now() + withinMs
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`never came true: ${what}`)
    await sleep(20)
  }
}

/** PostgreSQL, with `fsync` as given: without it, no figure of placing means anything. */
export const postgres = async (fsync) => {
  const folder = mkdtempSync(join(tmpdir(), "fleet-pg-"))
  const isRoot = process.getuid() === 0
  if (isRoot) {
    const uid = Number(execFileSync("id", ["-u", "postgres"], { encoding: "utf8" }))
    chownSync(folder, uid, uid)
  }
  chmodSync(folder, 0o700)
  const port = await freePort()
  const programs = `/usr/lib/postgresql/${readdirSync("/usr/lib/postgresql").at(-1)}/bin`
  const run = (program, ...args) => {
    const command = [join(programs, program), ...args]
    const [first, ...rest] = isRoot ? ["setpriv", "--reuid=postgres", "--clear-groups", ...command] : command
    const { status, stderr, stdout } = spawnSync(first, rest, {
      cwd: folder,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"]
    })
    if (status !== 0) throw new Error(`${program} failed: ${stderr}${stdout}`)
  }
  const data = join(folder, "data")
  run("initdb", "--pgdata", data, "--auth=trust", "--username=fleet", "--no-sync")
  const options = `-p ${port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=${fsync ? "on" : "off"}`
  const start = () => run("pg_ctl", "start", "-w", "-D", data, "-l", join(folder, "log"), "-o", options)
  const stop = () => run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", data)
  start()
  const url = `postgres://fleet@127.0.0.1:${port}/postgres`
  const query = async (text) => {
    const client = new pg.Client({ connectionString: url })
    await client.connect()
    try {
      return (await client.query(text)).rows
    } finally {
      await client.end()
    }
  }
  const close = () => {
    try {
      stop()
    } catch {}
    rmSync(folder, { recursive: true, force: true, maxRetries: 10 })
  }
  return { url, port, start, stop, query, close }
}

/** A TCP proxy. `cut` ends its connections, `deafen` stops passing anything on, without ending one. */
export const proxy = (port) =>
  new Promise((resolve) => {
    const pairs = new Set()
    let isDeaf = false
    const server = createServer((client) => {
      const upstream = createConnection({ host: "127.0.0.1", port: port() })
      const pair = [client, upstream]
      pairs.add(pair)
      for (const [from, to] of [pair, [upstream, client]]) {
        from.on("error", () => {})
        from.on("close", () => {
          pairs.delete(pair)
          // The end of a connection is not passed on either.
          if (!isDeaf) to.destroy()
        })
        from.on("data", (bytes) => {
          if (isDeaf) from.pause()
          else if (!to.write(bytes)) from.pause()
        })
        to.on("drain", () => isDeaf || from.resume())
      }
    })
    server.listen(0, "127.0.0.1", () =>
      resolve({
        port: server.address().port,
        cut: () => {
          for (const pair of pairs) for (const socket of pair) socket.destroy()
        },
        deafen: () => {
          isDeaf = true
        },
        /** What was deaf has lost bytes: its connections end. */
        hear: () => {
          isDeaf = false
          for (const pair of pairs) for (const socket of pair) socket.destroy()
        },
        close: () => {
          server.close()
          for (const pair of pairs) for (const socket of pair) socket.destroy()
        }
      })
    )
  })

/** A program that is started again with the same arguments. */
const program = (args, env, isReady) => {
  let child
  const one = { pid: undefined, log: "", isFrozen: false }
  const launch = () => {
    one.log = ""
    child = spawn(process.execPath, [binary, ...args], {
      env: { ...process.env, ...env },
      stdio: ["pipe", "pipe", "pipe"]
    })
    one.pid = child.pid
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (text) => {
        one.log = (one.log + text).slice(-200_000)
      })
    }
  }
  const hasEnded = () => child.exitCode !== null || child.signalCode !== null
  one.start = async () => {
    launch()
    await until(`${args.join(" ")} is ready`, async () => {
      // As a supervisor does: a gateway gives up if its database is away when it starts.
      if (hasEnded()) {
        await sleep(500)
        launch()
      }
      return isReady(one.log)
    })
  }
  one.kill = (signal) => child.kill(signal)
  one.gone = () => (hasEnded() ? Promise.resolve() : new Promise((resolve) => child.once("exit", () => resolve())))
  return one
}

/** A gateway on a fixed port. */
export const gateway = async (database, args = []) => {
  const port = await freePort()
  const url = `ws://127.0.0.1:${port}`
  const one = program(["gateway", "--listen", url, "--database", database, "--log-level", "info", ...args], {}, (log) =>
    log.includes("gateway listening")
  )
  await one.start()
  return Object.assign(one, { url, port })
}

/** A host of gateways; ready when it is registered with all of them. */
export const host = async (id, urls, args = []) => {
  const one = program(
    ["--remote", urls[0].replace("ws", "http"), "--environment-id", id, ...args],
    { EXEC_SERVER_REMOTE_TOKEN: "host" },
    (log) => log.split("registered with environment_id").length > 1
  )
  await one.start()
  return Object.assign(one, { id })
}

/** A client without a library. `onEnd` is called once; requests that are not answered then fail. */
export const connect = (url, WebSocket, { onOutput = () => {}, onEnd = () => {}, openMs = 3000 } = {}) =>
  new Promise((resolve, reject) => {
    const ws = new WebSocket(url, { handshakeTimeout: openMs, perMessageDeflate: false })
    const answers = new Map()
    let nextId = 1
    let isOver = false
    let heardAt = performance.now()
    let ending
    const over = (reason) => {
      if (isOver) return
      isOver = true
      ending = reason
      for (const { fail } of answers.values()) fail(new Error(reason))
      onEnd(reason)
    }
    ws.on("error", (error) => {
      over(error.message)
      reject(error)
    })
    ws.on("close", (code, reason) => over(`closed: ${code} ${reason}`))
    ws.on("pong", () => {
      heardAt = performance.now()
    })
    ws.on("message", (data) => {
      heardAt = performance.now()
      const message = JSON.parse(data)
      if (message.method === "process/output") onOutput(message.params)
      const waiter = answers.get(message.id)
      answers.delete(message.id)
      waiter?.done(message)
    })
    ws.on("open", () => {
      heardAt = performance.now()
      resolve({
        ws,
        ending: () => ending,
        silentMs: () => performance.now() - heardAt,
        abandon: over,
        notify: (method, params = {}) => ws.send(JSON.stringify({ method, params })),
        call: (method, params) =>
          new Promise((done, fail) => {
            if (isOver) return fail(new Error(ending))
            const id = nextId++
            answers.set(id, { done, fail })
            ws.send(JSON.stringify({ id, method, params }))
          })
      })
    })
  })
