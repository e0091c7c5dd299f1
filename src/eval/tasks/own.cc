// A task of the user's own: see eval/tasks/own_task.h.
#include <algorithm>

#include "base/error.h"
#include "eval/tasks/task.h"
#include "text/regex.h"

namespace lewis {
namespace {

constexpr std::string_view kInvalid = "[invalid]";
constexpr std::string_view kSpace = " \t\r\n\f\v";

std::string stripped(std::string text) {
  text.erase(0, std::min(text.find_first_not_of(kSpace), text.size()));
  text.erase(text.find_last_not_of(kSpace) + 1);
  return text;
}

// An expression of the task; errors name the task and the key.
Regex regex_of(const OwnTask& task, std::string_view key, const std::string& pattern) {
  try {
    return Regex(pattern);
  } catch (const Error& e) {
    throw Error(e.code(), fmt::format("task {}: {}: {}", task.name, key, e.what()));
  }
}

// The comparison of an answer, with its regular expressions translated once.
class AnswerComparison {
 public:
  explicit AnswerComparison(const OwnTask& task) : task_(task) {
    if (!task.answer.regex.empty()) find_ = regex_of(task, "answer.regex", task.answer.regex);
    if (find_ && task.answer.group.value_or(0) >= find_->groups()) {
      throw usage_error("task {}: group {} of a regular expression that has {}", task.name,
                        *task.answer.group, find_->groups() - 1);
    }
    for (const std::string& pattern : task.remove)
      remove_.push_back(regex_of(task, "compare.remove", pattern));
  }

  std::string answer_in(const std::string& text) const {
    return find_ ? answer_of_match(text).value_or(std::string(kInvalid)) : text;
  }
  // The answer that a target gives: what the expression finds in it, as in a model's text, or all
  // of it where data gives the answer alone ("42" where texts have "#### 42").
  std::string answer_of_target(const std::string& target) const {
    return find_ ? answer_of_match(target).value_or(target) : target;
  }

  std::string normal(std::string text) const {
    for (const Regex& pattern : remove_) {
      std::string rest;
      for (std::string_view part : pattern.split(text)) rest += part;
      text = std::move(rest);
    }
    if (task_.strip) text = stripped(std::move(text));
    if (task_.ignore_case) {
      std::ranges::transform(text, text.begin(), [](char c) {
        return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
      });
    }
    return text;
  }

 private:
  std::optional<std::string> answer_of_match(const std::string& text) const {
    const auto matches = find_->find_all(text);
    if (matches.empty()) return std::nullopt;
    const Regex::Match& match = task_.answer.last ? matches.back() : matches.front();
    if (task_.answer.group) return std::string(match[*task_.answer.group].value_or(""));
    const auto group = std::find_if(match.begin() + 1, match.end(),
                                    [](const auto& g) { return g && !g->empty(); });
    return std::string(group != match.end() ? **group : *match[0]);
  }

  const OwnTask& task_;
  std::optional<Regex> find_;
  std::vector<Regex> remove_;
};

std::vector<DataRow> shot_rows(const TaskOptions& options) {
  if (*options.shots == 0) return {};
  if (options.shots_data.empty()) {
    throw usage_error("task {}: {} shots need a file that they come from (shots_data)",
                      options.task, *options.shots);
  }
  std::vector<DataRow> rows = read_rows(options.shots_data);
  if (rows.size() < *options.shots) {
    throw usage_error("task {}: {} shots, but {} holds {} examples", options.task, *options.shots,
                      options.shots_data.string(), rows.size());
  }
  return rows;
}

// The examples before each of `items` questions.
std::vector<std::string> prefixes(const TaskContext& context, size_t items) {
  const OwnTask& own = *context.options.own;
  const std::vector<DataRow> rows = shot_rows(context.options);
  std::vector<std::string> texts;
  for (const DataRow& row : rows) {
    texts.push_back(fill_template(own.prompt, row.doc, nullptr, row.where) + own.delimiter +
                    fill_template(own.target, row.doc, nullptr, row.where) + "\n\n");
  }
  std::vector<uint32_t> first(*context.options.shots);
  for (uint32_t i = 0; i < first.size(); ++i) first[i] = i;
  const auto drawn = own.shots_in_order || first.empty()
                         ? std::vector(items, first)
                         : draw_shots(items, rows.size(), first.size());
  std::vector<std::string> result(items);
  for (size_t i = 0; i < items; ++i) {
    for (uint32_t e : drawn[i]) result[i] += texts[e];
  }
  return result;
}

Json settings_of(const TaskOptions& options) {
  const OwnTask& own = *options.own;
  Json settings = generation_settings(options, own.stops);
  settings["num_fewshot"] = *options.shots;
  settings["regex"] = own.answer.regex;
  settings["match"] = own.answer.last ? "last" : "first";
  if (own.answer.group) settings["group"] = *own.answer.group;
  settings["remove"] = own.remove;
  settings["ignore_case"] = own.ignore_case;
  settings["strip"] = own.strip;
  settings["program"] = own.program;
  settings["tests"] = own.tests;
  return settings;
}

void run_own(const TaskRun& run) {
  const OwnTask& own = *run.task.options.own;
  if (own.runs_programs()) {
    return run_programs(run, own.stops, [&](const TaskItem& item, const std::string& text) {
      return ProgramCase{.program = fill_template(own.program, item.doc, &text, item.where),
                         .tests = fill_template(own.tests, item.doc, &text, item.where)};
    });
  }
  const AnswerComparison comparison(own);
  run_generation(run, own.stops, [&](const TaskItem& item, const std::string& text) {
    ItemResult result;
    result.response = text;
    result.filtered = {comparison.answer_in(text)};
    const bool right = comparison.normal(result.filtered[0]) ==
                       comparison.normal(comparison.answer_of_target(item.target));
    result.scores = {{right ? 1.0 : 0.0}};
    return result;
  });
}

}  // namespace

PreparedTask prepare_own(const TaskContext& context) {
  const OwnTask& own = *context.options.own;
  const AnswerComparison checked(own);  // its regular expressions are refused before any work
  PreparedTask task;
  task.version = 1;
  task.metrics = {
      {own.runs_programs() ? "pass_at_1" : "exact_match", "none", MetricInfo::Kind::kShare, true}};
  task.settings = settings_of(context.options);
  std::vector<DataRow> rows = read_rows(context.options.data);
  const uint64_t limit = context.options.limit;
  if (limit && rows.size() > limit) rows.resize(limit);
  const std::vector<std::string> before = prefixes(context, rows.size());
  const std::string nothing;
  for (size_t i = 0; i < rows.size(); ++i) {
    const DataRow& row = rows[i];
    const std::string prompt = before[i] + fill_template(own.prompt, row.doc, nullptr, row.where);
    // Templates of programs are tried as well: a missing field shows before the model runs.
    fill_template(own.program, row.doc, &nothing, row.where);
    const std::string target = own.runs_programs()
                                   ? fill_template(own.tests, row.doc, &nothing, row.where)
                                   : fill_template(own.target, row.doc, nullptr, row.where);
    task.items.push_back(
        {row.where, row.doc, prompt, target, prompt_tokens(context, prompt, row.where)});
  }
  task.run = run_own;
  return task;
}

}  // namespace lewis
