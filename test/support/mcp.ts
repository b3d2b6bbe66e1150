/** Clients of agents' tools, on stdio and over HTTP: the official one in both eras, and ones that write messages. */
import { createInterface } from "node:readline"
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client"
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { nowhere } from "./command.js"
import { binary, launch, type Running } from "./servers.js"

/** The eras of the protocol: with a handshake, and with each request on its own. */
export const eras = [
  ["2025-11-25", "legacy"],
  ["2026-07-28", { pin: "2026-07-28" }]
] as const

/** What a model reads. */
export interface Said {
  readonly text: string
  readonly isError: boolean
  readonly content: ReadonlyArray<Readonly<Record<string, unknown>>>
}

/** The number of a command in an answer. */
export const idIn = (text: string): number => Number(/session_id"?:? (\d+)/.exec(text)?.[1] ?? Number.NaN)

/** A connected official client. */
export interface McpClient {
  readonly client: Client
  readonly pid: number
  readonly call: (
    name: string,
    given?: Readonly<Record<string, unknown>>,
    options?: Parameters<Client["callTool"]>[1]
  ) => Effect.Effect<Said>
}

const environment = Object.fromEntries(
  Object.entries({ ...process.env, ...nowhere }).flatMap(([name, value]) =>
    value === undefined ? [] : [[name, value]]
  )
)

/** Connects the official client; the scope closes it. */
export const connect = (
  args: ReadonlyArray<string> = [],
  mode: (typeof eras)[number][1] = "legacy"
): Effect.Effect<McpClient, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const client = new Client({ name: "test", version: "1" }, { versionNegotiation: { mode } })
      const transport = new StdioClientTransport({
        command: process.execPath,
        args: [binary, "mcp", ...args],
        env: environment,
        stderr: "ignore"
      })
      await client.connect(transport)
      return { client, pid: transport.pid ?? -1 }
    }),
    ({ client }) => Effect.promise(() => client.close())
  ).pipe(Effect.map(({ client, pid }) => ({ client, pid, call: callOf(client) })))

const callOf =
  (client: Client): McpClient["call"] =>
  (name, given = {}, options) =>
    Effect.promise(async () => {
      const { content, isError = false } = await client.callTool({ name, arguments: given }, options)
      const [first] = content
      return { text: first?.type === "text" ? first.text : "", isError, content }
    })

/** A connected official client over HTTP. */
export interface HttpClient extends Pick<McpClient, "client" | "call"> {
  readonly transport: StreamableHTTPClientTransport
}

/** The address of `/mcp` on a server that listens there. */
export const mcpUrl = (url: string): string => `${url.replace(/^ws/, "http")}/mcp`

/** Connects the official client to the `/mcp` of a server; the scope closes it. */
export const connectHttp = (
  url: string,
  mode: (typeof eras)[number][1] = "legacy",
  token?: string
): Effect.Effect<HttpClient, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const client = new Client({ name: "test", version: "1" }, { versionNegotiation: { mode } })
      const headers = token === undefined ? {} : { authorization: `Bearer ${token}` }
      const transport = new StreamableHTTPClientTransport(new URL(mcpUrl(url)), { requestInit: { headers } })
      await client.connect(transport)
      return { client, transport, call: callOf(client) }
    }),
    ({ client }) => Effect.promise(() => client.close())
  )

/** What every request of the newer era says. */
export const modern = {
  "io.modelcontextprotocol/protocolVersion": "2026-07-28",
  "io.modelcontextprotocol/clientInfo": { name: "raw", version: "1" },
  "io.modelcontextprotocol/clientCapabilities": {}
}

/** What a POST to `/mcp` needs in its headers. */
export const posting = { "content-type": "application/json", accept: "application/json, text/event-stream" }

/** A call of a tool in the newer era: headers and body. */
export const modernCall = (
  name: string,
  given: object
): { readonly headers: Record<string, string>; readonly body: string } => ({
  headers: {
    ...posting,
    "mcp-protocol-version": "2026-07-28",
    "mcp-method": "tools/call",
    "mcp-name": name
  },
  body: JSON.stringify({
    jsonrpc: "2.0",
    id: 1,
    method: "tools/call",
    params: { name, arguments: given, _meta: modern }
  })
})

/** A message as it travels. */
export type Message = Readonly<Record<string, unknown>> & {
  readonly id?: number | string
  readonly result?: { readonly content: ReadonlyArray<{ readonly text: string }>; readonly isError?: boolean }
  readonly error?: { readonly code: number; readonly message: string }
}

/** A client that writes lines. */
export interface RawClient extends Running {
  /** Everything that came, in order. */
  readonly messages: ReadonlyArray<Message>
  readonly write: (line: string) => void
  readonly request: (id: number | string, method: string, params?: object) => Effect.Effect<Message>
}

/** Starts the server; the client writes lines to it. */
export const raw = (
  args: ReadonlyArray<string> = [],
  env: Readonly<Record<string, string>> = {}
): Effect.Effect<RawClient, never, Scope.Scope> =>
  Effect.map(launch({ args: ["mcp", ...args], env: { ...nowhere, ...env } }), (running) => {
    const messages: Array<Message> = []
    const waiting = new Map<number | string, (message: Message) => void>()
    if (running.child.stdout === null) throw new Error("no stdout")
    createInterface({ input: running.child.stdout }).on("line", (line) => {
      const message = JSON.parse(line) as Message
      messages.push(message)
      if (message.id !== undefined) waiting.get(message.id)?.(message)
    })
    const write = (line: string) => {
      running.child.stdin?.write(`${line}\n`)
    }
    return {
      ...running,
      messages,
      write,
      request: (id, method, params) =>
        Effect.async<Message>((resume) => {
          waiting.set(id, (message) => resume(Effect.succeed(message)))
          write(JSON.stringify({ jsonrpc: "2.0", id, method, ...(params === undefined ? {} : { params }) }))
        }).pipe(
          Effect.timeout("30 seconds"),
          Effect.catchAll(() => Effect.dieMessage(`${method} was not answered; stderr: ${running.stderr()}`))
        )
    }
  })

/** The handshake of the older era. */
export const initialize = ({ request, write }: RawClient) =>
  Effect.tap(
    request("init", "initialize", {
      protocolVersion: "2025-06-18",
      capabilities: {},
      clientInfo: { name: "raw", version: "1" }
    }),
    () => Effect.sync(() => write('{"jsonrpc":"2.0","method":"notifications/initialized"}'))
  )

/** The text of a raw answer. */
export const textOf = ({ result }: Message): string => result?.content[0]?.text ?? ""
