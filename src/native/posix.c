// The few things that Node.js offers no way to do and that a truthful spawner needs.
//
// pipe():                real pipes. Node's own "pipe" stdio is a socket pair, and a child that opens
//                        /dev/stdin, /dev/stdout or /dev/stderr of a socket gets ENXIO.
// closeOnExec(fd):       node-pty leaves the masters of its terminals inheritable, so that every later
//                        child would hold the terminals of all earlier ones.
// onWritable(fd, f):     waits until a terminal takes input again. libuv's own terminal streams block
//                        the whole event loop while a child does not read.
#include <errno.h>
#include <fcntl.h>
#include <node_api.h>
#include <stdlib.h>
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
  // A copy: libuv watches a descriptor in one place only, and the terminal's stream has the original.
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

// Writable, hung up, or broken: whoever waited finds out by writing.
static void ready(uv_poll_t *poll, int status, int events) {
  watch *found = poll->data;
  napi_env env = found->env;
  napi_handle_scope scope;
  napi_value callback, global;
  napi_open_handle_scope(env, &scope);
  napi_get_reference_value(env, found->callback, &callback);
  napi_get_global(env, &global);
  end(found);
  napi_make_callback(env, NULL, global, callback, 0, NULL, NULL);
  napi_close_handle_scope(env, scope);
}

// (fd, f) => token | -errno; f is called once, in a later turn of the event loop
static napi_value on_writable(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value arguments[2];
  int32_t fd = -1;
  uv_loop_t *loop;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  if (count != 2 || napi_get_value_int32(env, arguments[0], &fd) != napi_ok) return number(env, -EINVAL);
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) return number(env, -EINVAL);
  watch *created = calloc(1, sizeof *created);
  if (created == NULL) return number(env, -ENOMEM);
  created->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (created->fd == -1) {
    free(created);
    return number(env, -errno);
  }
  int error = uv_poll_init(loop, &created->poll, created->fd);
  if (error != 0) {
    close(created->fd);
    free(created);
    return number(env, error);
  }
  created->poll.data = created;
  created->env = env;
  created->token = next_token++;
  created->next = watches;
  watches = created;
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
  export(env, exports, "cancel", cancel);
  return exports;
}
