// Writes the machine-readable descriptions of the protocol into dist: an OpenRPC document, a JSON Schema, and a Python
// client made from the document. Called by scratch/build.mjs; `exec-server schema` prints them.
import { readFileSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { jsonSchemaOf } from "./schema/jsonSchema.mjs"
import { makeDocument } from "./schema/openrpc.mjs"
import { pythonOf } from "./schema/python.mjs"

const dist = fileURLToPath(new URL("../dist", import.meta.url))
const template = fileURLToPath(new URL("schema/client.py", import.meta.url))

/** Throws if a method has no words, or a schema cannot be described. */
export const buildSchema = async () => {
  const document = await makeDocument()
  const write = (name, text) => writeFileSync(`${dist}/${name}`, text)
  write("openrpc.json", `${JSON.stringify(document, null, 2)}\n`)
  write("schema.json", `${JSON.stringify(jsonSchemaOf(document), null, 2)}\n`)
  write("exec_client.py", pythonOf(document, readFileSync(template, "utf8")))
}
