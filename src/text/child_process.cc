#include "text/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <mutex>
#include <new>
#include <utility>

#include "base/error.h"
#include "text/child_side.h"

namespace lewis {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;
using std::chrono::milliseconds;

// How long a child may take by the clock on the wall: much longer than by its own, since the
// machine may have more to do.
milliseconds longest_wait(const Allowance& allowance) {
  return std::chrono::ceil<milliseconds>(20 * (kSavedProcessor + allowance.processor)) +
         milliseconds(40'000);
}

// Two ends of a connection, neither of which takes the place of a closed standard stream.
std::pair<int, int> connect_pair(const std::string& name) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    throw resource_error("{}: a socket cannot be made: {}", name, std::strerror(errno));
  for (int& end : ends) {
    if (end > STDERR_FILENO) continue;
    const int low = std::exchange(end, fcntl(end, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
    close(low);
  }
  if (ends[0] >= 0 && ends[1] >= 0) return {ends[0], ends[1]};
  close(ends[0]);
  close(ends[1]);
  throw resource_error("{}: a socket cannot be made: too many open files", name);
}

// fork() without a signal in between, so that no handler of this process runs in the child.
pid_t fork_quietly() {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t child = fork();
  if (child != 0) {
    const int error = errno;
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    errno = error;
  }
  return child;
}

// Where another thread holds a lock while this process is forked, the lock stays locked in the
// child for ever. glibc guards its malloc against that. The address sanitizer of g++ 12 does not,
// and a library may not. A child that sleeps for so long at its beginning, where it needs nothing
// that it could wait for, is started anew.
constexpr int kLongestSleep = 20;  // looks at it, ten in a second
constexpr int kMostStarts = 4;

// False as well where there is no /proc.
bool is_asleep(pid_t child) {
  std::ifstream file("/proc/" + std::to_string(child) + "/stat");
  std::string line;
  std::getline(file, line);  // "PID (NAME) STATE ..."
  const size_t end = line.rfind(") ");
  return end != line.npos && line.substr(end).starts_with(") S");
}

}  // namespace

class ChildProcess::Running {
 public:
  explicit Running(Plan plan);
  ~Running() { end(); }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

  std::string ask(std::string_view request, const Allowance& allowance);
  bool has_ended();

 private:
  void start(const Plan& plan);
  void send(const void* data, size_t size);
  void receive(void* data, size_t size);
  std::string read_reply();
  void wait_for(short events);
  int end();
  [[noreturn]] void explain_end();
  [[noreturn]] void fail(Error error);

  std::mutex mutex_;
  std::string name_;
  std::unique_ptr<const Error> ended_;  // why there is no child any more
  const uint64_t memory_;               // for the answerer itself
  Allowance allowance_;                 // of the request under way, with that memory
  Clock::time_point deadline_;
  pid_t child_ = -1;
  int socket_ = -1;
  int starts_ = 0;  // 0 from the first answer on
  int asleep_ = 0;  // looks in a row
  bool is_stuck_ = false;
};

ChildProcess::Running::Running(Plan plan)
    : name_(std::move(plan.name)), memory_(plan.begin.memory), allowance_(plan.begin) {
  for (starts_ = 1; starts_ > 0;) {
    start(plan);
    try {
      read_reply();
      starts_ = 0;
    } catch (...) {
      end();
      if (!is_stuck_) throw;
      ended_.reset();
      ++starts_;
    }
  }
}

// A child whose first answer is to be read.
void ChildProcess::Running::start(const Plan& plan) {
  asleep_ = 0;
  is_stuck_ = false;
  const auto [ours, theirs] = connect_pair(name_);
  socket_ = ours;
  child_ = fork_quietly();
  if (child_ == 0) run_child_side(theirs, plan.begin, plan.make);
  const int error = errno;
  close(theirs);
  if (child_ < 0) {
    throw resource_error("{}: a process for it cannot be started: {}", name_, std::strerror(error));
  }
  fcntl(socket_, F_SETFL, O_NONBLOCK);
  deadline_ = Clock::now() + longest_wait(allowance_);
}

std::string ChildProcess::Running::ask(std::string_view request, const Allowance& allowance) {
  const std::lock_guard lock(mutex_);
  if (ended_) throw Error(*ended_);
  allowance_ = {allowance.processor, memory_ + allowance.memory};
  deadline_ = Clock::now() + longest_wait(allowance_);
  const RequestHeader header{request.size(), allowance.processor.count(), allowance.memory};
  send(&header, sizeof header);
  send(request.data(), request.size());
  return read_reply();
}

bool ChildProcess::Running::has_ended() {
  const std::lock_guard lock(mutex_);
  return ended_ != nullptr;
}

// Until the socket is ready or the child is late.
void ChildProcess::Running::wait_for(short events) {
  constexpr int kSlice = 100;  // milliseconds
  pollfd file = {socket_, events, 0};
  for (;;) {
    const int ready = poll(&file, 1, kSlice);
    if (ready > 0) return;
    if (ready < 0 && errno != EINTR && errno != EAGAIN) {
      fail(resource_error("{}: its process cannot be waited for: {}", name_, std::strerror(errno)));
    }
    asleep_ = starts_ > 0 && starts_ < kMostStarts && is_asleep(child_) ? asleep_ + 1 : 0;
    is_stuck_ = asleep_ > kLongestSleep;
    if (is_stuck_ || Clock::now() > deadline_) {
      fail(input_error("{}: its process has not answered for {} s", name_,
                       longest_wait(allowance_).count() / 1000));
    }
  }
}

void ChildProcess::Running::send(const void* data, size_t size) {
  const char* rest = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t sent = ::send(socket_, rest, size, MSG_NOSIGNAL);
    if (sent > 0) {
      rest += sent;
      size -= static_cast<size_t>(sent);
    } else if (errno == EAGAIN) {
      wait_for(POLLOUT);
    } else if (errno != EINTR) {
      explain_end();
    }
  }
}

void ChildProcess::Running::receive(void* data, size_t size) {
  char* rest = static_cast<char*>(data);
  while (size > 0) {
    const ssize_t got = recv(socket_, rest, size, 0);
    if (got > 0) {
      rest += got;
      size -= static_cast<size_t>(got);
    } else if (got < 0 && errno == EAGAIN) {
      wait_for(POLLIN);
    } else if (got == 0 || errno != EINTR) {
      explain_end();
    }
  }
}

std::string ChildProcess::Running::read_reply() {
  ReplyHeader header;
  receive(&header, sizeof header);
  std::string text;
  try {
    text.resize(header.size);
  } catch (const std::bad_alloc&) {
    fail(resource_error("{}: not enough memory for {} bytes that it gives", name_, header.size));
  }
  receive(text.data(), text.size());
  if (header.code != 0) throw Error(static_cast<ExitCode>(header.code), std::move(text));
  return text;
}

// Ends the child and returns its wait status; -1 where somebody else has waited for it.
int ChildProcess::Running::end() {
  if (socket_ >= 0) close(std::exchange(socket_, -1));
  if (child_ < 0) return -1;
  kill(child_, SIGKILL);  // a child that has ended keeps its status until it is waited for
  int status = -1;
  while (waitpid(child_, &status, 0) < 0) {
    if (errno == EINTR) continue;
    status = -1;
    break;
  }
  child_ = -1;
  return status;
}

void ChildProcess::Running::fail(Error error) {
  end();
  ended_ = std::make_unique<const Error>(std::move(error));
  throw Error(*ended_);
}

void ChildProcess::Running::explain_end() {
  const int status = end();
  if (status < 0) fail(input_error("{}: it needs too much time, memory or stack", name_));
  const int signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
  if (signal == SIGPROF) {
    const std::chrono::duration<double> most = kSavedProcessor + allowance_.processor;
    fail(input_error("{}: it needs more than {:.3g} s of processor time, far more than a real one",
                     name_, most.count()));
  }
  if (signal == SIGSEGV || signal == SIGBUS)
    fail(input_error("{}: it is nested too deeply: the stack of its process is full", name_));
  if (code == kExitOverLimit) {
    fail(input_error("{}: it needs more than {} MB of memory, far more than a real one", name_,
                     allowance_.memory / 1'000'000));
  }
  if (code == kExitNoFiles) fail(resource_error("{}: its process cannot open /dev/null", name_));
  if (code == kExitNoMemory || signal == SIGKILL)
    fail(resource_error("{}: its process got too little memory from the system", name_));
  fail(input_error("{}: its process ended unexpectedly ({} {})", name_,
                   signal ? "signal" : "exit code", signal ? signal : code));
}

ChildProcess::ChildProcess(Plan plan) : running_(std::make_shared<Running>(std::move(plan))) {}

std::string ChildProcess::ask(std::string_view request, Allowance allowance) const {
  return running_->ask(request, allowance);
}

bool ChildProcess::has_ended() const { return running_->has_ended(); }

}  // namespace lewis
