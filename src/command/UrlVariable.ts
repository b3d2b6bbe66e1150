/**
 * The variable that names a server if no flag does.
 *
 * @since 0.1.0
 */

/** Its name. */
export const name = "EXEC_SERVER_URL"

/** The address in it; undefined if there is none. */
export const read = (): string | undefined => process.env[name]?.trim() || undefined
