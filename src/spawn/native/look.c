// look PATH...: probes each path, and ends. It is a process of its own, because a file system that does not answer
// blocks its caller forever. Only that there is an answer matters, not what it is.
#include <sys/stat.h>

int main(int argc, char **argv) {
  struct stat found;
  int count = 0;
  for (int i = 1; i < argc; i++) {
    if (stat(argv[i], &found) == 0) count++;
  }
  return count == argc - 1 ? 0 : 1;
}
