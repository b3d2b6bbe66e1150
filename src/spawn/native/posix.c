// The few things that Node.js offers no way to do and that a truthful spawner needs.
//
// pipe():                real pipes. Node's own "pipe" stdio is a socket pair, and a child that opens
//                        /dev/stdin, /dev/stdout or /dev/stderr of a socket gets ENXIO.
// setPipeSize(fd, bytes): how much a pipe holds.
// spawn(...):            starts a program by posix_spawn(3), whose cost does not grow with the memory of the server,
//                        which tells why a program could not be started, and which can give it a terminal. Its end is
//                        told whole: Node.js knows no name for real-time signals, and says exit code 0 for them.
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
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#ifdef __linux__
#include <linux/capability.h>
#include <sys/syscall.h>
#endif
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <node_api.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include <uv.h>

typedef struct state state;

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
  int64_t next_token;
  napi_async_cleanup_hook_handle cleanup;
};

static napi_value number(napi_env env, int64_t value) {
  napi_value result;
  napi_create_int64(env, value, &result);
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
  napi_value ends;
  napi_create_array_with_length(env, 2, &ends);
  for (uint32_t i = 0; i < 2; i++) napi_set_element(env, ends, i, number(env, fds[i]));
  return ends;
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

// Descriptors whose numbers the child's own would overwrite before they are copied are moved above those, and the old
// ones are left as they are: the caller closes what is in `moved`.
static int make_way(int *stdio, int length, int *moved, int *count) {
  *count = 0;
  for (int fd = 0; fd < length; fd++) {
    if (stdio[fd] < 0 || stdio[fd] >= length) continue;
    int higher = fcntl(stdio[fd], F_DUPFD_CLOEXEC, length);
    if (higher == -1) return errno;
    moved[(*count)++] = stdio[fd] = higher;
  }
  return 0;
}

// A new session, no signal blocked or ignored, and nothing open but these descriptors.
static int start(pid_t *pid, const char *file, char **argv, char **envp, const char *cwd, const char *terminal,
                 const int *stdio, int length) {
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_t actions;
  sigset_t none, all;
  sigemptyset(&none);
  // Not sigfillset(): glibc's leaves out signals 32 and 33, which its threads use, and its posix_spawn() would then have
  // the child ignore them.
  memset(&all, 0xff, sizeof all);
  int error = posix_spawnattr_init(&attributes);
  if (error != 0) return error;
  error = posix_spawn_file_actions_init(&actions);
  if (error != 0) {
    posix_spawnattr_destroy(&attributes);
    return error;
  }
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  if (terminal != NULL) {
    // Opened by the leader of a session that has none, it becomes the session's terminal.
    error = posix_spawn_file_actions_addopen(&actions, 0, terminal, O_RDWR, 0);
    for (int fd = 1; error == 0 && fd < 3; fd++) error = posix_spawn_file_actions_adddup2(&actions, 0, fd);
  } else {
    for (int fd = 0; error == 0 && fd < length; fd++) {
      error = stdio[fd] == -1 ? posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0)
                              : posix_spawn_file_actions_adddup2(&actions, stdio[fd], fd);
    }
  }
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 34)
  if (error == 0) error = posix_spawn_file_actions_addclosefrom_np(&actions, length);
#endif
  if (error == 0) error = posix_spawn_file_actions_addchdir_np(&actions, cwd);
  if (error == 0) error = posix_spawn(pid, file, &actions, &attributes, argv, envp);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  return error;
}

// (file, argv, env, cwd, terminal | [stdin, stdout, stderr, more...], f) => pid | -errno
// A descriptor of -1 is /dev/null. f(status, 0), f(-1, signal) or, where the status was lost, f(-1, 0) is called once,
// in a later turn of the event loop.
static napi_value spawn(napi_env env, napi_callback_info info) {
  size_t count = 6;
  napi_value arguments[6];
  napi_valuetype kind;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  if (count != 6 || napi_typeof(env, arguments[4], &kind) != napi_ok) return number(env, -EINVAL);
  int stdio[max_descriptors];
  uint32_t length = 3;
  if (kind == napi_object) napi_get_array_length(env, arguments[4], &length);
  if (length < 3 || length > max_descriptors) return number(env, -EINVAL);
  for (uint32_t i = 0; kind == napi_object && i < length; i++) {
    napi_value element;
    stdio[i] = -1;
    napi_get_element(env, arguments[4], i, &element);
    napi_get_value_int32(env, element, &stdio[i]);
  }
  state *own = state_of(env);
  char *file = text(env, arguments[0]), *cwd = text(env, arguments[3]);
  char **argv = texts(env, arguments[1]), **envp = texts(env, arguments[2]);
  char *terminal = kind == napi_string ? text(env, arguments[4]) : NULL;
  child *created = calloc(1, sizeof *created);
  int error = file == NULL || cwd == NULL || argv == NULL || envp == NULL || created == NULL ||
                      (kind == napi_string && terminal == NULL)
                  ? ENOMEM
                  : 0;
  // Before the child can end.
  if (error == 0) error = -uv_signal_start(&own->reaper, on_child, SIGCHLD);
  int moved[max_descriptors], moved_count = 0;
  if (error == 0 && kind == napi_object) error = make_way(stdio, (int)length, moved, &moved_count);
  if (error == 0) error = start(&created->pid, file, argv, envp, cwd, terminal, stdio, (int)length);
  for (int i = 0; i < moved_count; i++) close(moved[i]);
  napi_value result = number(env, error == 0 ? created->pid : -error);
  if (error == 0) {
    napi_create_reference(env, arguments[5], 1, &created->callback);
    created->next = own->children;
    own->children = created;
  } else {
    free(created);
    if (own->children == NULL) uv_signal_stop(&own->reaper);
  }
  free(file);
  free(cwd);
  free(terminal);
  free_texts(argv);
  free_texts(envp);
  return result;
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

// The environment ends: nothing is called any more.
static void clean_up(napi_async_cleanup_hook_handle handle, void *data) {
  state *own = data;
  while (own->watches != NULL) end(own->watches);
  while (own->children != NULL) {
    child *forgotten = own->children;
    own->children = forgotten->next;
    free(forgotten);
  }
  uv_close((uv_handle_t *)&own->reaper, reaper_closed);
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

static void export(napi_env env, napi_value exports, const char *name, napi_callback callback) {
  napi_value function;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, NULL, &function);
  napi_set_named_property(env, exports, name, function);
}

NAPI_MODULE_INIT() {
  uv_loop_t *loop;
  state *own = calloc(1, sizeof *own);
  if (own == NULL || napi_get_uv_event_loop(env, &loop) != napi_ok || uv_signal_init(loop, &own->reaper) != 0) {
    free(own);
    napi_throw_error(env, NULL, "the event loop takes no signal handler");
    return exports;
  }
  own->env = env;
  own->next_token = 1;
  own->reaper.data = own;
  napi_set_instance_data(env, own, NULL, NULL);
  napi_add_async_cleanup_hook(env, clean_up, own, &own->cleanup);
  export(env, exports, "pipe", make_pipe);
  export(env, exports, "setPipeSize", set_pipe_size);
  export(env, exports, "spawn", spawn);
  export(env, exports, "processTable", process_table);
  export(env, exports, "setUpTerminal", set_up_terminal);
  export(env, exports, "eof", end_of_input);
  export(env, exports, "rawOutput", raw_output);
  export(env, exports, "setRoot", set_root);
  export(env, exports, "onWritable", on_writable);
  export(env, exports, "cancel", cancel);
  export(env, exports, "keepFreed", keep_freed);
  return exports;
}
