/**
 * The client, `exec-server/client`: connects to a server and uses its processes, files and HTTP requests.
 *
 * @since 0.1.0
 */
export * as ClientApi from "./Api.js"
export * as ClientError from "./ClientError.js"
export * as ConnectionState from "./ConnectionState.js"
export * as Connector from "./Connector.js"
export * as ExecClient from "./ExecClient.js"
export * as Fetch from "./Fetch.js"
export * as Files from "./Files.js"
export * as HeadTail from "./HeadTail.js"
export * as Http from "./Http.js"
export * as ProcessEvent from "./ProcessEvent.js"
export * as Recordings from "./Recordings.js"
export * as RemoteProcess from "./RemoteProcess.js"
export * as ServerFeatures from "./ServerFeatures.js"
export * as Sessions from "./Sessions.js"
export * as Shares from "./Shares.js"
export * as TextChannel from "./TextChannel.js"
export * as Token from "./Token.js"
export * as Usage from "./Usage.js"
export * as Watch from "./Watch.js"
export * as WatchEvent from "./WatchEvent.js"
