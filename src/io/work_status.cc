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

void add_workers(const fs::path& folder, const WorkerPace& pace, const std::function<void()>& tick,
                 std::vector<SharedWorker>& workers) {
  const std::vector<std::string> here = workers_that_may_live(folder);
  const std::set<std::string> tokens(here.begin(), here.end());
  const std::set<std::string> alive = living_workers(folder, tokens, pace, tick);
  for (const std::string& token : here) {
    if (const auto state = read_worker(folder, token))
      workers.push_back({state->host, state->task, state->process, alive.contains(token)});
  }
}

// The journals of one folder, by the work that they are about.
void add_items(const fs::path& folder, std::vector<SharedWork>& works) {
  struct Found {
    std::string name;
    std::set<size_t> items;
    std::optional<size_t> total;
  };
  std::map<std::string, Found> found;  // by key
  for (const std::string& name : names_ending(folder, ".jsonl")) {
    const SeenJournal journal = look_at_journal(folder / (name + ".jsonl"));
    if (journal.identity.kind != "evaluation") continue;
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

}  // namespace

std::optional<WorkStatus> work_status(const fs::path& folder, const WorkerPace& pace,
                                      const std::function<void()>& tick) {
  WorkStatus evaluation{"evaluation", "items", {}, {}},
      calibration{"calibration", "pieces", {}, {}};
  for (const fs::path& inner : folders_in(folder)) {
    if (inner.extension() == ".pieces") {
      calibration.works.push_back(pieces_of(inner));
      add_workers(inner, pace, tick, calibration.workers);
    } else if (fs::is_directory(inner / "items")) {
      add_items(inner / "items", evaluation.works);
      add_workers(inner / "items", pace, tick, evaluation.workers);
    }
  }
  if (!evaluation.works.empty()) return evaluation;
  if (!calibration.works.empty()) return calibration;
  return std::nullopt;
}

}  // namespace lewis
