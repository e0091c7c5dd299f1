// lewis check RECIPE: all that can be known before the weights are read, and whether the models
// descend from the base at all.
#include <fmt/format.h>

#include "base/json.h"
#include "cli/tokenizers.h"
#include "cli/verbs.h"
#include "io/compare.h"
#include "merge/engine.h"
#include "merge/inputs.h"
#include "plan/plan.h"

namespace lewis {
namespace {

constexpr int64_t kSample = 1 << 16;      // elements of each tensor that are compared
constexpr double kUnrelatedCosine = 0.9;  // fine-tuned models stay far above

// Sampled, over the matrices of the model.
TensorDifference sampled_difference(const TensorSource& base, const TensorSource& model,
                                    Threads& threads) {
  TensorDifference sum;
  for (const TensorInfo& t : base.tensors()) {
    const TensorInfo* other = model.find(t.name);
    if (t.shape.size() != 2 || !other || other->shape != t.shape || !is_arithmetic(t.dtype) ||
        !is_arithmetic(other->dtype)) {
      continue;
    }
    sum += compare_tensors(base, model, t.name, kSample, threads);
  }
  return sum;
}

std::string kinship(const TensorDifference& d, const std::string& model, const std::string& base) {
  if (d.norm_difference == 0)
    return fmt::format("{} equals {} wherever it was sampled", model, base);
  if (d.cosine() < kUnrelatedCosine) {
    return fmt::format(
        "{} does not seem to descend from {}: cosine {:.3f}, task vector {:.0f} % as "
        "long as the base; merging task vectors makes no sense then",
        model, base, d.cosine(), 100 * d.relative());
  }
  if (d.relative() > 0.3) {
    return fmt::format("{} is far from {}: the task vector is {:.0f} % as long as the base", model,
                       base, 100 * d.relative());
  }
  return "";
}

}  // namespace

void add_check_verb(CLI::App& app) {
  struct Options {
    std::filesystem::path recipe;
    std::shared_ptr<CommonOptions> common;
  };
  auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("check", "Check a recipe and its models without merging");
  verb->add_option("RECIPE", o->recipe, "mergekit recipe")->required();
  o->common = add_common_options(*verb);
  verb->callback([o] {
    Threads threads(o->common->threads);
    const Recipe recipe = read_recipe(o->recipe);
    check_plan_settings(recipe);
    const MergeInputs inputs(recipe, open_options(threads));
    std::vector<std::string> warnings = inputs.warnings();
    Json models = Json::array();
    for (const InputModel* model : inputs.models()) {
      uint64_t bytes = 0;
      for (const TensorInfo& t : model->source->tensors()) bytes += byte_size(t);
      Json line = {{"model", model->name}, {"bytes", bytes}};
      if (recipe.base_index && model->name != inputs.main().name) {
        const TensorDifference d =
            sampled_difference(*inputs.main().source, *model->source, threads);
        line["cosine_to_base"] = d.cosine();
        line["relative_task_vector"] = d.relative();
        const std::string said = kinship(d, model->label(), inputs.main().label());
        if (!said.empty()) warnings.push_back(said);
      }
      models.push_back(std::move(line));
    }
    if (o->common->json) {
      fmt::print("{}\n", Json{{"recipe", o->recipe.string()},
                              {"tensors", inputs.tensors().size()},
                              {"models", models},
                              {"warnings", warnings}}
                             .dump(2));
      return;
    }
    for (const Json& m : models) {
      fmt::print("{}: {}", m["model"].get<std::string>(), human_bytes(m["bytes"].get<uint64_t>()));
      if (m.contains("cosine_to_base")) {
        fmt::print(", cosine to the base {:.6f}, task vector {:.2f} % of its length",
                   m["cosine_to_base"].get<double>(),
                   100 * m["relative_task_vector"].get<double>());
      }
      fmt::print("\n");
    }
    if (inputs.tokenizer().plan) {
      fmt::print("another tokenizer, with {} rows of embeddings\n",
                 inputs.tokenizer().plan->rows());
    }
    for (const std::string& w : warnings) fmt::print("warning: {}\n", w);
    fmt::print("{}: can be merged, {} tensors\n", o->recipe.string(), inputs.tensors().size());
  });
}

}  // namespace lewis
