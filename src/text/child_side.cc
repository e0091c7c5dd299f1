#include "text/child_side.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <new>

#include "base/error.h"

namespace lewis {
namespace {

using std::chrono::microseconds;

// Where the child finds its end; 0, 1 and 2 are /dev/null.
constexpr int kSocket = 3;
constexpr rlim_t kStack = rlim_t{8} << 20;

// Keeps the socket and closes all other files: a lock or a pipe of the parent must not live on
// here. It needs no descriptor that the parent does not have, since there may be no more.
bool keep_only(int socket) {
  if (socket != kSocket && dup2(socket, kSocket) < 0) return false;
  if (syscall(SYS_close_range, kSocket + 1, ~0u, 0) != 0) {
    for (int i = kSocket + 1; i < 65'536; ++i) close(i);  // Linux before 5.9
  }
  for (int i = 0; i < kSocket; ++i) close(i);
  if (open("/dev/null", O_RDWR) != 0) return false;
  return dup2(0, 1) == 1 && dup2(0, 2) == 2;
}

void limit(__rlimit_resource resource, rlim_t most) {
  rlimit value = {};
  if (getrlimit(resource, &value) != 0) return;
  value.rlim_cur = std::min(value.rlim_cur, most);
  setrlimit(resource, &value);
}

// A child of a program with handlers, of a terminal and of a process that may be traced, becomes
// one that a signal ends without a word. The parent holds all signals back until here.
void become_quiet() {
  for (int number = 1; number < NSIG; ++number) signal(number, SIG_DFL);
  signal(SIGPIPE, SIG_IGN);
  setsid();
  prctl(PR_SET_NAME, "lewis text");
  prctl(PR_SET_DUMPABLE, 0);
  limit(RLIMIT_CORE, 0);
  limit(RLIMIT_STACK, kStack);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

// Adds to the processor time that is left before SIGPROF ends this process. The clock of this timer
// stands still while the process waits, and it needs nobody who watches it.
void allow(microseconds more) {
  itimerval timer = {};
  getitimer(ITIMER_PROF, &timer);
  const microseconds left =
      std::chrono::seconds(timer.it_value.tv_sec) + microseconds(timer.it_value.tv_usec);
  const auto total = std::min(left, kSavedProcessor) + more;
  timer.it_value = {total.count() / 1'000'000, total.count() % 1'000'000};
  setitimer(ITIMER_PROF, &timer, nullptr);
}

bool receive_all(void* data, size_t size) {
  char* rest = static_cast<char*>(data);
  while (size > 0) {
    const ssize_t got = recv(kSocket, rest, size, 0);
    if (got == 0 || (got < 0 && errno != EINTR)) return false;
    if (got < 0) continue;
    rest += got;
    size -= static_cast<size_t>(got);
  }
  return true;
}

bool send_all(const void* data, size_t size) {
  const char* rest = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t sent = ::send(kSocket, rest, size, MSG_NOSIGNAL);
    if (sent < 0 && errno != EINTR) return false;
    if (sent < 0) continue;
    rest += sent;
    size -= static_cast<size_t>(sent);
  }
  return true;
}

bool reply(const std::function<std::string()>& work) {
  ReplyHeader header;
  std::string text;
  try {
    text = work();
  } catch (const Error& error) {
    header.code = static_cast<int64_t>(error.code());
    text = error.what();
  } catch (const std::bad_alloc&) {
    _exit(kExitNoMemory);
  } catch (const std::exception& error) {
    header.code = static_cast<int64_t>(ExitCode::kFailed);
    text = error.what();
  }
  header.size = text.size();
  return send_all(&header, sizeof header) && send_all(text.data(), text.size());
}

void serve(const Allowance& begin, const std::function<Answer()>& make) {
  Answer answer;
  lewis_text_limit_memory(begin.memory);
  allow(kSavedProcessor + begin.processor);
  const auto get_ready = [&] {
    answer = make();
    return std::string();
  };
  if (!reply(get_ready) || !answer) return;
  std::string request;
  for (RequestHeader header; receive_all(&header, sizeof header);) {
    request.resize(header.size);
    if (!receive_all(request.data(), request.size())) return;
    lewis_text_limit_memory(begin.memory + header.memory);
    allow(microseconds(header.processor));
    if (!reply([&] { return answer(request); })) return;
  }
}

// The address sanitizer's allocator has a lock for each size of blocks. Those that another thread
// held during the fork stay locked here (child_process.cc). They are met now, where such a child is
// started anew, and not in the middle of an answer: so many blocks of each size are allocated that
// no thread has them in store, in steps smaller than those of the allocator.
void meet_locks() {
#ifdef __SANITIZE_ADDRESS__
  constexpr size_t kLargest = 256 << 10, kBytes = 256 << 10;  // of a block; of all blocks of a size
  static std::array<void* volatile, 600> blocks;
  for (size_t size = 8; size <= kLargest; size += std::max<size_t>(8, size / 32)) {
    const size_t count = std::clamp<size_t>(kBytes / size, 2, blocks.size());
    for (size_t i = 0; i < count; ++i) blocks[i] = std::malloc(size);
    for (size_t i = 0; i < count; ++i) std::free(blocks[i]);
  }
#endif
}

}  // namespace

void run_child_side(int socket, const Allowance& begin,
                    const std::function<Answer()>& make) noexcept {
  become_quiet();
  if (!keep_only(socket)) _exit(kExitNoFiles);
  meet_locks();
  serve(begin, make);
  _exit(0);
}

}  // namespace lewis
