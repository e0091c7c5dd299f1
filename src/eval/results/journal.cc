#include "eval/results/journal.h"

#include <algorithm>

#include "base/build.h"
#include "base/dump_json.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "io/workers.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

Json to_json(size_t item, const ItemResult& result) {
  Json scores = Json::array();
  for (const ItemScore& s : result.scores) scores.push_back({s.value, s.weight});
  return {{"item", item},
          {"scores", scores},
          {"response", result.response},
          {"filtered", result.filtered},
          {"details", result.details}};
}

ItemResult from_json(const Json& line) {
  ItemResult result;
  for (const Json& score : line.at("scores"))
    result.scores.push_back({score.at(0).get<double>(), score.at(1).get<double>()});
  result.response = line.at("response");
  result.filtered = line.at("filtered").get<std::vector<std::string>>();
  result.details = line.at("details");
  return result;
}

constexpr std::string_view kEnd = ".jsonl";
constexpr std::chrono::seconds kUnflushed{1};  // the most work that a power cut takes

JournalIdentity identity_of(const JournalOfTask& journal) { return {"evaluation", journal.key}; }

// The journals of workers in a folder, sorted.
std::vector<fs::path> journals_of_workers(const fs::path& folder, const JournalOfTask& journal) {
  std::vector<fs::path> files;
  for (const std::string& name : names_ending(folder, kEnd)) {
    if (name.starts_with(journal.name + ".")) files.push_back(folder / (name + std::string(kEnd)));
  }
  return files;
}

// Adds the results of a journal's records; of two for one item the first one counts.
void add_results(const std::vector<Json>& records, const PreparedTask& task, const fs::path& file,
                 std::map<size_t, ItemResult>& results) {
  for (const Json& record : records) {
    try {
      if (record.contains("items")) continue;  // how many there are
      const auto item = record.at("item").get<size_t>();
      ItemResult result = from_json(record);
      if (item < task.items.size() && result.scores.size() == task.metrics.size())
        results.emplace(item, std::move(result));
    } catch (const Json::exception&) {
      throw input_error("{}: holds a record that is no item's result; remove the file",
                        file.string());
    }
  }
}

void add_results_of_workers(const fs::path& folder, const JournalOfTask& journal,
                            const PreparedTask& task, std::map<size_t, ItemResult>& results) {
  for (const fs::path& file : journals_of_workers(folder, journal))
    add_results(read_json_lines(file, identity_of(journal)), task, file, results);
}

OpenedJournal open_alone(const fs::path& folder, const JournalOfTask& journal, bool fresh) {
  OpenedJournal opened =
      JsonLines::open(folder / (journal.name + std::string(kEnd)), identity_of(journal),
                      fresh ? Existing::kBegin : Existing::kResume);
  if (fresh) {
    for (const fs::path& file : journals_of_workers(folder, journal)) fs::remove(file);
  }
  return opened;
}

}  // namespace

JournalOfTask::JournalOfTask(const PreparedTask& task, const Json& about)
    : key(sha256_hex(dump_json(Json{{"program", version_and_build()}, {"of", about}}))) {
  std::string stem = task.name.substr(0, 100);  // names of files have a limit
  std::ranges::replace(stem, '/', '_');
  name = fmt::format("{}_{}", stem, key.substr(0, 16));
}

std::map<size_t, ItemResult> finished_items(const fs::path& folder, const PreparedTask& task,
                                            const Json& about) {
  const JournalOfTask journal(task, about);
  std::map<size_t, ItemResult> results;
  const fs::path alone = folder / (journal.name + std::string(kEnd));
  if (fs::exists(alone))
    add_results(read_json_lines(alone, identity_of(journal)), task, alone, results);
  add_results_of_workers(folder, journal, task, results);
  return results;
}

EvalJournal::EvalJournal(const fs::path& folder, const PreparedTask& task, const Json& about,
                         bool fresh)
    : EvalJournal(open_alone(folder, JournalOfTask(task, about), fresh), task) {
  add_results_of_workers(folder, JournalOfTask(task, about), task, finished_);
}

EvalJournal::EvalJournal(OpenedJournal opened, const PreparedTask& task)
    : file_(std::move(opened.journal)) {
  add_results(opened.records, task, file_.path(), finished_);
}

EvalJournal EvalJournal::of_worker(const fs::path& folder, const PreparedTask& task,
                                   const Json& about, const std::string& worker, uint64_t left) {
  const JournalOfTask journal(task, about);
  const Json first = {{"task", task.name}, {"items", task.items.size()}, {"left", left}};
  return EvalJournal(JsonLines::begin(folder / fmt::format("{}.{}{}", journal.name, worker, kEnd),
                                      identity_of(journal), std::span(&first, 1)));
}

void EvalJournal::append(size_t item, const ItemResult& result) {
  file_.append(to_json(item, result));
  finished_[item] = result;
  if (std::chrono::steady_clock::now() - synced_ >= kUnflushed) sync();
}

void EvalJournal::sync() {
  file_.sync();
  synced_ = std::chrono::steady_clock::now();
}

}  // namespace lewis
