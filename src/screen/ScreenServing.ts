/**
 * The side of the thread: the emulated terminals, by number.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { Emulator } from "./Emulator.js"
import type { Reply, Request } from "./ScreenMessages.js"

/** Serves screens. A terminal that fails is dropped, and its failure is told. */
export const serve = (reply: (message: Reply) => void): ((request: Request) => void) => {
  const emulators = new Map<number, Emulator>()

  const handle = (request: Request) => {
    const { screen } = request
    const emulator = emulators.get(screen)
    switch (request.type) {
      case "open": {
        emulator?.dispose()
        const { rows, cols } = request.size
        emulators.set(screen, new Emulator(rows, cols, request.scrollback))
        return
      }
      case "feed":
        for (const item of request.items) {
          if ("rows" in item) emulator?.resize(item.rows, item.cols)
          else emulator?.write(Buffer.from(item.buffer, item.byteOffset, item.byteLength))
        }
        return reply({ type: "fed", screen, title: emulator?.title ?? null })
      case "show": {
        if (emulator === undefined) return reply({ type: "failed", screen, reason: "there is no such screen" })
        const bytes = emulator.serialize(request.scrollback)
        return reply({ type: "shown", screen, ask: request.ask, bytes, title: emulator.title })
      }
      case "read": {
        if (emulator === undefined) return reply({ type: "failed", screen, reason: "there is no such screen" })
        const text = emulator.text()
        if (request.mark) emulator.mark()
        return reply({ type: "text", screen, ask: request.ask, text })
      }
      case "close":
        emulator?.dispose()
        emulators.delete(screen)
    }
  }

  return (request) => {
    try {
      handle(request)
    } catch (defect) {
      emulators.delete(request.screen)
      reply({ type: "failed", screen: request.screen, reason: String(defect) })
    }
  }
}
