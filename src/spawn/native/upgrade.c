// What a server needs to be replaced by another version within its process. Loaded only then.
//
// memory(name):          makes a file without a name, for the state of the server.
// duplicate(fd):         duplicates a descriptor.
// secret(bytes):         makes a socket that holds bytes. Unlike a file or a pipe, nobody can open it through /proc.
// peek(fd):              reads them; they stay there.
// leaveSignals(), takeSignals(): give SIGTERM and SIGINT their default action, and undo that.
// exec(...):             executes a program in this process. Only the given descriptors and 0 to 2 stay open.
// arm(...):              executes a program (the previous version) as soon as this one fails, or does not report success
//                        in time.
// disarm():              reports success.
// closeOnExec(fds):      keeps children from inheriting what was handed over.
// giveUp(reason):        executes the program of arm() now.
//
// Every exec is a call of the main thread, as far as it still runs: when a thread ends, children that it has started are
// sent the signal of PR_SET_PDEATHSIG, and an exec by another thread ends the main thread.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#ifdef __linux__
#include <linux/close_range.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#endif
#include <node_api.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

// The variable that tells the program what it continues. No program but the next one gets it.
static const char variable[] = "EXEC_SERVER_HANDOVER=";

// The most bytes that one socket can hold for peek().
enum { max_secret = 128 * 1024 };

// How long the main thread may take to execute the program once it was told to, in milliseconds.
enum { main_thread_ms = 1000 };

enum { max_reason = 200 };

// A program to execute.
typedef struct {
  char *file, **argv, **envp;
  int *kept;
  size_t kept_count;
} plan;

static napi_value number(napi_env env, int64_t value) {
  napi_value result;
  napi_create_int64(env, value, &result);
  return result;
}

static int32_t integer(napi_env env, napi_value value, int32_t otherwise) {
  int32_t result = otherwise;
  napi_get_value_int32(env, value, &result);
  return result;
}

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

// The environment of this process with the variable, which is its first entry. With room for a reason after the value.
static char **environment(const char *value) {
  size_t count = 0, length = strlen(variable);
  while (environ != NULL && environ[count] != NULL) count++;
  char **result = calloc(count + 2, sizeof *result);
  if (result == NULL) return NULL;
  size_t size = length + strlen(value) + 1 + max_reason + 1;
  result[0] = calloc(1, size);
  if (result[0] != NULL) snprintf(result[0], size, "%s%s", variable, value);
  for (size_t i = 0, next = 1; result[next - 1] != NULL && i < count; i++) {
    if (strncmp(environ[i], variable, length) != 0) result[next++] = strdup(environ[i]);
  }
  return result;
}

static int *numbers(napi_env env, napi_value array, size_t *count) {
  uint32_t length = 0;
  if (napi_get_array_length(env, array, &length) != napi_ok) return NULL;
  int *result = calloc((size_t)length + 1, sizeof *result);
  for (uint32_t i = 0; result != NULL && i < length; i++) {
    napi_value element;
    napi_get_element(env, array, i, &element);
    result[i] = integer(env, element, -1);
  }
  *count = length;
  return result;
}

static void free_plan(plan *of) {
  free(of->file);
  free_texts(of->argv);
  free_texts(of->envp);
  free(of->kept);
  memset(of, 0, sizeof *of);
}

// Reads (file, argv, value of the variable, kept descriptors). Returns 0 or an error number.
static int read_plan(napi_env env, const napi_value *arguments, plan *to) {
  char *value = text(env, arguments[2]);
  memset(to, 0, sizeof *to);
  to->file = text(env, arguments[0]);
  to->argv = texts(env, arguments[1]);
  to->envp = value == NULL ? NULL : environment(value);
  to->kept = numbers(env, arguments[3], &to->kept_count);
  free(value);
  if (to->file != NULL && to->argv != NULL && to->envp != NULL && to->kept != NULL) return 0;
  free_plan(to);
  return EINVAL;
}

static bool is_kept(const plan *of, int fd) {
  if (fd <= STDERR_FILENO) return true;
  for (size_t i = 0; i < of->kept_count; i++) {
    if (of->kept[i] == fd) return true;
  }
  return false;
}

// The flags of a descriptor as they were.
typedef struct {
  int fd, flags;
} changed;

// Makes every descriptor but the kept ones close on exec. Node.js has made 0 to 2 close on exec too. Returns what was
// changed, to be undone, and its count; NULL without memory or list of descriptors.
static changed *sort_descriptors(const plan *of, size_t *count) {
  size_t capacity = 64;
  changed *all = malloc(capacity * sizeof *all);
#ifdef __linux__
  DIR *list = opendir("/proc/self/fd");
#else
  DIR *list = opendir("/dev/fd");
#endif
  *count = 0;
  for (struct dirent *entry; all != NULL && list != NULL && (entry = readdir(list)) != NULL;) {
    int fd = entry->d_name[0] == '.' ? -1 : atoi(entry->d_name);
    int flags = fd == -1 || fd == dirfd(list) ? -1 : fcntl(fd, F_GETFD);
    int wanted = is_kept(of, fd) ? 0 : FD_CLOEXEC;
    if (flags == -1 || flags == wanted) continue;
    if (*count == capacity) {
      changed *larger = realloc(all, 2 * capacity * sizeof *all);
      if (larger == NULL) break;
      all = larger;
      capacity *= 2;
    }
    all[(*count)++] = (changed){fd, flags};
    fcntl(fd, F_SETFD, wanted);
  }
  if (list != NULL) closedir(list);
  if (list != NULL) return all;
  free(all);
  return NULL;
}

static void unblock_signals(sigset_t *before) {
  sigset_t none;
  sigemptyset(&none);
  pthread_sigmask(SIG_SETMASK, &none, before);
}

// (file, argv, value, kept) => -errno, if it returns. Nothing has changed then.
static napi_value exec(napi_env env, napi_callback_info info) {
  size_t count = 4;
  napi_value arguments[4];
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  plan of;
  int error = count == 4 ? read_plan(env, arguments, &of) : EINVAL;
  if (error != 0) return number(env, -error);
  size_t changes = 0;
  changed *undo = sort_descriptors(&of, &changes);
  if (undo == NULL) error = errno == 0 ? ENOMEM : errno;
  else {
    sigset_t before;
    unblock_signals(&before);
    execve(of.file, of.argv, of.envp);
    error = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    for (size_t i = 0; i < changes; i++) fcntl(undo[i].fd, F_SETFD, undo[i].flags);
  }
  free(undo);
  free_plan(&of);
  return number(env, -error);
}

static const int ending[] = {SIGTERM, SIGINT};
enum { ending_count = sizeof ending / sizeof *ending };
static struct sigaction ending_before[ending_count];
static bool signals_are_left;

// () => 0
static napi_value leave_signals(napi_env env, napi_callback_info info) {
  (void)info;
  const struct sigaction by_default = {.sa_handler = SIG_DFL};
  for (int i = 0; i < ending_count && !signals_are_left; i++) sigaction(ending[i], &by_default, &ending_before[i]);
  signals_are_left = true;
  return number(env, 0);
}

// () => 0
static napi_value take_signals(napi_env env, napi_callback_info info) {
  (void)info;
  for (int i = 0; i < ending_count && signals_are_left; i++) sigaction(ending[i], &ending_before[i], NULL);
  signals_are_left = false;
  return number(env, 0);
}

// What this process becomes if it fails. Not changed while it is armed.
static plan fallback;
// 1: armed. 2: a failure was noticed, and the program is about to be executed.
static atomic_int armed;
static pthread_t main_thread, deadline_thread;
static pthread_mutex_t deadline_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t deadline_change;
static int64_t deadline_ms;
static char alternate_stack[65536];
static stack_t stack_before;

static const int fatal[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGSYS};
enum { fatal_count = sizeof fatal / sizeof *fatal };
static struct sigaction fatal_before[fatal_count], told_before;

// The signal that tells the main thread to execute the program.
static int told(void) { return SIGRTMAX - 2; }

// Executes the program. System calls only: this also runs in handlers of signals. Returns if that is not possible.
static void become(void) {
#ifdef CLOSE_RANGE_CLOEXEC
  syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC);
#endif
  for (int fd = 0; fd <= STDERR_FILENO; fd++) fcntl(fd, F_SETFD, 0);
  for (size_t i = 0; i < fallback.kept_count; i++) fcntl(fallback.kept[i], F_SETFD, 0);
  sigset_t none;
  sigemptyset(&none);
  // Not pthread_sigmask(): the next image inherits signals 32 and 33 too, which that function leaves alone.
  sigprocmask(SIG_SETMASK, &none, NULL);
  execve(fallback.file, fallback.argv, fallback.envp);
}

// Appends the reason to the variable, after a comma.
static void give_reason(const char *reason) {
  char *to = fallback.envp[0] + strlen(fallback.envp[0]);
  *to++ = ',';
  for (int i = 0; i < max_reason - 2 && reason[i] != '\0'; i++) *to++ = reason[i];
  *to = '\0';
}

// Takes the turn to execute the program. Only one failure has it.
static bool take_turn(void) {
  int expected = 1;
  return atomic_compare_exchange_strong(&armed, &expected, 2);
}

static void on_told(int signum) {
  (void)signum;
  if (atomic_load(&armed) == 2) become();
}

// Lets the main thread execute the program; if it does not, this thread does.
static void become_elsewhere(void) {
  const struct timespec patience = {main_thread_ms / 1000, main_thread_ms % 1000 * 1000000L};
  if (pthread_equal(pthread_self(), main_thread)) return become();
  if (pthread_kill(main_thread, told()) == 0) nanosleep(&patience, NULL);
  become();
}

static void on_fatal(int signum) {
  char reason[] = "signal 00";
  size_t end = sizeof reason - 1;
  reason[end - 2] = (char)('0' + signum / 10);
  reason[end - 1] = (char)('0' + signum % 10);
  if (take_turn()) {
    give_reason(reason);
    become_elsewhere();
  }
  // Another thread is at it, or it is not possible: the signal does what it does by default.
  signal(signum, SIG_DFL);
  raise(signum);
}

static void *watch_deadline(void *unused) {
  (void)unused;
  struct timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_sec += deadline_ms / 1000;
  until.tv_nsec += deadline_ms % 1000 * 1000000L;
  if (until.tv_nsec >= 1000000000L) {
    until.tv_sec++;
    until.tv_nsec -= 1000000000L;
  }
  int result = 0;
  pthread_mutex_lock(&deadline_lock);
  while (atomic_load(&armed) == 1 && result != ETIMEDOUT) {
#ifdef __linux__
    result = pthread_cond_timedwait(&deadline_change, &deadline_lock, &until);
#else
    struct timespec now, rest;
    clock_gettime(CLOCK_MONOTONIC, &now);
    rest.tv_sec = until.tv_sec - now.tv_sec;
    rest.tv_nsec = until.tv_nsec - now.tv_nsec;
    if (rest.tv_nsec < 0) {
      rest.tv_sec--;
      rest.tv_nsec += 1000000000L;
    }
    result = rest.tv_sec < 0 ? ETIMEDOUT : pthread_cond_timedwait_relative_np(&deadline_change, &deadline_lock, &rest);
#endif
  }
  pthread_mutex_unlock(&deadline_lock);
  if (result == ETIMEDOUT && take_turn()) {
    give_reason("it has not taken over in time");
    become_elsewhere();
    _exit(1);
  }
  return NULL;
}

static int start_deadline(void) {
  pthread_condattr_t of_change;
  pthread_attr_t of_thread;
  sigset_t all, before;
  pthread_condattr_init(&of_change);
#ifdef __linux__
  pthread_condattr_setclock(&of_change, CLOCK_MONOTONIC);
#endif
  pthread_cond_init(&deadline_change, &of_change);
  pthread_condattr_destroy(&of_change);
  pthread_attr_init(&of_thread);
  pthread_attr_setstacksize(&of_thread, 256 * 1024);
  // The thread inherits the mask: signals are for others.
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int error = pthread_create(&deadline_thread, &of_thread, watch_deadline, NULL);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&of_thread);
  return error;
}

// (file, argv, value, kept, ms) => 0 | -errno
static napi_value arm(napi_env env, napi_callback_info info) {
  size_t count = 5;
  napi_value arguments[5];
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  if (count != 5 || atomic_load(&armed) != 0) return number(env, -EINVAL);
  int error = read_plan(env, arguments, &fallback);
  if (error != 0) return number(env, -error);
  napi_get_value_int64(env, arguments[4], &deadline_ms);
  main_thread = pthread_self();
  const stack_t alternate = {.ss_sp = alternate_stack, .ss_size = sizeof alternate_stack};
  sigaltstack(&alternate, &stack_before);
  atomic_store(&armed, 1);
  struct sigaction action = {.sa_handler = on_told, .sa_flags = SA_ONSTACK};
  sigaction(told(), &action, &told_before);
  action.sa_handler = on_fatal;
  for (int i = 0; i < fatal_count; i++) sigaction(fatal[i], &action, &fatal_before[i]);
  error = start_deadline();
  return number(env, -error);
}

// (fds) => 0
static napi_value set_close_on_exec(napi_env env, napi_callback_info info) {
  size_t count = 1, length = 0;
  napi_value argument;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  int *fds = count == 1 ? numbers(env, argument, &length) : NULL;
  for (size_t i = 0; fds != NULL && i < length; i++) fcntl(fds[i], F_SETFD, FD_CLOEXEC);
  free(fds);
  return number(env, 0);
}

// () => 0. From now on a failure is one of this program.
static napi_value disarm(napi_env env, napi_callback_info info) {
  (void)info;
  int expected = 1;
  if (!atomic_compare_exchange_strong(&armed, &expected, 0)) {
    // Too late: this process is about to become the other program.
    while (expected == 2) pause();
    return number(env, 0);
  }
  pthread_mutex_lock(&deadline_lock);
  pthread_cond_signal(&deadline_change);
  pthread_mutex_unlock(&deadline_lock);
  pthread_join(deadline_thread, NULL);
  for (int i = 0; i < fatal_count; i++) sigaction(fatal[i], &fatal_before[i], NULL);
  sigaction(told(), &told_before, NULL);
  sigaltstack(&stack_before, NULL);
  free_plan(&fallback);
  return number(env, 0);
}

// (reason) => -errno, if it returns; 0 if it is not armed
static napi_value give_up(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  char *reason = count == 1 ? text(env, argument) : NULL;
  if (reason == NULL || !take_turn()) {
    free(reason);
    return number(env, 0);
  }
  give_reason(reason);
  become();
  return number(env, -errno);
}

// (name) => fd | -errno. Nobody but the server can read it, as far as its mode decides.
static napi_value memory(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  char *name = count == 1 ? text(env, argument) : NULL;
  if (name == NULL) return number(env, -EINVAL);
#ifdef __linux__
  int fd = memfd_create(name, MFD_CLOEXEC);
#else
  char path[] = "/tmp/exec-server.XXXXXX";
  int fd = mkstemp(path);
  if (fd != -1) {
    unlink(path);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
  }
#endif
  int error = fd == -1 ? errno : 0;
  free(name);
  if (fd != -1) fchmod(fd, 0);
  return number(env, error == 0 ? fd : -error);
}

// (fd) => fd | -errno
static napi_value duplicate(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  int fd = count == 1 ? fcntl(integer(env, argument, -1), F_DUPFD_CLOEXEC, 3) : -1;
  return number(env, fd == -1 ? -errno : fd);
}

// (bytes) => fd | -errno; -EMSGSIZE: they are too many
static napi_value secret(napi_env env, napi_callback_info info) {
  size_t count = 1, length = 0;
  napi_value argument;
  void *bytes = NULL;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  if (count != 1 || napi_get_buffer_info(env, argument, &bytes, &length) != napi_ok) return number(env, -EINVAL);
  if (length > max_secret) return number(env, -EMSGSIZE);
  int fds[2], size = 2 * max_secret;
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == -1) return number(env, -errno);
  fcntl(fds[1], F_SETFD, FD_CLOEXEC);
  setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
  ssize_t sent = send(fds[0], bytes, length, MSG_DONTWAIT);
  int error = sent == -1 ? errno : (size_t)sent == length ? 0 : EMSGSIZE;
  close(fds[0]);
  if (error != 0) close(fds[1]);
  return number(env, error == 0 ? fds[1] : -error);
}

// (fd) => bytes | -errno
static napi_value peek(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument, result;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  char *bytes = malloc(max_secret);
  if (bytes == NULL) return number(env, -ENOMEM);
  ssize_t got = recv(count == 1 ? integer(env, argument, -1) : -1, bytes, max_secret, MSG_PEEK | MSG_DONTWAIT);
  int error = got == -1 ? errno : 0;
  if (error == 0) napi_create_buffer_copy(env, (size_t)got, bytes, NULL, &result);
  memset(bytes, 0, max_secret);
  free(bytes);
  return error == 0 ? result : number(env, -error);
}

static void export(napi_env env, napi_value exports, const char *name, napi_callback callback) {
  napi_value function;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, NULL, &function);
  napi_set_named_property(env, exports, name, function);
}

NAPI_MODULE_INIT() {
  export(env, exports, "memory", memory);
  export(env, exports, "duplicate", duplicate);
  export(env, exports, "secret", secret);
  export(env, exports, "peek", peek);
  export(env, exports, "leaveSignals", leave_signals);
  export(env, exports, "takeSignals", take_signals);
  export(env, exports, "exec", exec);
  export(env, exports, "arm", arm);
  export(env, exports, "disarm", disarm);
  export(env, exports, "giveUp", give_up);
  export(env, exports, "closeOnExec", set_close_on_exec);
  return exports;
}
