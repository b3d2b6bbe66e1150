// init CWD FILE ARG0 [ARG...]: the first process of a PID namespace. Runs FILE in CWD, in a new session. If descriptor
// 0 is a terminal, it becomes the controlling terminal. Reaps orphans, and exits when FILE ends: the kernel then kills
// everything else in the namespace.
// FILE gets the variables whose names begin with "+", without the "+". Under their own names some of them would affect
// the program that makes the namespace, outside of it. Descriptors above 3 are closed: they lead out of the namespace.
// The variable LIMITS, if there is one, has limits for FILE; see limits.h. This process and the one outside do not have
// them: they need descriptors of their own.
// Reports on descriptor 3, one line each: "started" or "failed ERRNO"; then "ended WAITSTATUS KILOBYTES", with the most
// memory of one process that was waited for.
// Without CAP_SYS_PTRACE nothing in the namespace can trace this process or open its descriptors through /proc/1/fd, so
// the reports cannot be forged.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "limits.h"

enum { report = 3, max_descriptors = 1024 };

// Runs a script without "#!" by the shell, as execvp(3) does.
static void run_by_shell(const char *file, int argc, char **argv) {
  char **shell = calloc((size_t)argc + 2, sizeof *shell);
  if (shell == NULL) return;
  shell[0] = "/bin/sh";
  shell[1] = (char *)file;
  for (int i = 1; i < argc; i++) shell[i + 1] = argv[i];
  execv(shell[0], shell);
}

static void set_environment(void) {
  char **kept = environ;
  for (char **variable = environ; *variable != NULL; variable++) {
    if (**variable == '+') *kept++ = *variable + 1;
  }
  *kept = NULL;
}

// Why the program was not started. `is_of_cwd`: it is about the working directory.
typedef struct {
  int error, is_of_cwd;
} fault;

int main(int argc, char **argv) {
  int outcome[2];
  if (argc < 4) {
    fprintf(stderr, "usage: init CWD FILE ARG0 [ARG...]\n");
    return 2;
  }
  if (prctl(PR_SET_DUMPABLE, 0) == -1) {
    dprintf(report, "failed %d\n", errno);
    return 1;
  }
  limits limited;
  int refused = read_limits(getenv("LIMITS"), &limited);
  if (refused != 0) {
    dprintf(report, "failed %d\n", refused);
    return 1;
  }
  set_environment();
  for (int fd = report + 1; fd < max_descriptors; fd++) close(fd);
  fcntl(report, F_SETFD, FD_CLOEXEC);
  if (pipe(outcome) == -1) {
    dprintf(report, "failed %d\n", errno);
    return 1;
  }
  fcntl(outcome[1], F_SETFD, FD_CLOEXEC);
  pid_t child = fork();
  if (child == -1) {
    dprintf(report, "failed %d\n", errno);
    return 1;
  }
  if (child == 0) {
    close(outcome[0]);
    setsid();
    if (isatty(0)) ioctl(0, TIOCSCTTY, 0);
    fault found = {.error = set_limits(&limited)};
    if (found.error == 0 && chdir(argv[1]) == -1) {
      found = (fault){.error = errno, .is_of_cwd = 1};
    } else if (found.error == 0) {
      execv(argv[2], argv + 3);
      if (errno == ENOEXEC) run_by_shell(argv[2], argc - 3, argv + 3);
      found.error = errno;
    }
    if (write(outcome[1], &found, sizeof found) == -1) return 126;
    return 127;
  }
  // Leaves the descriptors to the child alone: when it closes one, the other end must see that.
  close(outcome[1]);
  for (int fd = 0; fd < 3; fd++) close(fd);
  fault found;
  if (read(outcome[0], &found, sizeof found) == sizeof found) {
    dprintf(report, "%s %d\n", found.is_of_cwd ? "misplaced" : "failed", found.error);
    return 1;
  }
  dprintf(report, "started\n");
  long most_kb = 0;
  for (;;) {
    int status;
    struct rusage usage = {0};
    pid_t ended = wait4(-1, &status, 0, &usage);
    if (usage.ru_maxrss > most_kb) most_kb = usage.ru_maxrss;
    if (ended == child) {
      dprintf(report, "ended %d %ld\n", status, most_kb);
      return 0;
    }
    if (ended == -1 && errno != EINTR) return 1;
  }
}
