// look PATH...: looks at each path, and ends. A process of its own: a file system that does not answer lets whoever asks
// wait for ever. What it finds is of no interest, only that there is an answer.
#include <sys/stat.h>

int main(int argc, char **argv) {
  struct stat found;
  int count = 0;
  for (int i = 1; i < argc; i++) {
    if (stat(argv[i], &found) == 0) count++;
  }
  return count == argc - 1 ? 0 : 1;
}
