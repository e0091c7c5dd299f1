#include "eval/sandbox/sandbox_filter.h"

#include <asm/ioctls.h>
#include <asm/sockios.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstddef>

namespace lewis {
namespace {

// The one place outside compute/ that depends on the machine: numbers of system calls, and those
// that only the older of the two has.
#if defined(__x86_64__)
constexpr uint32_t kMachine = AUDIT_ARCH_X86_64;
constexpr int kOlderAllowed[] = {
    SYS_open,  SYS_stat,   SYS_lstat,   SYS_access,       SYS_readlink,   SYS_getdents, SYS_mkdir,
    SYS_rmdir, SYS_unlink, SYS_rename,  SYS_symlink,      SYS_link,       SYS_chmod,    SYS_dup2,
    SYS_pipe,  SYS_poll,   SYS_select,  SYS_epoll_create, SYS_epoll_wait, SYS_eventfd,  SYS_alarm,
    SYS_pause, SYS_time,   SYS_getpgrp, SYS_arch_prctl,   SYS_utimes,     SYS_creat};
constexpr int kOlderKilled[] = {SYS_fork, SYS_vfork};
#elif defined(__aarch64__)
constexpr uint32_t kMachine = AUDIT_ARCH_AARCH64;
constexpr int kOlderAllowed[] = {SYS_openat};  // it never had them
constexpr int kOlderKilled[] = {SYS_ptrace};
#else
constexpr uint32_t kMachine = 0;
constexpr int kOlderAllowed[] = {SYS_openat};
constexpr int kOlderKilled[] = {SYS_ptrace};
#endif

constexpr int kAllowed[] = {
    // files
    SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_pread64, SYS_pwrite64, SYS_lseek, SYS_openat,
    SYS_close, SYS_fstat, SYS_newfstatat, SYS_statx, SYS_faccessat, SYS_faccessat2, SYS_readlinkat,
    SYS_getdents64, SYS_getcwd, SYS_chdir, SYS_fchdir, SYS_mkdirat, SYS_unlinkat, SYS_renameat,
    SYS_renameat2, SYS_symlinkat, SYS_linkat, SYS_fchmod, SYS_fchmodat, SYS_truncate, SYS_ftruncate,
    SYS_fsync, SYS_fdatasync, SYS_utimensat, SYS_umask, SYS_dup, SYS_dup3, SYS_pipe2, SYS_flock,
    SYS_ppoll, SYS_pselect6, SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_pwait, SYS_eventfd2,
    SYS_copy_file_range, SYS_sendfile, SYS_statfs, SYS_fstatfs, SYS_fadvise64, SYS_close_range,
    // on a pair of sockets within the program, as asyncio makes; see socketpair below
    SYS_sendto, SYS_recvfrom, SYS_sendmsg, SYS_recvmsg, SYS_shutdown, SYS_getsockname,
    SYS_getsockopt, SYS_setsockopt,
    // memory
    SYS_mmap, SYS_mprotect, SYS_munmap, SYS_mremap, SYS_madvise, SYS_brk, SYS_msync,
    // signals to itself, clocks
    SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_rt_sigpending, SYS_sigaltstack,
    SYS_setitimer, SYS_getitimer, SYS_nanosleep, SYS_clock_nanosleep, SYS_clock_gettime,
    SYS_clock_getres, SYS_gettimeofday, SYS_times, SYS_getrusage, SYS_restart_syscall,
    // what it is; the first execve is ours, and a program that calls another can only fail
    SYS_execve, SYS_exit, SYS_exit_group, SYS_getpid, SYS_getppid, SYS_gettid, SYS_getuid,
    SYS_geteuid, SYS_getgid, SYS_getegid, SYS_getgroups, SYS_getresuid, SYS_getresgid, SYS_getpgid,
    SYS_getsid, SYS_uname, SYS_sysinfo, SYS_getrandom, SYS_getrlimit, SYS_sched_yield,
    SYS_sched_getaffinity, SYS_getpriority,
    // the C library's own
    SYS_futex, SYS_set_robust_list, SYS_set_tid_address, SYS_rseq, SYS_membarrier};

constexpr int kKilled[] = {
    // other processes
    SYS_kill, SYS_tkill, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo, SYS_pidfd_open,
    SYS_pidfd_send_signal, SYS_pidfd_getfd, SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev,
    SYS_process_madvise, SYS_kcmp, SYS_move_pages, SYS_migrate_pages, SYS_get_robust_list,
    SYS_setsid, SYS_setpgid, SYS_execveat,
    // signals by a way around: to a thread by its number, when a queue or a folder changes
    SYS_timer_create, SYS_mq_open, SYS_mq_notify, SYS_fanotify_init,
    // the network
    SYS_socket, SYS_connect, SYS_bind, SYS_listen, SYS_accept, SYS_accept4,
    // the system
    SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot, SYS_unshare, SYS_setns, SYS_open_tree,
    SYS_move_mount, SYS_fsopen, SYS_fsmount, SYS_mount_setattr, SYS_open_by_handle_at, SYS_bpf,
    SYS_perf_event_open, SYS_userfaultfd, SYS_io_uring_setup, SYS_keyctl, SYS_add_key,
    SYS_request_key, SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_kexec_load,
    SYS_reboot, SYS_swapon, SYS_swapoff, SYS_acct, SYS_quotactl, SYS_sethostname, SYS_setdomainname,
    SYS_settimeofday, SYS_clock_settime, SYS_setuid, SYS_setgid, SYS_setreuid, SYS_setregid,
    SYS_setresuid, SYS_setresgid, SYS_setgroups, SYS_capset, SYS_mknodat, SYS_shmget, SYS_msgget,
    SYS_semget, SYS_memfd_create};

constexpr uint32_t kSocketType = 0xf;  // the other bits are flags
constexpr uint32_t kAllow = SECCOMP_RET_ALLOW, kKill = SECCOMP_RET_KILL_PROCESS;
constexpr uint32_t answer(int error) { return SECCOMP_RET_ERRNO | static_cast<uint32_t>(error); }

void add(ChildPlan& plan, uint16_t code, uint32_t value, uint8_t yes = 0, uint8_t no = 0) {
  plan.filter.push_back({code, yes, no, value});
}

void load(ChildPlan& plan, size_t offset) {
  add(plan, BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(offset));
}

// The low half of an argument; both machines are little-endian.
void load_argument(ChildPlan& plan, size_t i) { load(plan, offsetof(seccomp_data, args) + 8 * i); }

void give(ChildPlan& plan, uint32_t action) { add(plan, BPF_RET | BPF_K, action); }

// If the loaded value is `value`, `action`; else goes on.
void if_equal(ChildPlan& plan, uint32_t value, uint32_t action) {
  add(plan, BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
  give(plan, action);
}

void if_own_pid(ChildPlan& plan, uint32_t action) {
  plan.own_pid.push_back(plan.filter.size());
  if_equal(plan, 0, action);
}

// The rule of one call that depends on its arguments: `rule` must end in an action.
template <typename Rule>
void add_rule(ChildPlan& plan, int call, Rule rule) {
  const size_t jump = plan.filter.size();
  add(plan, BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(call));
  rule();
  plan.filter[jump].jf = static_cast<uint8_t>(plan.filter.size() - jump - 1);
}

// Locks, flags and copies of descriptors pass. A descriptor that sends signals may send them to any
// process of the user, with the kernel as the sender: F_SETOWN, F_SETSIG and O_ASYNC end the
// program, and so do leases and notices of folders, which send signals too.
void add_rule_on_fcntl(ChildPlan& plan) {
  add_rule(plan, SYS_fcntl, [&] {
    load_argument(plan, 1);
    for (uint32_t command : {F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_GETLK, F_SETLK,
                             F_SETLKW, F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW}) {
      if_equal(plan, command, kAllow);
    }
    for (uint32_t command : {F_SETOWN, F_SETOWN_EX, F_SETSIG, F_SETLEASE, F_NOTIFY}) {
      if_equal(plan, command, kKill);
    }
    add(plan, BPF_JMP | BPF_JEQ | BPF_K, F_SETFL, 1, 0);
    give(plan, answer(EINVAL));
    load_argument(plan, 2);
    add(plan, BPF_JMP | BPF_JSET | BPF_K, O_ASYNC, 0, 1);
    give(plan, kKill);
    give(plan, kAllow);
  });
}

void add_rules_on_arguments(ChildPlan& plan) {
  add_rule_on_fcntl(plan);
  add_rule(plan, SYS_tgkill, [&] {  // abort() and raise()
    load_argument(plan, 0);
    if_own_pid(plan, kAllow);
    give(plan, kKill);
  });
  add_rule(plan, SYS_prlimit64, [&] {
    load_argument(plan, 0);
    if_own_pid(plan, kAllow);
    if_equal(plan, 0, kAllow);
    give(plan, kKill);
  });
  add_rule(plan, SYS_ioctl, [&] {  // isatty, not inherited, not blocking
    load_argument(plan, 1);
    for (uint32_t request : {TCGETS, TIOCGWINSZ, FIOCLEX, FIONCLEX, FIONBIO, FIONREAD}) {
      if_equal(plan, request, kAllow);
    }
    // signals to others, as by fcntl, and letters typed into a terminal
    for (uint32_t request : {FIOASYNC, FIOSETOWN, SIOCSPGRP, TIOCSPGRP, TIOCSTI, TIOCSCTTY}) {
      if_equal(plan, request, kKill);
    }
    give(plan, answer(ENOTTY));
  });
  add_rule(plan, SYS_socketpair, [&] {  // connected: nothing else can be reached through it
    load_argument(plan, 0);
    add(plan, BPF_JMP | BPF_JEQ | BPF_K, AF_UNIX, 1, 0);
    give(plan, kKill);
    load_argument(plan, 1);
    add(plan, BPF_ALU | BPF_AND | BPF_K, kSocketType);
    if_equal(plan, SOCK_STREAM, kAllow);
    give(plan, kKill);
  });
  add_rule(plan, SYS_clone, [&] {  // Python says that it cannot start a thread
    load_argument(plan, 0);
    add(plan, BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 0, 1);
    give(plan, answer(EAGAIN));
    give(plan, kKill);
  });
}

}  // namespace

bool make_filter(ChildPlan& plan) {
  if (kMachine == 0) return false;
  load(plan, offsetof(seccomp_data, arch));
  add(plan, BPF_JMP | BPF_JEQ | BPF_K, kMachine, 1, 0);
  give(plan, kKill);
  load(plan, offsetof(seccomp_data, nr));
  add_rules_on_arguments(plan);
  for (int call : kAllowed) if_equal(plan, static_cast<uint32_t>(call), kAllow);
  for (int call : kOlderAllowed) if_equal(plan, static_cast<uint32_t>(call), kAllow);
  for (int call : kKilled) if_equal(plan, static_cast<uint32_t>(call), kKill);
  for (int call : kOlderKilled) if_equal(plan, static_cast<uint32_t>(call), kKill);
  give(plan, answer(ENOSYS));  // also the calls of x32, whose numbers are others
  return true;
}

}  // namespace lewis
