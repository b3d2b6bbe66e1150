// The few things that Node.js offers no way to do and that a truthful spawner needs.
//
// pipe():                real pipes. Node's own "pipe" stdio is a socket pair, and a child that opens
//                        /dev/stdin, /dev/stdout or /dev/stderr of a socket gets ENXIO.
// closeOnExec(fd):       node-pty leaves the masters of its terminals inheritable, so that every later
//                        child would hold the terminals of all earlier ones.
// onWritable(fd, f):     waits until a terminal takes input again. libuv's own terminal streams block
//                        the whole event loop while a child does not read.
// onExit(pid, f):        tells what signal a child died of. Node.js knows no name for real-time signals, and
//                        reports a child that one of them killed as having exited with 0.
#include <errno.h>
#include <fcntl.h>
#include <node_api.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

static napi_value number(napi_env env, int64_t value) {
  napi_value result;
  napi_create_int64(env, value, &result);
  return result;
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

// (fd) => 0 | -errno
static napi_value close_on_exec(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  int32_t fd = -1;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  if (count == 1) napi_get_value_int32(env, argument, &fd);
  return number(env, fcntl(fd, F_SETFD, FD_CLOEXEC) == -1 ? -errno : 0);
}

typedef struct watch {
  uv_poll_t poll;
  napi_env env;
  napi_ref callback;
  int64_t token;
  // The child whose end is waited for, or 0.
  pid_t pid;
  // Ours alone: libuv watches a descriptor in one place only.
  int fd;
  struct watch *next;
} watch;

static watch *watches = NULL;
static int64_t next_token = 1;

static void closed(uv_handle_t *handle) { free(handle->data); }

static void end(watch *ended) {
  for (watch **link = &watches; *link != NULL; link = &(*link)->next) {
    if (*link == ended) {
      *link = ended->next;
      break;
    }
  }
  uv_poll_stop(&ended->poll);
  napi_delete_reference(ended->env, ended->callback);
  close(ended->fd);
  uv_close((uv_handle_t *)&ended->poll, closed);
}

// A terminal is writable, hung up, or broken: whoever waited finds out by writing. Or a child has ended: it is looked
// at and left to libuv, which handles signals after everything else; if it reaps first all the same, 0 is told.
static void ready(uv_poll_t *poll, int status, int events) {
  watch *found = poll->data;
  napi_env env = found->env;
  napi_handle_scope scope;
  napi_value callback, global, signal;
  size_t count = 0;
  napi_open_handle_scope(env, &scope);
  if (found->pid != 0) {
    siginfo_t ended = {0};
    int known = waitid(P_PID, found->pid, &ended, WEXITED | WNOHANG | WNOWAIT) == 0 && ended.si_pid == found->pid;
    signal = number(env, known && ended.si_code != CLD_EXITED ? ended.si_status : 0);
    count = 1;
  }
  napi_get_reference_value(env, found->callback, &callback);
  napi_get_global(env, &global);
  end(found);
  napi_make_callback(env, NULL, global, callback, count, &signal, NULL);
  napi_close_handle_scope(env, scope);
}

// Watches a descriptor that it takes over; token | -errno
static napi_value start(napi_env env, int fd, pid_t pid, int events, napi_value callback) {
  uv_loop_t *loop;
  if (fd == -1) return number(env, -errno);
  watch *created = calloc(1, sizeof *created);
  int error = created == NULL ? -ENOMEM : napi_get_uv_event_loop(env, &loop) != napi_ok ? -EINVAL : 0;
  if (error == 0) error = uv_poll_init(loop, &created->poll, fd);
  if (error != 0) {
    close(fd);
    free(created);
    return number(env, error);
  }
  created->poll.data = created;
  created->env = env;
  created->token = next_token++;
  created->pid = pid;
  created->fd = fd;
  created->next = watches;
  watches = created;
  napi_create_reference(env, callback, 1, &created->callback);
  uv_poll_start(&created->poll, events, ready);
  return number(env, created->token);
}

// (fd, f) => token | -errno; f() is called once, in a later turn of the event loop
static napi_value on_writable(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value arguments[2];
  int32_t fd = -1;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  if (count != 2 || napi_get_value_int32(env, arguments[0], &fd) != napi_ok) return number(env, -EINVAL);
  return start(env, fcntl(fd, F_DUPFD_CLOEXEC, 0), 0, UV_WRITABLE, arguments[1]);
}

// (pid, f) => token | -errno; f(signal or 0) is called once, before libuv reports the exit
static napi_value on_exit_of(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value arguments[2];
  int32_t pid = 0;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  if (count != 2 || napi_get_value_int32(env, arguments[0], &pid) != napi_ok) return number(env, -EINVAL);
#ifdef SYS_pidfd_open
  return start(env, (int)syscall(SYS_pidfd_open, pid, 0), pid, UV_READABLE, arguments[1]);
#else
  return number(env, -ENOSYS);
#endif
}

// (token) => 0; of no effect once f was called
static napi_value cancel(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  int64_t token = 0;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  if (count == 1) napi_get_value_int64(env, argument, &token);
  for (watch *found = watches; found != NULL; found = found->next) {
    if (found->token == token) {
      end(found);
      break;
    }
  }
  return number(env, 0);
}

static void export(napi_env env, napi_value exports, const char *name, napi_callback callback) {
  napi_value function;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, NULL, &function);
  napi_set_named_property(env, exports, name, function);
}

NAPI_MODULE_INIT() {
  export(env, exports, "pipe", make_pipe);
  export(env, exports, "closeOnExec", close_on_exec);
  export(env, exports, "onWritable", on_writable);
  export(env, exports, "onExit", on_exit_of);
  export(env, exports, "cancel", cancel);
  return exports;
}
