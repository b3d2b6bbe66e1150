// System calls towards what a server runs under: a service manager, or a container whose first process it is.
//
// notify(address, text):  sends a datagram to a unix socket, without waiting. Node.js has no such sockets.
// passedSocket(fd):       finds the address of a listening socket that this process has inherited, and keeps children
//                         from inheriting it.
// anyEnded():             finds a child of the main thread that has ended and was not waited for.
// hasEnded(pid):          returns whether this child of the main thread is such a one.
// reap(pid):              waits for it, and forgets its status.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <node_api.h>
#include <stddef.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SOCK_CLOEXEC
#define SOCK_CLOEXEC 0
#endif
#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

// Children of other threads belong to these: a thread that starts a program waits for it if that fails.
#ifdef __WNOTHREAD
enum { ended_here = WEXITED | WNOHANG | WNOWAIT | __WNOTHREAD };
#else
enum { ended_here = WEXITED | WNOHANG | WNOWAIT };
#endif

static napi_value number(napi_env env, int64_t value) {
  napi_value result;
  napi_create_int64(env, value, &result);
  return result;
}

static int32_t integer(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  int32_t result = -1;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  if (count == 1) napi_get_value_int32(env, argument, &result);
  return result;
}

// (address, text) => 0 | -errno. An address that begins with @ has no file.
static napi_value notify(napi_env env, napi_callback_info info) {
  size_t count = 2, length = 0, size = 0;
  napi_value given[2];
  char text[4096];
  struct sockaddr_un to = {.sun_family = AF_UNIX};
  napi_get_cb_info(env, info, &count, given, NULL, NULL);
  if (count != 2 || napi_get_value_string_utf8(env, given[0], NULL, 0, &length) != napi_ok) return number(env, -EINVAL);
  if (length >= sizeof to.sun_path) return number(env, -ENAMETOOLONG);
  napi_get_value_string_utf8(env, given[0], to.sun_path, sizeof to.sun_path, &length);
  if (napi_get_value_string_utf8(env, given[1], NULL, 0, &size) != napi_ok) return number(env, -EINVAL);
  if (size >= sizeof text) return number(env, -EMSGSIZE);
  napi_get_value_string_utf8(env, given[1], text, sizeof text, &size);
  if (to.sun_path[0] == '@') to.sun_path[0] = '\0';
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd == -1) return number(env, -errno);
  socklen_t all = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
  ssize_t sent = sendto(fd, text, size, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&to, all);
  int error = sent == -1 ? errno : 0;
  close(fd);
  return number(env, -error);
}

// (fd) => [host or path, port; -1 for a unix socket] | -errno: EINVAL if it does not listen, EPROTOTYPE if it is
// not a stream, EAFNOSUPPORT if it is neither TCP nor unix. The path of a socket without a file begins with @.
static napi_value passed_socket(napi_env env, napi_callback_info info) {
  int32_t fd = integer(env, info);
  int type = 0, listens = 0;
  socklen_t size = sizeof type;
  if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == -1) return number(env, -errno);
  if (type != SOCK_STREAM) return number(env, -EPROTOTYPE);
#ifdef SO_ACCEPTCONN
  size = sizeof listens;
  if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == -1) return number(env, -errno);
  if (!listens) return number(env, -EINVAL);
#endif
  union {
    struct sockaddr any;
    struct sockaddr_in four;
    struct sockaddr_in6 six;
    struct sockaddr_un path;
    struct sockaddr_storage space;
  } address;
  memset(&address, 0, sizeof address);
  size = sizeof address;
  if (getsockname(fd, &address.any, &size) == -1) return number(env, -errno);
  char name[sizeof address.path.sun_path + 1] = "";
  size_t length = 0;
  int64_t port = -1;
  switch (address.any.sa_family) {
    case AF_INET:
      inet_ntop(AF_INET, &address.four.sin_addr, name, sizeof name);
      length = strlen(name);
      port = ntohs(address.four.sin_port);
      break;
    case AF_INET6:
      inet_ntop(AF_INET6, &address.six.sin6_addr, name, sizeof name);
      length = strlen(name);
      port = ntohs(address.six.sin6_port);
      break;
    case AF_UNIX:
      length = size - offsetof(struct sockaddr_un, sun_path);
      memcpy(name, address.path.sun_path, length);
      if (name[0] == '\0') name[0] = '@';
      else length = strlen(name);
      break;
    default:
      return number(env, -EAFNOSUPPORT);
  }
  if (fcntl(fd, F_SETFD, FD_CLOEXEC) == -1) return number(env, -errno);
  napi_value result, text;
  napi_create_array_with_length(env, 2, &result);
  napi_create_string_utf8(env, name, length, &text);
  napi_set_element(env, result, 0, text);
  napi_set_element(env, result, 1, number(env, port));
  return result;
}

// () => pid, 0 if there is none
static napi_value any_ended(napi_env env, napi_callback_info info) {
  (void)info;
  siginfo_t found = {0};
  return number(env, waitid(P_ALL, 0, &found, ended_here) == -1 ? 0 : found.si_pid);
}

// (pid) => boolean
static napi_value has_ended(napi_env env, napi_callback_info info) {
  int32_t pid = integer(env, info);
  siginfo_t found = {0};
  napi_value result;
  napi_get_boolean(env, pid > 0 && waitid(P_PID, (id_t)pid, &found, ended_here) == 0 && found.si_pid == pid, &result);
  return result;
}

// (pid) => pid | -errno, 0 if it has not ended
static napi_value reap(napi_env env, napi_callback_info info) {
  int32_t pid = integer(env, info);
  if (pid <= 0) return number(env, -EINVAL);
  pid_t got = waitpid(pid, NULL, WNOHANG);
  return number(env, got == -1 ? -errno : got);
}

static void export(napi_env env, napi_value exports, const char *name, napi_callback callback) {
  napi_value function;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, NULL, &function);
  napi_set_named_property(env, exports, name, function);
}

NAPI_MODULE_INIT() {
  export(env, exports, "notify", notify);
  export(env, exports, "passedSocket", passed_socket);
  export(env, exports, "anyEnded", any_ended);
  export(env, exports, "hasEnded", has_ended);
  export(env, exports, "reap", reap);
  return exports;
}
