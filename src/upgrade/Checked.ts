/**
 * What a version says that was asked whether it can take over.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

/** It can: which version it is, and the module it consists of, which has its content in its name. */
export const Checked = Schema.Struct({
  canTakeOver: Schema.Struct({ version: Schema.String, module: Schema.String, node: Schema.String })
})
export type Checked = (typeof Checked.Type)["canTakeOver"]

/** A version as a line. */
export const line = (checked: Checked): string => `${JSON.stringify({ canTakeOver: checked })}\n`

/** The module that this version consists of. */
export const ownModule: string = import.meta.url
