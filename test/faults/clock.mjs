// Loaded into a server: SIGUSR2 sets its clock forward by an hour, SIGPIPE back. Monotonic time goes on as it does.
const hourMs = 3_600_000
const RealDate = Date
let offset = 0
globalThis.Date = class extends RealDate {
  constructor(...fields) {
    super(...(fields.length === 0 ? [RealDate.now() + offset] : fields))
  }

  static now() {
    return RealDate.now() + offset
  }
}
process.on("SIGUSR2", () => {
  offset += hourMs
})
process.on("SIGPIPE", () => {
  offset -= hourMs
})
