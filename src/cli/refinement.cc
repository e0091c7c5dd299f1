#include "cli/refinement.h"

#include <unistd.h>

#include <algorithm>

#include "base/error.h"
#include "base/hash.h"
#include "base/text_file.h"
#include "cli/tokenizers.h"
#include "cli/version.h"
#include "merge/merged_source.h"

namespace lewis {
namespace {

// The recipe without refinement, opened to be run.
std::unique_ptr<RunningModel> open_prior(const Recipe& recipe, uint64_t seed, Threads& threads) {
  Recipe prior = recipe;
  prior.lewis->refine.reset();
  InputModel input = open_stage(prior, open_options(threads, seed));
  return RunningModel::open(std::move(input), threads, false, ComputeType::kF32);
}

void check_tokenizer(const RunningModel& expert, const RunningModel& prior) {
  if (expert.tokenizer && prior.tokenizer &&
      expert.tokenizer->identity() != prior.tokenizer->identity()) {
    throw input_error(
        "{}: its tokenizer is not that of the merge: refine feeds both the same token ids",
        expert.input.label());
  }
}

// Everything of one expert that decides the result.
Json identity_of(const CalibrationEntry& entry, const RunningModel& expert) {
  return {{"model", expert.input.fingerprint()},
          {"data", sha256_hex(read_text_file(entry.data))},
          {"format", format_of(entry.data, entry.format)},
          {"tokenizer", expert.tokenizer ? expert.tokenizer->identity() : ""}};
}

}  // namespace

Refinement run_refinement(const Recipe& recipe, const RefinementOptions& options, Threads& threads,
                          const ProgressFn& progress) {
  const RefineSettings& settings = recipe.lewis->refine.value();
  const auto prior = open_prior(recipe, options.seed, threads);
  std::vector<std::unique_ptr<RunningModel>> experts;
  std::vector<std::vector<TokenSequence>> texts;
  RefineModels models{*prior->transformer, {}};
  Json identities = Json::array();
  for (CalibrationEntry entry : recipe.lewis->calibration) {
    const bool ids = format_of(entry.data, entry.format) == "ids";
    experts.push_back(
        RunningModel::open(recipe.models.at(entry.index), threads, !ids, ComputeType::kF32));
    check_tokenizer(*experts.back(), *prior);
    entry.samples = settings.samples;
    texts.push_back(text_of(entry, *experts.back()));
    identities.push_back(identity_of(entry, *experts.back()));
    models.experts.push_back(experts.back()->transformer.get());
  }
  const Json plan = {{"lewis", kVersion},
                     {"recipe", to_yaml(recipe, false)},
                     {"prior", prior->input.fingerprint()},
                     {"experts", identities}};
  RefineOptions refine_options{.settings = settings,
                               .scratch = options.scratch,
                               .plan = sha256_hex(plan.dump()),
                               .resume = options.resume,
                               .max_memory = options.max_memory,
                               .progress = progress};
  Refinement result;
  result.journal = refine(models, texts, refine_options, result.report);
  auto refined = std::make_shared<InputModel>();
  refined->name = "refined";
  refined->source = open_refined(result.journal, options.scratch.string());
  refined->fingerprint = [hash = refine_options.plan] { return hash; };
  result.refined = std::move(refined);
  return result;
}

namespace {

// In a folder that goes with the model that is run; an interrupted run leaves nothing to resume.
std::shared_ptr<const InputModel> refine_for_this_run(const Recipe& recipe,
                                                      const std::filesystem::path& cache,
                                                      Threads& threads,
                                                      const ProgressFn& progress) {
  const auto folder = cache.empty() ? std::filesystem::temp_directory_path() : cache;
  const auto scratch = folder / fmt::format("refine-{}", ::getpid());
  try {
    return run_refinement(recipe, {.scratch = scratch}, threads, progress).refined;
  } catch (const Error& e) {
    std::filesystem::remove_all(scratch);
    throw Error(e.code(), e.code() == ExitCode::kInterrupted ? "interrupted" : e.what());
  }
}

}  // namespace

std::unique_ptr<RunningModel> open_named(const std::filesystem::path& path, bool needs_tokenizer,
                                         ComputeType type, const GuidanceOptions& guidance,
                                         Threads& threads, const ProgressFn& progress) {
  return open_named(model_in(path), needs_tokenizer, type, guidance, threads, progress);
}

std::unique_ptr<RunningModel> open_named(const RecipeModel& named, bool needs_tokenizer,
                                         ComputeType type, const GuidanceOptions& guidance,
                                         Threads& threads, const ProgressFn& progress) {
  constexpr uint64_t kKept = 256 << 20;
  const RecipeModel model = guided(named, guidance, threads, progress);
  OpenOptions options = open_options(threads);
  options.keep_bytes = kKept;
  if (model.stage && model.stage->lewis && model.stage->lewis->refine) {
    options.refined = refine_for_this_run(*model.stage, guidance.cache, threads, progress);
  }
  return RunningModel::open(open_input(model, options), threads, needs_tokenizer, type);
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
  return lines;
}

}  // namespace lewis
