// argv0 FILE ARG0 [ARG...]: runs FILE with ARG0 as its argv[0]. node-pty always passes the program's own name there.
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: argv0 FILE ARG0 [ARG...]\n");
    return 2;
  }
  execvp(argv[1], argv + 2);
  perror(argv[1]);
  return 127;
}
