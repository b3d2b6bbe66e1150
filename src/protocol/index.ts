/**
 * The wire protocol, `exec-server/protocol`: schemas, error codes and message formats. No I/O.
 *
 * @since 0.1.0
 */
export * as BinaryFrame from "./BinaryFrame.js"
export * as DiscoveryApi from "./DiscoveryApi.js"
export * as ExecApi from "./ExecApi.js"
export * as ExecNotifications from "./ExecNotifications.js"
export * as Failure from "./Failure.js"
export * as FileSystemApi from "./FileSystemApi.js"
export * as HttpApi from "./HttpApi.js"
export * as Ids from "./Ids.js"
export * as MethodFacts from "./MethodFacts.js"
export * as PathUri from "./PathUri.js"
export * as RecordingApi from "./RecordingApi.js"
export * as ShareApi from "./ShareApi.js"
export * as Signals from "./Signals.js"
export * as UsageApi from "./UsageApi.js"
export * as Wire from "./Wire.js"
