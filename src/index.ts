/**
 * The public API: client, server and protocol. What tests need is in `exec-server/testing`.
 *
 * @since 0.1.0
 */
export * from "./client/index.js"
export * from "./environment/index.js"
export * from "./protocol/index.js"
export * from "./server/index.js"
