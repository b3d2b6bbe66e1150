/**
 * The public API: client, environment, protocol and server. Test helpers are in `exec-server/testing`.
 *
 * @since 0.1.0
 */
export * from "./client/index.js"
export * from "./environment/index.js"
export * from "./protocol/index.js"
export * from "./server/index.js"
