#include "eval/sandbox/sandbox.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/text_file.h"
#include "eval/sandbox/sandbox_child.h"
#include "eval/sandbox/sandbox_filter.h"
#include "io/disk.h"
#include "io/file.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr std::array<std::string_view, kSandboxLayers> kLayerNames = {
    "own user",      "mount namespace",   "pid namespace", "network namespace",
    "ipc namespace", "no new privileges", "seccomp",       "resource limits"};

// Runs the program, then the tests that are sent when it says so, then repeats the secret that is
// sent when it says that they ran. What it calls is bound before the program can replace it, and
// the builtins are put back before the tests.
constexpr const char* kHarness = R"py(
def main():
    import builtins, os
    saved = dict(vars(builtins))
    read, write, leave, run, translate = os.read, os.write, os._exit, exec, compile
    number, size, update = int, len, dict.update
    def receive():
        header = b""
        while not header.endswith(b"\n"):
            byte = read(3, 1)
            if not byte:
                leave(1)
            header += byte
        left, text = number(header), b""
        while size(text) < left:
            text += read(3, left - size(text)) or leave(1)
        return text
    names = {}
    run(translate(receive(), "<program>", "exec"), names)
    write(3, b"p")
    tests = receive()
    update(builtins.__dict__, saved)
    names["__builtins__"] = builtins
    run(translate(tests, "<tests>", "exec"), names)
    write(3, b"t")
    write(3, receive())
    leave(0)
main()
)py";

class Descriptor {
 public:
  explicit Descriptor(int number = -1) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~Descriptor() { reset(); }
  int get() const { return number_; }
  void reset() {
    if (number_ >= 0) close(std::exchange(number_, -1));
  }

 private:
  int number_;
};

Error no_resources(std::string_view what) {
  return resource_error("sandbox: {}: {}", what, std::strerror(errno));
}

struct Pipe {
  Descriptor read, write;
  Pipe() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) throw no_resources("a pipe");
    read = Descriptor(ends[0]);
    write = Descriptor(ends[1]);
  }
};

// Ours does not block.
struct Channel {
  Descriptor ours, theirs;
  Channel() {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
      throw no_resources("a socket");
    ours = Descriptor(ends[0]);
    theirs = Descriptor(ends[1]);
    fcntl(ours.get(), F_SETFL, O_NONBLOCK);
  }
};

constexpr std::string_view kWorkFolderName = "lewis-sandbox", kWorkFolderMarker = ".lewis-sandbox";

// Where there is no mount namespace: a folder of the machine, removed with all that is in it. It
// lies in a folder with a marker that this process has locked, so that a later process can tell
// what one has left that was killed (remove_abandoned_folders).
class WorkFolder {
 public:
  explicit WorkFolder(bool of_nobody)
      : outer_(make_unique_folder(fs::temp_directory_path(), kWorkFolderName)),
        marker_(File::open_append(outer_ / kWorkFolderMarker)),
        path_(outer_ / "work") {
    marker_.try_lock();  // where there are no locks nothing is taken for abandoned
    const bool made = chmod(outer_.c_str(), 0711) == 0 && mkdir(path_.c_str(), 0700) == 0;
    if (!made || (of_nobody && chown(path_.c_str(), kNobody, kNobody) != 0))
      throw no_resources(path_.string());
  }
  ~WorkFolder() {
    std::error_code ignored;
    fs::remove_all(outer_, ignored);  // links in it are removed, not followed
  }
  WorkFolder(const WorkFolder&) = delete;
  WorkFolder& operator=(const WorkFolder&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path outer_;
  File marker_;
  fs::path path_;
};

void add_folders(std::vector<RootStep>& steps, const fs::path& folder) {
  fs::path path = "/";
  for (const fs::path& part : folder.relative_path()) {
    path /= part;
    const bool known =
        std::ranges::any_of(steps, [&](const RootStep& s) { return s.path == path.string(); });
    if (!known) steps.push_back({RootStep::Kind::kFolder, path.string(), ""});
  }
}

// The parts of the file system that the sandbox shows, at the places where they are outside.
std::vector<RootStep> root_steps(const std::vector<std::string>& visible) {
  std::vector<RootStep> steps;
  std::vector<fs::path> shown;
  for (const fs::path path : visible) {
    const bool below = std::ranges::any_of(shown, [&](const fs::path& s) {
      return std::mismatch(s.begin(), s.end(), path.begin(), path.end()).first == s.end();
    });
    if (below || !fs::exists(path)) continue;
    add_folders(steps, path.parent_path());
    if (fs::is_symlink(path)) {
      steps.push_back({RootStep::Kind::kLink, path.string(), fs::read_symlink(path).string()});
      continue;
    }
    const auto kind = fs::is_directory(path) ? RootStep::Kind::kFolder : RootStep::Kind::kFile;
    steps.push_back({kind, path.string(), ""});
    steps.push_back({RootStep::Kind::kBind, path.string(), "/old" + path.string()});
    shown.push_back(path);
  }
  return steps;
}

// The output of a program, for a file of JSON.
std::string as_utf8(std::string text) {
  if (is_utf8(text)) return text;
  for (char& c : text) {
    if (static_cast<unsigned char>(c) >= 0x80) c = '?';
  }
  return text;
}

std::string last_line(std::string_view output) {
  while (!output.empty() && (output.back() == '\n' || output.back() == '\r'))
    output.remove_suffix(1);
  const size_t begin = output.rfind('\n') + 1;  // npos + 1 is 0
  return std::string(output.substr(begin, 200));
}

class Run {
 public:
  Run(ChildPlan plan, const SandboxLimits& limits, std::string_view program,
      std::string_view tests);
  // The layer that could not be set up, and why.
  std::optional<ChildStatus> failed_layer() const;
  ProgramResult result() const;

 private:
  void start(ChildPlan& plan);
  void watch();
  void read_output();
  void read_channel();
  void read_status();
  void send();
  void send_next(std::string_view text);
  void stop();
  void check_status() const;

  const SandboxLimits& limits_;
  std::string_view program_, tests_;
  std::string secret_, received_, to_send_;
  std::string output_;
  uint64_t printed_ = 0;
  bool late_ = false, too_much_ = false, has_status_ = false;
  bool keeper_killed_ = false;  // by another than this process
  ChildStatus status_;
  pid_t child_ = -1;
  Pipe output_pipe_, status_pipe_;
  Channel channel_;
};

Run::Run(ChildPlan plan, const SandboxLimits& limits, std::string_view program,
         std::string_view tests)
    : limits_(limits), program_(program), tests_(tests) {
  std::array<unsigned char, 16> random;
  if (getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size())) {
    throw no_resources("random bytes");
  }
  for (unsigned char byte : random) secret_ += fmt::format("{:02x}", byte);
  start(plan);
  send_next(program_);
  watch();
}

void Run::start(ChildPlan& plan) {
  const Descriptor null(open("/dev/null", O_RDONLY | O_CLOEXEC));
  plan.standard_input = null.get();
  plan.output = output_pipe_.write.get();
  plan.channel = channel_.theirs.get();
  plan.status = status_pipe_.write.get();
  child_ = clone_process(namespace_flags(plan));
  if (child_ == 0) run_child(plan);
  if (child_ < 0) throw no_resources("a process");
  output_pipe_.write.reset();
  status_pipe_.write.reset();
  channel_.theirs.reset();
}

void Run::send_next(std::string_view text) {
  to_send_ += fmt::format("{}\n{}", text.size(), text);
  send();
}

void Run::send() {
  const ssize_t sent = ::send(channel_.ours.get(), to_send_.data(), to_send_.size(), MSG_NOSIGNAL);
  if (sent > 0) to_send_.erase(0, static_cast<size_t>(sent));
  if (sent < 0 && errno != EAGAIN && errno != EINTR) to_send_.clear();  // it ended
}

void Run::read_output() {
  std::array<char, 65'536> buffer;
  const ssize_t n = read(output_pipe_.read.get(), buffer.data(), buffer.size());
  if (n <= 0) return output_pipe_.read.reset();
  printed_ += static_cast<uint64_t>(n);
  output_.append(buffer.data(), static_cast<size_t>(n));
  if (output_.size() > limits_.kept_output) output_.erase(0, output_.size() - limits_.kept_output);
  too_much_ = printed_ > limits_.output;
}

void Run::read_channel() {
  std::array<char, 256> buffer;
  const ssize_t n = recv(channel_.ours.get(), buffer.data(), buffer.size(), 0);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) return channel_.ours.reset();
  for (ssize_t i = 0; i < n; ++i) {
    // "p": the program ran; "t": its tests too. Then the secret.
    if (received_.size() < 2 + secret_.size()) received_ += buffer[static_cast<size_t>(i)];
    if (received_ == "p") send_next(tests_);
    if (received_ == "pt") send_next(secret_);
  }
}

void Run::read_status() {
  std::array<char, sizeof(ChildStatus)> bytes;
  has_status_ = read(status_pipe_.read.get(), bytes.data(), bytes.size()) ==
                static_cast<ssize_t>(bytes.size());
  if (has_status_) status_ = std::bit_cast<ChildStatus>(bytes);
  status_pipe_.read.reset();
}

// Until the first process has said what came of the program, or there is no more time.
void Run::watch() {
  const auto end = Clock::now() + limits_.wall;
  while (status_pipe_.read.get() >= 0) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now()).count();
    late_ = left <= 0;
    if (late_ || too_much_) break;
    const auto wanted = static_cast<short>(to_send_.empty() ? POLLIN : POLLIN | POLLOUT);
    std::array<pollfd, 3> files = {{{output_pipe_.read.get(), POLLIN, 0},
                                    {channel_.ours.get(), wanted, 0},
                                    {status_pipe_.read.get(), POLLIN, 0}}};
    if (poll(files.data(), files.size(), static_cast<int>(left)) < 0 && errno != EINTR) break;
    if (files[0].revents) read_output();
    if (files[1].revents & POLLOUT) send();
    if (files[1].revents & ~POLLOUT) read_channel();
    if (files[2].revents) read_status();
  }
  stop();
}

// The first process ends its namespace, or at least its group; what it had printed is still there.
void Run::stop() {
  kill(-child_, SIGKILL);
  kill(child_, SIGKILL);
  int ended = 0;
  while (waitpid(child_, &ended, 0) < 0 && errno == EINTR) {
  }
  // Its status pipe had closed before the signals above, so they were not what ended it.
  keeper_killed_ = status_pipe_.read.get() < 0 && !has_status_ && WIFSIGNALED(ended);
  if (output_pipe_.read.get() >= 0) fcntl(output_pipe_.read.get(), F_SETFL, O_NONBLOCK);
  while (output_pipe_.read.get() >= 0 && !too_much_) read_output();
  if (channel_.ours.get() >= 0) read_channel();
}

std::optional<ChildStatus> Run::failed_layer() const {
  if (has_status_ && status_.what == ChildStatus::kFailedLayer) return status_;
  return std::nullopt;
}

void Run::check_status() const {
  if (!has_status_) throw failed_error("sandbox: its first process ended without a word");
  if (status_.what == ChildStatus::kExited) return;
  const std::string_view part =
      failed_layer() ? kLayerNames[static_cast<size_t>(status_.layer)] : "start of Python";
  throw failed_error("sandbox: {}: {}", part, std::strerror(status_.value));
}

ProgramResult Run::result() const {
  const auto give = [&](Verdict verdict, std::string reason) {
    return ProgramResult{verdict, as_utf8(std::move(reason)), as_utf8(output_)};
  };
  if (late_)
    return give(Verdict::kTimeout,
                fmt::format("{} s", static_cast<double>(limits_.wall.count()) / 1000));
  if (too_much_) return give(Verdict::kFailed, "too much output");
  if (keeper_killed_) return give(Verdict::kFailed, "ended the process that watches it");
  check_status();
  const int ended = status_.value;
  if (WIFSIGNALED(ended)) {
    const int signal = WTERMSIG(ended);
    const auto cpu_limit = static_cast<int64_t>(limits_.cpu_seconds) * 1000;
    if (signal == SIGXCPU || (signal == SIGKILL && status_.cpu_millis >= cpu_limit)) {
      return give(Verdict::kTimeout, fmt::format("{} s of processor time", limits_.cpu_seconds));
    }
    if (signal == SIGSYS) return give(Verdict::kRefused, "a system call that is not allowed");
    return give(Verdict::kFailed, fmt::format("signal {} ({})", signal, strsignal(signal)));
  }
  if (ended == 0 && received_ == "pt" + secret_) return give(Verdict::kPassed, "");
  const std::string line = last_line(output_);
  if (WEXITSTATUS(ended) != 0 && !line.empty()) return give(Verdict::kFailed, line);
  return give(Verdict::kFailed,
              received_.empty() ? "ended before its tests" : "ended in its tests");
}

// True if clone() gives the namespace of a layer; else errno says why not.
bool can_clone(SandboxLayer layer, bool own_user) {
  ChildPlan plan;
  plan.layers[static_cast<size_t>(layer)] = true;
  plan.layers[static_cast<size_t>(SandboxLayer::kUser)] = own_user;
  const pid_t child = clone_process(namespace_flags(plan));
  if (child == 0) _exit(0);
  if (child < 0) return false;
  waitpid(child, nullptr, 0);
  return true;
}

}  // namespace

std::string_view layer_name(SandboxLayer layer) { return kLayerNames[static_cast<size_t>(layer)]; }

std::string_view verdict_name(Verdict verdict) {
  constexpr std::array<std::string_view, 4> kNames = {"passed", "failed", "timeout", "refused"};
  return kNames[static_cast<size_t>(verdict)];
}

Sandbox::Sandbox(SandboxLimits limits, PythonInstall python)
    : limits_(limits), python_(std::move(python)) {
  for (size_t i = 0; i < kSandboxLayers; ++i) layers_.push_back({static_cast<SandboxLayer>(i)});
  find_layers();
  std::error_code error;
  const fs::path temporary = fs::temp_directory_path(error);
  if (!error) remove_abandoned_folders(temporary, kWorkFolderName, kWorkFolderMarker);
}

// Namespaces, as the kernel gives them to this process.
void Sandbox::find_namespaces() {
  if (!user_namespace_ && geteuid() != 0) leave_out(SandboxLayer::kUser, std::strerror(errno));
  for (const SandboxLayer layer :
       {SandboxLayer::kMounts, SandboxLayer::kPids, SandboxLayer::kNetwork, SandboxLayer::kIpc}) {
    if (!can_clone(layer, user_namespace_)) leave_out(layer, std::strerror(errno));
  }
}

void Sandbox::find_layers() {
  user_namespace_ = can_clone(SandboxLayer::kUser, true);
  find_namespaces();
  ChildPlan unused;
  if (!make_filter(unused)) leave_out(SandboxLayer::kFilter, "not written for this processor");
  if (python_.executable.empty()) {
    cannot_run_ = "there is no python3";
    return;
  }
  // Each round leaves one layer out, so there are not more rounds than layers, and one for root
  // whose user namespace is of no use.
  for (size_t round = 0; round <= kSandboxLayers; ++round) {
    ChildPlan own = plan();
    own.folder = "/";
    const Run trial(std::move(own), limits_, "answer = 42", "assert answer == 42");
    const std::optional<ChildStatus> failed = trial.failed_layer();
    if (!failed) {
      const ProgramResult result = trial.result();
      if (result.verdict != Verdict::kPassed) cannot_run_ = "a trial program: " + result.reason;
      return;
    }
    const auto layer = static_cast<SandboxLayer>(failed->layer);
    if (layer == SandboxLayer::kUser && user_namespace_) {
      user_namespace_ = false;
      errno = failed->value;
      find_namespaces();
    } else {
      leave_out(layer, std::strerror(failed->value));
    }
  }
}

ChildPlan Sandbox::plan() const {
  ChildPlan plan;
  for (const LayerState& state : layers_) plan.layers[static_cast<size_t>(state.layer)] = state.on;
  plan.change_user = !user_namespace_ && has(SandboxLayer::kUser);
  plan.uid_map = fmt::format("65534 {} 1\n", geteuid());
  plan.gid_map = fmt::format("65534 {} 1\n", getegid());
  plan.limits = limits_;
  if (has(SandboxLayer::kMounts)) {
    plan.root = root_steps(python_.visible);
  } else {
    plan.visible = python_.visible;
  }
  if (has(SandboxLayer::kFilter)) make_filter(plan);
  // -B: no files beside the modules. A folder of shared libraries, since /etc/ld.so.cache is
  // hidden.
  plan.arguments = {python_.executable.c_str(), "-I", "-S", "-B", "-c", kHarness, nullptr};
  plan.environment = {python_.library_path.c_str(), "HOME=/tmp", "LANG=C.UTF-8", nullptr};
  return plan;
}

ProgramResult Sandbox::run(std::string_view program, std::string_view tests) const {
  if (!cannot_run_.empty()) throw failed_error("sandbox: {}", cannot_run_);
  ChildPlan own = plan();
  if (has(SandboxLayer::kMounts)) return Run(std::move(own), limits_, program, tests).result();
  const WorkFolder folder(own.change_user);
  own.folder = folder.path();
  return Run(std::move(own), limits_, program, tests).result();
}

void Sandbox::leave_out(SandboxLayer layer, std::string why_not) {
  layers_[static_cast<size_t>(layer)] = {layer, false, std::move(why_not)};
}

std::string Sandbox::missing_layers() const {
  std::string text;
  for (const LayerState& state : layers_) {
    if (state.on) continue;
    text +=
        fmt::format("{}{} ({})", text.empty() ? "" : ", ", layer_name(state.layer), state.why_not);
  }
  return text;
}

}  // namespace lewis
