#include "app/guidance.h"

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <map>

#include "app/importance_cache.h"
#include "app/running_model.h"
#include "app/tokenizers.h"
#include "base/error.h"
#include "calibrate/cache.h"
#include "calibrate/calibrate.h"
#include "calibrate/imatrix.h"
#include "calibrate/output_change.h"
#include "io/disk.h"
#include "io/gguf.h"
#include "merge/method.h"
#include "plan/normalise.h"
#include "text/line_reader.h"

namespace lewis {
namespace {

ComputeType compute_type_of(Protocol protocol, const GuidanceOptions& options) {
  return protocol == Protocol::kReference ? ComputeType::kF32 : options.compute;
}

CalibrationTokens tokens_of(const CalibrationJob& job, const RunningModel& model) {
  CalibrationTokens tokens;
  const NoteFn note = [&](const std::string& line) { tokens.notes.push_back(line); };
  for (TokenSequence& s : text_of(job.text, model, job.protocol == Protocol::kReference, note))
    tokens.sequences.push_back(std::move(s.ids));
  return tokens;
}

StatisticsKey key_of(const CalibrationJob& job, const RunningModel& model,
                     std::span<const std::vector<int32_t>> sequences) {
  StatisticsKey key;
  key.model = job.model.model;
  key.model_hash = model.input.fingerprint();
  const DataFormat format = format_of(job.text.data, job.text.format);
  key.format = name_of(format);
  if (format != DataFormat::kIds && model.tokenizer)
    key.tokenizer_hash = model.tokenizer->identity();
  key.data = job.text.data.string();
  key.data_hash = data_file_hash(job.text.data);
  key.prompt_field = job.text.prompt_field;
  key.answer_field = job.text.answer_field;
  key.samples = job.text.samples;
  key.seed = job.text.seed;
  key.max_tokens = job.text.max_tokens;
  key.sequences_hash = hash_sequences(sequences);
  key.protocol = job.protocol;
  key.skip_first = job.skip_first;
  key.compute = model.backend->compute_type();
  key.magnitudes = job.magnitudes;
  return key;
}

// Progress under the job's name.
ProgressFn named(const ProgressFn& progress, std::string_view what, const CalibrationJob& job) {
  return [&progress, what, &job](Progress p) {
    const std::filesystem::path name(job.model.model);
    p.what = fmt::format("{} {} on {}", what, name.filename().string(),
                         job.text.data.filename().string());
    if (progress) progress(p);
  };
}

CalibrateOptions calibrate_options(const CalibrationJob& job, uint64_t max_memory,
                                   const ProgressFn& progress) {
  CalibrateOptions options;
  options.max_memory = max_memory;
  options.protocol = job.protocol;
  options.skip_first = job.skip_first;
  options.magnitudes = job.magnitudes;
  options.progress = named(progress, "calibrate", job);
  return options;
}

CalibrationResult kept(const StatisticsKey& key, const std::filesystem::path& cache,
                       const std::function<Statistics()>& work) {
  if (cache.empty()) {
    CalibrationResult result{work(), {}, false, {}};
    result.statistics.origin = to_origin(key);
    return result;
  }
  CachedStatistics cached = cached_statistics(cache, key, work);
  return {std::move(cached.statistics), std::move(cached.file), cached.reused, {}};
}

}  // namespace

std::vector<TokenSequence> text_of(const CalibrationEntry& text, const RunningModel& model,
                                   bool reference, const NoteFn& note) {
  const DataFormat format = format_of(text.data, text.format);
  std::optional<ChatTemplate> chat;
  if (format == DataFormat::kChat) chat = ChatTemplate::load(model.input.files());
  DataOptions options;
  options.file = text.data;
  options.format = format;
  options.prompt_field = text.prompt_field;
  options.answer_field = text.answer_field;
  options.note = note;
  CalibrationText choice;
  choice.samples = text.samples;
  choice.skip = text.skip;
  choice.seed = text.seed;
  choice.max_tokens = text.max_tokens ? text.max_tokens : SIZE_MAX;
  choice.reference = reference;
  const Tokenizer* tokenizer = model.tokenizer ? &*model.tokenizer : nullptr;
  return calibration_sequences(read_data(options, chat ? &*chat : nullptr), tokenizer, choice);
}

std::filesystem::path default_cache_folder() {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::filesystem::path(value ? value : "");
  };
  if (const auto own = variable("LEWIS_CACHE"); !own.empty()) return own;
  if (const auto xdg = variable("XDG_CACHE_HOME"); !xdg.empty()) return xdg / "lewis";
  if (const auto home = variable("HOME"); !home.empty()) return home / ".cache" / "lewis";
  // A folder that others can write to would let them choose our statistics.
  return private_temporary_folder("lewis-cache").value_or(std::filesystem::path());
}

InputModel opened_like(const RecipeModel& model, const RecipeModel& main, Threads& threads) {
  const OpenOptions options = open_options(threads);
  InputModel input = open_input(model, options);
  if (!is_same_model(model, main)) respell(input, open_input(main, options));
  return input;
}

namespace {

InputModel opened(const CalibrationJob& job, Threads& threads) {
  if (job.spelled_like) return opened_like(job.model, *job.spelled_like, threads);
  return open_input(job.model, open_options(threads));
}

bool needs_tokenizer(const CalibrationJob& job) {
  return format_of(job.text.data, job.text.format) != DataFormat::kIds;
}

}  // namespace

CalibrationResult run_calibration(const CalibrationJob& job, const GuidanceOptions& options,
                                  Threads& threads, const ProgressFn& progress,
                                  const CalibrationTokens* known) {
  const auto model = RunningModel::open(opened(job, threads), threads, needs_tokenizer(job),
                                        compute_type_of(job.protocol, options));
  const CalibrationTokens tokens = known ? *known : tokens_of(job, *model);
  const auto work = [&] {
    Statistics statistics = calibrate(*model->transformer, tokens.sequences,
                                      calibrate_options(job, options.max_memory, progress));
    statistics.notes = tokens.notes;
    return statistics;
  };
  CalibrationResult result = kept(key_of(job, *model, tokens.sequences), options.cache, work);
  result.notes = model->input.notes;
  std::ranges::copy(tokens.notes, std::back_inserter(result.notes));
  return result;
}

namespace {

// Pieces that go through the model together, so that its weights are read once for all of them.
using Batch = std::vector<size_t>;

// Batches of pieces that follow one another, of about so many tokens that reading the weights takes
// no more time than the products.
std::vector<Batch> batches_of(const std::vector<size_t>& wanted, const std::vector<size_t>& pieces,
                              std::span<const std::vector<int32_t>> sequences) {
  std::vector<Batch> batches;
  size_t tokens = 0;
  for (const size_t piece : wanted) {
    if (batches.empty() || tokens >= kTokensOfBatch || batches.back().back() + 1 != piece) {
      batches.emplace_back();
      tokens = 0;
    }
    batches.back().push_back(piece);
    for (size_t s = pieces[piece]; s < pieces[piece + 1]; ++s) tokens += sequences[s].size();
  }
  return batches;
}

}  // namespace

void run_pieces(const CalibrationJob& job, const CalibrationTokens& tokens,
                const std::vector<size_t>& wanted, const GuidanceOptions& options, Threads& threads,
                const ProgressFn& progress,
                const std::function<void(size_t piece, Statistics)>& finished) {
  const auto model = RunningModel::open(opened(job, threads), threads, needs_tokenizer(job),
                                        compute_type_of(job.protocol, options));
  const auto& sequences = tokens.sequences;
  const std::vector<size_t> pieces = calibration_pieces(sequences.size());
  for (const Batch& batch : batches_of(wanted, pieces, sequences)) {
    const size_t first = pieces[batch.front()], last = pieces[batch.back() + 1];
    std::vector<size_t> within;
    for (const size_t piece : batch) within.push_back(pieces[piece] - first);
    within.push_back(last - first);
    std::vector<Statistics> found =
        calibrate_pieces(*model->transformer, std::span(sequences).subspan(first, last - first),
                         std::move(within), calibrate_options(job, options.max_memory, progress));
    for (size_t i = 0; i < batch.size(); ++i) {
      found[i].notes = tokens.notes;
      finished(batch[i], std::move(found[i]));
    }
  }
}

CalibrationResult run_comparison(const CalibrationJob& job, const RecipeModel& base,
                                 const GuidanceOptions& options, Threads& threads,
                                 const ProgressFn& progress) {
  const bool tokenizer = needs_tokenizer(job);
  const auto b = RunningModel::open(base, threads, tokenizer, options.compute);
  const auto e = RunningModel::open(opened(job, threads), threads, tokenizer, options.compute);
  std::vector<std::string> notes = b->input.notes;
  const NoteFn note = [&](const std::string& line) { notes.push_back(line); };
  tell_all(note, e->input.notes);
  const CalibrationTokens tokens = tokens_of(job, *b), theirs = tokens_of(job, *e);
  const auto& sequences = tokens.sequences;
  tell_all(note, tokens.notes);
  if (sequences != theirs.sequences) {
    throw input_error("{} and {} read {} as other tokens: their outputs cannot be compared",
                      b->input.label(), e->input.label(), job.text.data.string());
  }
  StatisticsKey key = key_of(job, *b, sequences);
  key.expert_hash = e->input.fingerprint();
  CalibrationResult result = kept(key, options.cache, [&] {
    CalibrateOptions how;
    how.max_memory = options.max_memory;
    how.protocol = job.protocol;
    how.skip_first = job.skip_first;
    const std::string what =
        fmt::format("compare {} and", std::filesystem::path(base.model).filename().string());
    how.progress = named(progress, what, job);
    return output_changes(*b->transformer, *e->transformer, *e->backend, sequences, how);
  });
  result.notes = std::move(notes);
  return result;
}

namespace {

CalibrationJob job_of(const Recipe& recipe, const CalibrationEntry& entry, size_t model) {
  const LewisSection& lewis = *recipe.lewis;
  return {recipe.models.at(model),
          entry,
          lewis.protocol,
          lewis.skip_first,
          lewis.aim && recipe.base_index == model,
          recipe.models.at(recipe.base_index.value())};
}

}  // namespace

std::vector<CalibrationJob> calibration_jobs(const Recipe& recipe) {
  std::vector<CalibrationJob> jobs;
  if (!recipe.lewis) return jobs;
  for (const CalibrationEntry& entry : recipe.lewis->calibration) {
    if (entry.has_statistics()) continue;
    for (const size_t model : {recipe.base_index.value(), entry.index})
      jobs.push_back(job_of(recipe, entry, model));
  }
  return jobs;
}

namespace {

// Statistics of one calibration entry: of the base and of the fine-tuned model.
struct StatisticsPair {
  Statistics base, expert;
};

}  // namespace

Statistics read_any_statistics(const std::filesystem::path& file, const TensorSource& model) {
  // The older files hold means: neither the number of tokens nor that of each expert is known.
  if (!is_gguf(file) && file.extension() == ".dat") {
    throw input_error(
        "{}: an importance matrix in llama.cpp's older format does not say how many tokens it is "
        "of; `llama-imatrix --in-file X.dat -o X.gguf` converts one of a model without experts",
        file.string());
  }
  return is_gguf(file) ? read_imatrix(file, model) : read_statistics(file);
}

namespace {

Statistics read_given(const std::filesystem::path& file, const TensorSource& model,
                      const Recipe& recipe) {
  Statistics s = read_any_statistics(file, model);
  if (s.protocol != recipe.lewis->protocol) {
    throw input_error("{}: not statistics of the protocol {}, which the recipe asks for",
                      file.string(), name_of(recipe.lewis->protocol));
  }
  return s;
}

void check_same_modules(const auto& a, const auto& b, const std::filesystem::path& a_file,
                        const std::filesystem::path& b_file) {
  for (const auto& [module, _] : a) {
    if (!b.contains(module)) {
      throw input_error("{}: nothing is known of {}, which {} has", b_file.string(), module,
                        a_file.string());
    }
  }
}

// Makes two files alike in what an importance matrix may leave out, and refuses what cannot be of
// the same text: an importance is the difference of two norms over the same tokens. Files hold
// counts as float32, hence the allowance.
void reconcile(StatisticsPair& pair, const CalibrationEntry& entry) {
  Statistics &a = pair.base, &b = pair.expert;
  const auto &a_file = entry.base_statistics, &b_file = entry.model_statistics;
  check_same_modules(a.sum_squares, b.sum_squares, a_file, b_file);
  check_same_modules(b.sum_squares, a.sum_squares, b_file, a_file);
  check_same_modules(a.experts, b.experts, a_file, b_file);
  check_same_modules(b.experts, a.experts, b_file, a_file);
  const auto difference =
      static_cast<double>(std::max(a.tokens, b.tokens) - std::min(a.tokens, b.tokens));
  if (difference > 0x1p-23 * static_cast<double>(std::max(a.tokens, b.tokens))) {
    throw input_error("{} saw {} tokens, {} saw {}: statistics must be of the same text",
                      a_file.string(), a.tokens, b_file.string(), b.tokens);
  }
  b.tokens = a.tokens;
  if (a.sequences == 0) a.sequences = b.sequences;
  if (b.sequences == 0) b.sequences = a.sequences;
  if (a.fused.empty()) a.fused = b.fused;
  if (b.fused.empty()) b.fused = a.fused;
}

Statistics measured(const Recipe& recipe, const CalibrationEntry& entry, size_t model,
                    const GuidanceOptions& options, Threads& threads, const ProgressFn& progress,
                    const NoteFn& note) {
  CalibrationResult result =
      run_calibration(job_of(recipe, entry, model), options, threads, progress);
  tell_all(note, result.notes);
  return std::move(result.statistics);
}

StatisticsPair statistics_of(const Recipe& recipe, const CalibrationEntry& entry,
                             const TensorSource& base, const TensorSource& expert,
                             const GuidanceOptions& options, Threads& threads,
                             const ProgressFn& progress, const NoteFn& note) {
  if (entry.has_statistics()) {
    StatisticsPair pair{read_given(entry.base_statistics, base, recipe),
                        read_given(entry.model_statistics, expert, recipe)};
    reconcile(pair, entry);
    tell_all(note, pair.base.notes);
    tell_all(note, pair.expert.notes);
    return pair;
  }
  const auto run = [&](size_t model) {
    return measured(recipe, entry, model, options, threads, progress, note);
  };
  Statistics on_base = run(recipe.base_index.value());
  return {std::move(on_base), run(entry.index)};
}

ModelPlan plan_entry(const Recipe& recipe, const CalibrationEntry& entry,
                     const GuidanceOptions& options, Threads& threads, const ProgressFn& progress,
                     const NoteFn& note) {
  const OpenOptions open = open_options(threads);
  const InputModel base = open_input(recipe.models.at(recipe.base_index.value()), open);
  InputModel expert = open_input(recipe.models.at(entry.index), open);
  respell(expert, base);
  if (entry.has_statistics() && expert.moved_experts > 0) {
    throw usage_error(
        "{}:{}: lewis.calibration: the statistics of {} are by its own order of experts, of which "
        "{} stand elsewhere in {}: give data instead, or expert_order: keep",
        recipe.file.string(), entry.line, entry.model, expert.moved_experts, base.name);
  }
  const StatisticsPair pair =
      statistics_of(recipe, entry, *base.source, *expert.source, options, threads, progress, note);
  ImportanceInput input{*base.source, *expert.source, pair.base, pair.expert, threads, progress};
  Statistics changes;
  if (needs_output_changes(recipe)) {
    CalibrationResult compared =
        run_comparison(job_of(recipe, entry, entry.index),
                       recipe.models.at(recipe.base_index.value()), options, threads, progress);
    tell_all(note, compared.notes);
    changes = std::move(compared.statistics);
    input.output_changes = &changes;
  }
  const ImportanceKey key{to_yaml(recipe, false),
                          entry.index,
                          base.fingerprint(),
                          expert.fingerprint(),
                          {&pair.base, &pair.expert, input.output_changes}};
  if (!options.cache.empty() && can_be_kept(key)) {
    input.importances = [&](ModelPlan& plan, const std::function<void()>& compute) {
      cached_importances(options.cache, key, plan, compute, note);
    };
  }
  return plan_model(recipe, entry.index, input);
}

using Stage = std::shared_ptr<const Recipe>;

void replace_stages(Recipe& recipe, const std::function<Stage(const Recipe&)>& replace) {
  for (RecipeModel& m : recipe.models) {
    if (m.stage) m.stage = replace(*m.stage);
  }
  for (RecipeModule& module : recipe.modules) {
    Recipe part = *module.recipe;
    replace_stages(part, replace);
    module.recipe = std::make_shared<const Recipe>(std::move(part));
  }
}

// A line about the layers that outweigh their projections, where importances become densities.
std::vector<std::string> outlier_notes(const Recipe& recipe, const ModelPlan& plan) {
  const Allocation allocation = recipe.lewis->allocation;
  if (allocation != Allocation::kMinMax && allocation != Allocation::kBudget) return {};
  if (recipe.lewis->normalise != Normalise::kMinMax) return {};
  std::string layers;
  for (const Outlier& o : outliers_of(plan.importance)) {
    layers += fmt::format("{}{} of layer {} ({:.0f} %)", layers.empty() ? "" : ", ", o.projection,
                          o.layer, 100 * o.share);
  }
  if (layers.empty()) return {};
  return {fmt::format(
      "{}: over a quarter of its projection's importance is in one layer: {}; densities of the "
      "other layers lie close together (lewis.skip_first: 1 leaves out first tokens, which often "
      "cause this; lewis.normalise: rank or log evens it out)",
      recipe.models.at(plan.model).model, layers)};
}

// Whether densities are found by calibration. Refinement alone may be the reason for the section.
bool needs_densities(const Recipe& recipe) {
  if (!recipe.lewis || recipe.lewis->calibration.empty()) return false;
  const auto& refine = recipe.lewis->refine;
  return !refine || (refine->prior != RefinePrior::kPlain &&
                     find_merge_method(recipe.merge_method).reads("density"));
}

}  // namespace

Guidance guide(const Recipe& recipe, const GuidanceOptions& options, Threads& threads,
               const ProgressFn& progress, const NoteFn& note) {
  std::map<const Recipe*, Stage> guided;
  Guidance guidance{recipe, {}};
  replace_stages(guidance.recipe, [&](const Recipe& stage) {
    auto& result = guided[&stage];
    if (!result)
      result =
          std::make_shared<const Recipe>(guide(stage, options, threads, progress, note).recipe);
    return result;
  });
  if (!needs_densities(recipe)) return guidance;
  if (!recipe.base_index) {
    throw usage_error("{}: lewis.calibration needs base_model: importance is the distance from it",
                      recipe.file.string());
  }
  for (const CalibrationEntry& entry : guidance.recipe.lewis->calibration)
    guidance.plans.push_back(plan_entry(guidance.recipe, entry, options, threads, progress, note));
  for (const ModelPlan& plan : guidance.plans) tell_all(note, outlier_notes(recipe, plan));
  guidance.recipe = apply_plans(guidance.recipe, guidance.plans);
  return guidance;
}

namespace {

// Weights that one token goes through, in linear layers.
double weights_per_token(const ModelSpec& spec) {
  double weights = 0;
  for (int64_t layer = 0; layer < spec.layers; ++layer) {
    for (const LinearLayer& linear : linear_layers(spec, layer)) {
      const double share = linear.expert < 0 ? 1
                                             : static_cast<double>(spec.experts.chosen) /
                                                   static_cast<double>(spec.experts.count);
      weights += share * static_cast<double>(linear.out) * static_cast<double>(linear.in);
    }
  }
  return weights;
}

CalibrationCost calibration_cost(const CalibrationJob& job, const GuidanceOptions& options,
                                 Threads& threads, const NoteFn& note) {
  const auto model = RunningModel::open(opened(job, threads), threads, needs_tokenizer(job),
                                        compute_type_of(job.protocol, options));
  CalibrationCost cost;
  cost.text = std::make_shared<const CalibrationTokens>(tokens_of(job, *model));
  tell_all(note, cost.text->notes);
  const auto& sequences = cost.text->sequences;
  cost.model = job.model.model;
  cost.data = job.text.data.string();
  cost.sequences = sequences.size();
  for (const auto& ids : sequences) cost.tokens += ids.size();
  CalibrateOptions how;
  how.max_memory = options.max_memory;
  how.protocol = job.protocol;
  cost.memory = calibration_memory(*model->transformer, sequences, how).bytes;
  for (const TensorInfo& tensor : model->input.source->tensors())
    cost.bytes_read += byte_size(tensor);
  cost.operations =
      2 * static_cast<double>(cost.tokens) * weights_per_token(model->transformer->spec());
  const std::vector<size_t> pieces = job.protocol == Protocol::kReference
                                         ? std::vector<size_t>{0, sequences.size()}
                                         : calibration_pieces(sequences.size());
  for (size_t piece = 0; piece + 1 < pieces.size(); ++piece) {
    uint64_t& tokens = cost.piece_tokens.emplace_back(0);
    for (size_t s = pieces[piece]; s < pieces[piece + 1]; ++s) tokens += sequences[s].size();
  }
  cost.key = key_of(job, *model, sequences);
  return cost;
}

}  // namespace

std::vector<CalibrationCost> calibration_costs(const Recipe& recipe, const GuidanceOptions& options,
                                               Threads& threads, const NoteFn& note) {
  std::vector<CalibrationCost> costs;
  for (const CalibrationJob& job : calibration_jobs(recipe))
    costs.push_back(calibration_cost(job, options, threads, note));
  return costs;
}

void read_texts(const Recipe& recipe, const GuidanceOptions& options, Threads& threads,
                const NoteFn& note) {
  Recipe stages = recipe;
  replace_stages(stages, [&](const Recipe& stage) {
    read_texts(stage, options, threads, note);
    return std::make_shared<const Recipe>(stage);
  });
  if (!needs_densities(recipe) || !recipe.base_index) return;
  for (const CalibrationEntry& entry : recipe.lewis->calibration) {
    if (!entry.has_statistics()) continue;
    for (const auto& file : {entry.base_statistics, entry.model_statistics}) {
      if (file.extension() == ".safetensors") tell_all(note, read_statistics(file).notes);
    }
  }
  for (const CalibrationJob& job : calibration_jobs(recipe)) {
    const auto model = RunningModel::open(opened(job, threads), threads, needs_tokenizer(job),
                                          compute_type_of(job.protocol, options));
    tell_all(note, model->input.notes);
    tell_all(note, tokens_of(job, *model).notes);
  }
}

std::vector<Statistics> expert_statistics(const Recipe& recipe, const GuidanceOptions& options,
                                          Threads& threads, const ProgressFn& progress,
                                          const NoteFn& note) {
  std::vector<Statistics> all;
  if (!recipe.lewis) return all;
  for (const CalibrationEntry& entry : recipe.lewis->calibration) {
    if (entry.has_statistics()) {
      const InputModel model = open_input(recipe.models.at(entry.index), open_options(threads));
      all.push_back(read_given(entry.model_statistics, *model.source, recipe));
    } else {
      all.push_back(measured(recipe, entry, entry.index, options, threads, progress, note));
    }
  }
  return all;
}

std::string calibration_type(const Guidance& guidance, const Recipe& recipe,
                             const GuidanceOptions& options) {
  if (guidance.plans.empty() || calibration_jobs(recipe).empty()) return "";
  return std::string(compute_type_name(compute_type_of(recipe.lewis->protocol, options)));
}

RecipeModel guided(RecipeModel model, const GuidanceOptions& options, Threads& threads,
                   const ProgressFn& progress, const NoteFn& note) {
  if (model.stage) {
    model.stage = std::make_shared<const Recipe>(
        guide(*model.stage, options, threads, progress, note).recipe);
  }
  return model;
}

}  // namespace lewis
