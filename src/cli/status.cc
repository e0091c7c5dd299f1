// lewis status OUT: how far a merge is, and who is at work on it.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <chrono>

#include "base/json.h"
#include "cli/verbs.h"
#include "io/manifest.h"
#include "io/merge_status.h"
#include "io/work_status.h"

namespace lewis {
namespace {

Json or_null(const std::optional<double>& value) { return value ? Json(*value) : Json(); }

Json to_json(const MergeStatus& s) {
  Json workers = Json::array(), written = Json::array();
  for (const WorkerStatus& w : s.workers) {
    workers.push_back({{"host", w.host},
                       {"process", w.process},
                       {"task", w.task},
                       {"alive", w.alive ? Json(true) : Json()},
                       {"shards_left", w.shards},
                       {"bytes_left", w.bytes_left},
                       {"bytes_per_second", or_null(w.speed)},
                       {"finishes", w.finishes}});
  }
  for (const WrittenBy& w : s.written) {
    written.push_back({{"host", w.host},
                       {"process", w.process},
                       {"task", w.task},
                       {"shards", w.shards},
                       {"bytes", w.bytes},
                       {"bytes_per_second", or_null(w.speed)}});
  }
  return {{"out", s.out.string()},
          {"state", name_of(s.state)},
          {"complete", s.state == MergeState::kComplete},
          {"program", s.program},
          {"shards", s.shards},
          {"shards_done", s.shards_done},
          {"bytes", s.bytes},
          {"bytes_done", s.bytes_done},
          {"workers", workers},
          {"written_by", written},
          {"free_shards", s.free},
          {"process", s.process ? Json(*s.process) : Json()},
          {"bytes_per_second", or_null(s.speed)},
          {"seconds_left", or_null(s.seconds_left)},
          {"notes", s.notes}};
}

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

Json to_json(const WorkStatus& s) {
  Json works = Json::array(), workers = Json::array();
  for (const SharedWork& work : s.works) {
    works.push_back({{"name", work.name},
                     {"done", work.done},
                     {"total", work.total ? Json(*work.total) : Json()}});
  }
  for (const SharedWorker& w : s.workers) {
    workers.push_back({{"host", w.host},
                       {"process", w.process},
                       {"task", w.task},
                       {"alive", w.alive ? Json(true) : Json()}});
  }
  return {{"state", s.kind}, {"unit", s.unit}, {"works", works}, {"workers", workers}};
}

void print(const std::filesystem::path& folder, const WorkStatus& s) {
  write_out("{}: {} in parts\n", folder.string(), s.kind);
  for (const SharedWork& work : s.works) {
    write_out("  {}: {}{} {} done\n", work.name, work.done,
              work.total ? fmt::format(" of {}", *work.total) : "", s.unit);
  }
  for (const SharedWorker& w : s.workers)
    write_out("  {}: {}\n", w.alive ? "at work" : "silent", who(w.task, w.host, w.process));
}

// Whether a folder holds a merge, or something of one.
bool has_merge(const std::filesystem::path& out) {
  std::filesystem::path partial = out.lexically_normal();
  if (!partial.has_filename()) partial = partial.parent_path();
  partial += ".partial";
  return out.extension() == ".partial" || std::filesystem::exists(out / kManifestName) ||
         std::filesystem::exists(partial);
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
    const ProgressFn tell = interruptible(progress);
    const std::chrono::seconds wait(std::min<uint64_t>(o->wait, 3600));
    const auto watching = [&] {
      tell({"watching the workers of other machines", "workers", 0, 1});
    };
    const WorkerPace pace{.patience = wait};
    const auto shared = has_merge(o->out) ? std::nullopt : work_status(o->out, pace, watching);
    if (shared) {
      o->common->json ? write_json(to_json(*shared)) : print(o->out, *shared);
      return;
    }
    const MergeStatus status = merge_status(o->out, pace, watching);
    o->common->json ? write_json(to_json(status)) : print(status, wait);
  });
}

}  // namespace lewis
