{
  "targets": [
    {
      "target_name": "posix",
      "sources": ["posix.c"],
      "defines": ["_GNU_SOURCE"]
    }
  ]
}
