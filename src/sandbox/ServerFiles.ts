/**
 * The server's own files, hidden from every sandbox whatever its entries allow: its socket, configuration, tokens, keys,
 * audit log and recordings. With these a sandboxed program could become a client, which is not sandboxed.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"

/** Absolute paths; they may contain links, and files that do not exist are skipped. The default is none. */
export class ServerFiles extends Context.Reference<ServerFiles>()("exec-server/ServerFiles", {
  defaultValue: (): ReadonlyArray<string> => []
}) {}
