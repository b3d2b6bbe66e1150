// An MCP server with one tool, which says what it was told and whose child it is: on stdio, or, given `http`, on a port.
import { createServer } from "node:http"
import { createInterface } from "node:readline"

const tool = {
  name: "repeat",
  description: "Says it again.",
  inputSchema: { type: "object", properties: { text: { type: "string" } }, required: ["text"] }
}

const results = {
  initialize: ({ protocolVersion }) => ({
    protocolVersion,
    capabilities: { tools: {} },
    serverInfo: { name: "repeater", version: "1.0.0" }
  }),
  "tools/list": () => ({ tools: [tool] }),
  "tools/call": ({ arguments: { text } }) => ({
    content: [{ type: "text", text: `${text} of ${process.ppid}` }]
  })
}

const answer = ({ id, method, params }) => {
  const result = results[method]
  if (result === undefined) return { jsonrpc: "2.0", id, error: { code: -32601, message: "unknown method" } }
  return { jsonrpc: "2.0", id, result: result(params ?? {}) }
}

/** Requests are answered with an event stream, as the longer ones of real servers are. */
const serveHttp = (request, response) => {
  if (request.method !== "POST") return void response.writeHead(405).end()
  let body = ""
  request.on("data", (chunk) => {
    body += chunk
  })
  request.on("end", () => {
    const message = JSON.parse(body)
    if (message.id === undefined) return void response.writeHead(202).end()
    response.writeHead(200, { "content-type": "text/event-stream" })
    response.end(`event: message\ndata: ${JSON.stringify(answer(message))}\n\n`)
  })
}

if (process.argv[2] === "http") {
  const server = createServer(serveHttp).listen(0, "127.0.0.1", () => {
    console.log(`http://127.0.0.1:${server.address().port}/mcp`)
  })
} else {
  createInterface({ input: process.stdin }).on("line", (line) => {
    const message = JSON.parse(line)
    if (message.id !== undefined) console.log(JSON.stringify(answer(message)))
  })
}
