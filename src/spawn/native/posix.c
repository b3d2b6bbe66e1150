// System calls that a correct spawner needs and Node.js does not offer.
//
// pipe():                makes a pipe. Node's own "pipe" stdio is a socket pair: a child that opens /dev/stdin,
//                        /dev/stdout or /dev/stderr gets ENXIO for a socket.
// setPipeSize(fd, bytes): sets the capacity of a pipe.
// spawn(...):            starts a program at a cost that does not grow with the memory of the server, reports why a
//                        start failed, can attach a terminal, and registers the child with the guard before it runs.
//                        Reports every signal: Node.js has no names for real-time signals and reports exit code 0.
// adopt(pid, f):         reports the end of a child that the program executed before in this process has started.
// setNonBlocking(fd):    makes reads and writes return instead of waiting.
// guardSocket(), tell(): make the socket of the guard, and send a packet to it.
// socketOwner(...):      finds the owner of the other end of a TCP connection within this machine.
// peerCredentials(fd):   finds the process that connected a unix socket.
// setUpTerminal(fd):     makes erase work on characters, not bytes, and sets close-on-exec.
// processTable():        reads all processes in one call. Reading a thousand files from JavaScript blocks the event
//                        loop four times as long.
// eof(fd):               returns the character that ends the input of a terminal.
// rawOutput(fd):         turns off output processing of a terminal. Node's raw mode still translates newlines.
// setRoot(path):         changes the root directory of this process and all its threads, and drops all capabilities of
//                        the calling thread and of those that it starts.
// onWritable(fd, f):     waits until a terminal accepts input again. libuv's own terminal streams block the event loop
//                        while a child does not read.
// keepFreed(bytes):      sets how much freed memory each heap keeps at its top.
// eraseVariable(name):   overwrites the value of a variable in the initial environment, which /proc/PID/environ shows.
// owns(pid):             returns whether a child was started here and its status is not yet known.
// hasChanged(fd):        returns whether the mount table has changed since the last call.
// lock(fd, isExclusive): takes an advisory lock of flock(2) without waiting.
// nextData(fd, from):    finds the end of a hole in a file. Reading through one of terabytes takes hours.
// delegated(path):       returns whether systemd has left a cgroup to its processes; see delegated.c.
// exitNow(code):         ends the process at once. exit(3) joins libuv's threads, and one of them may hang.
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#ifdef __linux__
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sched.h>
#include <linux/sock_diag.h>
#include <sys/syscall.h>
#endif
#include "limits.h"
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <node_api.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include <uv.h>

typedef struct state state;
typedef struct job job;

// A descriptor that is polled.
typedef struct watch {
  uv_poll_t poll;
  state *owner;
  napi_ref callback;
  int64_t token;
  // A duplicate: libuv polls a descriptor by one handle only.
  int fd;
  struct watch *next;
} watch;

// A child that has not been reaped.
typedef struct child {
  pid_t pid;
  int status;
  // The most memory that this process had used when the child executed its program, in kilobytes. The kernel counts it
  // as the child's, which shared it until then.
  long shared_kb;
  struct rusage usage;
  napi_ref callback;
  struct child *next;
} child;

// The state of one environment: the main thread, or a worker.
struct state {
  napi_env env;
  uv_signal_t reaper;
  watch *watches;
  child *children;
  // Starts on other threads, and those of them that have finished.
  job *jobs, *finished;
  uv_async_t job_done;
  int64_t next_token;
  napi_async_cleanup_hook_handle cleanup;
};

static napi_value number(napi_env env, int64_t value) {
  napi_value result;
  napi_create_int64(env, value, &result);
  return result;
}

static napi_value pair(napi_env env, int64_t first, int64_t second) {
  napi_value result;
  napi_create_array_with_length(env, 2, &result);
  napi_set_element(env, result, 0, number(env, first));
  napi_set_element(env, result, 1, number(env, second));
  return result;
}

static state *state_of(napi_env env) {
  void *found = NULL;
  napi_get_instance_data(env, &found);
  return found;
}

static void call(napi_env env, napi_ref reference, size_t count, const napi_value *arguments) {
  napi_value callback, global;
  napi_get_reference_value(env, reference, &callback);
  napi_get_global(env, &global);
  napi_delete_reference(env, reference);
  napi_make_callback(env, NULL, global, callback, count, arguments, NULL);
}

// () => [readEnd, writeEnd] | -errno
static napi_value make_pipe(napi_env env, napi_callback_info info) {
  int fds[2];
#ifdef __linux__
  if (pipe2(fds, O_CLOEXEC) == -1) return number(env, -errno);
#else
  if (pipe(fds) == -1) return number(env, -errno);
  fcntl(fds[0], F_SETFD, FD_CLOEXEC);
  fcntl(fds[1], F_SETFD, FD_CLOEXEC);
#endif
  return pair(env, fds[0], fds[1]);
}

// (fd, bytes) => bytes | -errno
static napi_value set_pipe_size(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value arguments[2];
  int32_t fd = -1, bytes = 0;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  if (count == 2) {
    napi_get_value_int32(env, arguments[0], &fd);
    napi_get_value_int32(env, arguments[1], &bytes);
  }
#ifdef F_SETPIPE_SZ
  int size = fcntl(fd, F_SETPIPE_SZ, bytes);
  return number(env, size == -1 ? -errno : size);
#else
  return number(env, -ENOSYS);
#endif
}

static int32_t descriptor(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  int32_t fd = -1;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  if (count == 1) napi_get_value_int32(env, argument, &fd);
  return fd;
}

// (fd, buffer, offset) => bytes | 0 | -errno. Reads until the buffer is full or nothing is left; 0 at the end of the
// input.
static napi_value read_available(napi_env env, napi_callback_info info) {
  size_t count = 3, size = 0, total = 0;
  napi_value arguments[3];
  int32_t fd = -1;
  uint32_t offset = 0;
  void *bytes = NULL;
  ssize_t got;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  if (count != 3 || napi_get_value_int32(env, arguments[0], &fd) != napi_ok ||
      napi_get_buffer_info(env, arguments[1], &bytes, &size) != napi_ok ||
      napi_get_value_uint32(env, arguments[2], &offset) != napi_ok || offset >= size)
    return number(env, -EINVAL);
  size -= offset;
  do {
    got = read(fd, (char *)bytes + offset + total, size - total);
    if (got > 0) total += (size_t)got;
  } while (total < size && (got > 0 || (got == -1 && errno == EINTR)));
  return number(env, total > 0 ? (int64_t)total : got == -1 ? -errno : 0);
}

// (fd) => 0 | -errno
static napi_value set_up_terminal(napi_env env, napi_callback_info info) {
  int32_t fd = descriptor(env, info);
  if (fcntl(fd, F_SETFD, FD_CLOEXEC) == -1) return number(env, -errno);
#ifdef IUTF8
  struct termios mode;
  if (tcgetattr(fd, &mode) == -1) return number(env, -errno);
  mode.c_iflag |= IUTF8;
  if (tcsetattr(fd, TCSANOW, &mode) == -1) return number(env, -errno);
#endif
  return number(env, 0);
}

// (fd) => character | -errno
static napi_value end_of_input(napi_env env, napi_callback_info info) {
  struct termios mode;
  if (tcgetattr(descriptor(env, info), &mode) == -1) return number(env, -errno);
  return number(env, mode.c_cc[VEOF]);
}

// (fd) => 0 | -errno
static napi_value raw_output(napi_env env, napi_callback_info info) {
  int32_t fd = descriptor(env, info);
  struct termios mode;
  if (tcgetattr(fd, &mode) == -1) return number(env, -errno);
  mode.c_oflag &= ~(tcflag_t)OPOST;
  if (tcsetattr(fd, TCSANOW, &mode) == -1) return number(env, -errno);
  return number(env, 0);
}

// (path) => 0 | -errno
static napi_value set_root(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  char path[4096] = "";
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  if (count == 1) napi_get_value_string_utf8(env, argument, path, sizeof path, NULL);
  if (chroot(path) == -1 || chdir("/") == -1) return number(env, -errno);
#ifdef __linux__
  // With the capability to chroot, the process could leave the new root again.
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct none[2] = {{0}};
  if (syscall(SYS_capset, &header, none) == -1) return number(env, -errno);
#endif
  return number(env, 0);
}

static void free_watch(uv_handle_t *handle) { free(handle->data); }

// Ends a watch without calling its callback.
static void end(watch *ended) {
  for (watch **link = &ended->owner->watches; *link != NULL; link = &(*link)->next) {
    if (*link == ended) {
      *link = ended->next;
      break;
    }
  }
  uv_poll_stop(&ended->poll);
  close(ended->fd);
  uv_close((uv_handle_t *)&ended->poll, free_watch);
}

// The terminal is writable, hung up or broken; the caller's next write tells which.
static void ready(uv_poll_t *poll, int status, int events) {
  watch *found = poll->data;
  napi_env env = found->owner->env;
  napi_ref callback = found->callback;
  napi_handle_scope scope;
  napi_open_handle_scope(env, &scope);
  end(found);
  call(env, callback, 0, NULL);
  napi_close_handle_scope(env, scope);
}

// (fd, f) => token | -errno. Calls f() once, in a later turn of the event loop.
static napi_value on_writable(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value arguments[2];
  int32_t fd = -1;
  uv_loop_t *loop;
  state *own = state_of(env);
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  if (count != 2 || napi_get_value_int32(env, arguments[0], &fd) != napi_ok) return number(env, -EINVAL);
  int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (copy == -1) return number(env, -errno);
  watch *created = calloc(1, sizeof *created);
  int error = created == NULL ? -ENOMEM : napi_get_uv_event_loop(env, &loop) != napi_ok ? -EINVAL : 0;
  if (error == 0) error = uv_poll_init(loop, &created->poll, copy);
  if (error != 0) {
    close(copy);
    free(created);
    return number(env, error);
  }
  created->poll.data = created;
  created->owner = own;
  created->token = own->next_token++;
  created->fd = copy;
  created->next = own->watches;
  own->watches = created;
  napi_create_reference(env, arguments[1], 1, &created->callback);
  uv_poll_start(&created->poll, UV_WRITABLE, ready);
  return number(env, created->token);
}

// (token) => 0. Has no effect after f was called.
static napi_value cancel(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  int64_t token = 0;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  if (count == 1) napi_get_value_int64(env, argument, &token);
  for (watch *found = state_of(env)->watches; found != NULL; found = found->next) {
    if (found->token == token) {
      napi_delete_reference(env, found->callback);
      end(found);
      break;
    }
  }
  return number(env, 0);
}

// Removes a child that has ended from the list and returns it; NULL if it still runs.
static child *reap(child **link) {
  child *found = *link;
  pid_t result;
  do result = wait4(found->pid, &found->status, WNOHANG, &found->usage);
  while (result == -1 && errno == EINTR);
  if (result == 0) return NULL;
  // Other code of this process reaped the child. Its status is lost.
  if (result == -1) found->status = -1;
  *link = found->next;
  return found;
}

// Finds an ended child of this process, if it is in our list, without a system call for each running child.
static child **ended_child(state *own) {
  siginfo_t ended = {0};
  if (waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT) == -1 || ended.si_pid == 0) return NULL;
  for (child **link = &own->children; *link != NULL; link = &(*link)->next) {
    if ((*link)->pid == ended.si_pid) return link;
  }
  return NULL;
}

static int64_t microseconds(struct timeval time) { return (int64_t)time.tv_sec * 1000000 + time.tv_usec; }

// The most memory that this process has used so far, in kilobytes.
static long peak_kb(void) {
  struct rusage usage;
  return getrusage(RUSAGE_SELF, &usage) == -1 ? 0 : usage.ru_maxrss;
}

static void on_child(uv_signal_t *reaper, int signum) {
  state *own = reaper->data;
  napi_env env = own->env;
  child *all = NULL, **last = &all;
  for (child **link = ended_child(own); link != NULL; link = ended_child(own)) {
    child *found = reap(link);
    if (found == NULL) break;
    *last = found;
    last = &found->next;
  }
  // A foreign child may hide ours in the kernel's list, or a status may be lost: check each child.
  siginfo_t other = {0};
  int unsure = all == NULL || waitid(P_ALL, 0, &other, WEXITED | WNOHANG | WNOWAIT) == -1 || other.si_pid != 0;
  for (child **link = &own->children; unsure && *link != NULL;) {
    child *found = reap(link);
    if (found == NULL) link = &(*link)->next;
    else {
      *last = found;
      last = &found->next;
    }
  }
  *last = NULL;
  if (own->children == NULL) uv_signal_stop(&own->reaper);
  napi_handle_scope scope;
  napi_open_handle_scope(env, &scope);
  while (all != NULL) {
    child *told = all;
    int status = told->status;
    int known = status != -1, killed = known && WIFSIGNALED(status);
    const struct rusage *usage = &told->usage;
    napi_value arguments[] = {
        number(env, known && !killed ? WEXITSTATUS(status) : -1),
        number(env, killed ? WTERMSIG(status) : 0),
        number(env, known ? microseconds(usage->ru_utime) : -1),
        number(env, known ? microseconds(usage->ru_stime) : -1),
        // The sums that the kernel keeps for each processor make the figures inexact.
        number(env, usage->ru_maxrss > told->shared_kb + told->shared_kb / 16 ? usage->ru_maxrss : 0),
        number(env, usage->ru_majflt),
        number(env, usage->ru_inblock),
        number(env, usage->ru_oublock),
    };
    all = told->next;
    call(env, told->callback, sizeof arguments / sizeof *arguments, arguments);
    free(told);
  }
  napi_close_handle_scope(env, scope);
}

// The most descriptors that a child can get.
enum { max_descriptors = 512 };

static char *text(napi_env env, napi_value value) {
  size_t length;
  if (napi_get_value_string_utf8(env, value, NULL, 0, &length) != napi_ok) return NULL;
  char *result = malloc(length + 1);
  if (result != NULL) napi_get_value_string_utf8(env, value, result, length + 1, &length);
  return result;
}

static void free_texts(char **texts) {
  if (texts == NULL) return;
  for (char **each = texts; *each != NULL; each++) free(*each);
  free(texts);
}

static char **texts(napi_env env, napi_value array) {
  uint32_t length;
  if (napi_get_array_length(env, array, &length) != napi_ok) return NULL;
  char **result = calloc((size_t)length + 1, sizeof *result);
  for (uint32_t i = 0; result != NULL && i < length; i++) {
    napi_value element;
    napi_get_element(env, array, i, &element);
    result[i] = text(env, element);
    if (result[i] == NULL) {
      free_texts(result);
      return NULL;
    }
  }
  return result;
}

// The arguments of a start, and its result.
typedef struct {
  char *cwd, *terminal;
  // The first executable one is started. A single one is not checked first.
  char **files;
  char **argv, **envp;
  int stdio[max_descriptors];
  int length;
  // The guard's socket, or -1; and a descriptor that the guard keeps open for the child, or -1.
  int guard, held;
  limits limits;
  // The folder of the cgroup that the child starts in, or -1.
  int cgroup;
  // See `child`.
  long shared_kb;
  // Duplicates in stdio, above the numbers that the child gets. Closed after the start.
  int moved[2 * max_descriptors + 2];
  int moved_count;
  pid_t pid;
  int error;
  // Whether the error is about `cwd`.
  int is_of_cwd;
  // The index of the file that was found. Written by the child, which shares our memory.
  volatile int found;
  // The child until it executes its program, so that another thread can kill it; otherwise 0. Guarded by jobs_lock,
  // but set by the child without it.
  _Atomic pid_t starting;
  // Whether nobody waits for the start any more. Set before `starting` is read, and read after it is set.
  atomic_bool abandoned;
} plan;

static void free_plan(plan *of) {
  for (int i = 0; i < of->moved_count; i++) close(of->moved[i]);
  free_texts(of->files);
  free(of->cwd);
  free(of->terminal);
  free_texts(of->argv);
  free_texts(of->envp);
}

// Moves descriptors out of the range that the child's own will overwrite.
static int make_way(plan *of) {
  for (int fd = 0; fd < of->length; fd++) {
    if (of->stdio[fd] < 0 || of->stdio[fd] >= of->length) continue;
    int higher = fcntl(of->stdio[fd], F_DUPFD_CLOEXEC, of->length);
    if (higher == -1) return errno;
    of->moved[of->moved_count++] = of->stdio[fd] = higher;
  }
  return 0;
}

// Sends one packet to the guard. `flags` says whether to wait while the socket is full.
static int tell_guard(int guard, const char *line, size_t length, int held, int flags) {
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
  } control = {{0}};
  struct iovec data = {(char *)line, length};
  struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
  if (held != -1) {
    message.msg_control = control.space;
    message.msg_controllen = sizeof control.space;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &held, sizeof held);
  }
  ssize_t sent;
  do sent = sendmsg(guard, &message, MSG_NOSIGNAL | flags);
  while (sent == -1 && errno == EINTR);
  return sent == -1 ? errno : 0;
}

// Sends "+ PID 0" or "- PID 0". Avoids stdio(3), which a child that shares our memory must not use.
static void tell_of_itself(const plan *of, char operation, int held) {
  if (of->guard == -1) return;
  char line[24], *first = line + sizeof line;
  *--first = '0';
  *--first = ' ';
  for (pid_t rest = getpid(); rest > 0; rest /= 10) *--first = (char)('0' + rest % 10);
  *--first = ' ';
  *--first = operation;
  tell_guard(of->guard, first, (size_t)(line + sizeof line - first), held, 0);
}

// Restores the default action of every signal, by system call: glibc's sigaction() refuses signals 32 and 33.
static void reset_signals(void) {
#ifdef __linux__
  // The kernel's struct with SIG_DFL, no flags and an empty mask. Large enough for every architecture.
  const char by_default[64] = {0};
  for (int signum = 1; signum <= 64; signum++) syscall(SYS_rt_sigaction, signum, by_default, NULL, (size_t)8);
#else
  struct sigaction by_default = {.sa_handler = SIG_DFL};
  for (int signum = 1; signum < NSIG; signum++) sigaction(signum, &by_default, NULL);
#endif
}

// Finds the first executable file, if there are several. Returns an error number if there is none.
static int search(plan *of) {
  int reason = ENOENT;
  if (of->files[0] != NULL && of->files[1] == NULL) return 0;
  for (int i = 0; of->files[i] != NULL; i++) {
    struct stat found;
    int is_found = stat(of->files[i], &found) == 0;
    if (is_found && S_ISREG(found.st_mode) && access(of->files[i], X_OK) == 0) {
      of->found = i;
      return 0;
    }
    if (is_found || errno == EACCES) reason = EACCES;
  }
  return reason;
}

// Moves the calling process to a cgroup. Slower than to be made in it: the kernel waits for all processors.
static int enter(int cgroup) {
  int fd = openat(cgroup, "cgroup.procs", O_WRONLY | O_CLOEXEC);
  if (fd == -1) return errno;
  int error = write(fd, "0", 1) == 1 ? 0 : errno;
  close(fd);
  return error;
}

// Executes the program in a new session, with default signal handling and only the given descriptors. Runs in memory
// shared with the server: system calls only. Returns an error number, or does not return.
static int become(plan *of) {
  sigset_t none;
  if (of->cgroup != -1) {
    int error = enter(of->cgroup);
    if (error != 0) return error;
  }
  if (setsid() == -1) return errno;
  // First of all: from here on the guard ends the child if the server dies.
  tell_of_itself(of, '+', of->held);
  if (of->terminal != NULL) {
    // The first terminal that a session leader opens becomes the controlling terminal.
    int fd = open(of->terminal, O_RDWR);
    if (fd == -1) return errno;
    for (int i = 0; i < 3; i++) {
      if (fd != i && dup2(fd, i) == -1) return errno;
    }
    if (fd > 2) close(fd);
  } else {
    for (int i = 0; i < of->length; i++) {
      int fd = of->stdio[i] == -1 ? open("/dev/null", O_RDWR) : of->stdio[i];
      if (fd == -1 || (fd != i && dup2(fd, i) == -1)) return errno;
      if (of->stdio[i] == -1 && fd != i) close(fd);
    }
  }
#ifdef SYS_close_range
  // Now, not on exec: if the program's file system hangs, the child must not keep the server's sockets open. The
  // guard's socket is still needed.
  unsigned first = (unsigned)of->length;
  if (of->guard >= of->length) {
    if (of->guard > of->length) syscall(SYS_close_range, first, (unsigned)of->guard - 1, 0);
    first = (unsigned)of->guard + 1;
  }
  syscall(SYS_close_range, first, ~0U, 0);
#endif
  int error = search(of);
  if (error != 0) return error;
  if (chdir(of->cwd) == -1) {
    of->is_of_cwd = 1;
    return errno;
  }
  reset_signals();
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  error = set_limits(&of->limits);
  if (error != 0) return error;
  execve(of->files[of->found], of->argv, of->envp);
  return errno;
}

// Guards `owner` of all jobs, `finished` of all states and `starting` of all plans.
static pthread_mutex_t jobs_lock = PTHREAD_MUTEX_INITIALIZER;

// The child's side of `start`. Never returns: the child shares the stack of the server.
static _Noreturn __attribute__((noinline)) void be_child(plan *of) {
  of->starting = getpid();
  if (of->abandoned) {
    of->error = ECANCELED;
    _exit(127);
  }
  of->error = become(of);
  tell_of_itself(of, '-', -1);
  _exit(127);
}

#if defined(CLONE_INTO_CGROUP) && (defined(__x86_64__) || defined(__aarch64__))
// Like vfork(2), with the child in the cgroup from the start. Runs `be_child` in the child. Returns a pid or -errno. The
// system call is made here and not by syscall(2): the child would return from it, and overwrite the frame that the
// parent is to return to.
static __attribute__((noinline)) long vfork_into(plan *of) {
  struct clone_args arguments = {
      .flags = CLONE_VM | CLONE_VFORK | CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = (uint64_t)of->cgroup};
  // No function may be called between the system call and the test of its result.
#ifdef __x86_64__
  long result = SYS_clone3;
  __asm__ volatile("syscall"
                   : "+a"(result)
                   : "D"(&arguments), "S"(sizeof arguments)
                   : "rcx", "r11", "memory");
#else
  register long result __asm__("x0") = (long)&arguments;
  register long size __asm__("x1") = (long)sizeof arguments;
  register long call __asm__("x8") = SYS_clone3;
  __asm__ volatile("svc #0" : "+r"(result) : "r"(size), "r"(call) : "memory");
#endif
  if (result == 0) {
    of->cgroup = -1;
    be_child(of);
  }
  return result;
}
#endif

// Starts the child and waits until it executes its program. vfork(2) copies no memory, so its cost does not depend on
// the size of the server. posix_spawn(3) is as cheap but cannot run our code in the child.
static void start(plan *of) {
  sigset_t all, before;
  of->error = make_way(of);
  if (of->error != 0) return;
  // No signal handler of the server may run in the child.
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  of->pid = -1;
#if defined(CLONE_INTO_CGROUP) && (defined(__x86_64__) || defined(__aarch64__))
  // Where the kernel or a filter of system calls refuses it, the child moves itself.
  if (of->cgroup != -1) of->pid = (pid_t)vfork_into(of);
#endif
  if (of->pid < 0) {
    of->pid = vfork();
    if (of->pid == 0) be_child(of);
    if (of->pid == -1) of->error = errno;
  }
  of->shared_kb = peak_kb();
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_mutex_lock(&jobs_lock);
  of->starting = 0;
  pthread_mutex_unlock(&jobs_lock);
  // The program was never executed: reap the child here, without a callback.
  if (of->pid != -1 && of->error != 0) {
    while (waitpid(of->pid, NULL, 0) == -1 && errno == EINTR) {
    }
  }
}

// What JavaScript gets: the pid, or -errno, of which the kernel's are at most 4095; -errno - 4096 if it is about `cwd`.
static int result_of(const plan *of) {
  if (of->error == 0) return of->pid;
  return of->is_of_cwd ? -of->error - 4096 : -of->error;
}

// A start on its own thread: a file system that does not answer must not block the event loop.
struct job {
  plan plan;
  // NULL once the environment has ended.
  state *owner;
  child *created;
  napi_ref started;
  int64_t token;
  struct job *next_finished, *next;
};

// Adds a child to the environment's list, until it is reaped.
static void adopt(state *own, child *created, pid_t pid, long shared_kb) {
  created->pid = pid;
  created->shared_kb = shared_kb;
  created->next = own->children;
  own->children = created;
}

static void free_job(job *done) {
  free_plan(&done->plan);
  free(done->created);
  free(done);
}

// Removes a finished job from the environment's list.
static void forget_job(state *own, const job *done) {
  job **link = &own->jobs;
  while (*link != done) link = &(*link)->next;
  *link = done->next;
}

static void *run_job(void *argument) {
  job *own = argument;
  start(&own->plan);
  pthread_mutex_lock(&jobs_lock);
  state *owner = own->owner;
  if (owner != NULL) {
    own->next_finished = owner->finished;
    owner->finished = own;
    uv_async_send(&owner->job_done);
  }
  pthread_mutex_unlock(&jobs_lock);
  if (owner == NULL) {
    if (own->plan.error == 0) kill(-own->plan.pid, SIGKILL);
    free_job(own);
  }
  return NULL;
}

static void on_job_done(uv_async_t *async) {
  state *own = async->data;
  napi_env env = own->env;
  pthread_mutex_lock(&jobs_lock);
  job *finished = own->finished;
  own->finished = NULL;
  pthread_mutex_unlock(&jobs_lock);
  napi_handle_scope scope;
  napi_open_handle_scope(env, &scope);
  while (finished != NULL) {
    job *done = finished;
    finished = done->next_finished;
    forget_job(own, done);
    napi_ref started = done->started;
    napi_value arguments[2] = {
        number(env, result_of(&done->plan)),
        number(env, done->plan.found),
    };
    if (done->plan.error == 0) {
      adopt(own, done->created, done->plan.pid, done->plan.shared_kb);
      done->created = NULL;
    } else {
      napi_delete_reference(env, done->created->callback);
    }
    free_job(done);
    call(env, started, 2, arguments);
  }
  if (own->jobs == NULL) uv_unref((uv_handle_t *)&own->job_done);
  // Some children may have ended before they were in the list.
  uv_signal_start(&own->reaper, on_child, SIGCHLD);
  on_child(&own->reaper, SIGCHLD);
  napi_close_handle_scope(env, scope);
}

static int start_job(job *created) {
  pthread_t thread;
  pthread_attr_t attributes;
  int error = pthread_attr_init(&attributes);
  if (error != 0) return error;
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  // The thread may hang as long as a file system does. It does not need the usual 8 MB.
  pthread_attr_setstacksize(&attributes, 256 * 1024);
  error = pthread_create(&thread, &attributes, run_job, created);
  pthread_attr_destroy(&attributes);
  return error;
}

static int32_t integer(napi_env env, napi_value value, int32_t otherwise) {
  int32_t result = otherwise;
  napi_get_value_int32(env, value, &result);
  return result;
}

// Reads the arguments of spawn(). Returns ENOMEM without memory, EINVAL for invalid arguments.
static int read_plan(napi_env env, const napi_value *arguments, plan *to) {
  napi_valuetype kind;
  uint32_t length = 3;
  if (napi_typeof(env, arguments[4], &kind) != napi_ok) return EINVAL;
  if (kind == napi_object) napi_get_array_length(env, arguments[4], &length);
  if (length < 3 || length > max_descriptors) return EINVAL;
  for (uint32_t i = 0; kind == napi_object && i < length; i++) {
    napi_value element;
    napi_get_element(env, arguments[4], i, &element);
    to->stdio[i] = integer(env, element, -1);
  }
  to->length = (int)length;
  to->files = texts(env, arguments[0]);
  to->argv = texts(env, arguments[1]);
  to->envp = texts(env, arguments[2]);
  to->cwd = text(env, arguments[3]);
  to->terminal = kind == napi_string ? text(env, arguments[4]) : NULL;
  to->guard = integer(env, arguments[6], -1);
  to->held = integer(env, arguments[7], -1);
  to->cgroup = integer(env, arguments[10], -1);
  char *limited = napi_typeof(env, arguments[9], &kind) == napi_ok && kind == napi_string ? text(env, arguments[9]) : NULL;
  int error = read_limits(limited, &to->limits);
  free(limited);
  if (error != 0) return error;
  napi_typeof(env, arguments[4], &kind);
  int is_whole = to->files != NULL && to->argv != NULL && to->envp != NULL && to->cwd != NULL &&
                 (kind != napi_string || to->terminal != NULL);
  return is_whole ? 0 : ENOMEM;
}

// Duplicates the descriptors for a start on another thread: the caller may close its own before the start is done.
static int copy_descriptors(plan *of) {
  for (int i = 0; of->terminal == NULL && i < of->length; i++) {
    if (of->stdio[i] < 0) continue;
    int copy = fcntl(of->stdio[i], F_DUPFD_CLOEXEC, of->length);
    if (copy == -1) return errno;
    of->moved[of->moved_count++] = of->stdio[i] = copy;
  }
  int *others[] = {&of->held, &of->cgroup};
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
    if (*others[i] == -1) continue;
    int copy = fcntl(*others[i], F_DUPFD_CLOEXEC, of->length);
    if (copy == -1) return errno;
    of->moved[of->moved_count++] = *others[i] = copy;
  }
  return 0;
}

// ([file, more...], argv, env, cwd, terminal | [stdin, stdout, stderr, more...], f, guard, held, g?, limits?, cgroup?)
// => pid | -errno | -errno - 4096, if the error is about `cwd`
// Starts the first executable file. Descriptor -1 means /dev/null. `limits`: see limits.h. `cgroup`: the descriptor of
// the folder of a cgroup to start in, or -1. When the child ends, calls f(status, 0, ...usage), f(-1, signal, ...usage)
// or, if the status was lost, f(-1, 0, -1), once and in a later turn of the event loop. The usage is that of the child
// and of the descendants it has waited for: CPU time in user and in kernel mode, in microseconds; the most resident
// memory of one of them, in kilobytes, 0 if it is not known; page faults that read storage; blocks of 512 bytes read
// from storage, and written to it. The child registers with the guard and sends it the descriptor `held`, if that is not -1. With g, another thread starts the child: the
// result is a token for abandon(), and g(result, index of the file) is called once later. The guard's socket must
// stay open until then.
static napi_value spawn(napi_env env, napi_callback_info info) {
  size_t count = 11;
  // Those that are not given are undefined.
  napi_value arguments[11];
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  if (count < 8) return number(env, -EINVAL);
  state *own = state_of(env);
  job *created = calloc(1, sizeof *created);
  child *future = calloc(1, sizeof *future);
  if (created == NULL || future == NULL) {
    free(created);
    free(future);
    return number(env, -ENOMEM);
  }
  created->created = future;
  plan *of = &created->plan;
  int error = read_plan(env, arguments, of);
  // Before the start: the child may end at once.
  if (error == 0) error = -uv_signal_start(&own->reaper, on_child, SIGCHLD);
  napi_valuetype kind = napi_undefined;
  napi_typeof(env, arguments[8], &kind);
  if (error == 0 && kind == napi_function) {
    napi_create_reference(env, arguments[5], 1, &future->callback);
    napi_create_reference(env, arguments[8], 1, &created->started);
    created->owner = own;
    created->token = own->next_token++;
    error = copy_descriptors(of);
    if (error == 0) error = start_job(created);
    if (error == 0) {
      created->next = own->jobs;
      own->jobs = created;
      uv_ref((uv_handle_t *)&own->job_done);
      return number(env, created->token);
    }
    napi_delete_reference(env, future->callback);
    napi_delete_reference(env, created->started);
  } else if (error == 0) {
    start(of);
    error = of->error;
    if (error == 0) {
      napi_create_reference(env, arguments[5], 1, &future->callback);
      adopt(own, future, of->pid, of->shared_kb);
      created->created = NULL;
    }
  }
  napi_value result = number(env, error == of->error ? result_of(of) : -error);
  if (own->children == NULL && own->jobs == NULL) uv_signal_stop(&own->reaper);
  free_job(created);
  return result;
}

// (pid, f) => 0 | -errno. Reports the end of a child as spawn() does, also if it has ended already. The child was
// started by the program that was executed before in this process. A known child is reported to f instead.
static napi_value adopt_child(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value arguments[2];
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  state *own = state_of(env);
  int32_t pid = count == 2 ? integer(env, arguments[0], 0) : 0;
  if (pid <= 1) return number(env, -EINVAL);
  child *found = own->children;
  while (found != NULL && found->pid != pid) found = found->next;
  if (found != NULL) napi_delete_reference(env, found->callback);
  else {
    int error = uv_signal_start(&own->reaper, on_child, SIGCHLD);
    if (error != 0) return number(env, error);
    found = calloc(1, sizeof *found);
    if (found == NULL) return number(env, -ENOMEM);
    // What it has inherited is not known: at most the memory that this process has had.
    adopt(own, found, pid, peak_kb());
  }
  napi_create_reference(env, arguments[1], 1, &found->callback);
  // Its SIGCHLD may have come before: all children are checked in a later turn of the event loop.
  uv_async_send(&own->job_done);
  return number(env, 0);
}

// (fd) => 0 | -errno
static napi_value set_non_blocking(napi_env env, napi_callback_info info) {
  int32_t fd = descriptor(env, info);
  int flags = fcntl(fd, F_GETFL);
  return number(env, flags == -1 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) == -1 ? -errno : 0);
}

// (token) => 0. Kills a child that another thread is still starting, or is about to start. The callback of the start is
// still called once the child is dead. A child in uninterruptible sleep dies only when its file system answers.
static napi_value abandon(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  int64_t token = 0;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  if (count == 1) napi_get_value_int64(env, argument, &token);
  pthread_mutex_lock(&jobs_lock);
  for (job *found = state_of(env)->jobs; found != NULL; found = found->next) {
    if (found->token != token) continue;
    found->plan.abandoned = true;
    if (found->plan.starting > 0) kill(found->plan.starting, SIGKILL);
  }
  pthread_mutex_unlock(&jobs_lock);
  return number(env, 0);
}

// (pid) => whether somebody waits for this child, or is about to: it is in the list, or a thread has started it.
static napi_value owns(napi_env env, napi_callback_info info) {
  const state *own = state_of(env);
  pid_t pid = descriptor(env, info);
  bool found = false;
  for (const child *each = own->children; !found && each != NULL; each = each->next) found = each->pid == pid;
  pthread_mutex_lock(&jobs_lock);
  for (const job *each = own->jobs; !found && each != NULL; each = each->next) found = each->plan.pid == pid;
  pthread_mutex_unlock(&jobs_lock);
  napi_value result;
  napi_get_boolean(env, found, &result);
  return result;
}

// (fd of /proc/self/mountinfo) => whether the table has changed since the descriptor was opened, or since the last call
static napi_value has_changed(napi_env env, napi_callback_info info) {
  struct pollfd table = {.fd = descriptor(env, info), .events = POLLPRI};
  napi_value result;
  napi_get_boolean(env, poll(&table, 1, 0) != 0, &result);
  return result;
}

// (fd, isExclusive) => 0 | -errno
static napi_value lock(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value given[2];
  int32_t fd = -1;
  bool is_exclusive = false;
  napi_get_cb_info(env, info, &count, given, NULL, NULL);
  napi_get_value_int32(env, given[0], &fd);
  napi_get_value_bool(env, given[1], &is_exclusive);
  return number(env, flock(fd, (is_exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB) == -1 ? -errno : 0);
}

// A search for data on a thread of libuv's pool, as node:fs does.
typedef struct seek {
  napi_async_work work;
  napi_deferred promise;
  int fd;
  off_t from;
  int error;
} seek;

static void run_seek(napi_env env, void *data) {
  (void)env;
  seek *of = data;
#ifdef SEEK_DATA
  of->from = lseek(of->fd, of->from, SEEK_DATA);
  of->error = of->from == -1 ? errno : 0;
#endif
}

static void end_seek(napi_env env, napi_status status, void *data) {
  seek *of = data;
  int error = status == napi_ok ? of->error : ECANCELED;
  napi_resolve_deferred(env, of->promise, number(env, error == 0 ? of->from : -error));
  napi_delete_async_work(env, of->work);
  free(of);
}

// (fd, from) => Promise<position | -errno>; -ENXIO: there is no data after `from`. The offset of `fd` changes.
static napi_value next_data(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value given[2], promise, name;
  napi_get_cb_info(env, info, &count, given, NULL, NULL);
  int64_t from = 0;
  seek *of = calloc(1, sizeof *of);
  if (of == NULL) return NULL;
  napi_get_value_int32(env, given[0], &of->fd);
  napi_get_value_int64(env, given[1], &from);
  of->from = from;
  napi_create_promise(env, &of->promise, &promise);
  napi_create_string_utf8(env, "nextData", NAPI_AUTO_LENGTH, &name);
  napi_create_async_work(env, NULL, name, run_seek, end_seek, of, &of->work);
  napi_queue_async_work(env, of->work);
  return promise;
}

// (code) => never. Skips exit handlers: libuv's joins its threads, and one that waits for a file system would keep the
// process alive.
static napi_value exit_now(napi_env env, napi_callback_info info) {
  _exit(descriptor(env, info));
}

// () => [ours, the guard's] | -errno: a pair of packet sockets. A send blocks for a second at most.
static napi_value guard_socket(napi_env env, napi_callback_info info) {
  int fds[2], size = 1 << 20;
  struct timeval longest = {.tv_sec = 1};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) == -1) return number(env, -errno);
  setsockopt(fds[0], SOL_SOCKET, SO_SNDTIMEO, &longest, sizeof longest);
  setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
  return pair(env, fds[0], fds[1]);
}

// (fd, line) => 0 | -errno, without waiting
static napi_value tell(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value arguments[2];
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  if (count != 2) return number(env, -EINVAL);
  char *line = text(env, arguments[1]);
  if (line == NULL) return number(env, -ENOMEM);
  int error = tell_guard(integer(env, arguments[0], -1), line, strlen(line), -1, MSG_DONTWAIT);
  free(line);
  return number(env, -error);
}

// (peerHost, peerPort, ourHost, ourPort) => [uid, inode] | -errno: the owner of the other end of a local TCP
// connection. The inode is 0 if the owner has closed its socket.
static napi_value socket_owner(napi_env env, napi_callback_info info) {
#ifdef __linux__
  size_t count = 4;
  napi_value arguments[4];
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  if (count != 4) return number(env, -EINVAL);
  struct {
    struct nlmsghdr header;
    struct inet_diag_req_v2 body;
  } request = {
      {sizeof request, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 0, 0},
      {.sdiag_protocol = IPPROTO_TCP,
       .idiag_states = ~0U,
       .id = {.idiag_sport = htons((uint16_t)integer(env, arguments[1], 0)),
              .idiag_dport = htons((uint16_t)integer(env, arguments[3], 0)),
              .idiag_cookie = {INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE}}},
  };
  char *peer = text(env, arguments[0]), *own = text(env, arguments[2]);
  int is_read = peer != NULL && own != NULL;
  int family = is_read && strchr(peer, ':') != NULL ? AF_INET6 : AF_INET;
  request.body.sdiag_family = (uint8_t)family;
  is_read = is_read && inet_pton(family, peer, request.body.id.idiag_src) == 1 &&
            inet_pton(family, own, request.body.id.idiag_dst) == 1;
  free(peer);
  free(own);
  if (!is_read) return number(env, -EINVAL);
  int diag = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
  if (diag == -1) return number(env, -errno);
  // The kernel has the answer ready when send() returns.
  union {
    struct nlmsghdr header;
    char space[4096];
  } answer;
  ssize_t length = send(diag, &request, sizeof request, 0);
  if (length != -1) length = recv(diag, &answer, sizeof answer, MSG_DONTWAIT);
  int error = length == -1 ? errno : 0;
  close(diag);
  if (error != 0) return number(env, -error);
  if (!NLMSG_OK(&answer.header, (unsigned)length)) return number(env, -EPROTO);
  if (answer.header.nlmsg_type == NLMSG_ERROR) {
    const struct nlmsgerr *refusal = NLMSG_DATA(&answer.header);
    return number(env, refusal->error == 0 ? -EPROTO : refusal->error);
  }
  const struct inet_diag_msg *found = NLMSG_DATA(&answer.header);
  if (answer.header.nlmsg_len < NLMSG_LENGTH(sizeof *found)) return number(env, -EPROTO);
  return pair(env, found->idiag_uid, found->idiag_inode);
#else
  return number(env, -ENOSYS);
#endif
}

// (fd) => [uid, pid] | -errno: the process that connected a unix socket. The pid is 0 for another PID namespace.
static napi_value peer_credentials(napi_env env, napi_callback_info info) {
#ifdef SO_PEERCRED
  struct ucred peer;
  socklen_t size = sizeof peer;
  if (getsockopt(descriptor(env, info), SOL_SOCKET, SO_PEERCRED, &peer, &size) == -1) return number(env, -errno);
  return pair(env, peer.uid, peer.pid);
#else
  return number(env, -ENOSYS);
#endif
}

// A row of the table: pid, state as a character code, parent, group, session, start time in clock ticks, CPU time in
// milliseconds, that of the children it has waited for, and resident memory in bytes.
enum { row_length = 9 };

// Reads one row from the text of /proc/<pid>/stat. The name, in parentheses, may itself hold spaces and parentheses.
static int read_row(const char *stat, double *row) {
  int pid, parent, group, session;
  char state;
  unsigned long long start;
  unsigned long user, kernel;
  long children_user, children_kernel, pages;
  const char *rest = strrchr(stat, ')');
  if (rest == NULL || sscanf(stat, "%d", &pid) != 1) return 0;
  if (sscanf(rest + 1, " %c %d %d %d %*d %*d %*u %*u %*u %*u %*u %lu %lu %ld %ld %*d %*d %*d %*d %llu %*u %ld", &state,
             &parent, &group, &session, &user, &kernel, &children_user, &children_kernel, &start, &pages) != 10) {
    return 0;
  }
  double tick_ms = 1000.0 / (double)sysconf(_SC_CLK_TCK);
  double cpu_ms = (double)(user + kernel) * tick_ms, children_cpu_ms = (double)(children_user + children_kernel) * tick_ms;
  double bytes = (double)pages * (double)sysconf(_SC_PAGESIZE);
  const double values[row_length] = {pid, state, parent, group, session, (double)start, cpu_ms, children_cpu_ms, bytes};
  memcpy(row, values, sizeof values);
  return 1;
}

// () => Float64Array of rows; empty without /proc
static napi_value process_table(napi_env env, napi_callback_info info) {
  size_t length = 0, capacity = 0;
  double *rows = NULL;
  DIR *proc = opendir("/proc");
  for (struct dirent *entry; proc != NULL && (entry = readdir(proc)) != NULL;) {
    char path[sizeof entry->d_name + 8], text[1024];
    if (entry->d_name[0] < '1' || entry->d_name[0] > '9') continue;
    snprintf(path, sizeof path, "%s/stat", entry->d_name);
    int fd = openat(dirfd(proc), path, O_RDONLY | O_CLOEXEC);
    if (fd == -1) continue;
    ssize_t size = read(fd, text, sizeof text - 1);
    close(fd);
    if (size <= 0) continue;
    text[size] = '\0';
    if (length == capacity) {
      size_t grown = capacity == 0 ? 512 : 2 * capacity;
      double *larger = realloc(rows, grown * row_length * sizeof *rows);
      if (larger == NULL) break;
      rows = larger;
      capacity = grown;
    }
    length += read_row(text, rows + length * row_length);
  }
  if (proc != NULL) closedir(proc);
  void *data;
  napi_value buffer, result;
  napi_create_arraybuffer(env, length * row_length * sizeof *rows, &data, &buffer);
  if (length > 0) memcpy(data, rows, length * row_length * sizeof *rows);
  free(rows);
  napi_create_typedarray(env, napi_float64_array, length * row_length, buffer, 0, &result);
  return result;
}

static void reaper_closed(uv_handle_t *handle) {
  state *own = handle->data;
  napi_remove_async_cleanup_hook(own->cleanup);
  free(own);
}

static void job_done_closed(uv_handle_t *handle) {
  state *own = handle->data;
  uv_close((uv_handle_t *)&own->reaper, reaper_closed);
}

// The environment ends: no callback is called any more.
static void clean_up(napi_async_cleanup_hook_handle handle, void *data) {
  state *own = data;
  while (own->watches != NULL) end(own->watches);
  while (own->children != NULL) {
    child *forgotten = own->children;
    own->children = forgotten->next;
    free(forgotten);
  }
  pthread_mutex_lock(&jobs_lock);
  while (own->finished != NULL) {
    job *unseen = own->finished;
    own->finished = unseen->next_finished;
    forget_job(own, unseen);
    if (unseen->plan.error == 0) kill(-unseen->plan.pid, SIGKILL);
    free_job(unseen);
  }
  for (job *running = own->jobs; running != NULL; running = running->next) running->owner = NULL;
  pthread_mutex_unlock(&jobs_lock);
  uv_close((uv_handle_t *)&own->job_done, job_done_closed);
}

// By default glibc keeps, for each thread, up to twice the size of the largest buffer that was ever freed.
static napi_value keep_freed(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  int32_t bytes = 0;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  napi_get_value_int32(env, argument, &bytes);
#ifdef __GLIBC__
  mallopt(M_TRIM_THRESHOLD, bytes);
#endif
  return NULL;
}

// Fields 50 and 51 of /proc/self/stat are the bounds of the initial environment.
static napi_value erase_variable(napi_env env, napi_callback_info info) {
#ifdef __linux__
  size_t count = 1;
  napi_value argument;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  char *name = count == 1 ? text(env, argument) : NULL;
  if (name == NULL) return number(env, -EINVAL);
  char stat[4096] = "";
  int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
  ssize_t got = fd == -1 ? -1 : read(fd, stat, sizeof stat - 1);
  int error = got == -1 ? -errno : 0;
  if (fd != -1) close(fd);
  // The program name, in parentheses, may contain spaces. Field 3 follows it.
  char *field = strrchr(stat, ')');
  for (int skipped = 2; field != NULL && skipped < 50; skipped++) field = strchr(field + 1, ' ');
  uintptr_t start = 0, end = 0;
  if (field != NULL) sscanf(field, " %" SCNuPTR " %" SCNuPTR, &start, &end);
  size_t length = strlen(name);
  for (char *at = (char *)start; error == 0 && at < (char *)end; at += strnlen(at, end - (uintptr_t)at) + 1) {
    size_t all = strnlen(at, end - (uintptr_t)at);
    if (all > length && at[length] == '=' && memcmp(at, name, length) == 0) memset(at + length + 1, 0, all - length - 1);
  }
  free(name);
  return number(env, error);
#else
  return number(env, 0);
#endif
}

napi_value delegated(napi_env env, napi_callback_info info);

static void export(napi_env env, napi_value exports, const char *name, napi_callback callback) {
  napi_value function;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, NULL, &function);
  napi_set_named_property(env, exports, name, function);
}

NAPI_MODULE_INIT() {
  uv_loop_t *loop;
  state *own = calloc(1, sizeof *own);
  if (own == NULL || napi_get_uv_event_loop(env, &loop) != napi_ok || uv_signal_init(loop, &own->reaper) != 0 ||
      uv_async_init(loop, &own->job_done, on_job_done) != 0) {
    napi_throw_error(env, NULL, "the event loop takes no handles");
    return exports;
  }
  uv_unref((uv_handle_t *)&own->job_done);
  own->job_done.data = own;
  own->env = env;
  own->next_token = 1;
  own->reaper.data = own;
  napi_set_instance_data(env, own, NULL, NULL);
  napi_add_async_cleanup_hook(env, clean_up, own, &own->cleanup);
  export(env, exports, "pipe", make_pipe);
  export(env, exports, "setPipeSize", set_pipe_size);
  export(env, exports, "spawn", spawn);
  export(env, exports, "adopt", adopt_child);
  export(env, exports, "setNonBlocking", set_non_blocking);
  export(env, exports, "guardSocket", guard_socket);
  export(env, exports, "tell", tell);
  export(env, exports, "socketOwner", socket_owner);
  export(env, exports, "peerCredentials", peer_credentials);
  export(env, exports, "processTable", process_table);
  export(env, exports, "setUpTerminal", set_up_terminal);
  export(env, exports, "eof", end_of_input);
  export(env, exports, "rawOutput", raw_output);
  export(env, exports, "setRoot", set_root);
  export(env, exports, "onWritable", on_writable);
  export(env, exports, "readAvailable", read_available);
  export(env, exports, "cancel", cancel);
  export(env, exports, "keepFreed", keep_freed);
  export(env, exports, "eraseVariable", erase_variable);
  export(env, exports, "abandon", abandon);
  export(env, exports, "hasChanged", has_changed);
  export(env, exports, "owns", owns);
  export(env, exports, "lock", lock);
  export(env, exports, "nextData", next_data);
  export(env, exports, "exitNow", exit_now);
  export(env, exports, "delegated", delegated);
  return exports;
}
