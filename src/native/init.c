// init CWD PWD FILE ARG0 [ARG...]: the first process of a PID namespace. Runs FILE in CWD, with PWD for the variable of
// that name (none if it is empty), in a session of its own, with the terminal that is descriptor 0, if it is one, as its
// terminal; reaps whatever is left to it; and ends with FILE, whereupon the kernel ends everything else in the namespace.
// What became of FILE is written to descriptor 3, a line each: "started", or "failed ERRNO"; then "ended WAITSTATUS".
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { report = 3 };

// A file that is neither a program nor a script that names its interpreter is the shell's.
static void run_by_shell(const char *file, int argc, char **argv) {
  char **shell = calloc((size_t)argc + 2, sizeof *shell);
  if (shell == NULL) return;
  shell[0] = "/bin/sh";
  shell[1] = (char *)file;
  for (int i = 1; i < argc; i++) shell[i + 1] = argv[i];
  execv(shell[0], shell);
}

int main(int argc, char **argv) {
  int outcome[2];
  if (argc < 5) {
    fprintf(stderr, "usage: init CWD PWD FILE ARG0 [ARG...]\n");
    return 2;
  }
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
    // Whoever made the namespace has set it.
    if (*argv[2] == '\0') unsetenv("PWD");
    else setenv("PWD", argv[2], 1);
    if (chdir(argv[1]) == 0) {
      execv(argv[3], argv + 4);
      if (errno == ENOEXEC) run_by_shell(argv[3], argc - 4, argv + 4);
    }
    int error = errno;
    if (write(outcome[1], &error, sizeof error) == -1) return 126;
    return 127;
  }
  // The descriptors are the child's: what it closes must be closed.
  close(outcome[1]);
  for (int fd = 0; fd < 3; fd++) close(fd);
  int error;
  if (read(outcome[0], &error, sizeof error) == sizeof error) {
    dprintf(report, "failed %d\n", error);
    return 1;
  }
  dprintf(report, "started\n");
  for (;;) {
    int status;
    pid_t ended = wait(&status);
    if (ended == child) {
      dprintf(report, "ended %d\n", status);
      return 0;
    }
    if (ended == -1 && errno != EINTR) return 1;
  }
}
