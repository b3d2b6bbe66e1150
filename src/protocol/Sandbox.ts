/**
 * The sandbox a client asks for (now): which of its shapes restrict nothing, and can therefore run directly.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { NotAllowed } from "./Failure.js"
import { AnyObject, maybe, oneOf, Text } from "./Schemas.js"

const FileSystem = Schema.Union(
  Schema.Struct({ type: oneOf("unrestricted") }),
  Schema.Struct({ type: oneOf("restricted"), entries: Schema.Array(AnyObject) })
)

const Permissions = Schema.Union(
  Schema.Struct({ type: oneOf("disabled") }),
  Schema.Struct({ type: oneOf("external"), network: Text }),
  Schema.Struct({ type: oneOf("managed"), file_system: FileSystem, network: maybe(Text) })
)

/** The sandbox of a request; of its further members none restricts anything by itself. */
export const Sandbox = Schema.Struct({ permissions: Permissions, windowsSandboxLevel: Text })
export type Sandbox = typeof Sandbox.Type

/** Whether somebody has to enforce something: files, or the network, of what is run. */
export const restricts = ({ permissions }: Sandbox): boolean => {
  switch (permissions.type) {
    case "disabled":
    case "external":
      return false
    case "managed":
      return permissions.file_system.type === "restricted" || permissions.network === "restricted"
  }
}

/** Whether somebody has to enforce which files may be read or written. */
export const restrictsFiles = ({ permissions }: Sandbox): boolean =>
  permissions.type === "managed" && permissions.file_system.type === "restricted"

/** The answer to a request whose sandbox restricts something, where nobody can enforce it. */
export const unenforceable = (): NotAllowed =>
  new NotAllowed({
    message:
      "this server cannot enforce a restricted sandbox; " +
      "ask for permissions of type disabled or external, or for unrestricted managed ones"
  })
