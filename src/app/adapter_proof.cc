#include "app/adapter_proof.h"

#include <algorithm>
#include <map>
#include <set>

#include "app/adapter_logits.h"
#include "app/running_model.h"
#include "app/tokenizers.h"
#include "base/dump_json.h"
#include "base/error.h"
#include "base/json.h"
#include "merge/adapter_proof.h"
#include "merge/inputs.h"
#include "recipe/recipe.h"

namespace lewis {
namespace {

constexpr double kWorthANote = 0.1;  // the share of a change that rounding may eat unnoticed

// A model with an adapter, and the recipe (a stage or module, too) that reads it.
struct AdaptedPlace {
  const RecipeModel* model = nullptr;
  const Recipe* recipe = nullptr;
};

void add_adapted(const Recipe& recipe, std::vector<AdaptedPlace>& places) {
  for (const RecipeModel& model : recipe.models) {
    if (model.stage) add_adapted(*model.stage, places);
    const bool known = std::ranges::any_of(
        places, [&](const AdaptedPlace& p) { return is_same_model(*p.model, model); });
    if (!model.adapter.empty() && !known) places.push_back({&model, &recipe});
  }
  for (const RecipeModule& module : recipe.modules) add_adapted(*module.recipe, places);
}

// Of the recipe, its stages and modules, each model once.
std::vector<AdaptedPlace> adapted_models(const Recipe& recipe) {
  std::vector<AdaptedPlace> places;
  add_adapted(recipe, places);
  return places;
}

// Whether the recipe writes one model with its adapter, and does nothing else to it.
bool only_applies(const Recipe& recipe) {
  return recipe.merge_method == "passthrough" && recipe.models.size() == 1 &&
         !recipe.models[0].adapter.empty() && recipe.slices.empty() && recipe.modules.empty() &&
         recipe.outputs.empty() && recipe.parameters.empty() &&
         recipe.models[0].parameters.empty() && !recipe.tokenizer && !recipe.lewis;
}

// The type of the weights, where all that the adapter changes have one.
std::string type_of(const InputModel& stored, const AdapterProof& proof) {
  if (stored.quantized) return "the quantised type";
  std::set<std::string_view> types;
  for (const AdaptedTensor& t : proof.tensors) {
    if (const TensorInfo* tensor = stored.source->find(t.name))
      types.insert(dtype_name(tensor->dtype));
  }
  return types.size() == 1 ? std::string(*types.begin()) : "the stored types";
}

std::string describe(const LogitProof& p) {
  if (!p.why_not.empty()) return "logits were not compared: " + p.why_not;
  return fmt::format(
      "logits of the adapter beside {} linear layers at run time{}: difference {:.2g} at most, "
      "{:.2g} on average ({} texts, {} tokens); rounding explains {:.2g} and {:.2g}",
      p.beside,
      p.merged ? fmt::format(" ({} other tensor{} merged in float32)", p.merged,
                             p.merged == 1 ? "" : "s")
               : "",
      p.largest, p.mean, p.texts, p.tokens, p.rounding_largest, p.rounding_mean);
}

// Logits of models that are equal but for rounding may differ by several times what one rounding
// makes, and by what float32 adds up to.
void warn_of_logits(AdapterProof& proof) {
  constexpr double kTimes = 4, kFloat32 = 1e-3;
  const LogitProof& p = proof.logits;
  if (!p.why_not.empty() || p.mean <= kTimes * p.rounding_mean + kFloat32) return;
  proof.warnings.push_back(
      fmt::format("{}: logits differ by {:.2g} on average from those of the adapter at run time, "
                  "where rounding "
                  "explains {:.2g}",
                  proof.model, p.mean, p.rounding_mean));
}

void add_warnings(AdapterProof& proof) {
  warn_of_logits(proof);
  size_t eaten = 0, unasked = 0, coarse = 0;
  const AdaptedTensor *worst = nullptr, *first = nullptr, *coarsest = nullptr;
  for (const AdaptedTensor& t : proof.tensors) {
    if (t.verdict == AdapterVerdict::kUnasked && !unasked++) first = &t;
    if (t.verdict == AdapterVerdict::kCoarse && !coarse++) coarsest = &t;
    if (t.rounding < kWorthANote) continue;
    ++eaten;
    if (!worst || t.rounding > worst->rounding) worst = &t;
  }
  if (eaten > 0) {
    proof.warnings.push_back(
        fmt::format("{}: rounding eats a tenth or more of the adapter's change in {} tensor{} "
                    "({:.0f} % of {}); "
                    "float32 (--dtype float32) keeps it",
                    proof.model, eaten, eaten == 1 ? "" : "s", 100 * std::min(1.0, worst->rounding),
                    worst->name));
  }
  if (coarse > 0)
    proof.warnings.push_back(fmt::format("{}: tensor {} {}{}", proof.model, coarsest->name,
                                         coarsest->words,
                                         coarse > 1 ? fmt::format("; {} more", coarse - 1) : ""));
  if (unasked > 0)
    proof.warnings.push_back(fmt::format("{}: tensor {} {}{}", proof.model, first->name,
                                         first->words,
                                         unasked > 1 ? fmt::format("; {} more", unasked - 1) : ""));
}

RecipeModel without_adapter(RecipeModel model) {
  model.adapter.clear();
  return model;
}

// `model`: with its adapter, whose change counts from `before`. `stored`: what is to hold it, by
// any spelling of its tensors' names.
AdapterProof prove_one(const RecipeModel& model, const RecipeModel& before, InputModel stored,
                       const std::string& subject, bool logits, RunResources& run) {
  OpenOptions options = open_options(run.threads);
  const InputModel base = open_input(before, options);
  options.adapted_as_f32 = true;
  const InputModel adapted = open_input(model, options);
  respell(stored, base);
  fit_layers(stored, base);
  std::map<Misreading, std::shared_ptr<const TensorSource>> misread;
  const auto read_wrongly = [&](Misreading how) {
    if (const auto found = misread.find(how); found != misread.end()) return found->second;
    OpenOptions wrong = options;
    wrong.misreading = how;
    try {
      misread[how] = open_input(model, wrong).source;
    } catch (const Error&) {
      misread[how] = nullptr;  // the adapter cannot be read so
    }
    return misread[how];
  };
  const AdapterConfig config = read_adapter_config(model.adapter);
  AdapterProof proof{.model = model.model, .subject = subject};
  prove_tensors({base, adapted, stored, config, read_wrongly}, run.threads, run.progress, proof);
  proof.lines = describe_tensors(proof, type_of(stored, proof));
  if (logits) {
    const RecipeModel without = without_adapter(model);
    const InputModel beneath = is_same_model(without, before) ? base : open_input(without, options);
    proof.logits = compare_logits({beneath, adapted, stored, model.adapter, proof.changed}, run);
  } else {
    proof.logits.why_not = "they were not asked for";
  }
  proof.lines.push_back(describe(proof.logits));
  add_warnings(proof);
  return proof;
}

// Throws unless the adapter is there.
void check_proof(const AdapterProof& proof, const ProofOptions& options) {
  const bool only_rounded = std::ranges::all_of(proof.tensors, [](const AdaptedTensor& t) {
    return t.verdict == AdapterVerdict::kProven || t.verdict == AdapterVerdict::kCoarse ||
           t.verdict == AdapterVerdict::kUnasked || t.verdict == AdapterVerdict::kRounded;
  });
  if (proof.holds || (only_rounded && options.force_rounding)) return;
  throw Error(
      ExitCode::kVerify,
      proof.lines[0] +
          (only_rounded ? "; --dtype float32 keeps it, --force-rounding writes it anyway" : ""));
}

}  // namespace

void check_has_adapters(const Recipe& recipe) {
  if (!adapted_models(recipe).empty()) return;
  throw usage_error(
      "--prove: the recipe has no model with an adapter (MODEL+ADAPTER), so there is "
      "nothing to prove");
}

std::vector<AdapterProof> prove_merge(const MergeJob& job, const Recipe& recipe,
                                      const std::filesystem::path& folder, RunResources& run) {
  check_has_adapters(recipe);
  std::vector<AdapterProof> proofs;
  for (const auto& [model, reader] : adapted_models(recipe)) {
    const bool whole =
        only_applies(recipe) && !folder.empty() && is_same_model(*model, recipe.models[0]);
    OpenOptions options = open_options(run.threads);
    options.adapted_as_f32 = reads_adapted_as_f32(*reader);
    InputModel stored = whole ? open_input({.model = folder.string(), .folder = folder}, options)
                              : open_input(*model, options);
    const std::string subject = whole ? job.out.lexically_normal().string()
                                      : "what the merge reads of the model, before it is mixed,";
    proofs.push_back(prove_one(*model, without_adapter(*model), std::move(stored), subject,
                               job.prove.logits, run));
    const AdapterProof& proof = proofs.back();
    tell_all(run.note, proof.warnings);
    check_proof(proof, job.prove);
  }
  return proofs;
}

std::vector<AdapterProof> public_proofs(std::vector<AdapterProof> proofs,
                                        const PublicNames& names) {
  for (AdapterProof& proof : proofs) {
    const std::string model = proof.model;
    proof.model = names.of(model);
    for (std::string* text : {&proof.subject, &proof.logits.why_not}) *text = names.clean(*text);
    for (auto* texts : {&proof.lines, &proof.warnings}) {
      for (std::string& text : *texts) {
        if (text.starts_with(model)) text.replace(0, model.size(), proof.model);
        text = names.clean(text);
      }
    }
  }
  return proofs;
}

RecipePtr adapter_recipe(const std::string& model, const std::vector<std::string>& adapters,
                         const std::string& dtype) {
  if (adapters.empty()) throw usage_error("{}: no adapter is named", model);
  const auto quoted = [](const std::string& text) { return dump_json(Json(text)); };
  std::string yaml, before = model;
  for (size_t i = 0; i < adapters.size(); ++i) {
    const bool last = i + 1 == adapters.size();
    const std::string name = fmt::format("with {} adapter{}", i + 1, i ? "s" : "");
    if (!last) yaml += "name: " + quoted(name) + "\n";
    yaml += fmt::format(
        "merge_method: passthrough\nmodels:\n  - model:\n      model: {}\n      lora: {}\n",
        quoted(before), quoted(adapters[i]));
    // float8 in blocks is a way of writing, which only the last document does.
    const bool fp8 = dtype == kFp8Block;
    if (!dtype.empty() && !fp8) yaml += "dtype: " + quoted(dtype) + "\n";
    if (fp8 && last) yaml += "out_dtype: " + dtype + "\n";
    if (!last) yaml += "---\n";
    before = name;
  }
  return make_recipe(yaml, "adapter.yml");
}

namespace {

// Whether job.model is job.base with these adapters.
AdapterProof prove_list(const ProveJob& job, const std::vector<std::string>& adapters, bool logits,
                        RunResources& run) {
  const RecipePtr recipe =
      adapter_recipe(job.base.string(), adapters, adapters.size() > 1 ? "float32" : "");
  const RecipePtr base = adapter_recipe(job.base.string(), {adapters[0]});
  InputModel stored =
      open_input({.model = job.model.string(), .folder = job.model}, open_options(run.threads));
  return prove_one(recipe->models[0], without_adapter(base->models[0]), std::move(stored),
                   job.model.string(), logits, run);
}

// The adapters without which the model holds all others.
std::vector<std::string> missing_adapters(const ProveJob& job,
                                          const std::vector<std::string>& adapters,
                                          RunResources& run) {
  std::vector<std::string> missing;
  for (size_t i = 0; i < adapters.size() && adapters.size() > 1; ++i) {
    std::vector<std::string> others = adapters;
    others.erase(others.begin() + static_cast<std::ptrdiff_t>(i));
    if (prove_list(job, others, false, run).holds) missing.push_back(adapters[i]);
  }
  return missing;
}

}  // namespace

AdapterProof prove(const ProveJob& job, const RunContext& context) {
  RunResources run(context);
  std::vector<std::string> adapters;
  for (const auto& adapter : job.adapters) adapters.push_back(adapter.string());
  if (adapters.empty()) throw usage_error("{}: no adapter is named", job.model.string());
  AdapterProof proof = prove_list(job, adapters, job.logits, run);
  if (adapters.size() > 1) {
    const std::string all = fmt::format("{}+{}", job.base.string(), fmt::join(adapters, "+"));
    for (auto* texts : {&proof.lines, &proof.warnings}) {
      for (std::string& text : *texts) {
        if (text.starts_with(proof.model)) text.replace(0, proof.model.size(), all);
      }
    }
    proof.model = all;
  }
  if (!proof.holds) {
    for (const std::string& adapter : missing_adapters(job, adapters, run))
      proof.lines[0] += fmt::format("; it holds the others without {}", adapter);
  }
  tell_all(run.note, proof.warnings);
  return proof;
}

}  // namespace lewis
