{
  "targets": [
    {
      "target_name": "posix",
      "sources": ["posix.c", "delegated.c"],
      "defines": ["_GNU_SOURCE"]
    },
    {
      # Apart: few servers need it.
      "target_name": "host",
      "sources": ["host.c"],
      "defines": ["_GNU_SOURCE"]
    },
    {
      "target_name": "init",
      "type": "executable",
      "sources": ["init.c"],
      "defines": ["_GNU_SOURCE"],
      # It also runs where no shared library is in sight.
      "conditions": [["OS=='linux'", { "ldflags": ["-static"] }]]
    },
    {
      "target_name": "guard",
      "type": "executable",
      "sources": ["guard.c"],
      "defines": ["_GNU_SOURCE"],
      "conditions": [["OS=='linux'", { "ldflags": ["-static"] }]]
    },
    {
      "target_name": "look",
      "type": "executable",
      "sources": ["look.c"],
      "conditions": [["OS=='linux'", { "ldflags": ["-static"] }]]
    }
  ]
}
