// guard: ends all processes of a server when the server dies without a chance to end them itself.
//
// Descriptor 0 is a SOCK_SEQPACKET socket; each packet is one line:
//   + PID START   this process leads a tree. START is its start time in clock ticks since boot, 0 if not known yet. A
//                 child sends this line itself, with 0, before it executes its program, so that no program runs unknown
//                 to the guard. A descriptor sent along is the master of the leader's terminal. The guard keeps it open
//                 so that the death of the server does not hang up the terminal: SIGHUP would end intermediate
//                 parents, and their orphaned children could not be found any more.
//   - PID START   nothing is left of this tree
//   = PID         the server has closed the leader's terminal
//   f PATH        remove this empty directory when the server dies
//   g PATH        do not
//   c PATH        kill all processes of this cgroup and of those below it, and remove them
// At the end of input the guard stops, then kills every tree: the leader's process group, its session, and the
// descendants of both. Stopping first keeps them from forking while the process table is read.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

enum {
  // One more than the largest pid of Linux.
  pid_limit = 4194304 + 1,
  // PATH_MAX bytes and the operation before them.
  longest_line = 4096 + 16,
  // How often the process table is read at most while it still shows new members.
  max_rounds = 20,
  // How often the cgroup is looked at while its processes end, and the time between, in nanoseconds.
  max_looks = 100,
  look_ns = 20000000
};

typedef struct {
  pid_t pid;
  // Its start time, and when the guard was told of it, in clock ticks since boot.
  unsigned long long start, heard;
  int terminal;
} leader;

static leader *leaders;
static size_t leader_count, leader_capacity;
static char **folders;
static size_t folder_count, folder_capacity;
// A server has one.
static char *cgroup;

// Doubles a full array. If memory runs out the guard exits, and the server starts another one.
static void *grow(void *array, size_t count, size_t *capacity, size_t size) {
  if (count < *capacity) return array;
  *capacity = *capacity == 0 ? 64 : 2 * *capacity;
  void *larger = realloc(array, *capacity * size);
  if (larger == NULL) exit(1);
  return larger;
}

static unsigned long long now(void) {
  struct timespec time;
  clock_gettime(CLOCK_BOOTTIME, &time);
  unsigned long long ticks = (unsigned long long)sysconf(_SC_CLK_TCK);
  return (unsigned long long)time.tv_sec * ticks + (unsigned long long)time.tv_nsec * ticks / 1000000000ULL;
}

static leader *leader_of(pid_t pid) {
  for (size_t i = 0; i < leader_count; i++) {
    if (leaders[i].pid == pid) return &leaders[i];
  }
  return NULL;
}

static void close_terminal(leader *of) {
  if (of->terminal != -1) close(of->terminal);
  of->terminal = -1;
}

static void add_leader(pid_t pid, unsigned long long start, int terminal) {
  leader *known = leader_of(pid);
  if (known == NULL) {
    leaders = grow(leaders, leader_count, &leader_capacity, sizeof *leaders);
    known = &leaders[leader_count++];
    *known = (leader){pid, start, 0, -1};
  }
  // Without a start time this is a new process that reuses the pid.
  if (start == 0 || terminal != -1) close_terminal(known);
  known->start = start;
  known->heard = now();
  if (terminal != -1) known->terminal = terminal;
}

static void remove_leader(pid_t pid, unsigned long long start) {
  leader *known = leader_of(pid);
  if (known == NULL || known->start != start) return;
  close_terminal(known);
  *known = leaders[--leader_count];
}

static void add_folder(const char *path) {
  folders = grow(folders, folder_count, &folder_capacity, sizeof *folders);
  folders[folder_count] = strdup(path);
  if (folders[folder_count++] == NULL) exit(1);
}

static void remove_folder(const char *path) {
  for (size_t i = 0; i < folder_count; i++) {
    if (strcmp(folders[i], path) != 0) continue;
    free(folders[i]);
    folders[i] = folders[--folder_count];
    return;
  }
}

static void take(const char *line, int terminal) {
  int pid = 0;
  unsigned long long start = 0;
  if (line[0] == 'c') {
    free(cgroup);
    cgroup = strdup(line + 2);
  } else if (line[0] == 'f') add_folder(line + 2);
  else if (line[0] == 'g') remove_folder(line + 2);
  else if (sscanf(line + 1, " %d %llu", &pid, &start) >= 1 && pid > 1 && pid < pid_limit) {
    if (line[0] == '+') {
      add_leader(pid, start, terminal);
      return;
    }
    if (line[0] == '-') remove_leader(pid, start);
    leader *of = line[0] == '=' ? leader_of(pid) : NULL;
    if (of != NULL) close_terminal(of);
  }
  if (terminal != -1) close(terminal);
}

// Receives one packet and the descriptor sent with it, or -1. Returns 0 at the end of input.
static ssize_t receive(char *line, int *terminal) {
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
  } control;
  struct iovec data = {line, longest_line};
  struct msghdr message = {
      .msg_iov = &data, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
  ssize_t length = recvmsg(0, &message, MSG_CMSG_CLOEXEC);
  *terminal = -1;
  if (length <= 0) return length;
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  if (header != NULL && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
    memcpy(terminal, CMSG_DATA(header), sizeof *terminal);
  }
  return length;
}

typedef struct {
  pid_t parent, group, session;
  unsigned long long start;
} entry;

// Reads /proc/PID/stat. The name, in parentheses, may itself hold spaces and parentheses.
static int read_entry(const char *pid, entry *found) {
  char path[64], text[1024];
  snprintf(path, sizeof path, "/proc/%.32s/stat", pid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd == -1) return 0;
  ssize_t length = read(fd, text, sizeof text - 1);
  close(fd);
  if (length <= 0) return 0;
  text[length] = '\0';
  const char *rest = strrchr(text, ')');
  return rest != NULL && sscanf(rest + 1,
                                " %*c %d %d %d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
                                &found->parent, &found->group, &found->session, &found->start) == 4;
}

static unsigned char is_root[pid_limit], is_member[pid_limit];

// A process that is exiting shows -1 as its group and session.
static int is_in(const unsigned char *set, pid_t pid) { return pid > 0 && pid < pid_limit && set[pid]; }

// Reads the process table once, and adds and stops new members of the trees. Returns whether there were any.
static int stop_new_members(void) {
  int grown = 0;
  DIR *proc = opendir("/proc");
  for (struct dirent *file; proc != NULL && (file = readdir(proc)) != NULL;) {
    int pid = atoi(file->d_name);
    entry found;
    if (pid <= 1 || pid >= pid_limit || is_member[pid] || pid == getpid() || !read_entry(file->d_name, &found)) continue;
    if (!is_in(is_member, found.parent) && !is_in(is_root, found.group) && !is_in(is_root, found.session)) continue;
    is_member[pid] = 1;
    grown = 1;
    kill(pid, SIGSTOP);
  }
  if (proc != NULL) closedir(proc);
  return grown;
}

// Removes a folder unless another server has locked it: sandboxes of that server still need it.
static void remove_unused(const char *path) {
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd == -1) return;
  if (flock(fd, LOCK_EX | LOCK_NB) == 0) rmdir(path);
  close(fd);
}

// Kills all processes of the cgroup at once, where the kernel can do that.
static void kill_cgroup(void) {
  char path[longest_line + 16];
  if (cgroup == NULL) return;
  snprintf(path, sizeof path, "%s/cgroup.kill", cgroup);
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd == -1) return;
  while (write(fd, "1", 1) == -1 && errno == EINTR) {
  }
  close(fd);
}

// Removes a cgroup and those below it. Returns whether it is gone.
static int remove_cgroup(const char *path, int depth) {
  DIR *inner = depth > 8 ? NULL : opendir(path);
  for (struct dirent *entry; inner != NULL && (entry = readdir(inner)) != NULL;) {
    char below[longest_line + 16];
    if (entry->d_type != DT_DIR || entry->d_name[0] == '.') continue;
    int length = snprintf(below, sizeof below, "%s/%s", path, entry->d_name);
    if (length > 0 && (size_t)length < sizeof below) remove_cgroup(below, depth + 1);
  }
  if (inner != NULL) closedir(inner);
  return rmdir(path) == 0 || errno == ENOENT;
}

static void remove_cgroups(void) {
  const struct timespec pause = {.tv_nsec = look_ns};
  for (int look = 0; cgroup != NULL && look < max_looks && !remove_cgroup(cgroup, 0); look++) nanosleep(&pause, NULL);
}

static void end_all(void) {
  kill_cgroup();
  for (size_t i = 0; i < leader_count; i++) {
    char pid[16];
    entry found;
    snprintf(pid, sizeof pid, "%d", leaders[i].pid);
    // The pid was reused: the start time differs, or is later than the guard was told of the leader.
    if (read_entry(pid, &found) &&
        (leaders[i].start == 0 ? found.start > leaders[i].heard : found.start != leaders[i].start)) {
      continue;
    }
    is_root[leaders[i].pid] = is_member[leaders[i].pid] = 1;
    kill(-leaders[i].pid, SIGSTOP);
    kill(leaders[i].pid, SIGSTOP);
  }
  for (int round = 0; round < max_rounds && stop_new_members(); round++) {
  }
  for (pid_t pid = 2; pid < pid_limit; pid++) {
    if (is_root[pid]) kill(-pid, SIGKILL);
    if (is_member[pid]) kill(pid, SIGKILL);
  }
  for (size_t i = 0; i < folder_count; i++) remove_unused(folders[i]);
  remove_cgroups();
}

int main(void) {
  static const int ignored[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE};
  for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++) signal(ignored[i], SIG_IGN);
  for (;;) {
    char line[longest_line + 1];
    int terminal;
    ssize_t length = receive(line, &terminal);
    if (length == -1 && errno == EINTR) continue;
    if (length <= 0) break;
    line[length] = '\0';
    take(line, terminal);
  }
  end_all();
  return 0;
}
