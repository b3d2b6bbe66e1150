// The limits of one program that the system enforces for each process: resource limits and the priority. Used by
// posix.c and init.c, which set them in the child before it executes its program.
//
// As text they are words of a letter and a number, with the letters of ulimit(1) where it has them:
//   n64   open files            f1000  size of a file that it writes, in bytes   c0  core dump, in bytes
//   t10   CPU time, in seconds  v1000  address space, in bytes                   N5  priority, from 0 to 19
#ifndef EXEC_SERVER_LIMITS_H
#define EXEC_SERVER_LIMITS_H
#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>

enum { max_limits = 8 };

typedef struct {
  int count;
  struct {
    int resource;
    rlim_t value;
  } all[max_limits];
  // -1 leaves the priority as it is.
  int nice;
} limits;

static int resource_of(char letter) {
  switch (letter) {
    case 'n':
      return RLIMIT_NOFILE;
    case 'f':
      return RLIMIT_FSIZE;
    case 'c':
      return RLIMIT_CORE;
    case 't':
      return RLIMIT_CPU;
    case 'v':
      return RLIMIT_AS;
    default:
      return -1;
  }
}

// Reads limits from a text; NULL has none. Returns an error number.
static int read_limits(const char *text, limits *to) {
  to->count = 0;
  to->nice = -1;
  while (text != NULL && *text != '\0') {
    char letter = *text, *end;
    unsigned long long value = strtoull(text + 1, &end, 10);
    if (end == text + 1 || (*end != ' ' && *end != '\0')) return EINVAL;
    text = *end == ' ' ? end + 1 : end;
    if (letter == 'N') {
      to->nice = (int)value;
      continue;
    }
    if (resource_of(letter) == -1 || to->count == max_limits) return EINVAL;
    to->all[to->count].resource = resource_of(letter);
    to->all[to->count++].value = (rlim_t)value;
  }
  return 0;
}

// Sets the limits of the calling process, soft and hard. System calls only: the caller may share the server's memory.
// Returns an error number.
static int set_limits(const limits *of) {
  for (int i = 0; i < of->count; i++) {
    rlim_t value = of->all[i].value;
    struct rlimit limit = {value, value};
    // At the soft limit of CPU time the kernel sends SIGXCPU, at the hard one SIGKILL: leave a second between them.
    if (of->all[i].resource == RLIMIT_CPU) {
      struct rlimit inherited;
      if (getrlimit(RLIMIT_CPU, &inherited) == -1) return errno;
      if (inherited.rlim_max == RLIM_INFINITY || inherited.rlim_max > value) limit.rlim_max = value + 1;
    }
    if (setrlimit(of->all[i].resource, &limit) == -1) return errno;
  }
  if (of->nice >= 0 && setpriority(PRIO_PROCESS, 0, of->nice) == -1) return errno;
  return 0;
}
#endif
