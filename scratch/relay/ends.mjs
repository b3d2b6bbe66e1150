/** Both ends of connections for the scripts that measure relays: servers as children, and links of this process. */
import { spawn } from "node:child_process"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as KeyPair from "../../dist/remote/noise/KeyPair.js"
import * as NoiseClient from "../../dist/remote/noise/NoiseClient.js"
import * as Registration from "../../dist/remote/Registration.js"
import * as RelayClient from "../../dist/remote/RelayClient.js"
import * as RelaySocket from "../../dist/remote/RelaySocket.js"

const binary = fileURLToPath(new URL("../../dist/bin.js", import.meta.url))
const children = []

/** Starts a command of this project. */
export const launch = (args, env = {}) => {
  const child = spawn(process.execPath, [binary, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...env }
  })
  children.push(child)
  return child
}

/** Ends everything that was started. */
export const end = () => {
  for (const child of children) child.kill()
}

export const firstLine = (stream) => new Promise((resolve) => createInterface({ input: stream }).once("line", resolve))

/** A rendezvous with an executor. */
export const rendezvous = async (flags, executorFlags = []) => {
  const relay = launch(["rendezvous", ...flags])
  const url = await firstLine(relay.stdout)
  const remote = ["--remote", url.replace("ws:", "http:"), "--environment-id", "probe"]
  const executor = launch([...remote, ...executorFlags], { EXEC_SERVER_REMOTE_TOKEN: "any" })
  await firstLine(executor.stderr)
  return { url, relay, executor }
}

/** Where clients of a plain rendezvous connect. */
const clientUrl = (url) => `${url}/cloud/environment/probe/connect?role=harness`

/** Connects again and again until the executor has connected: before, the rendezvous answers 409. */
const onceOnline = Effect.retry({ while: ({ status }) => status === 409, schedule: Schedule.spaced(50), times: 200 })

/** An open WebSocket to a plain rendezvous. */
export const opened = async (url) => {
  const { ws } = await Effect.runPromise(onceOnline(RelaySocket.open(clientUrl(url), { maxPayload: 2 ** 28 })))
  ws.resume()
  return ws
}

/** A link that is open until it is closed. */
const linked = async (connect, onMessage, onBinary, onEnd = () => {}) => {
  let close = () => {}
  const link = await new Promise((resolve, reject) => {
    const program = Effect.gen(function* () {
      resolve(yield* onceOnline(connect))
      yield* Effect.promise(() => new Promise((done) => (close = done)))
    })
    Effect.runPromise(Effect.scoped(program)).catch(reject)
  })
  link.listen({ onMessage, onBinary, onDrain: () => {}, onEnd })
  return { send: link.send, close: () => close() }
}

/** A client of a plain rendezvous. */
export const relayed = (url, ...listeners) => linked(RelayClient.connect(clientUrl(url)), ...listeners)

/** A client of an encrypted rendezvous. */
export const encrypted = (url, ...listeners) => {
  const { right: target } = Registration.parseTarget(url.replace("ws:", "http:"), "probe")
  const options = { target, headers: {}, own: KeyPair.generate(), expected: undefined, maxMessageBytes: 2 ** 28 }
  return linked(
    Effect.map(NoiseClient.connect(options), ({ link }) => link),
    ...listeners
  )
}
