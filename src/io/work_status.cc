#include "io/work_status.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <set>

#include "base/error.h"
#include "base/json.h"
#include "io/json_lines.h"
#include "io/safetensors.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> folders_in(const fs::path& folder) {
  std::vector<fs::path> folders;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (entry.is_directory(error)) folders.push_back(entry.path());
  }
  std::ranges::sort(folders);
  return folders;
}

// What a worker's journal NAME.TOKEN.jsonl says: how many items it has finished of it, and how many
// it had left when it began, those of its later tasks with them.
struct JournalItems {
  uint64_t done = 0;
  std::optional<uint64_t> left;
};
using ItemsOfJournals = std::map<std::string, JournalItems>;  // by NAME.TOKEN

// The last of a worker's journals is the one with the fewest items left.
void add_rest(SharedWorker& worker, const std::string& token, const WorkerState& state,
              const ItemsOfJournals& journals) {
  uint64_t done = 0;
  for (const auto& [name, items] : journals) {
    if (!name.ends_with("." + token)) continue;
    done += items.done;
    if (!items.left) continue;
    const uint64_t left = *items.left - std::min(*items.left, items.done);
    worker.left = std::min(worker.left.value_or(left), left);
  }
  // Before the first sign of life its file has the seconds of its begin, which mean nothing.
  if (state.beats > 0 && state.seconds > 0 && done > 0)
    worker.speed = static_cast<double>(done) / state.seconds;
}

void add_workers(const fs::path& folder, const WorkerPace& pace, const std::function<void()>& tick,
                 const ItemsOfJournals& journals, std::vector<SharedWorker>& workers) {
  const std::vector<std::string> here = workers_that_may_live(folder);
  const std::set<std::string> tokens(here.begin(), here.end());
  const std::set<std::string> alive = living_workers(folder, tokens, pace, tick);
  for (const std::string& token : here) {
    const auto state = read_worker(folder, token);
    if (!state) continue;
    SharedWorker worker{state->host, state->task, state->process, alive.contains(token), {}, {}};
    add_rest(worker, token, *state, journals);
    workers.push_back(std::move(worker));
  }
}

JournalItems items_of(const SeenJournal& journal) {
  JournalItems items;
  for (const Json& record : journal.records) {
    if (record.contains("left")) items.left = record.value("left", uint64_t{0});
    if (record.contains("item")) ++items.done;
  }
  return items;
}

// The journals of one folder, by the work that they are about, and by worker.
void add_items(const fs::path& folder, std::vector<SharedWork>& works, ItemsOfJournals& journals) {
  struct Found {
    std::string name;
    std::set<size_t> items;
    std::optional<size_t> total;
  };
  std::map<std::string, Found> found;  // by key
  for (const std::string& name : names_ending(folder, ".jsonl")) {
    const SeenJournal journal = look_at_journal(folder / (name + ".jsonl"));
    if (journal.identity.kind != "evaluation") continue;
    journals[name] = items_of(journal);
    Found& its = found[journal.identity.key];
    if (its.name.empty()) its.name = name.substr(0, std::min(name.rfind('_'), name.size()));
    for (const Json& record : journal.records) {
      if (record.contains("items")) {
        its.total = record.value("items", size_t{0});
        its.name = record.value("task", its.name);
      } else if (record.contains("item")) {
        its.items.insert(record.value("item", size_t{0}));
      }
    }
  }
  const std::string model = folder.parent_path().filename().string();
  for (const auto& [_, its] : found)
    works.push_back({fmt::format("{}, {}", model, its.name), its.items.size(), its.total});
}

// A piece's file says which of how many it is: "3/32".
void add_piece(const fs::path& path, SharedWork& work) {
  const SafetensorsFile file(path);
  const auto text = [&](const char* key) {
    const auto found = file.metadata().find(key);
    return found == file.metadata().end() ? std::string() : found->second;
  };
  const std::string piece = text("piece"), count = piece.substr(piece.find('/') + 1);
  size_t total = 0;
  if (std::from_chars(count.data(), count.data() + count.size(), total).ec == std::errc())
    work.total = total;
  work.name = fmt::format("{} on {}", text("model"), fs::path(text("data")).filename().string());
  ++work.done;
}

SharedWork pieces_of(const fs::path& folder) {
  SharedWork work{folder.filename().string(), 0, {}};
  for (const std::string& name : names_ending(folder, ".safetensors")) {
    try {
      add_piece(folder / (name + ".safetensors"), work);
    } catch (const Error&) {  // it is damaged, or has just been added up
    }
  }
  return work;
}

// The speed of all together, and the time of the one that takes longest.
void add_times(WorkStatus& status) {
  double speed = 0, longest = 0;
  for (const SharedWorker& worker : status.workers) {
    if (!worker.alive) continue;
    if (!worker.speed || !worker.left) return;
    speed += *worker.speed;
    longest = std::max(longest, static_cast<double>(*worker.left) / *worker.speed);
  }
  if (speed == 0) return;
  status.speed = speed;
  status.seconds_left = longest;
}

}  // namespace

std::optional<WorkStatus> work_status(const fs::path& folder, const WorkerPace& pace,
                                      const std::function<void()>& tick) {
  WorkStatus evaluation{"evaluation", "items", {}, {}, {}, {}},
      calibration{"calibration", "pieces", {}, {}, {}, {}};
  for (const fs::path& inner : folders_in(folder)) {
    if (inner.extension() == ".pieces") {
      calibration.works.push_back(pieces_of(inner));
      add_workers(inner, pace, tick, {}, calibration.workers);
    } else if (fs::is_directory(inner / "items")) {
      ItemsOfJournals journals;
      add_items(inner / "items", evaluation.works, journals);
      add_workers(inner / "items", pace, tick, journals, evaluation.workers);
    }
  }
  add_times(evaluation);
  if (!evaluation.works.empty()) return evaluation;
  if (!calibration.works.empty()) return calibration;
  return std::nullopt;
}

}  // namespace lewis
