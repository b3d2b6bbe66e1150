// The few things that Node.js offers no way to do and that a truthful spawner needs.
//
// pipe():                real pipes. Node's own "pipe" stdio is a socket pair, and a child that opens
//                        /dev/stdin, /dev/stdout or /dev/stderr of a socket gets ENXIO.
// setPipeSize(fd, bytes): how much a pipe holds.
// spawn(...):            starts a program without a cost that grows with the memory of the server, tells why it could
//                        not be started, can give it a terminal, and has it known to the guard before it runs. Its end
//                        is told whole: Node.js knows no name for real-time signals, and says exit code 0 for them.
// guardSocket(), tell(): the socket of the guard, and a packet to it.
// socketOwner(...):      who has the other end of a TCP connection within this machine.
// peerCredentials(fd):   who has connected a unix socket.
// setUpTerminal(fd):     erases characters, not bytes, and keeps the descriptor to ourselves.
// processTable():        all processes in one call: read file by file from JavaScript, a table of a thousand processes
//                        blocks the event loop four times as long.
// eof(fd):               the character that ends the input of a terminal.
// rawOutput(fd):         lets what is written to a terminal through as it is. Node.js leaves newlines to be translated.
// setRoot(path):         makes a directory the root of this process, all its threads and its paths, and
//                        gives up all privileges of the calling thread and those it starts.
// onWritable(fd, f):     waits until a terminal takes input again. libuv's own terminal streams block
//                        the whole event loop while a child does not read.
// keepFreed(bytes):      how much freed memory each heap of this process keeps at its end.
// eraseVariable(name):   overwrites the value of a variable in the initial environment, which /proc/PID/environ shows.
// hasChanged(fd):        whether the table of mounts has changed since the last call.
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
#include <linux/sock_diag.h>
#include <sys/syscall.h>
#endif
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <node_api.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include <uv.h>

typedef struct state state;
typedef struct job job;

// A descriptor that is waited for.
typedef struct watch {
  uv_poll_t poll;
  state *owner;
  napi_ref callback;
  int64_t token;
  // Ours alone: libuv watches a descriptor in one place only.
  int fd;
  struct watch *next;
} watch;

// A child that has not been reaped.
typedef struct child {
  pid_t pid;
  int status;
  napi_ref callback;
  struct child *next;
} child;

// What one environment (the main thread, or a worker) waits for.
struct state {
  napi_env env;
  uv_signal_t reaper;
  watch *watches;
  child *children;
  // Starts on threads of their own, and those of them that are done.
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
  // The privilege to do so is the privilege to undo it.
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct none[2] = {{0}};
  if (syscall(SYS_capset, &header, none) == -1) return number(env, -errno);
#endif
  return number(env, 0);
}

static void free_watch(uv_handle_t *handle) { free(handle->data); }

// Ends a watch without a call.
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

// A terminal is writable, hung up, or broken: whoever waited finds out by writing.
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

// (fd, f) => token | -errno; f() is called once, in a later turn of the event loop
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

// (token) => 0; of no effect once f was called
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

// Takes a child that has ended out of the list of those that have not; NULL if it still runs.
static child *reap(child **link) {
  child *found = *link;
  pid_t result;
  do result = waitpid(found->pid, &found->status, WNOHANG);
  while (result == -1 && errno == EINTR);
  if (result == 0) return NULL;
  // Somebody else took the status: it is lost, and never made up.
  if (result == -1) found->status = -1;
  *link = found->next;
  return found;
}

// Where any child of this process that has ended is ours: it alone is asked for, however many others run.
static child **ended_child(state *own) {
  siginfo_t ended = {0};
  if (waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT) == -1 || ended.si_pid == 0) return NULL;
  for (child **link = &own->children; *link != NULL; link = &(*link)->next) {
    if ((*link)->pid == ended.si_pid) return link;
  }
  return NULL;
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
  // A child that is not ours may stand before ours in the kernel's list, and a status may be lost: ask for each.
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
    napi_value arguments[2] = {
        number(env, known && !killed ? WEXITSTATUS(status) : -1),
        number(env, killed ? WTERMSIG(status) : 0),
    };
    all = told->next;
    call(env, told->callback, 2, arguments);
    free(told);
  }
  napi_close_handle_scope(env, scope);
}

// How many descriptors a child is given at most.
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

// What a child is made of, and what became of its start.
typedef struct {
  char *cwd, *terminal;
  // The first one that can be executed is started. Where there is only one, it is not examined before.
  char **files;
  char **argv, **envp;
  int stdio[max_descriptors];
  int length;
  // The guard's socket, or -1; and a descriptor that the guard holds for the child, or -1.
  int guard, held;
  // The same as stdio, but none of them is among the numbers that the child gets.
  int moved[2 * max_descriptors];
  int moved_count;
  pid_t pid;
  int error;
  // Which one of the files was found. Written by the child, which shares our memory.
  volatile int found;
  // The child before it runs its program, if another thread may end it: 0 before and after. Guarded by jobs_lock,
  // except that the child itself sets it.
  volatile pid_t starting;
} plan;

static void free_plan(plan *of) {
  for (int i = 0; i < of->moved_count; i++) close(of->moved[i]);
  free_texts(of->files);
  free(of->cwd);
  free(of->terminal);
  free_texts(of->argv);
  free_texts(of->envp);
}

// Descriptors whose numbers the child's own would overwrite before they are copied are moved above those.
static int make_way(plan *of) {
  for (int fd = 0; fd < of->length; fd++) {
    if (of->stdio[fd] < 0 || of->stdio[fd] >= of->length) continue;
    int higher = fcntl(of->stdio[fd], F_DUPFD_CLOEXEC, of->length);
    if (higher == -1) return errno;
    of->moved[of->moved_count++] = of->stdio[fd] = higher;
  }
  return 0;
}

// One packet to the guard. `flags` says whether to wait for a guard that does not read.
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

// "+ PID 0" or "- PID 0", without stdio(3), which a child that shares our memory must not touch.
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

// Every signal's default action. By system call: glibc's sigaction() refuses signals 32 and 33, which its threads use.
static void reset_signals(void) {
#ifdef __linux__
  // The kernel's struct, larger than any of its forms: SIG_DFL, no flags, an empty mask.
  const char by_default[64] = {0};
  for (int signum = 1; signum <= 64; signum++) syscall(SYS_rt_sigaction, signum, by_default, NULL, (size_t)8);
#else
  struct sigaction by_default = {.sa_handler = SIG_DFL};
  for (int signum = 1; signum < NSIG; signum++) sigaction(signum, &by_default, NULL);
#endif
}

// Finds the first file that can be executed, if there are several; an error number if none can.
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

// A new session, no signal blocked or ignored, and nothing open but these descriptors. Only system calls: the memory is
// the server's. Gives an error number, or does not return.
static int become(plan *of) {
  sigset_t none;
  if (setsid() == -1) return errno;
  // Before anything of the child's own: from here on the guard ends it, whatever happens to the server.
  tell_of_itself(of, '+', of->held);
  if (of->terminal != NULL) {
    // Opened by the leader of a session that has none, it becomes the session's terminal.
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
  // At once, not on exec: if the file system of the program hangs, the child must hold no socket of the server. The
  // guard's is still needed.
  unsigned first = (unsigned)of->length;
  if (of->guard >= of->length) {
    if (of->guard > of->length) syscall(SYS_close_range, first, (unsigned)of->guard - 1, 0);
    first = (unsigned)of->guard + 1;
  }
  syscall(SYS_close_range, first, ~0U, 0);
#endif
  int error = search(of);
  if (error != 0) return error;
  if (chdir(of->cwd) == -1) return errno;
  reset_signals();
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  execve(of->files[of->found], of->argv, of->envp);
  return errno;
}

// Guards `owner` of all jobs, `finished` of all states and `starting` of all plans.
static pthread_mutex_t jobs_lock = PTHREAD_MUTEX_INITIALIZER;

// Starts the child and waits until it runs its program. vfork(2) copies no memory: its cost does not grow with the
// server's. posix_spawn(3) does the same, but lets nothing be done in the child that it does not know.
static void start(plan *of) {
  sigset_t all, before;
  of->error = make_way(of);
  if (of->error != 0) return;
  // No handler of ours may run in the child.
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  of->pid = vfork();
  if (of->pid == 0) {
    of->starting = getpid();
    of->error = become(of);
    tell_of_itself(of, '-', -1);
    _exit(127);
  }
  if (of->pid == -1) of->error = errno;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_mutex_lock(&jobs_lock);
  of->starting = 0;
  pthread_mutex_unlock(&jobs_lock);
  // It never became the program: there is nobody to tell of its end.
  if (of->pid != -1 && of->error != 0) {
    while (waitpid(of->pid, NULL, 0) == -1 && errno == EINTR) {
    }
  }
}

// A start on a thread of its own, for files whose system may not answer: whoever waits for it is not the event loop.
struct job {
  plan plan;
  // NULL once the environment has ended.
  state *owner;
  child *created;
  napi_ref started;
  int64_t token;
  struct job *next_finished, *next;
};

// The child belongs to the environment until it was reaped.
static void adopt(state *own, child *created, pid_t pid) {
  created->pid = pid;
  created->next = own->children;
  own->children = created;
}

static void free_job(job *done) {
  free_plan(&done->plan);
  free(done->created);
  free(done);
}

// A job that is done is none of the environment's any more.
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
        number(env, done->plan.error == 0 ? done->plan.pid : -done->plan.error),
        number(env, done->plan.found),
    };
    if (done->plan.error == 0) {
      adopt(own, done->created, done->plan.pid);
      done->created = NULL;
    } else {
      napi_delete_reference(env, done->created->callback);
    }
    free_job(done);
    call(env, started, 2, arguments);
  }
  if (own->jobs == NULL) uv_unref((uv_handle_t *)&own->job_done);
  // Some may have ended before they were ours.
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
  // It may hang for as long as a file system does: the usual 8 MB are not needed.
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

// What spawn() was asked for; ENOMEM if it does not fit into memory, EINVAL if it makes no sense.
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
  int is_whole = to->files != NULL && to->argv != NULL && to->envp != NULL && to->cwd != NULL &&
                 (kind != napi_string || to->terminal != NULL);
  return is_whole ? 0 : ENOMEM;
}

// Copies of the descriptors that a start on another thread needs: ours may be closed before it is done.
static int copy_descriptors(plan *of) {
  for (int i = 0; of->terminal == NULL && i < of->length; i++) {
    if (of->stdio[i] < 0) continue;
    int copy = fcntl(of->stdio[i], F_DUPFD_CLOEXEC, of->length);
    if (copy == -1) return errno;
    of->moved[of->moved_count++] = of->stdio[i] = copy;
  }
  if (of->held == -1) return 0;
  int held = fcntl(of->held, F_DUPFD_CLOEXEC, of->length);
  if (held == -1) return errno;
  of->moved[of->moved_count++] = of->held = held;
  return 0;
}

// ([file, more...], argv, env, cwd, terminal | [stdin, stdout, stderr, more...], f, guard, held, g?) => pid | -errno
// Of several files, the first one that can be executed is started. A descriptor of -1 is /dev/null. f(status, 0), f(-1, signal) or, where the status was lost, f(-1, 0) is called once,
// in a later turn of the event loop. The child tells the guard of itself, and gives it the descriptor that is to be held;
// -1 is none. With g, the child is started by another thread; the result is a token for abandon(), and
// g(pid | -errno, index of the file) is called once later. The guard's socket must stay open until then.
static napi_value spawn(napi_env env, napi_callback_info info) {
  size_t count = 9;
  napi_value arguments[9];
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
  // Before the child can end.
  if (error == 0) error = -uv_signal_start(&own->reaper, on_child, SIGCHLD);
  napi_valuetype kind = napi_undefined;
  if (count == 9) napi_typeof(env, arguments[8], &kind);
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
      adopt(own, future, of->pid);
      created->created = NULL;
    }
  }
  napi_value result = number(env, error == 0 ? of->pid : -error);
  if (own->children == NULL && own->jobs == NULL) uv_signal_stop(&own->reaper);
  free_job(created);
  return result;
}

// (token) => 0: kills a child that another thread is still starting. g is called all the same, once the kill works: not
// before the file system answers, if the child waits for it uninterruptibly.
static napi_value abandon(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  int64_t token = 0;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  if (count == 1) napi_get_value_int64(env, argument, &token);
  pthread_mutex_lock(&jobs_lock);
  for (job *found = state_of(env)->jobs; found != NULL; found = found->next) {
    if (found->token == token && found->plan.starting > 0) kill(found->plan.starting, SIGKILL);
  }
  pthread_mutex_unlock(&jobs_lock);
  return number(env, 0);
}

// (fd of /proc/self/mountinfo) => whether the table has changed since it was opened or last asked about
static napi_value has_changed(napi_env env, napi_callback_info info) {
  struct pollfd table = {.fd = descriptor(env, info), .events = POLLPRI};
  napi_value result;
  napi_get_boolean(env, poll(&table, 1, 0) != 0, &result);
  return result;
}

// (code): does not return, and runs no destructor. libuv's joins its threads: with one that waits for a file system, the
// process would never end.
static napi_value exit_now(napi_env env, napi_callback_info info) {
  _exit(descriptor(env, info));
}

// () => [ours, the guard's] | -errno: a socket of packets. What is sent to it waits a second at most.
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

// (peerHost, peerPort, ourHost, ourPort) => [uid, inode] | -errno: whose socket is at the other end of a TCP connection
// within this machine. An inode of 0 is a socket that its owner has closed.
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

// (fd) => [uid, pid] | -errno: who connected a unix socket. A pid of 0 is not of this PID namespace.
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

// What a row of the table holds: pid, state as a character, parent, group, session, start time.
enum { row_length = 6 };

// Reads one row from the text of /proc/<pid>/stat. The name, in parentheses, may itself hold spaces and parentheses.
static int read_row(const char *stat, double *row) {
  int pid, parent, group, session;
  char state;
  unsigned long long start;
  const char *rest = strrchr(stat, ')');
  if (rest == NULL || sscanf(stat, "%d", &pid) != 1) return 0;
  if (sscanf(rest + 1, " %c %d %d %d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu", &state,
             &parent, &group, &session, &start) != 5) {
    return 0;
  }
  const double values[row_length] = {pid, state, parent, group, session, (double)start};
  memcpy(row, values, sizeof values);
  return 1;
}

// () => Float64Array of rows; empty where there is no /proc
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

// The environment ends: nothing is called any more.
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

// By itself glibc keeps up to twice the size of the largest buffer that was ever freed, for each thread.
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

// The bounds of the initial environment are the fields 50 and 51 of /proc/self/stat.
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
  // The name of the program is in parentheses and may contain spaces; field 3 follows it.
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
  export(env, exports, "cancel", cancel);
  export(env, exports, "keepFreed", keep_freed);
  export(env, exports, "eraseVariable", erase_variable);
  export(env, exports, "abandon", abandon);
  export(env, exports, "hasChanged", has_changed);
  export(env, exports, "exitNow", exit_now);
  return exports;
}
