#include "app/extraction.h"

#include <algorithm>
#include <cmath>

#include "app/refinement.h"
#include "app/run.h"
#include "app/running_model.h"
#include "app/tokenizers.h"
#include "base/error.h"
#include "base/json.h"
#include "calibrate/statistics.h"

namespace lewis {
namespace {

void check(const ExtractJob& job) {
  const ExtractOptions& o = job.options;
  if ((o.rank > 0) == (o.error > 0))
    throw usage_error("expected --rank N or --error X: the size of the adapter, or how near it is");
  if (o.error >= 1)
    throw usage_error("--error {}: expected a share of the change below 1", o.error);
  if (o.rank > 65536) throw usage_error("--rank {}: expected 65536 at most", o.rank);
  if (!job.statistics.empty() && !job.text.data.empty())
    throw usage_error("--statistics and --data exclude each other");
  check_adapter_target(job.out, job.force);
}

// Channels that the text does not use weigh a little, or their part of the change would be
// arbitrary.
constexpr double kLeastWeight = 1e-2;

// The root mean squares of a layer's inputs.
std::vector<float> weights_of(const std::vector<double>& sums, double divisor) {
  double mean = 0;
  for (const double s : sums) mean += s / divisor / static_cast<double>(sums.size());
  std::vector<float> weights;
  for (const double s : sums)
    weights.push_back(static_cast<float>(std::sqrt(std::max(s / divisor, kLeastWeight * mean))));
  return weights;
}

// Weights of all layers that the statistics know. Layers that they do not know weigh as much as
// those on average, so that all errors can be added.
InputWeights weights_by(const Statistics& statistics, const std::string& where) {
  std::map<std::string, std::vector<float>> known;
  double squares = 0, count = 0;
  for (const auto& [module, sums] : statistics.sum_squares) {
    const std::vector<float>& weights = known[module + ".weight"] =
        weights_of(sums, statistics.divisor());
    if (std::ranges::count(weights, 0.0f)) {
      throw input_error("{}: all inputs of {} are 0", where, module);
    }
    for (const float w : weights) squares += static_cast<double>(w) * w;
    count += static_cast<double>(weights.size());
  }
  if (known.empty()) throw input_error("{}: knows no linear layers", where);
  const auto mean = static_cast<float>(std::sqrt(squares / count));
  return [known = std::move(known), mean, where](const TensorInfo& t) {
    const auto inputs = static_cast<size_t>(t.shape.back());
    const auto found = known.find(t.name);
    if (found == known.end()) return std::vector<float>(inputs, mean);
    if (found->second.size() != inputs) {
      throw input_error("{}: knows {} inputs of {}, which has {}", where, found->second.size(),
                        t.name, inputs);
    }
    return found->second;
  };
}

InputWeights input_weights(const ExtractJob& job, const RunContext& context) {
  if (!job.statistics.empty())
    return weights_by(read_statistics(job.statistics), job.statistics.string());
  if (job.text.data.empty()) return {};
  CalibrateJob text = job.text;
  text.model = job.model;
  const CalibrateResult result = calibrate(text, context);
  const std::filesystem::path& file = result.texts.at(0).file;
  return weights_by(read_statistics(file), job.text.data.string());
}

// A folder, or what a recipe merges (guided and refined as it asks), tensor by tensor.
InputModel open_model(const std::filesystem::path& path, const ExtractJob& job, RunResources& run) {
  const PreparedModel prepared = prepare_named(model_in(path, job.unknown_keys), job.text.guidance,
                                               run.threads, run.progress, run.note);
  OpenOptions options = open_options(run.threads);
  options.refined = prepared.refined;
  InputModel model = open_input(prepared.model, options);
  tell_all(run.note, model.notes);
  return model;
}

// GPT-2 keeps the weights of its linear layers as [in, out].
bool keeps_outputs_as_columns(const InputModel& model) {
  return model.config->value("model_type", "") == "gpt2";
}

std::string last_part(const std::filesystem::path& folder) {
  const std::filesystem::path normal = std::filesystem::absolute(folder).lexically_normal();
  return (normal.has_filename() ? normal : normal.parent_path()).filename().string();
}

}  // namespace

ExtractedAdapter extract(const ExtractJob& job, const RunContext& context) {
  check(job);
  RunResources run(context);
  ExtractOptions options = job.options;
  const InputModel base = open_model(job.base, job, run), model = open_model(job.model, job, run);
  options.base_name = job.base_name.empty() ? last_part(job.base) : job.base_name;
  options.description = last_part(job.model) + " as an adapter of " + options.base_name + ".";
  options.outputs_are_columns = keeps_outputs_as_columns(base);
  options.weights = input_weights(job, context);
  if (options.outputs_are_columns && options.weights)
    throw usage_error("{}: inputs of GPT-2's layers cannot be weighted", job.base.string());
  options.progress = run.progress;
  ExtractedAdapter adapter = extract_adapter(*base.source, *model.source, options, run.threads);
  if (!adapter.left_out.empty()) {
    run.note(
        fmt::format("{} changed tensors are not in the adapter, since LoRA cannot hold them: "
                    "{}{}",
                    adapter.left_out.size(), adapter.left_out.front(),
                    adapter.left_out.size() > 1 ? " and others" : ""));
  }
  write_adapter(adapter, options, job.out, job.force);
  return adapter;
}

}  // namespace lewis
