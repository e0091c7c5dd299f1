#include "tune/journal.h"

#include "base/error.h"
#include "base/text_file.h"

namespace lewis {
namespace {

std::string line_of(const Json& json) { return json.dump() + "\n"; }

// The answers of the text's whole lines; how many bytes those are. None of another identity.
size_t take_answers(const std::string& text, const std::string& identity,
                    std::map<std::string, Json>& answers) {
  size_t good = 0;
  for (size_t end; (end = text.find('\n', good)) != std::string::npos; good = end + 1) {
    const Json line = Json::parse(text.substr(good, end - good), nullptr, false);
    if (!line.is_object()) break;
    if (good == 0) {
      if (line.value("tuning", "") != identity) return 0;
      continue;
    }
    if (!line.contains("question") || !line["question"].is_string() || !line.contains("answer"))
      break;
    answers[line["question"].get<std::string>()] = line["answer"];
  }
  return good;
}

}  // namespace

TuneJournal::TuneJournal(const std::filesystem::path& path, const std::string& identity) {
  size_t good = 0;
  if (std::filesystem::exists(path)) good = take_answers(read_text_file(path), identity, answers_);
  file_ = File::open_append(path);
  if (!file_->try_lock()) throw resource_error("{}: another process uses it", path.string());
  std::filesystem::resize_file(path, good);
  if (good == 0) {
    answers_.clear();
    file_->append(line_of({{"tuning", identity}}));
    file_->sync();
  }
}

std::optional<Json> TuneJournal::find(const std::string& question) const {
  const auto answer = answers_.find(question);
  return answer == answers_.end() ? std::nullopt : std::optional(answer->second);
}

void TuneJournal::add(const std::string& question, const Json& answer) {
  file_->append(line_of({{"question", question}, {"answer", answer}}));
  file_->sync();
  answers_[question] = answer;
}

}  // namespace lewis
