#include "io/workers.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>

#include "base/current_error.h"
#include "base/dump_json.h"
#include "base/error.h"
#include "base/json.h"
#include "base/start_thread.h"
#include "io/file.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kWorkerEnd = ".worker", kClaimEnd = ".claim";

std::string content_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

// The name of this machine; letters, digits, '-' and '_' only, as it becomes part of file names.
std::string host_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0) return "unknown";
  std::string host(name.data());
  host.resize(std::min<size_t>(host.size(), 60));
  std::ranges::replace_if(
      host, [](unsigned char c) { return !std::isalnum(c) && c != '-' && c != '_'; }, '-');
  return host;
}

// Names the system and the name space in which a process number means something.
std::string place_of_processes() {
  std::string boot = content_of("/proc/sys/kernel/random/boot_id");
  while (!boot.empty() && boot.back() == '\n') boot.pop_back();
  std::error_code error;
  return boot + " " + fs::read_symlink("/proc/self/ns/pid", error).string();
}

struct ProcessFacts {
  char state = '?';
  uint64_t started = 0;
};

// proc(5), /proc/PID/stat: behind the name, which ends with the last ')', fields 3 and 22.
std::optional<ProcessFacts> process_facts(int64_t process) {
  const std::string stat = content_of(fmt::format("/proc/{}/stat", process));
  const size_t name = stat.rfind(')');
  if (name == std::string::npos || name + 2 >= stat.size()) return std::nullopt;
  ProcessFacts facts{stat[name + 2], 0};
  size_t at = name + 2;
  for (int field = 3; field < 22 && at != std::string::npos; ++field) at = stat.find(' ', at + 1);
  if (at == std::string::npos) return std::nullopt;
  facts.started = std::strtoull(stat.c_str() + at, nullptr, 10);
  return facts;
}

enum class Life { kGone, kAlive, kUnknown };

Life life_of(const std::optional<WorkerState>& worker) {
  if (!worker) return Life::kGone;
  if (worker->place != place_of_processes()) return Life::kUnknown;
  if (::kill(static_cast<pid_t>(worker->process), 0) != 0 && errno == ESRCH) return Life::kGone;
  const auto facts = process_facts(worker->process);
  if (!facts) return Life::kUnknown;
  const bool ended = facts->state == 'Z' || facts->state == 'X';
  return ended || facts->started != worker->started ? Life::kGone : Life::kAlive;
}

std::string new_token(const std::string& host) {
  std::random_device random;
  return fmt::format("{}-{}-{:08x}", host, ::getpid(), static_cast<uint32_t>(random()));
}

double since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

void remove_file(const fs::path& file) {
  std::error_code ignored;
  fs::remove(file, ignored);
}

}  // namespace

std::optional<WorkerState> read_worker(const fs::path& folder, const std::string& token) {
  const std::string text = content_of(folder / (token + std::string(kWorkerEnd)));
  if (text.empty()) return std::nullopt;
  try {
    const Json json = parse_json(text, token);
    return WorkerState{json.at("host").get<std::string>(), json.at("place").get<std::string>(),
                       json.at("process").get<int64_t>(),  json.at("started").get<uint64_t>(),
                       json.at("task").get<std::string>(), json.at("beats").get<uint64_t>(),
                       json.value("seconds", 0.0),         json.value("bytes", uint64_t{0})};
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

std::string describe_worker(const fs::path& folder, const std::string& token) {
  const auto worker = read_worker(folder, token);
  if (!worker) return token;
  return fmt::format("{} (host {}, process {})", worker->task, worker->host, worker->process);
}

std::vector<std::string> names_ending(const fs::path& folder, std::string_view ending) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.ends_with(ending)) names.push_back(name.substr(0, name.size() - ending.size()));
  }
  std::ranges::sort(names);
  return names;
}

std::vector<std::string> workers_that_may_live(const fs::path& folder) {
  std::vector<std::string> tokens = names_ending(folder, kWorkerEnd);
  std::erase_if(tokens, [&](const std::string& token) {
    return life_of(read_worker(folder, token)) == Life::kGone;
  });
  return tokens;
}

std::set<std::string> living_workers(const fs::path& folder, const std::set<std::string>& tokens,
                                     const WorkerPace& pace, const std::function<void()>& tick) {
  std::set<std::string> alive;
  std::vector<std::pair<std::string, uint64_t>> watched;  // with their beats
  for (const std::string& token : tokens) {
    const auto state = read_worker(folder, token);
    const Life life = life_of(state);
    if (life == Life::kAlive) alive.insert(token);
    if (life == Life::kUnknown) watched.emplace_back(token, state->beats);
  }
  const auto end = std::chrono::steady_clock::now() + pace.patience;
  while (!watched.empty() && std::chrono::steady_clock::now() < end) {
    tick();
    std::this_thread::sleep_for(std::min(pace.beat, std::chrono::milliseconds(200)));
    std::erase_if(watched, [&](const auto& worker) {
      const auto state = read_worker(folder, worker.first);
      if (state && state->beats != worker.second) alive.insert(worker.first);
      return !state || state->beats != worker.second;
    });
  }
  return alive;
}

Worker::Worker(fs::path folder, std::string task, WorkerPace pace)
    : folder_(std::move(folder)), pace_(pace) {
  const auto facts = process_facts(::getpid());
  state_ = {host_name(),
            place_of_processes(),
            ::getpid(),
            facts ? facts->started : 0,
            std::move(task),
            0,
            0,
            0};
  token_ = new_token(state_.host);
  write_state();
  start_threads(
      threads_, 0, 1, [this](size_t) { beat(); }, [] {});
}

Worker::~Worker() {
  stop();
  for (const std::string& name : std::set(claims_)) release(name);
  remove_temporaries(token_);
  remove_file(folder_ / (token_ + std::string(kWorkerEnd)));
}

void Worker::stop() {
  {
    std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

fs::path Worker::temporary() {
  std::lock_guard lock(mutex_);
  return folder_ / fmt::format("tmp-{}-{}", token_, ++temporaries_);
}

void Worker::put(const fs::path& target, std::string_view text) {
  const fs::path fresh = temporary();
  try {
    const File file = File::create(fresh);
    file.write_at(0, std::as_bytes(std::span(text)));
    file.sync();
    fs::rename(fresh, target);
  } catch (...) {
    remove_file(fresh);
    throw;
  }
  sync_folder(target.parent_path());
}

// A sign of life need not survive a power cut.
void Worker::write_state() {
  const Json json = {{"host", state_.host},       {"place", state_.place},
                     {"process", state_.process}, {"started", state_.started},
                     {"task", state_.task},       {"beats", state_.beats},
                     {"seconds", since(begun_)},  {"bytes", bytes_.load()}};
  const std::string text = dump_json(json) + "\n";
  const fs::path fresh = temporary();
  File::create(fresh).write_at(0, std::as_bytes(std::span(text)));
  fs::rename(fresh, folder_ / (token_ + std::string(kWorkerEnd)));
}

WorkerState Worker::state() const {
  return {state_.host, state_.place,  state_.process, state_.started, state_.task,
          0,           since(begun_), bytes_};
}

double Worker::lap() {
  const double seconds = since(lap_);
  lap_ = std::chrono::steady_clock::now();
  return seconds;
}

void Worker::beat() {
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, pace_.beat, [this] { return stopped_; })) {
    lock.unlock();
    ++state_.beats;
    try {
      write_state();
    } catch (const std::exception&) {  // others may take this worker for dead, which does no harm
    }
    lock.lock();
  }
}

bool Worker::claim(const std::string& name, const std::set<std::string>& dead) {
  const fs::path file = folder_ / (name + std::string(kClaimEnd));
  for (int attempt = 0; attempt < 3; ++attempt) {
    // A file system without links has no claims.
    if (::symlink(token_.c_str(), file.c_str()) == 0 || errno != EEXIST) {
      claims_.insert(name);
      return true;
    }
    const auto now = owner(name);
    if (!now) continue;  // it has just been released
    if (*now != token_ && !dead.contains(*now)) return false;
    if (*now != token_) {
      const fs::path fresh = temporary();
      std::error_code error;
      fs::create_symlink(token_, fresh, error);
      fs::rename(fresh, file, error);
      remove_temporaries(*now);
    }
    claims_.insert(name);
    return owner(name) == token_;
  }
  return true;
}

std::optional<std::string> Worker::owner(const std::string& name) const {
  std::error_code error;
  const fs::path target = fs::read_symlink(folder_ / (name + std::string(kClaimEnd)), error);
  if (error) return std::nullopt;
  return target.string();
}

void Worker::release(const std::string& name) {
  claims_.erase(name);
  if (owner(name) == token_) remove_file(folder_ / (name + std::string(kClaimEnd)));
}

std::set<std::string> Worker::living(const std::set<std::string>& tokens,
                                     const std::function<void()>& tick) const {
  return living_workers(folder_, tokens, pace_, tick);
}

void Worker::remove_temporaries(const std::string& token) const {
  const std::string begin = fmt::format("tmp-{}-", token);
  std::error_code error;
  std::vector<fs::path> found;
  for (fs::directory_iterator it(folder_, error), end; !error && it != end; it.increment(error)) {
    if (it->path().filename().string().starts_with(begin)) found.push_back(it->path());
  }
  for (const fs::path& path : found) remove_file(path);
}

}  // namespace lewis
