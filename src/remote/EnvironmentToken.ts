/**
 * Tokens for one environment each. They are made of a secret of the rendezvous, which so knows all of them and keeps
 * none; whoever has one learns nothing of the others.
 *
 * @since 0.1.0
 */
import { createHmac } from "node:crypto"

/**
 * Whose token it is: that of the executor, or that of the clients.
 *
 * @category models
 */
export type Role = "executor" | "client"

/**
 * The least length of a secret, in bytes.
 *
 * @category constants
 */
export const minSecretBytes = 32

/**
 * The tokens of a role, by environment id: 43 characters of base64url. Changing how they are made would revoke them all,
 * hence the version.
 *
 * @category constructors
 * @example
 * Rendezvous.layer({ address, executorToken: EnvironmentToken.derive(secret, "executor") })
 */
export const derive =
  (secret: string, role: Role) =>
  (environmentId: string): string =>
    createHmac("sha256", secret).update(`exec-server ${role} v1\0${environmentId}`).digest("base64url")
