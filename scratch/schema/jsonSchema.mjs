/** Describes the messages of the protocol as one JSON Schema (draft 7), from the OpenRPC document. */
import { schemaPath } from "./openrpc.mjs"

const path = "#/definitions/"

/** A copy whose references lead to `definitions`. */
const moved = (value) => {
  if (Array.isArray(value)) return value.map(moved)
  if (typeof value !== "object" || value === null) return value
  const entries = Object.entries(value).map(([name, value]) =>
    name === "$ref" ? [name, value.replace(schemaPath, path)] : [name, moved(value)]
  )
  return Object.fromEntries(entries)
}

const object = (required, properties) => ({ type: "object", required, properties, additionalProperties: true })

/** The schema of the messages of a method. */
const messageOf = (method) => {
  const isRequest = method.result !== undefined
  const schema = object(isRequest ? ["id", "method"] : ["method"], {
    ...(isRequest ? { id: { type: ["string", "integer"] } } : {}),
    method: { type: "string", enum: [method["x-method"] ?? method.name] },
    params: moved(method["x-params"])
  })
  const mayLackParams = method.params.every(({ required }) => !required)
  return { ...schema, required: mayLackParams ? schema.required : [...schema.required, "params"] }
}

const answers = {
  Result: object(["id", "result"], { id: { type: ["string", "integer"] }, result: { type: "object" } }),
  Error: object(["id", "error"], {
    id: { type: ["string", "integer"] },
    error: object(["code", "message"], { code: { type: "integer" }, message: { type: "string" } })
  })
}

/** The schema: what a client sends, what a server sends, and in `definitions` the parameters and results by name. */
export const jsonSchemaOf = ({ info, methods, components }) => {
  const sentBy = (direction) => methods.filter((method) => method["x-direction"] === direction).map(messageOf)
  return {
    $schema: "http://json-schema.org/draft-07/schema#",
    title: `${info.title} ${info.version}`,
    description: "A message of the protocol. The result of process/start is ProcessStartResult, and so on.",
    anyOf: [{ $ref: `${path}ClientMessage` }, { $ref: `${path}ServerMessage` }],
    definitions: {
      ClientMessage: { anyOf: sentBy("clientToServer") },
      ServerMessage: { anyOf: [...Object.values(answers), ...sentBy("serverToClient")] },
      ...moved(components.schemas)
    }
  }
}
