#include "journal_targets.h"

#include <fstream>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "base/text_file.h"
#include "eval/results/journal.h"
#include "refine/journal.h"
#include "tune/journal.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

// The lines that can be records.
std::vector<Json> records_of(std::string_view bytes) {
  std::vector<Json> records;
  for (const std::string_view line : split_lines(bytes)) {
    try {
      Json record = parse_json(line, "record");
      if (record.is_object() && !record.contains("xxh3")) records.push_back(std::move(record));
    } catch (const Error&) {
      // No record of any journal.
    }
  }
  return records;
}

std::string first_line(const fs::path& file) {
  std::string line;
  std::ifstream in(file);
  std::getline(in, line);
  return line;
}

// A folder of that name in which nothing is.
fs::path emptied(const FuzzFolder& folder, std::string_view name) {
  const fs::path path = folder.path() / name;
  fs::remove_all(path);
  fs::create_directory(path);
  return path;
}

bool same(const ItemResult& a, const ItemResult& b) {
  return a.response == b.response && a.filtered == b.filtered && a.details == b.details &&
         std::ranges::equal(a.scores, b.scores, [](const ItemScore& x, const ItemScore& y) {
           return x.value == y.value && x.weight == y.weight;
         });
}

}  // namespace

void resume_evaluation(std::string_view bytes, const FuzzFolder& folder) {
  PreparedTask task;
  task.name = "fuzz";
  task.metrics.resize(2);
  task.items.resize(3);
  const fs::path place = emptied(folder, "evaluations");
  const auto journal = [&](bool fresh) { return EvalJournal(place, task, "about", fresh); };
  journal(true);
  const fs::path file = fs::directory_iterator(place)->path();
  const std::string key = parse_json(first_line(file), "identity").at("key");
  JsonLines::begin(file, {"evaluation", key}, records_of(bytes));
  const std::map<size_t, ItemResult> found = journal(false).finished();
  for (const auto& [item, result] : found)
    fuzz_check(item < 3 && result.scores.size() == 2, "results are those of the task's items");
  {
    EvalJournal again = journal(true);
    for (const auto& [item, result] : found) again.append(item, result);
  }
  const std::map<size_t, ItemResult> read = journal(false).finished();
  fuzz_check(read.size() == found.size(), "results survive being written");
  for (const auto& [item, result] : found)
    fuzz_check(same(read.at(item), result), "a result survives being written");
}

void resume_tuning(std::string_view bytes, const FuzzFolder& folder) {
  const fs::path file = folder.path() / "tuning.jsonl";
  const std::vector<Json> records = records_of(bytes);
  JsonLines::begin(file, {"tuning", "key"}, records);
  const TuneJournal journal(file, "key");
  fuzz_check(journal.size() <= records.size(), "an answer is a record");
  for (const Json& record : records)
    fuzz_check(journal.find(record.at("question")).has_value(), "a recorded answer is found");
}

void resume_refinement(std::string_view bytes, const FuzzFolder& folder) {
  const size_t end = std::min(bytes.find('\n'), bytes.size());
  std::vector<Json> records = records_of(bytes.substr(0, end));
  const fs::path place = emptied(folder, "refined");
  const auto write = [&](const std::string& name, std::string_view content) {
    std::ofstream(place / name, std::ios::binary) << content;
    const File file = File::open_read(place / name);
    records.push_back(to_json(ShardRecord{name, file.size(), file_sha256(file), {}}));
  };
  std::ofstream(place / kRefineMarker) << "";
  write("block-00000.safetensors", bytes.substr(std::min(end + 1, bytes.size())));
  write("experts-00000.bin", std::string(16, '\1'));
  write("merged-00000.bin", std::string(16, '\2'));
  JsonLines::begin(place / kJournalName, {"refinement", "plan"}, records);
  const auto journal = std::make_shared<RefineJournal>(place, "plan", true);
  StreamPair streams{{1, 4, 0, {}}, {1, 4, 0, {}}};
  if (journal->blocks_done() > 0) {
    journal->load_streams(streams);
    journal->result(0);
  }
  const auto source = open_refined(journal, "refined");
  for (const TensorInfo& info : source->tensors()) {
    std::vector<std::byte> values(std::min<uint64_t>(byte_size(info), 1 << 16));
    source->read(info, 0, values);
  }
}

}  // namespace lewis
