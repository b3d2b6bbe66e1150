// The two system calls that Node.js offers no way to make and that a truthful spawner needs.
//
// pipe():            real pipes. Node's own "pipe" stdio is a socket pair, and a child that opens
//                    /dev/stdin, /dev/stdout or /dev/stderr of a socket gets ENXIO.
// closeOnExec(fd):   node-pty leaves the masters of its terminals inheritable, so that every later
//                    child would hold the terminals of all earlier ones.
#include <errno.h>
#include <fcntl.h>
#include <node_api.h>
#include <unistd.h>

static napi_value fail(napi_env env, int error) {
  napi_value code;
  napi_create_int32(env, -error, &code);
  return code;
}

// () => [readEnd, writeEnd] | -errno
static napi_value make_pipe(napi_env env, napi_callback_info info) {
  int fds[2];
#ifdef __linux__
  if (pipe2(fds, O_CLOEXEC) == -1) return fail(env, errno);
#else
  if (pipe(fds) == -1) return fail(env, errno);
  fcntl(fds[0], F_SETFD, FD_CLOEXEC);
  fcntl(fds[1], F_SETFD, FD_CLOEXEC);
#endif
  napi_value ends, end;
  napi_create_array_with_length(env, 2, &ends);
  for (uint32_t i = 0; i < 2; i++) {
    napi_create_int32(env, fds[i], &end);
    napi_set_element(env, ends, i, end);
  }
  return ends;
}

// (fd) => 0 | -errno
static napi_value close_on_exec(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  int32_t fd = -1;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  if (count == 1) napi_get_value_int32(env, argument, &fd);
  return fail(env, fcntl(fd, F_SETFD, FD_CLOEXEC) == -1 ? errno : 0);
}

NAPI_MODULE_INIT() {
  napi_value function;
  napi_create_function(env, "pipe", NAPI_AUTO_LENGTH, make_pipe, NULL, &function);
  napi_set_named_property(env, exports, "pipe", function);
  napi_create_function(env, "closeOnExec", NAPI_AUTO_LENGTH, close_on_exec, NULL, &function);
  napi_set_named_property(env, exports, "closeOnExec", function);
  return exports;
}
