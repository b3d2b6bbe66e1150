/**
 * The program of the thread that emulates terminals: parsing their output would hold up the server.
 *
 * @since 0.1.0
 */
import { parentPort } from "node:worker_threads"
import * as ScreenServing from "./ScreenServing.js"

const port = parentPort
if (port !== null)
  port.on(
    "message",
    ScreenServing.serve((message) => port.postMessage(message))
  )
