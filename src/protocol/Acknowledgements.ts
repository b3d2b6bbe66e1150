/**
 * The notifications with which a client acknowledges output (ours). A server decodes only these: it loads no schema of
 * what it sends itself.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { ProcessId } from "./Ids.js"
import { Count } from "./Schemas.js"

/**
 * The parameters of `process/ack`.
 *
 * @category schemas
 */
export const AckParams = Schema.Struct({ processId: ProcessId, seq: Count })

/**
 * The parameters of `attachment/ack`.
 *
 * @category schemas
 */
export const AttachmentAckParams = Schema.Struct({ attachmentId: Count, seq: Count })
