/**
 * Environments, `exec-server/environment`: the machines a program works on, their configuration and connections.
 *
 * @since 0.1.0
 */
export * as Environment from "./Environment.js"
export * as EnvironmentConfig from "./EnvironmentConfig.js"
export * as EnvironmentManager from "./EnvironmentManager.js"
export * as EnvironmentProvider from "./EnvironmentProvider.js"
