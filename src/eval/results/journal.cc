#include "eval/results/journal.h"

#include <cmath>

#include "base/build.h"
#include "base/dump_json.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"

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

// The hash of what decides the results of items.
std::string key_of(const Json& about) {
  return sha256_hex(dump_json(Json{{"program", version_and_build()}, {"of", about}}));
}

fs::path path_of(const fs::path& folder, const PreparedTask& task, const std::string& key) {
  std::string name = task.name.substr(0, 100);  // names of files have a limit
  std::ranges::replace(name, '/', '_');
  return folder / fmt::format("{}_{}.jsonl", name, key.substr(0, 16));
}

}  // namespace

EvalJournal::EvalJournal(const fs::path& folder, const PreparedTask& task, const Json& about,
                         bool fresh)
    : EvalJournal(
          JsonLines::open(path_of(folder, task, key_of(about)), {"evaluation", key_of(about)},
                          fresh ? Existing::kBegin : Existing::kResume),
          task) {}

EvalJournal::EvalJournal(OpenedJournal opened, const PreparedTask& task)
    : file_(std::move(opened.journal)) {
  for (const Json& record : opened.records) {
    try {
      const auto item = record.at("item").get<size_t>();
      ItemResult result = from_json(record);
      if (item < task.items.size() && result.scores.size() == task.metrics.size())
        finished_[item] = std::move(result);
    } catch (const Json::exception&) {
      throw input_error("{}: holds a record that is no item's result; remove the file",
                        file_.path().string());
    }
  }
}

void EvalJournal::append(size_t item, const ItemResult& result) {
  file_.append(to_json(item, result));
  finished_[item] = result;
}

}  // namespace lewis
