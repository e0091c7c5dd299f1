#include "eval/results/journal.h"

#include <cmath>

#include "base/error.h"
#include "base/hash.h"
#include "base/text_file.h"

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

std::string line_of(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

File open_journal(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  if (error) throw resource_error("{}: {}", path.parent_path().string(), error.message());
  return File::open_append(path);
}

fs::path path_of(const fs::path& folder, const PreparedTask& task, const std::string& key) {
  std::string name = task.name.substr(0, 100);  // files' names have their limits
  std::ranges::replace(name, '/', '_');
  return folder / fmt::format("{}_{}.jsonl", name, key.substr(0, 16));
}

}  // namespace

EvalJournal::EvalJournal(const fs::path& folder, const PreparedTask& task, const Json& about,
                         bool fresh)
    : file_(open_journal(path_of(folder, task, sha256_hex(about.dump())))),
      head_(line_of({{"lewis_eval_journal", 1}, {"items", task.items.size()}, {"of", about}})) {
  if (!file_.try_lock()) {
    throw usage_error("{}: another process evaluates the same task on the same model",
                      file_.path().string());
  }
  if (!fresh) take_over(task);
  if (finished_.empty()) {
    fs::resize_file(file_.path(), 0);
    file_.append(head_);
  }
}

void EvalJournal::take_over(const PreparedTask& task) {
  const std::string text = read_text_file(file_.path());
  if (text.empty()) return;
  if (!text.starts_with(head_)) {
    if (head_.starts_with(text)) return;  // torn in its first line
    throw input_error("{}: is not the journal of this evaluation; remove it",
                      file_.path().string());
  }
  size_t good = head_.size();
  while (true) {
    const size_t end = text.find('\n', good);
    if (end == std::string::npos) break;
    try {
      const Json line = parse_json(std::string_view(text).substr(good, end - good), "journal");
      const auto item = line.at("item").get<size_t>();
      ItemResult result = from_json(line);
      if (item >= task.items.size() || result.scores.size() != task.metrics.size()) break;
      finished_[item] = std::move(result);
    } catch (const std::exception&) {
      break;  // torn here, by a crash
    }
    good = end + 1;
  }
  if (good < text.size()) fs::resize_file(file_.path(), good);
}

void EvalJournal::append(size_t item, const ItemResult& result) {
  file_.append(line_of(to_json(item, result)));
  finished_[item] = result;
}

}  // namespace lewis
