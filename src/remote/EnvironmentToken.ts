/**
 * Per-environment tokens, derived from a secret. The rendezvous computes them and stores none. A token reveals nothing
 * about the others.
 *
 * @since 0.1.0
 */
import { createHmac } from "node:crypto"

/**
 * Who a token is for: the executor or its clients.
 *
 * @category models
 */
export type Role = "executor" | "client"

/**
 * The minimum length of a secret, in bytes.
 *
 * @category constants
 */
export const minSecretBytes = 32

/**
 * Returns the function from environment ids to the tokens of a role: 43 characters of base64url. A change of the
 * derivation would revoke all tokens, hence its version.
 *
 * @category constructors
 * @example
 * Rendezvous.layer({ address, executorToken: EnvironmentToken.derive(secret, "executor") })
 */
export const derive =
  (secret: string, role: Role) =>
  (environmentId: string): string =>
    createHmac("sha256", secret).update(`exec-server ${role} v1\0${environmentId}`).digest("base64url")
