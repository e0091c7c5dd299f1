// lewis status OUT: how far a merge is, and who is at work on it.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <lewis/status.h>

#include <chrono>

#include "cli/verbs.h"
#include "io/merge_status.h"
#include "io/work_status.h"

namespace lewis {
namespace {

std::string who(const std::string& task, const std::string& host, int64_t process) {
  return host.empty() ? task : fmt::format("{} on {}, process {}", task, host, process);
}

std::string shards_text(size_t count) {
  return fmt::format("{} shard{}", count, count == 1 ? "" : "s");
}

std::string speed_text(const std::optional<double>& speed) {
  return speed ? ", " + human_bytes(static_cast<uint64_t>(*speed)) + "/s" : "";
}

std::string work_of(const WorkerStatus& w) {
  if (w.finishes) return "checks the hashes and completes OUT";
  return fmt::format("{} left, {}{}", shards_text(w.shards.size()), human_bytes(w.bytes_left),
                     speed_text(w.speed));
}

void print_workers(const MergeStatus& s, std::chrono::seconds watched) {
  for (const WrittenBy& w : s.written) {
    write_out("  done: {}: {}, {}{}\n", who(w.task, w.host, w.process), shards_text(w.shards),
              human_bytes(w.bytes), speed_text(w.speed));
  }
  for (const WorkerStatus& w : s.workers) {
    const std::string name = who(w.task, w.host, w.process);
    if (w.alive) {
      write_out("  at work: {}: {}\n", name, work_of(w));
    } else if (watched.count() > 0) {
      write_out("  silent: {}: {}; it has not counted up in {} s\n", name, work_of(w),
                watched.count());
    } else {
      write_out("  on another machine: {}: {}; it was not watched\n", name, work_of(w));
    }
  }
}

void print_left(const MergeStatus& s) {
  constexpr size_t kShown = 4;
  if (!s.free.empty()) {
    const std::vector<std::string> shown(
        s.free.begin(), s.free.begin() + static_cast<ptrdiff_t>(std::min(kShown, s.free.size())));
    write_out("  nobody is at work on {}: {}{}\n", shards_text(s.free.size()),
              fmt::format("{}", fmt::join(shown, ", ")), s.free.size() > kShown ? ", ..." : "");
  }
  if (s.process) write_out("  at work: process {} of this machine\n", *s.process);
  if (s.state == MergeState::kWorkers && s.shards > 0 && s.free.size() == 0 &&
      s.shards_done == s.shards && s.workers.empty())
    write_out("  all shards are there: `lewis merge RECIPE OUT --finish` completes OUT\n");
  if (s.speed) {
    write_out("  speed {}/s{}\n", human_bytes(static_cast<uint64_t>(*s.speed)),
              s.seconds_left ? fmt::format(", about {} left, and the check of the hashes",
                                           human_seconds(*s.seconds_left))
                             : "");
  }
}

void print(const MergeStatus& s, std::chrono::seconds watched) {
  if (s.state == MergeState::kComplete) {
    write_out("{}: complete: {}, {}; `lewis verify` reads every byte\n", s.out.string(),
              shards_text(s.shards), human_bytes(s.bytes));
  } else {
    write_out("{}: {} of {} done, {} of {}\n", s.out.string(), s.shards_done, shards_text(s.shards),
              human_bytes(s.bytes_done), human_bytes(s.bytes));
    print_workers(s, watched);
    print_left(s);
  }
  for (const std::string& note : s.notes) write_out("  {}\n", note);
}

// ---- work beside a merge ----

// ": 61 items left, 0.83 items/s"
std::string rest_of(const SharedWorker& w, const std::string& unit) {
  std::string text = w.left ? fmt::format(": {} {} left", *w.left, unit) : "";
  if (w.speed) text += fmt::format("{}{:.2g} {}/s", w.left ? ", " : ": ", *w.speed, unit);
  return text;
}

void print(const std::filesystem::path& folder, const WorkStatus& s) {
  write_out("{}: {} in parts\n", folder.string(), s.kind);
  for (const SharedWork& work : s.works) {
    write_out("  {}: {}{} {} done\n", work.name, work.done,
              work.total ? fmt::format(" of {}", *work.total) : "", s.unit);
  }
  for (const SharedWorker& w : s.workers)
    write_out("  {}: {}{}\n", w.alive ? "at work" : "silent", who(w.task, w.host, w.process),
              rest_of(w, s.unit));
  if (s.speed && s.seconds_left)
    write_out("  speed {:.2g} {}/s, about {} left for the parts at work\n", *s.speed, s.unit,
              human_seconds(*s.seconds_left));
}

}  // namespace

void add_status_verb(CLI::App& app) {
  struct StatusArguments {
    std::filesystem::path out;
    uint64_t wait = 25;
    std::shared_ptr<CommonOptions> common;
  };
  auto o = std::make_shared<StatusArguments>();
  CLI::App* verb = app.add_subcommand(
      "status",
      "Say how far a merge is, or an evaluation or calibration in parts, and who is at work on it");
  verb->add_option("OUT", o->out,
                   "Folder that lewis merge writes, or will write; the --output-path of an "
                   "evaluation; the cache "
                   "of a calibration")
      ->required();
  verb->add_option("--wait", o->wait,
                   "Seconds in which a worker of another machine must count up to be taken for "
                   "alive; default 25, 0: it is not watched");
  o->common = add_common_options(*verb);
  verb->callback([o] {
    ProgressPrinter progress(o->common->quiet);
    const std::chrono::seconds wait(std::min<uint64_t>(o->wait, 3600));
    const StatusResult result = status({o->out, wait}, run_context(*o->common, progress));
    if (o->common->json) return write_json_text(json_text(result));
    result.merge ? print(*result.merge, wait) : print(result.out, *result.work);
  });
}

}  // namespace lewis
