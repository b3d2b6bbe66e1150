/** What a terminal shows, to compare. */
import type { Emulator } from "../../src/screen/Emulator.js"

// biome-ignore lint/suspicious/noExplicitAny: internals of the emulator
type Internals = any

/** All cells, the place of the cursor, and the modes. */
export const stateOf = (emulator: Emulator): unknown => {
  const { terminal, core, title }: Internals = emulator
  const buffer = terminal.buffer.active
  const lines: Array<string> = []
  let cell: Internals
  for (let y = buffer.baseY; y < buffer.baseY + terminal.rows; y++) {
    const line = buffer.getLine(y)
    const cells: Array<string> = []
    for (let x = 0; x < terminal.cols; x++) {
      cell = line.getCell(x, cell)
      const flags = [
        cell.isBold(),
        cell.isItalic(),
        cell.isDim(),
        cell.isUnderline(),
        cell.isBlink(),
        cell.isInverse(),
        cell.isInvisible(),
        cell.isStrikethrough()
      ].map(Number)
      const isBlank = cell.getChars() === "" || cell.getChars() === " "
      const background = `${cell.getBgColorMode()}:${cell.getBgColor()}`
      // Nothing shows the foreground of a blank without a line through it.
      const foreground = isBlank && !cell.isUnderline() && !cell.isInverse() && !cell.isStrikethrough()
      const look = foreground ? "" : `${flags.join("")} ${cell.getFgColorMode()}:${cell.getFgColor()}`
      cells.push(`${isBlank ? " " : cell.getChars()}|${background}|${look}`)
    }
    lines.push(cells.join(","))
  }
  return {
    lines,
    type: buffer.type,
    cursor: [Math.min(buffer.cursorX, terminal.cols - 1), buffer.cursorY],
    hidden: core.coreService.isCursorHidden,
    mouse: [core.coreMouseService.activeProtocol, core.coreMouseService.activeEncoding],
    region: [core._bufferService.buffer.scrollTop, core._bufferService.buffer.scrollBottom],
    modes: { ...terminal.modes },
    title
  }
}
