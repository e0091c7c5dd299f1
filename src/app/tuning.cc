#include "app/tuning.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <numeric>
#include <set>

#include <fmt/ranges.h>

#include "app/refinement.h"
#include "app/tokenizers.h"
#include "app/tuning_items.h"
#include "base/build.h"
#include "base/error.h"
#include "base/hash.h"
#include "eval/tasks.h"
#include "text/line_reader.h"
#include "tune/search.h"

namespace lewis {
namespace {

size_t count_items(const CalibrationEntry& entry, const RunningModel& model) {
  std::optional<ChatTemplate> chat;
  DataOptions data{entry.data, format_of(entry.data, entry.format), entry.prompt_field,
                   entry.answer_field};
  if (data.format == DataFormat::kChat) chat = ChatTemplate::load(model.input.files());
  return read_data(data, chat ? &*chat : nullptr).size();
}

// Where the entries of `recipe` and then those of its stages and modules draw from. The entries of
// one file may count its items with any model that reads it, so the base does for all.
void add_sources(const Recipe& recipe, const RunningModel& model,
                 std::vector<ItemSource>& sources) {
  if (recipe.lewis) {
    for (const CalibrationEntry& e : recipe.lewis->calibration) {
      if (e.has_statistics()) continue;
      ItemSource source{.name = e.data.string(),
                        .content_hash = data_file_hash(e.data),
                        .format = std::string(name_of(format_of(e.data, e.format))),
                        .count = count_items(e, model),
                        .seed = e.seed};
      const auto drawn = [&](uint64_t samples) {
        return samples == 0 ? source.count : std::min<size_t>(samples, source.count);
      };
      source.used = drawn(e.samples);
      if (recipe.lewis->refine)
        source.used = std::max(source.used, drawn(recipe.lewis->refine->samples));
      sources.push_back(std::move(source));
    }
  }
  for (const RecipeModel& m : recipe.models) {
    if (m.stage) add_sources(*m.stage, model, sources);
  }
  for (const RecipeModule& m : recipe.modules) add_sources(*m.recipe, model, sources);
}

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

// An objective is a weighted sum of losses: of each entry an offset and a factor.
struct Scale {
  double offset = 0, factor = 1;
};

class Tuning {
 public:
  Tuning(const TunableRecipe& recipe, const TuneOptions& options, TuneJournal* journal,
         Threads& threads, const ProgressFn& progress, const NoteFn& note)
      : tunable_(recipe),
        options_(options),
        journal_(journal),
        threads_(threads),
        progress_(progress),
        note_(note) {
    for (const SearchRange& r : recipe.ranges()) start_.push_back(r.start);
    recipe_ = recipe.with(start_);
  }

  TuneReport run() {
    tell_notes();
    make_parts();
    const EntryLosses base = reference(true, false), expert = reference(false, false);
    const std::vector<Scale> scales = scales_of(base, expert);
    std::vector<Axis> axes;
    for (const SearchRange& r : tunable_.ranges())
      axes.push_back({r.low, r.high, r.start, r.log, !r.options.empty()});
    const auto value_of = [&](std::span<const double> point) -> std::optional<double> {
      if (!fits(point)) return std::nullopt;
      const EntryLosses losses = merge_losses(point, false);
      tell(++done_);
      const double value = objective(losses, scales);
      keep_if_best(point, value);
      return value;
    };
    const auto keep_on = [&](std::span<const double> from, std::span<const double> to) {
      return axes.size() == 1 || gains(from, to, scales);
    };
    const SearchResult best = coordinate_search(axes, options_.evaluations, value_of, keep_on);
    TuneReport report;
    report.values = best.point;
    report.evaluations = best.evaluations;
    report.start_objective = best.start_value;
    report.objective = best.value;
    report.base = reference(true, true);
    report.expert = reference(false, true);
    report.start = merge_losses(start_, true);
    report.found = best.point == start_ ? report.start : merge_losses(best.point, true);
    const std::vector<Scale> held = scales_of(report.base, report.expert);
    report.gain = gain(report.start, report.found, held);
    report.worth = worth_of_values(report, held);
    report.taken_over = taken_over_;
    tell_end();
    return report;
  }

 private:
  const std::vector<CalibrationEntry>& entries() const { return recipe_.lewis->calibration; }

  // The same for all points of the search, and whatever the journal knows.
  void tell_notes() const {
    tell_all(note_, open_input(stage_of(recipe_), open_options(threads_)).notes);
    read_texts(recipe_, options_.guidance, threads_, note_);
  }

  void make_parts() {
    const auto model = run(base_model());
    std::vector<ItemSource> sources;
    add_sources(recipe_, *model, sources);
    parts_ =
        split_items(sources, entries().size(), options_.samples, options_.held_out, options_.seed);
  }

  const RecipeModel& base_model() const { return recipe_.models.at(recipe_.base_index.value()); }

  // The recipe that a point makes, if its numbers fit together (gamma below epsilon, ...).
  bool fits(std::span<const double> point) const {
    if (std::ranges::equal(point, start_)) return true;
    try {
      check_plan_settings(tunable_.with(point));
      return true;
    } catch (const Error& e) {
      if (e.code() != ExitCode::kUsage) throw;
      return false;
    }
  }

  // The answer from the journal, or else from `work`.
  std::vector<double> ask(const std::string& question,
                          const std::function<std::vector<double>()>& work) {
    const bool is_new = asked_.insert(question).second;
    if (journal_) {
      if (const auto known = journal_->find(question)) {
        if (is_new) ++taken_over_;  // else this run has found it
        return known->get<std::vector<double>>();
      }
    }
    std::vector<double> losses = work();
    if (journal_) journal_->add(question, losses);
    return losses;
  }

  LossItems part(size_t entry, bool held) const {
    return {entries()[entry], held ? parts_[entry].held : parts_[entry].fit};
  }

  using Open = std::function<const RunningModel&(size_t entry)>;
  EntryLosses losses_of(const Open& open, const std::string& name, bool held) {
    EntryLosses losses;
    for (size_t e = 0; e < entries().size(); ++e) {
      const std::string question =
          fmt::format("{}, {} part of entry {}", name, held ? "held-out" : "fitted", e);
      losses.push_back(
          ask(question, [&] { return answer_losses(open(e), part(e, held), quietly()); }));
    }
    return losses;
  }

  // Losses of the base, or of each entry's expert.
  EntryLosses reference(bool base, bool held) {
    std::unique_ptr<RunningModel> model;
    const auto open = [&](size_t e) -> const RunningModel& {
      model = run(base ? base_model() : recipe_.models.at(entries()[e].index));
      return *model;
    };
    return losses_of(open, base ? "base" : "expert", held);
  }

  using Point = std::vector<double>;

  // Guided, refined and opened once for all entries, if it is needed at all.
  EntryLosses merge_losses(std::span<const double> point, bool held) {
    std::unique_ptr<RunningModel> model;
    const auto open = [&](size_t) -> const RunningModel& {
      if (!model) {
        const Point key(point.begin(), point.end());
        const auto kept = prepared_.find(key);
        const PreparedModel& merge =
            (kept != prepared_.end() ? kept : prepared_.emplace(key, prepare(point)).first)->second;
        model = open_prepared(merge, false, options_.guidance, threads_);
      }
      return *model;
    };
    return losses_of(open, fmt::format("[{}]", fmt::join(point, ", ")), held);
  }

  PreparedModel prepare(std::span<const double> point) const {
    return prepare_named(stage_of(tunable_.with(point)), options_.guidance, threads_, quietly());
  }

  RecipeModel stage_of(Recipe recipe) const {
    RecipeModel merged;
    merged.model = recipe_.file.string();
    merged.stage = std::make_shared<const Recipe>(std::move(recipe));
    return merged;
  }

  // The start and the best point are scored on the held-out part at the end, so that they stay
  // prepared; the refined tensors of all others go.
  void keep_if_best(std::span<const double> point, double value) {
    const Point key(point.begin(), point.end());
    if (best_point_.empty() || value < best_value_) {
      best_point_ = key;
      best_value_ = value;
    }
    std::erase_if(prepared_, [&](const auto& entry) {
      return entry.first != best_point_ && entry.first != start_;
    });
  }

  std::unique_ptr<RunningModel> run(const RecipeModel& model) const {
    return open_named(model, false, options_.guidance, threads_, quietly());
  }

  // Hides the progress of a single evaluation, but notices interrupts.
  ProgressFn quietly() const {
    return [this](const Progress&) { tell(done_); };
  }

  std::vector<Scale> scales_of(const EntryLosses& base, const EntryLosses& expert) const {
    const auto entries_count = static_cast<double>(entries().size());
    std::vector<Scale> scales;
    for (size_t e = 0; e < entries().size(); ++e) {
      const double b = mean(base[e]), x = mean(expert[e]);
      if (options_.plain_mean) {
        scales.push_back({0, 1 / entries_count});
        continue;
      }
      if (!(b > x)) {
        throw usage_error(
            "{}: {} has loss {:.4f} on {}, the base {:.4f}: a loss relative to both needs an "
            "expert that is better there (--objective mean does not)",
            recipe_.file.string(), entries()[e].model, x, entries()[e].data.string(), b);
      }
      scales.push_back({x, 1 / (b - x) / entries_count});
    }
    return scales;
  }

  static double objective(const EntryLosses& losses, const std::vector<Scale>& scales) {
    double sum = 0;
    for (size_t e = 0; e < losses.size(); ++e)
      sum += (mean(losses[e]) - scales[e].offset) * scales[e].factor;
    return sum;
  }

  // Items of all entries together, each scaled so that the sum of the entries' means is the
  // objective.
  PairedDifference gain(const EntryLosses& from, const EntryLosses& to,
                        const std::vector<Scale>& scales) const {
    std::vector<ItemScore> start, found;
    for (size_t e = 0; e < from.size(); ++e) {
      const auto n = static_cast<double>(from[e].size());
      const auto entries_count = static_cast<double>(from.size());
      for (size_t i = 0; i < from[e].size(); ++i) {
        const double factor = scales[e].factor * entries_count;
        start.push_back({from[e][i] * factor, 1 / n});
        found.push_back({to[e][i] * factor, 1 / n});
      }
    }
    return paired_difference(start, found);
  }

  // Whether the held-out part shows that a round of the search has gained something.
  bool gains(std::span<const double> from, std::span<const double> to,
             const std::vector<Scale>& scales) {
    if (!std::ranges::equal(from, to)) {
      const PairedDifference d = gain(merge_losses(from, true), merge_losses(to, true), scales);
      if (d.high < 0) return true;
    }
    if (note_) {
      note_(
          fmt::format("the search ends after {} of {} evaluations: the last round over all values "
                      "gained nothing that the held-out text shows",
                      done_, options_.evaluations));
    }
    return false;
  }

  std::vector<std::optional<PairedDifference>> worth_of_values(const TuneReport& report,
                                                               const std::vector<Scale>& scales) {
    std::vector<std::optional<PairedDifference>> worth(start_.size());
    for (size_t i = 0; i < start_.size(); ++i) {
      Point without = report.values;
      without[i] = start_[i];
      if (without == report.values || !fits(without)) continue;
      worth[i] = gain(merge_losses(without, true), report.found, scales);
      std::erase_if(prepared_, [&](const auto& entry) { return entry.first == without; });
    }
    return worth;
  }

  // The last evaluation is told once the held-out part is scored, too.
  void tell(size_t done) const {
    if (progress_) {
      progress_(
          {"tune", "evaluations", std::min(done, options_.evaluations - 1), options_.evaluations});
    }
  }
  void tell_end() const {
    if (progress_) progress_({"tune", "evaluations", options_.evaluations, options_.evaluations});
  }

  const TunableRecipe& tunable_;
  const TuneOptions& options_;
  TuneJournal* journal_;
  Threads& threads_;
  const ProgressFn& progress_;
  const NoteFn& note_;
  std::vector<double> start_;
  Recipe recipe_;  // at the starts
  std::vector<ItemParts> parts_;
  std::map<Point, PreparedModel> prepared_;
  Point best_point_;  // of those that the search has scored
  double best_value_ = 0;
  std::set<std::string> asked_;
  size_t done_ = 0, taken_over_ = 0;
};

}  // namespace

void check_tuning(const TunableRecipe& tunable, const TuneOptions& options) {
  std::vector<double> starts;
  for (const SearchRange& r : tunable.ranges()) starts.push_back(r.start);
  const Recipe recipe = tunable.with(starts);
  check_plan_settings(recipe);
  const std::string file = recipe.file.string();
  if (!recipe.lewis || recipe.lewis->calibration.empty())
    throw usage_error("{}: tuning needs lewis.calibration: text with answers to score", file);
  for (const CalibrationEntry& e : recipe.lewis->calibration) {
    if (e.has_statistics())
      throw usage_error("{}:{}: tuning needs text (data): statistics have no loss", file, e.line);
    if (is_named_test(e.data) && !options.force) {
      throw usage_error(
          "{}:{}: {} is named as a test set: what is tuned on it cannot be tested on it (--force "
          "tunes all the same)",
          file, e.line, e.data.string());
    }
  }
  for (const SearchRange& r : tunable.ranges()) {
    if (r.path.ends_with("samples")) {
      throw usage_error("{}: {} cannot be searched: it decides which texts may judge the search",
                        file, r.path);
    }
  }
  if (!(options.held_out > 0 && options.held_out < 1))
    throw usage_error("--held-out {}: expected a share between 0 and 1", options.held_out);
}

TuneReport tune(const TunableRecipe& recipe, const TuneOptions& options, TuneJournal* journal,
                Threads& threads, const ProgressFn& progress, const NoteFn& note) {
  check_tuning(recipe, options);
  return Tuning(recipe, options, journal, threads, progress, note).run();
}

std::string tuning_identity(const TunableRecipe& tunable, const TuneOptions& options) {
  std::vector<double> starts;
  for (const SearchRange& r : tunable.ranges()) starts.push_back(r.start);
  const Recipe recipe = tunable.with(starts);
  Sha256 hash;
  // The number of evaluations is left out, so that a longer search continues a shorter one.
  hash.add(fmt::format("{}\n{}\n{}\n{}\n{}\n", version_and_build(), tunable.text(), options.samples,
                       options.held_out, options.seed));
  hash.add(compute_type_name(options.guidance.compute));
  for (const CalibrationEntry& e :
       recipe.lewis ? recipe.lewis->calibration : std::vector<CalibrationEntry>{}) {
    if (!e.has_statistics()) hash.add(data_file_hash(e.data));
  }
  for (const auto& folder : source_folders(recipe)) {
    RecipeModel model;
    model.folder = folder;
    if (is_gguf_path(folder) || std::filesystem::exists(folder / "config.json"))
      hash.add(open_input(model, {.gguf = open_gguf}).fingerprint());
  }
  return hash.hex();
}

bool is_named_test(const std::filesystem::path& data) {
  const std::string name = data.filename().string();
  for (size_t i = 0; i < name.size(); ++i) {
    const bool begins = i == 0 || !std::isalpha(static_cast<unsigned char>(name[i - 1]));
    std::string word = name.substr(i, 4);
    std::ranges::transform(word, word.begin(), [](unsigned char c) { return std::tolower(c); });
    if (begins && word == "test") return true;
  }
  return false;
}

std::vector<double> answer_losses(const RunningModel& model, const LossItems& items,
                                  const ProgressFn& progress) {
  const CalibrationEntry& text = items.text;
  TaskOptions task_options;
  task_options.task = "loss";
  task_options.data = text.data;
  const DataFormat format = format_of(text.data, text.format);
  task_options.format = name_of(format);
  task_options.prompt_field = text.prompt_field;
  task_options.answer_field = text.answer_field;
  std::optional<ChatTemplate> chat;
  if (format == DataFormat::kChat) chat = ChatTemplate::load(model.input.files());
  task_options.chat = chat ? &*chat : nullptr;
  const Tokenizer* tokenizer = model.tokenizer ? &*model.tokenizer : nullptr;
  PreparedTask task = prepare_task(task_options, model.transformer->spec(), tokenizer);
  if (!items.items.empty()) {
    std::vector<TaskItem> chosen;
    for (const size_t i : items.items) chosen.push_back(std::move(task.items.at(i)));
    task.items = std::move(chosen);
  }
  const TaskModel task_model{*model.transformer, tokenizer, model.stop_ids};
  std::vector<double> losses;
  for (const ItemScore& s : scores_of(run_task(task, task_model, {}, {}, progress), 0))
    losses.push_back(s.value);
  return losses;
}

}  // namespace lewis
