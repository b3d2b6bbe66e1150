/**
 * What agents use, `exec-server/mcp`: commands that are started, typed into and awaited in windows of time.
 *
 * @since 0.1.0
 */
export * as CommandSession from "./CommandSession.js"
export * as Cut from "./Cut.js"
export * as ExecEvent from "./ExecEvent.js"
export * as ExecFailure from "./ExecFailure.js"
export * as ProcessTransport from "./ProcessTransport.js"
export * as Replies from "./Replies.js"
export * as UnifiedExec from "./UnifiedExec.js"
