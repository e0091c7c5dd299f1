// Linked into the program of the crash tests, so that its functions come before those of the C
// library and of sanitizers: counts the calls that change files, and stops or fails the k-th. Calls
// on descriptors 0 to 2 do not count.
//   SHIM_COUNT=FILE      at the end writes how many calls there were
//   SHIM_KILL=K          SIGKILL before call K;  SHIM_AFTER=1: after it
//   SHIM_FAIL=K:ERRNO    call K fails;  SHIM_FOREVER=1: and all later ones
//   SHIM_SHORT=K         call K, if it writes, writes half
//   SHIM_LOG=FILE        one line a call: what, paths, offset, data in hexadecimal
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <mutex>
#include <string>

namespace {

std::atomic<long> calls = 0;

long number(const char* name) {
  const char* text = getenv(name);
  return text ? atol(text) : -1;
}

template <typename F>
F real(const char* name) {
  return reinterpret_cast<F>(dlsym(RTLD_NEXT, name));
}

void log_line(const std::string& line) {
  static const char* file = getenv("SHIM_LOG");
  static std::mutex mutex;
  static int fd =
      file ? real<int (*)(const char*, int, ...)>("open")(file, O_WRONLY | O_CREAT | O_APPEND, 0644)
           : -1;
  if (fd < 0) return;
  std::lock_guard lock(mutex);
  const std::string text = line + "\n";
  if (real<ssize_t (*)(int, const void*, size_t)>("write")(fd, text.data(), text.size()) < 0)
    abort();
}

std::string path_of(int fd) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t n = readlink(link, path, sizeof path);
  return n > 0 ? std::string(path, static_cast<size_t>(n)) : "?";
}

std::string hex(const void* data, size_t n) {
  std::string text;
  char two[3];
  for (size_t i = 0; i < n; ++i) {
    snprintf(two, sizeof two, "%02x", static_cast<const unsigned char*>(data)[i]);
    text += two;
  }
  return text.empty() ? "-" : text;
}

// The errno with which this call must fail, or 0. Stops the process if it is this call's turn.
int begin(long& call) {
  call = ++calls;
  if (number("SHIM_KILL") == call && number("SHIM_AFTER") != 1) kill(getpid(), SIGKILL);
  const char* fail = getenv("SHIM_FAIL");
  if (!fail) return 0;
  const long k = atol(fail);
  const bool now = call == k || (call > k && number("SHIM_FOREVER") == 1);
  return now ? atoi(strchr(fail, ':') + 1) : 0;
}

void end(long call, const std::string& line) {
  log_line(line);
  if (number("SHIM_KILL") == call && number("SHIM_AFTER") == 1) kill(getpid(), SIGKILL);
}

// Runs `work` as one counted call; `line` describes it for the log.
template <typename Work, typename Line>
auto counted(const Work& work, const Line& line) -> decltype(work()) {
  long call = 0;
  if (const int error = begin(call)) {
    errno = error;
    return -1;
  }
  const auto result = work();
  const int saved = errno;
  end(call, result >= 0 ? line() : "failed");
  errno = saved;
  return result;
}

[[gnu::destructor]] void write_count() {
  if (const char* file = getenv("SHIM_COUNT")) {
    if (FILE* out = fopen(file, "w")) {
      fprintf(out, "%ld", calls.load());
      fclose(out);
    }
  }
}

int open_counted(const char* name, const char* path, int flags, mode_t mode) {
  const auto work = [&] { return real<int (*)(const char*, int, ...)>(name)(path, flags, mode); };
  if (!(flags & O_CREAT)) return work();
  if (const char* out = getenv("SHIM_COUNT"); out && strcmp(out, path) == 0) return work();
  return counted(work, [&] { return std::string(flags & O_TRUNC ? "create " : "open ") + path; });
}

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  va_list list;
  va_start(list, flags);
  const mode_t mode = va_arg(list, mode_t);
  va_end(list);
  return open_counted("open", path, flags, mode);
}
int open64(const char* path, int flags, ...) {
  va_list list;
  va_start(list, flags);
  const mode_t mode = va_arg(list, mode_t);
  va_end(list);
  return open_counted("open64", path, flags, mode);
}

ssize_t write(int fd, const void* data, size_t n) {
  const auto go = [&](size_t size) {
    return real<ssize_t (*)(int, const void*, size_t)>("write")(fd, data, size);
  };
  if (fd <= 2) return go(n);
  const bool half = number("SHIM_SHORT") == calls + 1;
  const size_t size = half && n > 1 ? n / 2 : n;
  return counted([&] { return go(size); },
                 [&] { return "append " + path_of(fd) + " " + hex(data, size); });
}
ssize_t pwrite(int fd, const void* data, size_t n, off_t at) {
  const bool half = number("SHIM_SHORT") == calls + 1;
  const size_t size = half && n > 1 ? n / 2 : n;
  return counted(
      [&] {
        return real<ssize_t (*)(int, const void*, size_t, off_t)>("pwrite")(fd, data, size, at);
      },
      [&] { return "write " + path_of(fd) + " " + std::to_string(at) + " " + hex(data, size); });
}
ssize_t pwrite64(int fd, const void* data, size_t n, off64_t at) { return pwrite(fd, data, n, at); }
int fsync(int fd) {
  return counted([&] { return real<int (*)(int)>("fsync")(fd); },
                 [&] { return "sync " + path_of(fd); });
}
int posix_fallocate(int fd, off_t at, off_t n) {
  long call = 0;
  if (const int error = begin(call)) return error;
  const int result = real<int (*)(int, off_t, off_t)>("posix_fallocate")(fd, at, n);
  end(call, result == 0 ? "allocate " + path_of(fd) + " " + std::to_string(n) : "failed");
  return result;
}
int posix_fallocate64(int fd, off64_t at, off64_t n) { return posix_fallocate(fd, at, n); }
int rename(const char* from, const char* to) {
  return counted([&] { return real<int (*)(const char*, const char*)>("rename")(from, to); },
                 [&] { return std::string("rename ") + from + " " + to; });
}
int renameat2(int a, const char* from, int b, const char* to, unsigned flags) {
  return counted(
      [&] {
        return real<int (*)(int, const char*, int, const char*, unsigned)>("renameat2")(a, from, b,
                                                                                        to, flags);
      },
      [&] { return std::string("exchange ") + from + " " + to; });
}
int unlink(const char* path) {
  return counted([&] { return real<int (*)(const char*)>("unlink")(path); },
                 [&] { return std::string("remove ") + path; });
}
int remove(const char* path) {
  return counted([&] { return real<int (*)(const char*)>("remove")(path); },
                 [&] { return std::string("remove ") + path; });
}
int unlinkat(int folder, const char* path, int flags) {
  return counted(
      [&] { return real<int (*)(int, const char*, int)>("unlinkat")(folder, path, flags); },
      [&] { return "remove " + path_of(folder) + "/" + path; });
}
int mkdir(const char* path, mode_t mode) {
  return counted([&] { return real<int (*)(const char*, mode_t)>("mkdir")(path, mode); },
                 [&] { return std::string("mkdir ") + path; });
}
int rmdir(const char* path) {
  return counted([&] { return real<int (*)(const char*)>("rmdir")(path); },
                 [&] { return std::string("remove ") + path; });
}
}
