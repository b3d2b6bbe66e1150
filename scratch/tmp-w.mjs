import { withClients } from "./bench/client.mjs"
import * as S from "./bench/servers.mjs"
for (const [name, command] of [["this",["node","dist/bin.js","--listen","ws://127.0.0.1:0"]],["floor", ["node","scratch/bench/floor.mjs"]]]) for (const kb of [4, 20, 100, 400]) {
  const s = await S.start({command})
  await withClients(1, s.url, "c", async c => { const p = await c.start(["/bin/sh","-c","stty raw -echo; echo ready; sleep 30"],{tty:true}); await new Promise(r=>setTimeout(r,300))
    await c.request("process/write",{processId:p.processId,chunk:Buffer.alloc(kb*1000,97).toString("base64"),writeId:"1"})
    await new Promise(r=>setTimeout(r,300)); const c0=S.cpuSeconds(s); await new Promise(r=>setTimeout(r,2000)); console.log(name, kb,"kB unread on a tty: cpu", (S.cpuSeconds(s)-c0)/2)
    await c.terminate(p) })
  await S.stop(s)
}
process.exit()
