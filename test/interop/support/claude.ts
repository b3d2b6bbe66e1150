/** The genuine Claude Code, with a model of the test's behind it. */
import { spawn } from "node:child_process"
import { writeFileSync } from "node:fs"
import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { join } from "node:path"
import { text } from "node:stream/consumers"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { directory } from "../../support/files.js"
import * as Npm from "./npm.js"

const name = "@anthropic-ai/claude-code"
const version = "2.1.328"

/** Installs it, once. */
export const install = (): Promise<void> => Npm.install(name, version)

/** What the model asks for: a call of a tool; a wait that never ends; or, undefined, nothing more. */
export type Turn = { readonly tool: string; readonly input: object } | "wait" | undefined

/** What the model does next, by what it has been told: the texts of all results. */
export type Model = (results: ReadonlyArray<string>) => Turn

interface Block {
  readonly type: string
  readonly content?: string | ReadonlyArray<Block>
  readonly text?: string
}

const textOf = (content: Block["content"]): string =>
  typeof content === "string" ? content : (content ?? []).map(({ text = "" }) => text).join("")

/** The results of tools in the messages of a request. */
const resultsIn = (messages: ReadonlyArray<{ readonly content: string | ReadonlyArray<Block> }>) =>
  messages.flatMap(({ content }) =>
    typeof content === "string"
      ? []
      : content.flatMap((one) => (one.type === "tool_result" ? [textOf(one.content)] : []))
  )

const message = { id: "msg_1", type: "message", role: "assistant", stop_sequence: null }
const usage = { input_tokens: 1, output_tokens: 1 }

/** Streams an answer as the Messages API does. */
const stream = (response: ServerResponse, model: string, turn: Exclude<Turn, "wait">) => {
  const send = (type: string, data: object) =>
    response.write(`event: ${type}\ndata: ${JSON.stringify({ type, ...data })}\n\n`)
  const [block, delta, reason] =
    turn === undefined
      ? [{ type: "text", text: "" }, { type: "text_delta", text: "done" }, "end_turn"]
      : [
          { type: "tool_use", id: `toolu_${performance.now()}`.replace(".", "_"), name: turn.tool, input: {} },
          { type: "input_json_delta", partial_json: JSON.stringify(turn.input) },
          "tool_use"
        ]
  response.writeHead(200, { "content-type": "text/event-stream" })
  send("message_start", { message: { ...message, model, content: [], stop_reason: null, usage } })
  send("content_block_start", { index: 0, content_block: block })
  send("content_block_delta", { index: 0, delta })
  send("content_block_stop", { index: 0 })
  send("message_delta", { delta: { stop_reason: reason, stop_sequence: null }, usage })
  send("message_stop", {})
  response.end()
}

/** Serves a model; returns its URL, and the results that it was told last. */
const serve = (model: Model) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.async<{ readonly server: ReturnType<typeof createServer>; readonly told: () => ReadonlyArray<string> }>(
        (resume) => {
          let told: ReadonlyArray<string> = []
          const answer = async (request: IncomingMessage, response: ServerResponse) => {
            const body = await text(request)
            if (!request.url?.startsWith("/v1/messages?")) return void response.writeHead(404).end()
            const asked = JSON.parse(body)
            told = resultsIn(asked.messages)
            const turn = model(told)
            if (turn !== "wait") stream(response, asked.model, turn)
          }
          const server = createServer((request, response) => void answer(request, response))
          server.listen(0, "127.0.0.1", () => resume(Effect.succeed({ server, told: () => told })))
        }
      ),
      ({ server }) =>
        Effect.sync(() => {
          server.closeAllConnections()
          server.close()
        })
    ),
    ({ server, told }) => ({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, told })
  )

/** A run of the client. */
export interface Run {
  /** The texts of the results so far. */
  readonly told: () => ReadonlyArray<string>
  /** Completes with its exit code. */
  readonly exit: Effect.Effect<number | null>
  /** Kills it. */
  readonly kill: Effect.Effect<void>
}

/** Runs it without a terminal, with one MCP server called `exec`; the scope kills it. */
export const run = (server: object, model: Model): Effect.Effect<Run, never, Scope.Scope> =>
  Effect.gen(function* () {
    const home = yield* directory
    const config = join(home, "mcp.json")
    writeFileSync(config, JSON.stringify({ mcpServers: { exec: server } }))
    const { url, told } = yield* serve(model)
    const args = ["-p", "go", "--mcp-config", config, "--strict-mcp-config", "--allowedTools", "mcp__exec"]
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        spawn(join(Npm.folderOf(name, version), ".bin", "claude"), args, {
          cwd: home,
          stdio: "ignore",
          env: {
            PATH: process.env["PATH"],
            HOME: home,
            ANTHROPIC_BASE_URL: url,
            ANTHROPIC_API_KEY: "sk-test",
            CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
            DISABLE_AUTOUPDATER: "1"
          }
        })
      ),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    )
    const ended = new Promise<number | null>((resolve) => child.once("exit", (code) => resolve(code)))
    return {
      told,
      exit: Effect.promise(() => ended),
      kill: Effect.asVoid(
        Effect.zipRight(
          Effect.sync(() => child.kill("SIGKILL")),
          Effect.promise(() => ended)
        )
      )
    }
  })
