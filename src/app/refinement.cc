#include "app/refinement.h"

#include <algorithm>
#include <iterator>

#include "app/same_tokens.h"
#include "app/tokenizers.h"
#include "base/build.h"
#include "base/dump_json.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "io/disk.h"
#include "merge/sources/merged_source.h"
#include "text/line_reader.h"

namespace lewis {
namespace {

// The recipe without refinement, opened to be run.
// `refined`: tensors that an earlier pass has refined, or null.
std::unique_ptr<RunningModel> open_prior(const Recipe& recipe, uint64_t seed, Threads& threads,
                                         std::shared_ptr<const InputModel> refined = nullptr) {
  Recipe prior = recipe;
  prior.lewis->refine.reset();
  OpenOptions options = open_options(threads, seed);
  options.refined = std::move(refined);
  InputModel input = open_stage(prior, options);
  return RunningModel::open(std::move(input), threads, false, ComputeType::kF32);
}

void check_tokenizer(const RunningModel& expert, const RunningModel& prior) {
  if (expert.tokenizer && prior.tokenizer && !have_same_tokens(expert, prior)) {
    throw input_error(
        "{}: its tokenizer is not that of the merge: refine feeds both the same token ids",
        expert.input.label());
  }
}

// Everything of one expert that decides the result.
Json identity_of(const CalibrationEntry& entry, const RunningModel& expert) {
  return {{"model", expert.input.fingerprint()},
          {"data", data_file_hash(entry.data)},
          {"format", name_of(format_of(entry.data, entry.format))},
          {"tokenizer", expert.tokenizer ? expert.tokenizer->identity() : ""}};
}

// The models and texts that a recipe's refinement works on.
struct RefinementInputs {
  std::unique_ptr<RunningModel> prior, base;  // base: null where nothing asks for it
  std::vector<std::unique_ptr<RunningModel>> experts;
  std::vector<std::vector<TokenSequence>> texts;  // of each expert
  Json identities = Json::array();                // likewise
  RefineModels models(const Communicator& ranks = kOneProcess) const {
    RefineModels models{*prior->transformer, {}, base ? base->transformer.get() : nullptr, ranks};
    for (const auto& expert : experts) models.experts.push_back(expert->transformer.get());
    return models;
  }
};

// Models without a text have no share in what is fitted, and so may lose what the prior has of
// them.
void note_models_without_text(const Recipe& recipe, const NoteFn& note) {
  for (size_t m = 0; m < recipe.models.size(); ++m) {
    const bool has_text = std::ranges::any_of(
        recipe.lewis->calibration, [&](const CalibrationEntry& e) { return e.index == m; });
    if (has_text || recipe.base_index == m) continue;
    const std::string line = fmt::format(
        "{} has no entry in lewis.calibration: nothing is refined towards it, so that the merge "
        "may "
        "lose some of what it has of it",
        recipe.models[m].model);
    tell_all(note, std::span(&line, 1));
  }
}

RefinementInputs open_refinement(const Recipe& recipe, uint64_t seed, Threads& threads,
                                 const NoteFn& note) {
  note_models_without_text(recipe, note);
  RefinementInputs inputs;
  inputs.prior = open_prior(recipe, seed, threads);
  const RecipeModel& shape = recipe.models.at(recipe.base_index.value_or(0));
  if (recipe.base_index && recipe.lewis->refine->prior_scale != 1.0)
    inputs.base =
        RunningModel::open(opened_like(shape, shape, threads), threads, false, ComputeType::kF32);
  for (CalibrationEntry entry : recipe.lewis->calibration) {
    const bool ids = format_of(entry.data, entry.format) == DataFormat::kIds;
    inputs.experts.push_back(
        RunningModel::open(opened_like(recipe.models.at(entry.index), shape, threads), threads,
                           !ids, ComputeType::kF32));
    const RunningModel& expert = *inputs.experts.back();
    check_tokenizer(expert, *inputs.prior);
    entry.samples = recipe.lewis->refine->samples;
    tell_all(note, expert.input.notes);
    inputs.texts.push_back(text_of(entry, expert, false, note));
    inputs.identities.push_back(identity_of(entry, expert));
  }
  return inputs;
}

}  // namespace

RefineCost refinement_cost(const Recipe& recipe, uint64_t seed, uint64_t max_memory,
                           Threads& threads, const NoteFn& note) {
  const RefinementInputs inputs = open_refinement(recipe, seed, threads, note);
  return refine_cost(inputs.models(), inputs.texts, recipe.lewis->refine.value(), max_memory);
}

namespace {

// Goes through all blocks once more: `result` has what the passes before have refined.
void run_pass(const Recipe& recipe, const RefinementInputs& inputs,
              const RefinementOptions& options, uint64_t pass, const ProgressFn& progress,
              Refinement& result) {
  const Json plan = {{"lewis", version_and_build()},
                     {"recipe", to_yaml(recipe, false)},
                     {"prior", inputs.prior->input.fingerprint()},
                     {"experts", inputs.identities}};
  RefineOptions refine_options{.settings = recipe.lewis->refine.value(),
                               .scratch = options.scratch,
                               .plan = sha256_hex(dump_json(plan)),
                               .resume = options.resume,
                               .keep = options.ranks != nullptr,
                               .max_memory = options.max_memory,
                               .progress = progress};
  if (pass > 1) {
    refine_options.scratch /= refine_pass_folder(pass);
    refine_options.progress = [&progress, pass](Progress p) {
      p.what += fmt::format(", pass {}", pass);
      if (progress) progress(p);
    };
  }
  result.passes.emplace_back();
  result.journals.push_back(refine(inputs.models(options.ranks ? *options.ranks : kOneProcess),
                                   inputs.texts, refine_options, result.passes.back()));
  if (!result.journals.back()) return;
  auto refined = std::make_shared<InputModel>();
  refined->name = "refined";
  refined->source =
      open_refined({result.journals.begin(), result.journals.end()}, options.scratch.string());
  refined->fingerprint = [hash = refine_options.plan] { return hash; };
  result.refined = std::move(refined);
}

}  // namespace

Refinement run_refinement(const Recipe& recipe, const RefinementOptions& options, Threads& threads,
                          const ProgressFn& progress, const NoteFn& note) {
  if (options.ranks && recipe.lewis->refine->passes > 1) {
    throw usage_error("{}: lewis.refine.passes {}: several processes refine in one pass",
                      recipe.file.string(), recipe.lewis->refine->passes);
  }
  RefinementInputs inputs = open_refinement(recipe, options.seed, threads, note);
  Refinement result;
  for (uint64_t pass = 1; pass <= recipe.lewis->refine->passes; ++pass) {
    if (result.refined) inputs.prior = open_prior(recipe, options.seed, threads, result.refined);
    try {
      run_pass(recipe, inputs, options, pass, progress, result);
    } catch (const Error& e) {
      if (e.code() == ExitCode::kInterrupted) result.keep();
      throw;
    }
  }
  return result;
}

std::string describe_refinement(const Recipe& recipe) {
  const RefineSettings& s = recipe.lewis->refine.value();
  const size_t experts = recipe.lewis->calibration.size();
  const std::string texts = s.samples ? fmt::format("{} texts", s.samples) : "all texts";
  const std::string held =
      s.held_out > 0
          ? fmt::format("{:g} of them held out to decide, block by block, what is kept", s.held_out)
          : "none held out, so every block is kept";
  std::string open;
  for (const auto& [name, is_open] : {std::pair("alpha", !s.alpha),
                                      {"ridge", !s.ridge},
                                      {"prior_scale", !s.prior_scale},
                                      {"weighting", !s.weighting}}) {
    if (is_open) open += (open.empty() ? "" : ", ") + std::string(name);
  }
  std::string ridge = s.ridge ? fmt::format("ridge {:g}", *s.ridge) : "";
  if (!open.empty())
    ridge += (ridge.empty() ? "" : "; ") + open + " chosen per layer by the held-out text";
  return fmt::format(
      "refined by {} ({}) towards {} expert{}, from {}, on {} of each, {}", name_of(s.method),
      ridge, experts, experts == 1 ? "" : "s",
      s.prior == RefinePrior::kPlain ? "the merge without densities of calibration" : "the merge",
      texts, held);
}

namespace {

// Refines into a folder that is removed with the model; an interrupted run leaves nothing to
// resume.
std::shared_ptr<const InputModel> refine_for_this_run(const Recipe& recipe,
                                                      const GuidanceOptions& guidance,
                                                      Threads& threads, const ProgressFn& progress,
                                                      const NoteFn& note) {
  const auto folder =
      guidance.cache.empty() ? std::filesystem::temp_directory_path() : guidance.cache;
  remove_abandoned_folders(folder, "refine", kRefineMarker);
  const auto scratch = make_unique_folder(folder, "refine");
  try {
    return run_refinement(recipe, {.scratch = scratch, .max_memory = guidance.max_memory}, threads,
                          progress, note)
        .refined;
  } catch (const Error& e) {
    std::filesystem::remove_all(scratch);
    throw Error(e.code(), e.code() == ExitCode::kInterrupted ? "interrupted" : e.what());
  }
}

}  // namespace

std::unique_ptr<RunningModel> open_named(const RecipeModel& model, bool needs_tokenizer,
                                         const GuidanceOptions& guidance, Threads& threads,
                                         const ProgressFn& progress, const NoteFn& note) {
  auto opened = open_prepared(prepare_named(model, guidance, threads, progress, note),
                              needs_tokenizer, guidance, threads);
  tell_all(note, opened->input.notes);
  return opened;
}

PreparedModel prepare_named(const RecipeModel& model, const GuidanceOptions& guidance,
                            Threads& threads, const ProgressFn& progress, const NoteFn& note) {
  PreparedModel prepared{guided(model, guidance, threads, progress, note), nullptr};
  const auto& stage = prepared.model.stage;
  if (stage && refines(*stage))
    prepared.refined = refine_for_this_run(*stage, guidance, threads, progress, note);
  return prepared;
}

InputModel open_prepared_tensors(const PreparedModel& prepared, const GuidanceOptions& guidance,
                                 const Threads& threads) {
  constexpr uint64_t kKept = 256 << 20;
  OpenOptions options = open_options(threads);
  options.keep_bytes = guidance.max_memory ? std::min(kKept, guidance.max_memory / 4) : kKept;
  options.refined = prepared.refined;
  return open_input(prepared.model, options);
}

std::unique_ptr<RunningModel> open_prepared(const PreparedModel& prepared, bool needs_tokenizer,
                                            const GuidanceOptions& guidance, Threads& threads) {
  return RunningModel::open(open_prepared_tensors(prepared, guidance, threads), threads,
                            needs_tokenizer, guidance.compute);
}

namespace {

// What choosing numbers was worth, if there was something to choose.
std::vector<std::string> choice_lines(const RefineReport& report) {
  size_t all = 0, others = 0;
  double before = 0, after = 0;
  for (const BlockResult& block : report.blocks) {
    for (const ChoiceRecord& c : block.choices) {
      ++all;
      others += c.error < c.error_default;
      before += c.error_default;
      after += c.error;
    }
  }
  if (all == 0) return {};
  return {fmt::format(
      "numbers were chosen for {} groups of layers, other than the defaults for {}; their error on "
      "held-out text is {:.3g} with the defaults, {:.3g} as chosen",
      all, others, before / static_cast<double>(all), after / static_cast<double>(all))};
}

// How well a mixture's routers choose, over all blocks and experts.
std::vector<std::string> router_lines(const RefineReport& report) {
  RouterChoices sum;
  double count = 0;
  for (const BlockResult& block : report.blocks) {
    for (const RouterChoices& c : block.routers) {
      sum.before += c.before;
      sum.after += c.after;
      ++count;
    }
  }
  if (count == 0) return {};
  return {
      fmt::format("routers make {:.1f} % of the choices that the experts' routers make, {:.1f} "
                  "% as merged",
                  100 * sum.after / count, 100 * sum.before / count)};
}

std::vector<std::string> describe(const RefineReport& report) {
  const auto kept = std::ranges::count_if(report.blocks, &BlockResult::kept_prior);
  double solved = 0, prior = 0;
  for (const BlockResult& b : report.blocks) {
    solved +=
        (b.kept_prior ? b.error_prior : b.error_solved) / static_cast<double>(report.blocks.size());
    prior += b.error_prior / static_cast<double>(report.blocks.size());
  }
  std::vector<std::string> lines;
  const std::string held =
      report.held_out ? fmt::format(", {} of them held out", report.held_out) : "";
  const std::string before =
      report.held_out ? fmt::format(", {:.3g} with the block as merged", prior) : "";
  lines.push_back(
      fmt::format("refined {} of {} blocks on {} tokens{}; a block's output differs from the "
                  "experts' by {:.3g} "
                  "(relative square){}",
                  static_cast<int64_t>(report.blocks.size()) - kept, report.blocks.size(),
                  report.tokens, held, solved, before));
  for (size_t b = 0; b < report.blocks.size(); ++b) {
    const std::string name =
        static_cast<int64_t>(b) < report.layers ? fmt::format("block {}", b) : "head";
    if (report.blocks[b].kept_prior)
      lines.push_back(name + ": left as merged, which the held-out text prefers");
    for (const std::string& note : report.blocks[b].notes) lines.push_back(name + ": " + note);
  }
  std::ranges::copy(choice_lines(report), std::back_inserter(lines));
  std::ranges::copy(router_lines(report), std::back_inserter(lines));
  return lines;
}

}  // namespace

std::vector<std::string> describe(const Refinement& refinement) {
  std::vector<std::string> lines;
  for (size_t pass = 0; pass < refinement.passes.size(); ++pass) {
    const std::string which = pass > 0 ? fmt::format("pass {}: ", pass + 1) : "";
    for (const std::string& line : describe(refinement.passes[pass])) lines.push_back(which + line);
  }
  return lines;
}

}  // namespace lewis
