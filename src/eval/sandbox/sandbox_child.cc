#include "eval/sandbox/sandbox_child.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "eval/sandbox/sandbox_landlock.h"

namespace lewis {
namespace {

// Where the program and its keeper find their files.
// 0, 1 and 2 are what they always are.
enum Descriptor { kChannel = 3, kStatus = 4, kFirstFree = 5 };
constexpr const char* kOldRoot = "/old";

[[noreturn]] void stop(ChildStatus status) {
  // Nobody is left to tell when this fails.
  [[maybe_unused]] const ssize_t written = write(kStatus, &status, sizeof status);
  _exit(1);
}

void need(bool worked, SandboxLayer layer) {
  if (!worked) stop({ChildStatus::kFailedLayer, static_cast<int32_t>(layer), errno});
}

void need_start(bool worked) {
  if (!worked) stop({ChildStatus::kFailedStart, 0, errno});
}

// Keeps the files of the plan, at fixed numbers, and closes all others.
bool keep_files(const ChildPlan& plan) {
  constexpr int kAway = 64;
  int files[] = {plan.standard_input, plan.output, plan.output, plan.channel, plan.status};
  for (int& file : files) {
    file = fcntl(file, F_DUPFD, kAway);
    if (file < 0) return false;
  }
  for (int i = 0; i < kFirstFree; ++i) {
    if (dup2(files[i], i) < 0) return false;
  }
  if (syscall(SYS_close_range, kFirstFree, ~0u, 0) == 0) return true;
  for (int i = kFirstFree; i < 65'536; ++i) close(i);  // Linux before 5.9
  return true;
}

bool write_file(const char* path, const char* text) {
  const int file = open(path, O_WRONLY | O_CLOEXEC);
  if (file < 0) return false;
  const bool done = write(file, text, strlen(text)) == static_cast<ssize_t>(strlen(text));
  const int error = errno;
  close(file);
  errno = error;
  return done;
}

// The user who runs lewis, as 65534 of a user namespace with nobody else in it, without
// capabilities after exec.
bool take_user(const ChildPlan& plan) {
  if (plan.change_user) return true;  // at the end: mounts still need the rights
  return write_file("/proc/self/setgroups", "deny") &&
         write_file("/proc/self/uid_map", plan.uid_map.c_str()) &&
         write_file("/proc/self/gid_map", plan.gid_map.c_str());
}

// Read-only with all that is mounted below it.
bool make_read_only(const char* path) {
  mount_attr attributes = {};
  attributes.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
  return syscall(SYS_mount_setattr, AT_FDCWD, path, AT_RECURSIVE, &attributes, sizeof attributes) ==
         0;
}

bool take_step(const RootStep& step) {
  const char* path = step.path.c_str();
  switch (step.kind) {
    case RootStep::Kind::kFolder:
      return mkdir(path, 0755) == 0 || errno == EEXIST;
    case RootStep::Kind::kFile: {
      const int file = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
      return file >= 0 && close(file) == 0;
    }
    case RootStep::Kind::kLink:
      return symlink(step.from.c_str(), path) == 0;
    case RootStep::Kind::kBind:
      return mount(step.from.c_str(), path, nullptr, MS_BIND | MS_REC, nullptr) == 0 &&
             make_read_only(path);
  }
  return false;
}

// A root in memory that shows what the plan says, read-only, and an empty /tmp.
bool build_root(const ChildPlan& plan) {
  constexpr unsigned long kHarmless = MS_NOSUID | MS_NODEV;
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      mount("tmpfs", "/tmp", "tmpfs", kHarmless, "size=1m,mode=755") != 0 ||
      mkdir("/tmp/old", 0700) != 0 || syscall(SYS_pivot_root, "/tmp", "/tmp/old") != 0 ||
      chdir("/") != 0) {
    return false;
  }
  for (const RootStep& step : plan.root) {
    if (!take_step(step)) return false;
  }
  return mkdir("/tmp", 0755) == 0 &&
         mount("tmpfs", "/tmp", "tmpfs", kHarmless | MS_NOEXEC,
               "size=16m,nr_inodes=4096,mode=777") == 0 &&
         umount2(kOldRoot, MNT_DETACH) == 0 && rmdir(kOldRoot) == 0 &&
         mount(nullptr, "/", nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY | kHarmless, nullptr) == 0 &&
         chdir("/tmp") == 0;
}

bool limit(__rlimit_resource resource, uint64_t soft, uint64_t hard) {
  rlimit value = {};
  if (getrlimit(resource, &value) != 0) return false;
  value.rlim_max = std::min<rlim_t>(value.rlim_max, hard);
  value.rlim_cur = std::min<rlim_t>(value.rlim_max, soft);
  return setrlimit(resource, &value) == 0;
}

bool set_limits(const SandboxLimits& limits) {
  // One more second for a program that ignores the first warning.
  return limit(RLIMIT_CPU, limits.cpu_seconds, limits.cpu_seconds + 1) &&
         limit(RLIMIT_AS, limits.memory, limits.memory) &&
         limit(RLIMIT_FSIZE, limits.file_size, limits.file_size) && limit(RLIMIT_CORE, 0, 0) &&
         limit(RLIMIT_NPROC, 0, 0) && limit(RLIMIT_NOFILE, 64, 64) &&
         limit(RLIMIT_MSGQUEUE, 0, 0) && limit(RLIMIT_MEMLOCK, 0, 0);
}

bool set_filter(ChildPlan& plan) {
  for (size_t i : plan.own_pid) plan.filter[i].k = static_cast<uint32_t>(getpid());
  const sock_fprog program = {static_cast<unsigned short>(plan.filter.size()), plan.filter.data()};
  return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
}

bool leave_root_user() {
  return setgid(kNobody) == 0 && syscall(SYS_setgroups, 0, nullptr) == 0 && setuid(kNobody) == 0;
}

// The kernel forgets this wish when a process changes its user.
void end_with(pid_t parent) {
  need_start(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == 0);
  if (getppid() != parent) _exit(1);  // it ended before
}

[[noreturn]] void run_python(ChildPlan& plan, pid_t keeper) {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  signal(SIGPIPE, SIG_DFL);
  fcntl(kStatus, F_SETFD, FD_CLOEXEC);
  if (plan.change_user) need(leave_root_user(), SandboxLayer::kUser);
  end_with(keeper);
  if (plan.has(SandboxLayer::kLimits)) need(set_limits(plan.limits), SandboxLayer::kLimits);
  if (plan.has(SandboxLayer::kNoNewPrivileges)) {
    need(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, SandboxLayer::kNoNewPrivileges);
  }
  // What the mount namespace would hide is at least refused.
  if (!plan.has(SandboxLayer::kMounts) && plan.has(SandboxLayer::kNoNewPrivileges))
    need_start(restrict_files(plan));
  if (plan.has(SandboxLayer::kFilter)) need(set_filter(plan), SandboxLayer::kFilter);
  execve(plan.arguments[0], const_cast<char* const*>(plan.arguments.data()),
         const_cast<char* const*>(plan.environment.data()));
  stop({ChildStatus::kFailedStart, 0, errno});
}

// The first process of a pid namespace inherits all orphans; it waits for the one that it started.
[[noreturn]] void wait_for(pid_t program) {
  for (int i = 0; i < kStatus; ++i) close(i);  // the other ends shall see the program's end
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);          // its /proc/PID is closed to the program's user
  ChildStatus status;
  rusage usage = {};
  for (pid_t ended = 0; ended != program;) {
    ended = wait4(-1, &status.value, 0, &usage);
    if (ended < 0 && errno != EINTR) stop({ChildStatus::kFailedStart, 0, errno});
  }
  const auto millis = [](const timeval& t) { return t.tv_sec * 1000 + t.tv_usec / 1000; };
  status.cpu_millis = static_cast<int32_t>(millis(usage.ru_utime) + millis(usage.ru_stime));
  stop(status);
}

}  // namespace

int namespace_flags(const ChildPlan& plan) {
  int flags = 0;
  if (plan.has(SandboxLayer::kUser) && !plan.change_user) flags |= CLONE_NEWUSER;
  if (plan.has(SandboxLayer::kMounts)) flags |= CLONE_NEWNS;
  if (plan.has(SandboxLayer::kPids)) flags |= CLONE_NEWPID;
  if (plan.has(SandboxLayer::kNetwork)) flags |= CLONE_NEWNET;
  if (plan.has(SandboxLayer::kIpc)) flags |= CLONE_NEWIPC | CLONE_NEWUTS;
  return flags;
}

pid_t clone_process(int flags) {
  return static_cast<pid_t>(
      syscall(SYS_clone, flags | SIGCHLD, nullptr, nullptr, nullptr, nullptr));
}

void run_child(ChildPlan& plan) {
  if (!keep_files(plan)) _exit(1);
  setsid();
  need_start(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == 0);
  if (plan.has(SandboxLayer::kUser)) need(take_user(plan), SandboxLayer::kUser);
  if (plan.has(SandboxLayer::kMounts)) {
    need(build_root(plan), SandboxLayer::kMounts);
  } else {
    need_start(chdir(plan.folder.c_str()) == 0);
  }
  if (plan.has(SandboxLayer::kIpc)) need(sethostname("sandbox", 7) == 0, SandboxLayer::kIpc);
  const pid_t keeper = getpid();
  const pid_t program = clone_process(0);
  need_start(program >= 0);
  if (program == 0) run_python(plan, keeper);
  wait_for(program);
}

}  // namespace lewis
