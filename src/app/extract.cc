// The verb extract: an adapter out of a fine-tuned model.
#include <lewis/adapters.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <span>

#include "app/outputs.h"
#include "app/refinement.h"
#include "app/run.h"
#include "app/running_model.h"
#include "base/chosen_word.h"
#include "base/dtype.h"
#include "base/dump_json.h"
#include "base/error.h"
#include "base/human.h"
#include "base/json.h"
#include "base/path_words.h"
#include "merge/extraction/extract.h"
#include "plan/covered.h"

namespace lewis {
namespace {

void check(const ExtractJob& job) {
  if ((job.rank > 0) == (job.error > 0))
    throw usage_error("expected --rank N or --error X: the size of the adapter, or how near it is");
  if (job.error < 0 || job.error >= 1)
    throw usage_error("--error {}: expected a share of the change above 0 and below 1", job.error);
  if (job.rank < 0 || job.rank > 65536)
    throw usage_error("--rank {}: expected a number from 1 to 65536", job.rank);
  if (!job.statistics.empty() && !job.text.data.empty())
    throw usage_error("--statistics and --data exclude each other");
  check_adapter_target(job.out, job.force);
  check_output(job.out, true);
}

// Channels that the text does not use weigh a little, or their part of the change would be
// arbitrary.
constexpr double kLeastWeight = 1e-2;

// The root mean squares of a layer's inputs.
std::vector<float> weights_of(std::span<const double> sums, double divisor) {
  double mean = 0;
  for (const double s : sums) mean += s / divisor / static_cast<double>(sums.size());
  std::vector<float> weights;
  for (const double s : sums)
    weights.push_back(static_cast<float>(std::sqrt(std::max(s / divisor, kLeastWeight * mean))));
  return weights;
}

// What the inputs of linear layers are weighted by. Layers that the statistics do not know weigh as
// much as those on average, so that all errors can be added.
struct KnownWeights {
  std::map<std::string, std::vector<float>> known;  // by tensor
  float mean = 0;
  std::set<std::string> unknown{};  // the layers that were asked for in vain

  std::vector<float> of(const TensorInfo& t) {
    const auto found = known.find(t.name);
    if (found != known.end()) return found->second;
    unknown.insert(t.name.substr(0, t.name.rfind('.')));
    return std::vector<float>(static_cast<size_t>(t.shape.back()), mean);
  }
};

KnownWeights weights_by(const Statistics& statistics, const TensorSource& model,
                        const std::string& where) {
  KnownWeights weights;
  double squares = 0, count = 0;
  for (const CoveredMatrix& m : covered_matrices(model, statistics)) {
    // An expert counts as often as it is chosen. One that no token has chosen is not known.
    if (!m.expert.empty() && m.tokens == 0) continue;
    const double divisor = m.expert.empty() ? m.divisor : statistics.divisor();
    const std::vector<float>& its = weights.known[m.tensor->name] = weights_of(m.sums, divisor);
    if (std::ranges::count(its, 0.0f))
      throw input_error("{}: all inputs of {} are 0", where, m.module);
    for (const float w : its) squares += static_cast<double>(w) * w;
    count += static_cast<double>(its.size());
  }
  if (weights.known.empty()) throw input_error("{}: knows no linear layers", where);
  weights.mean = static_cast<float>(std::sqrt(squares / count));
  return weights;
}

std::optional<KnownWeights> known_weights(const ExtractJob& job, const TensorSource& model,
                                          const RunContext& context) {
  if (!job.statistics.empty())
    return weights_by(read_statistics(job.statistics), model, job.statistics.string());
  if (job.text.data.empty()) return std::nullopt;
  CalibrateJob text = job.text;
  text.model = job.model;
  const CalibrateResult result = calibrate(text, context);
  return weights_by(read_statistics(result.texts.at(0).file), model, job.text.data.string());
}

void note_layers(const ExtractedAdapter& adapter, const std::optional<KnownWeights>& weights,
                 const NoteFn& note) {
  constexpr size_t kMostNamed = 3;
  if (weights && !weights->unknown.empty()) {
    const std::vector<std::string> unknown(weights->unknown.begin(), weights->unknown.end());
    note(fmt::format("the text says nothing of {}: their inputs weigh as much as others on average",
                     some_of(unknown, kMostNamed)));
  }
  if (!adapter.left_out.empty()) {
    note(fmt::format("changed tensors that LoRA cannot hold are not in the adapter: {}",
                     some_of(adapter.left_out, kMostNamed)));
  }
}

// A folder, or what a recipe merges (guided and refined as it asks), tensor by tensor.
InputModel open_model(const std::filesystem::path& path, const ExtractJob& job, RunResources& run) {
  const PreparedModel prepared = prepare_named(model_in(path, job.unknown_keys), job.text.guidance,
                                               run.threads, run.progress, run.note);
  InputModel model = open_prepared_tensors(prepared, job.text.guidance, run.threads);
  tell_all(run.note, model.notes);
  return model;
}

// GPT-2 keeps the weights of its linear layers as [in, out].
bool keeps_outputs_as_columns(const InputModel& model) {
  return model.config->value("model_type", "") == "gpt2";
}

std::string name_of(const std::filesystem::path& folder) {
  return last_part(std::filesystem::absolute(folder).lexically_normal().string());
}

ExtractOptions options_of(const ExtractJob& job) {
  static constexpr std::array<std::string_view, 3> kTypes = {"float32", "bfloat16", "float16"};
  ExtractOptions options{.rank = job.rank, .error = job.error};
  options.ranks = job.uniform_ranks ? RankChoice::kUniform : RankChoice::kAuto;
  options.dtype = *dtype_from_torch_name(kTypes[chosen_word("--dtype", job.dtype, kTypes)]);
  options.seed = job.seed;
  options.partial = job.partial;
  options.dora = job.dora;
  options.base_name = job.base_name.empty() ? name_of(job.base) : job.base_name;
  options.description = name_of(job.model) + " as an adapter of " + options.base_name + ".";
  return options;
}

ExtractResult result_of(const ExtractedAdapter& adapter, const std::filesystem::path& out) {
  ExtractResult result{out};
  for (const ExtractedLayer& l : adapter.layers) {
    const double error = l.squares > 0 ? std::sqrt(l.residual / l.squares) : 0;
    result.layers.push_back({l.module, l.rank, std::sqrt(l.squares), error, l.weighted});
  }
  result.saved = adapter.saved;
  result.biases = adapter.biases;
  result.left_out = adapter.left_out;
  result.equal_tensors = adapter.equal;
  result.numbers = adapter.numbers;
  for (const auto& data : adapter.data) result.bytes += data.size();
  result.error = adapter.error();
  return result;
}

}  // namespace

ExtractResult extract(const ExtractJob& job, const RunContext& context) {
  check(job);
  ExtractOptions options = options_of(job);
  RunResources run(context);
  const InputModel base = open_model(job.base, job, run), model = open_model(job.model, job, run);
  options.fused_experts = base.fused_experts;
  options.outputs_are_columns = keeps_outputs_as_columns(base);
  auto weights = known_weights(job, *model.source, context);
  if (weights) options.weights = [&](const TensorInfo& t) { return weights->of(t); };
  if (options.outputs_are_columns && weights)
    throw usage_error("{}: inputs of GPT-2's layers cannot be weighted", job.base.string());
  options.progress = run.progress;
  const ExtractedAdapter adapter =
      extract_adapter(*base.source, *model.source, options, run.threads);
  note_layers(adapter, weights, run.note);
  write_adapter(adapter, options, job.out, job.force);
  return result_of(adapter, job.out);
}

std::string json_text(const ExtractResult& r) {
  Json layers = Json::object();
  for (const ExtractedModule& l : r.layers)
    layers[l.module] = {{"rank", l.rank}, {"change", l.change}, {"error", l.error}};
  return dump_json(Json{{"out", r.out.string()},
                        {"error", r.error},
                        {"numbers", r.numbers},
                        {"bytes", r.bytes},
                        {"layers", layers},
                        {"saved", r.saved},
                        {"biases", r.biases},
                        {"equal_tensors", r.equal_tensors},
                        {"left_out", r.left_out}},
                   2);
}

}  // namespace lewis
