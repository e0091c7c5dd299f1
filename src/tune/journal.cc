#include "tune/journal.h"

#include "base/error.h"
#include "base/json.h"

namespace lewis {

TuneJournal::TuneJournal(const std::filesystem::path& path, const std::string& identity)
    : TuneJournal(JsonLines::open(path, {"tuning", identity}, Existing::kResumeOrBegin)) {}

TuneJournal::TuneJournal(OpenedJournal opened) : file_(std::move(opened.journal)) {
  for (Json& record : opened.records) {
    if (!record.contains("answer") || !record.value("question", Json()).is_string())
      throw input_error("{}: holds a record that is no answer", file_.path().string());
    answers_[record["question"].get<std::string>()] = std::move(record["answer"]);
  }
}

std::optional<Json> TuneJournal::find(const std::string& question) const {
  const auto answer = answers_.find(question);
  return answer == answers_.end() ? std::nullopt : std::optional(*answer->second);
}

void TuneJournal::add(const std::string& question, const Json& answer) {
  file_.append({{"question", question}, {"answer", answer}});
  file_.sync();
  answers_[question] = answer;
}

}  // namespace lewis
