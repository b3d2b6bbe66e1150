{
  "targets": [
    {
      "target_name": "posix",
      "sources": ["posix.c"],
      "defines": ["_GNU_SOURCE"]
    },
    {
      "target_name": "argv0",
      "type": "executable",
      "sources": ["argv0.c"]
    }
  ]
}
