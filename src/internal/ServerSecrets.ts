/**
 * The environment variables that may hold the server's own secrets. No client gets their values.
 *
 * @since 0.1.0
 */

/** Whether a variable may hold a secret of the server: its tokens, under our names and the original's. */
export const isServerSecret = (name: string): boolean =>
  name === "CODEX_API_KEY" || /^(CODEX_)?EXEC_SERVER_.*(TOKEN|SECRET)/.test(name)

/** The variables that may hold secrets of the server, with their values. */
export const select = (variables: NodeJS.ProcessEnv): NodeJS.ProcessEnv =>
  Object.fromEntries(Object.entries(variables).filter(([name]) => isServerSecret(name)))
