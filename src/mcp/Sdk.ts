/**
 * The library of the Model Context Protocol. The build bundles this module on its own, so that only the command that
 * needs it loads it.
 *
 * @since 0.1.0
 */
export {
  createMcpHandler,
  isInitializeRequest,
  isLegacyRequest,
  ProtocolError,
  ProtocolErrorCode,
  Server,
  WebStandardStreamableHTTPServerTransport
} from "@modelcontextprotocol/server"
export { StdioServerTransport, serveStdio } from "@modelcontextprotocol/server/stdio"
