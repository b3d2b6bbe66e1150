/**
 * The public API.
 *
 * @since 0.1.0
 */
export * as Child from "./process/Child.js"
export * as OutputBuffer from "./process/OutputBuffer.js"
export * as PipeSpawner from "./process/PipeSpawner.js"
export * as ProcessLimits from "./process/ProcessLimits.js"
export * as ProcessSupervisor from "./process/ProcessSupervisor.js"
export * as PtySpawner from "./process/PtySpawner.js"
export * as Spawner from "./process/Spawner.js"
export * as ExecApi from "./protocol/ExecApi.js"
export * as ExecNotifications from "./protocol/ExecNotifications.js"
export * as Failure from "./protocol/Failure.js"
export * as Wire from "./protocol/Wire.js"
export * as ExecServer from "./server/ExecServer.js"
export * as ServerConfig from "./server/ServerConfig.js"
export * as Connection from "./session/Connection.js"
export * as HostInfo from "./session/HostInfo.js"
export * as Peer from "./session/Peer.js"
export * as SessionLimits from "./session/SessionLimits.js"
export * as SessionRegistry from "./session/SessionRegistry.js"
export * as FakeSpawner from "./testing/FakeSpawner.js"
export * as Memory from "./transport/Memory.js"
export * as Stdio from "./transport/Stdio.js"
export * as Transport from "./transport/Transport.js"
export * as TransportLimits from "./transport/TransportLimits.js"
export * as WebSocket from "./transport/WebSocket.js"
