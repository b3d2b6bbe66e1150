/**
 * Ends the server's process.
 *
 * @since 0.1.0
 */
import * as Posix from "../spawn/Posix.js"

/**
 * Exits even if threads hang. `process.exit` calls exit(3), whose destructors join libuv's four threads, and a thread
 * in a system call on a dead file system never returns. Output to stdout and stderr was written already: they are
 * synchronous.
 */
export const exit = (status: number): never => {
  process.once("exit", (code) => Posix.exitNow(code))
  return process.exit(status)
}
