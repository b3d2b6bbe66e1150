import { assert, describe, it } from "@effect/vitest"
import * as Either from "effect/Either"
import { Auth, parse } from "../../src/server/ListenConfig.js"
import * as ServerConfig from "../../src/server/ServerConfig.js"

type Settings = Partial<ServerConfig.ServerConfig>

const defaults = Either.getOrThrowWith(ServerConfig.load({}, {}, undefined), ({ message }) => new Error(message))
const read = (settings: Settings) => parse({ ...defaults, ...settings })

const configOf = (settings: Settings) => Either.getOrThrowWith(read(settings), ({ message }) => new Error(message))
const why = (settings: Settings) =>
  Either.getOrThrowWith(Either.flip(read(settings)), () => new Error("it was accepted")).message

/** Listening on WebSocket, or an error. */
const onWebSocket = (settings: Settings) => {
  const found = configOf({ listen: "ws://127.0.0.1:0", ...settings })
  if (found._tag !== "WebSocket") throw new Error("it is on stdio")
  return found
}

const hex = "0123456789abcdefABCDEF".padEnd(64, "0")
const capability = { wsAuth: "capability-token", wsTokenSha256: hex } as const
const tls = { tlsCert: "cert.pem", tlsKey: "key.pem" }

describe("where", () => {
  it("stdio in both spellings", () => {
    for (const listen of ["stdio", "stdio://"]) assert.strictEqual(configOf({ listen })._tag, "Stdio")
  })

  for (const [listen, host, port] of [
    ["ws://127.0.0.1:0", "127.0.0.1", 0],
    ["ws://127.0.0.1:65535", "127.0.0.1", 65_535],
    ["ws://127.9.9.9:1", "127.9.9.9", 1],
    ["ws://[::1]:8080", "::1", 8080]
  ] as const) {
    it(listen, () => {
      assert.deepStrictEqual(onWebSocket({ listen }).address, { host, port })
    })
  }

  it("a path, as it is written", () => {
    for (const path of ["/x", "/run/a b/%20.sock"]) {
      assert.deepStrictEqual(onWebSocket({ listen: `unix://${path}` }).address, { path })
    }
  })

  for (const listen of ["unix://", "unix://x", "unix:///", "unix://./x", "unix:///x/", "unix:///x\0y"]) {
    it(`${JSON.stringify(listen)} is invalid`, () => {
      assert.strictEqual(why({ listen }), `invalid unix --listen URL \`${listen}\`; expected \`unix:///PATH\``)
    })
  }

  for (const listen of ["http://127.0.0.1:1", "xws://127.0.0.1:1", "", "127.0.0.1:1", "unix:/x"]) {
    it(`${JSON.stringify(listen)} is unsupported`, () => {
      assert.strictEqual(
        why({ listen }),
        `unsupported --listen URL \`${listen}\`; expected \`ws://IP:PORT\` or \`stdio\`, or \`unix:///PATH\``
      )
    })
  }

  it("wss:// needs a certificate", () => {
    assert.strictEqual(
      why({ listen: "wss://127.0.0.1:1" }),
      "--listen wss://127.0.0.1:1 needs a certificate: give --tls-cert and --tls-key"
    )
  })

  for (const listen of [
    "wss://localhost:1234",
    "ws://localhost:1234",
    "ws://127.0.0.1",
    "ws://127.0.0.1:",
    "ws://127.0.0.1:65536",
    "ws://127.0.0.1:1/path",
    "ws://::1:80",
    "ws://[127.0.0.1]:80",
    "ws://user@127.0.0.1:80",
    "ws://:80",
    "ws://"
  ]) {
    it(`${listen} is invalid`, () => {
      assert.strictEqual(why({ listen }), `invalid websocket --listen URL \`${listen}\`; expected \`ws://IP:PORT\``)
      assert.strictEqual(why({ listen, insecure: true }), why({ listen }))
    })
  }

  for (const listen of ["ws://0.0.0.0:0", "ws://192.168.1.2:80", "ws://[::]:80", "ws://[::ffff:10.0.0.1]:80"]) {
    it(`${listen} is public: only with authentication or --insecure, TLS or not`, () => {
      for (const message of [why({ listen }), why({ listen, ...tls })]) {
        assert.include(message, "--insecure")
        assert.include(message, "--ws-auth")
      }
      assert.strictEqual(onWebSocket({ listen, insecure: true })._tag, "WebSocket")
      assert.strictEqual(onWebSocket({ listen, ...capability }).auth._tag, "CapabilityToken")
    })
  }
})

describe("tools for agents", () => {
  it("are served where something listens, and their settings go with them", () => {
    assert.match(why({ mcp: true }), /^--mcp requires a listener: /)
    assert.match(why({ mcp: true, remote: "https://example.com", environmentId: "e" }), /^--mcp requires a listener: /)
    assert.strictEqual(why({ listen: "ws://127.0.0.1:1", mcpIdleMs: 1 }), "--mcp-idle-ms requires --mcp")
    assert.strictEqual(why({ mcpIdleMs: 1 }), "--mcp-idle-ms requires --mcp")
    assert.strictEqual(onWebSocket({ mcp: true, mcpIdleMs: 1 })._tag, "WebSocket")
  })
})

describe("TLS", () => {
  it("has a certificate and a key; the address may then be written wss://", () => {
    assert.isUndefined(onWebSocket({}).options.tls)
    for (const listen of ["ws://127.0.0.1:1", "wss://127.0.0.1:1"]) {
      const { address, options } = onWebSocket({ listen, ...tls })
      assert.deepStrictEqual(address, { host: "127.0.0.1", port: 1 })
      assert.deepStrictEqual(options.tls, { certFile: "cert.pem", keyFile: "key.pem" })
    }
    assert.match(why({ listen: "ws://127.0.0.1:1", tlsCert: "c" }), /^`--tls-key` is missing/)
    assert.match(why({ listen: "ws://127.0.0.1:1", tlsKey: "k" }), /^`--tls-cert` is missing/)
  })

  it("is for ports alone", () => {
    assert.match(why(tls), /not stdio$/)
    assert.match(why({ listen: "unix:///x", ...tls }), /^TLS is for ws:/)
  })
})

describe("origins", () => {
  it("are a scheme and a host", () => {
    const allowOrigin = ["https://a.example", "http://localhost:3000", "vscode-webview://abc"]
    assert.deepStrictEqual(onWebSocket({ allowOrigin }).options.allowOrigin, allowOrigin)
  })

  for (const origin of ["*", "null", "a.example", "https://a.example/", "https://*.example", "https://"]) {
    it(`${origin} is none`, () => {
      assert.include(why({ allowOrigin: ["https://a.example", origin] }), JSON.stringify(origin))
    })
  }
})

describe("authentication", () => {
  const auth = (settings: Settings) => onWebSocket(settings).auth
  const refusal = (settings: Settings) => why({ listen: "ws://127.0.0.1:0", ...settings })

  it("is off by default", () => {
    assert.deepStrictEqual(auth({}), Auth.Nobody())
  })

  it("by a capability token, in a file or as a digest", () => {
    assert.deepStrictEqual(
      auth({ wsAuth: "capability-token", wsTokenFile: "token" }),
      Auth.CapabilityToken({ source: { file: "token" } })
    )
    assert.deepStrictEqual(auth(capability), Auth.CapabilityToken({ source: { sha256: hex } }))
    assert.deepStrictEqual(auth({ ...capability, wsTokenSha256: ` ${hex}\n` }), auth(capability))
  })

  it("by a signed bearer token, with rules that may be missing or blank", () => {
    const wsAuth = "signed-bearer-token"
    const rules = { secretFile: "secret", issuer: undefined, audience: undefined, maxClockSkewSeconds: undefined }
    assert.deepStrictEqual(auth({ wsAuth, wsSharedSecretFile: "secret" }), Auth.SignedBearerToken({ rules }))
    assert.deepStrictEqual(
      auth({ wsAuth, wsSharedSecretFile: "secret", wsIssuer: " i ", wsAudience: " ", wsMaxClockSkewSeconds: 0 }),
      Auth.SignedBearerToken({ rules: { ...rules, issuer: "i", maxClockSkewSeconds: 0 } })
    )
  })

  const alone = "websocket auth flags require `--ws-auth capability-token` or `--ws-auth signed-bearer-token`"
  const needsSigned =
    "`--ws-shared-secret-file`, `--ws-issuer`, `--ws-audience`, and `--ws-max-clock-skew-seconds` require `--ws-auth signed-bearer-token`"
  const needsCapability =
    "`--ws-token-file` and `--ws-token-sha256` require `--ws-auth capability-token`, not `signed-bearer-token`"
  const signedSettings: ReadonlyArray<Settings> = [
    { wsSharedSecretFile: "f" },
    { wsIssuer: "i" },
    { wsAudience: "a" },
    // The default, but given.
    { wsMaxClockSkewSeconds: 30 }
  ]
  const capabilitySettings: ReadonlyArray<Settings> = [{ wsTokenFile: "f" }, { wsTokenSha256: hex }]

  it("every flag needs the mode that it is for", () => {
    for (const settings of [...signedSettings, ...capabilitySettings]) {
      assert.strictEqual(refusal(settings), alone)
      // Whatever the listener is.
      assert.strictEqual(why(settings), alone)
    }
    for (const settings of signedSettings) assert.strictEqual(refusal({ ...capability, ...settings }), needsSigned)
    for (const settings of capabilitySettings) {
      assert.strictEqual(
        refusal({ wsAuth: "signed-bearer-token", wsSharedSecretFile: "s", ...settings }),
        needsCapability
      )
    }
  })

  it("every mode needs its flag", () => {
    assert.strictEqual(
      refusal({ wsAuth: "capability-token" }),
      "`--ws-token-file` or `--ws-token-sha256` is required when `--ws-auth capability-token` is set"
    )
    assert.strictEqual(
      refusal({ wsAuth: "signed-bearer-token" }),
      "`--ws-shared-secret-file` is required when `--ws-auth signed-bearer-token` is set"
    )
    assert.strictEqual(
      refusal({ ...capability, wsTokenFile: "f" }),
      "`--ws-token-file` and `--ws-token-sha256` are mutually exclusive"
    )
  })

  it("a digest has 64 hex digits; the message does not repeat it", () => {
    for (const wsTokenSha256 of ["", "x", hex.slice(1), `${hex}0`, `g${hex.slice(1)}`]) {
      assert.strictEqual(
        refusal({ ...capability, wsTokenSha256 }),
        "--ws-token-sha256 must be a 64-character hex SHA-256 digest"
      )
    }
  })

  it("is for WebSocket, on a port or a path, not for stdio", () => {
    assert.strictEqual(why(capability), "WebSocket auth requires a WebSocket listener, not stdio")
    assert.strictEqual(auth({ listen: "unix:///x", ...capability })._tag, "CapabilityToken")
  })
})

describe("the web console", () => {
  it("is on where only this machine can reach it, unless told otherwise", () => {
    for (const [settings, isOn] of [
      [{}, true],
      [{ listen: "unix:///run/x" }, true],
      [{ listen: "ws://192.0.2.1:1", insecure: true }, false],
      [{ listen: "ws://192.0.2.1:1", insecure: true, console: true }, true],
      [{ console: false }, false]
    ] as const) {
      assert.strictEqual(onWebSocket(settings).console !== undefined, isOn, JSON.stringify(settings))
    }
  })

  it("has an address of its own behind a proxy", () => {
    assert.strictEqual(
      onWebSocket({ publicUrl: "https://a.example/b" }).console?.publicUrl?.href,
      "https://a.example/b"
    )
    for (const publicUrl of ["a.example", "ws://a.example", "https://a.example/?q", "https://u:p@a.example", ""]) {
      assert.strictEqual(
        why({ listen: "ws://127.0.0.1:0", publicUrl }),
        `--public-url: ${JSON.stringify(publicUrl)} is not an address such as https://example.com or https://example.com/tools`
      )
    }
    assert.match(
      why({ listen: "ws://127.0.0.1:0", console: false, publicUrl: "https://a.example" }),
      /pass --console true$/
    )
  })

  it("needs a listener", () => {
    assert.match(why({ console: true }), /^--console true requires a listener/)
    assert.match(why({ publicUrl: "https://a.example" }), /^--public-url requires a listener/)
    assert.strictEqual(configOf({ console: false })._tag, "Stdio")
  })
})
