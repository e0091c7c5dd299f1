// Results of the verbs as JSON.
#include <cmath>
#include <numeric>

#include "app/output_weights.h"
#include "app/proof_json.h"
#include "app/totals.h"
#include "base/build.h"
#include "base/dump_json.h"
#include "base/json.h"
#include "eval/results/results.h"
#include "recipe/recipe.h"

#include <lewis/lewis.h>

namespace lewis {
namespace {

Json number_or_null(std::optional<double> value) { return value ? Json(*value) : Json(); }

Json to_json(const std::vector<TaskVectorSums>& models, const std::vector<PairSums>& pairs,
             const MergeDiagnostics& d) {
  const std::vector<std::string>& names = d.models;
  const auto if_trimmed = [&](std::optional<double> v) {
    return d.trims ? number_or_null(v) : Json();
  };
  Json by_model = Json::object(), by_pair = Json::array();
  for (size_t m = 0; m < models.size(); ++m) {
    const TaskVectorSums& s = models[m];
    by_model[names[m]] = {{"relative_size", number_or_null(s.relative_size())},
                          {"changed", s.changed},
                          {"kept_share", if_trimmed(s.kept_share())},
                          {"energy_dropped", if_trimmed(s.energy_dropped())},
                          {"carried_share", number_or_null(s.carried_share())}};
  }
  for (size_t a = 0; a < models.size(); ++a) {
    for (size_t b = a + 1; b < models.size(); ++b) {
      const PairSums& p = pairs[pair_index(a, b, models.size())];
      const double norms = std::sqrt(models[a].squares * models[b].squares);
      by_pair.push_back({{"models", {names[a], names[b]}},
                         {"sign_conflict", number_or_null(p.conflict())},
                         {"sign_conflict_kept", if_trimmed(p.conflict_kept())},
                         {"cosine", norms > 0 ? Json(p.dot / norms) : Json()}});
    }
  }
  return {{"models", by_model}, {"pairs", by_pair}};
}

Json to_json(const std::vector<ModuleValues>& models) {
  Json json = Json::object();
  for (const ModuleValues& m : models) {
    Json values = Json::object();
    for (const auto& [module, value] : m.values) values[module] = value;
    json[m.title] = std::move(values);
  }
  return json;
}

Json to_json(const MergeDiagnostics& d) {
  const DiagnosticTotals totals = totals_of(d);
  Json json = to_json(totals.models, totals.pairs, d);
  json["trims"] = d.trims;
  Json tensors = Json::object();
  for (const TensorDiagnostics& t : d.tensors) tensors[t.name] = to_json(t.models, t.pairs, d);
  json["tensors"] = tensors;
  return json;
}

Json to_json(const CalibratedText& text) {
  Json origin = Json::object();
  for (const auto& [key, value] : text.origin) origin[key] = value;
  return {{"file", text.file.string()},    {"tokens", text.tokens}, {"sequences", text.sequences},
          {"modules", text.linear_layers}, {"reused", text.reused}, {"origin", origin}};
}

Json to_json(const LayerPlan& plan) {
  Json layers = Json::object();
  for (const auto& [module, importance] : plan.importance) {
    Json layer = {{"importance", importance}};
    if (plan.density.contains(module)) layer["density"] = plan.density.at(module);
    if (plan.base_norm.contains(module)) layer["base_norm"] = plan.base_norm.at(module);
    if (plan.expert_norm.contains(module)) layer["expert_norm"] = plan.expert_norm.at(module);
    layers[module] = layer;
  }
  return layers;
}

Json to_json(const PlannedModel& planned, const LewisSection& lewis) {
  return {{"model", planned.model},
          {"mean_density", planned.mean_density},
          {"parameter_weighted_density", planned.weighted_density},
          {"whole_model_density", planned.whole_density},
          {"layers", to_json(planned.layers)},
          {"part_importance", planned.layers.part_importance},
          {"coefficients", planned.layers.coefficient},
          {"trim", name_of(lewis.trim)},
          {"aim_omega", lewis.aim ? Json(*lewis.aim) : Json()},
          {"few_tokens", planned.layers.few_tokens}};
}

Json to_json(const RefineCost& cost) {
  return {{"tokens", cost.tokens},
          {"peak_memory", cost.peak_memory},
          {"least_memory", cost.least_memory},
          {"scratch_bytes", cost.disk}};
}

}  // namespace

std::string json_text(const CalibratedText& result) { return dump_json(to_json(result), 2); }

std::string json_text(const CalibrateResult& result) {
  Json all = Json::array();
  for (const CalibratedText& text : result.texts) all.push_back(to_json(text));
  Json json = {{"statistics", all}};
  if (result.pieces > 0) {
    json["pieces"] = result.pieces;
    json["pieces_measured"] = result.pieces_measured;
    json["pieces_left"] = result.pieces_left;
  }
  return dump_json(json, 2);
}

std::string json_text(const PlanResult& r) {
  Json models = Json::array();
  for (const PlannedModel& planned : r.models) models.push_back(to_json(planned, *r.recipe->lewis));
  Json json = {{"models", models},
               {"cost",
                {{"tensors", r.cost.tensors},
                 {"parameters", r.cost.parameters},
                 {"bytes_read", r.cost.bytes_read},
                 {"bytes_written", r.cost.bytes_written},
                 {"peak_memory", r.cost.peak_memory}}}};
  json["compute"] = r.compute;
  if (!r.warnings.empty()) json["warnings"] = r.warnings;
  if (r.diagnostics) json["diagnostics"] = to_json(*r.diagnostics);
  if (!r.activation_errors.empty()) json["activation_errors"] = to_json(r.activation_errors);
  if (!r.refinement.empty()) json["refinement"] = r.refinement;
  return dump_json(json, 2);
}

std::string json_text(const MergeResult& r) {
  const MergeReport& t = r.tensors;
  Json json = {{"out", r.out.string()},
               {"merged", t.merged},
               {"copied", t.copied},
               {"refined", t.refined},
               {"resumed", t.resumed},
               {"parameters", t.parameters},
               {"bytes_read", t.bytes_read},
               {"bytes_written", t.bytes_written},
               {"shards", t.shards},
               {"guided_models", r.guided_models},
               {"warnings", t.warnings},
               {"seconds", r.seconds},
               {"was_complete", r.was_complete},
               {"complete", t.complete},
               {"shards_left", t.shards_left}};
  if (!r.report.empty()) json["report"] = r.report.string();
  for (const AdapterProof& proof : r.proofs) json["proofs"].push_back(to_json(proof));
  for (const MergedOutput& output : r.outputs) {
    Json one = to_json(output.weights);
    one["out"] = output.out.string();
    one["merged"] = output.tensors.merged;
    one["copied"] = output.tensors.copied;
    one["resumed"] = output.tensors.resumed;
    one["bytes_written"] = output.tensors.bytes_written;
    one["shards"] = output.tensors.shards;
    one["was_complete"] = output.was_complete;
    one["complete"] = output.tensors.complete;
    if (!output.report.empty()) one["report"] = output.report.string();
    json["outputs"].push_back(std::move(one));
  }
  return dump_json(json, 2);
}

std::string json_text(const AdapterProof& proof) { return dump_json(to_json(proof), 2); }

std::string json_text(const MergeForecast& f) {
  Json json = {{"bytes_read", f.cost.bytes_read},
               {"bytes_written", f.cost.bytes_written},
               {"tensors", f.cost.tensors},
               {"parameters", f.cost.parameters},
               {"peak_memory", f.cost.peak_memory},
               {"least_memory", f.cost.least_memory},
               {"vocabulary", f.cost.vocabulary},
               {"disk_free", f.disk_free},
               {"seconds", f.seconds}};
  if (f.cost.bytes_fetched > 0) json["bytes_fetched"] = f.cost.bytes_fetched;
  if (f.refinement) json["refinement"] = to_json(*f.refinement);
  for (const OutputWeights& output : f.outputs) json["outputs"].push_back(to_json(output));
  if (!f.warnings.empty()) json["warnings"] = f.warnings;
  return dump_json(json, 2);
}

std::string json_text(const EvaluateResult& r) {
  Json json = {{"models", Json::array()}};
  for (const ModelResults& model : *r.models) json["models"].push_back(results_json(model));
  for (const LayerErrors& l : r.layers) json["activation_errors"][l.model] = to_json(l.experts);
  if (r.part_items > 0) {
    json["part_items"] = r.part_items;
    json["part_items_run"] = r.part_items_run;
  }
  return dump_json(json, 2);
}

std::string json_text(const ReportResult& r) {
  Json figures = Json::array();
  for (const auto& figure : r.figures) figures.push_back(figure.string());
  Json json = {{"report", r.report.string()},
               {"bytes", r.bytes},
               {"figures", figures},
               {"missing", r.missing}};
  if (r.diagnostics) json["diagnostics"] = to_json(*r.diagnostics);
  return dump_json(json, 2);
}

std::string json_text(const TuneResult& r) {
  Json values = Json::object(), entries = Json::array();
  Json worth = Json::object();
  for (const TunedValue& v : r.values) {
    values[v.path] = v.found;
    if (!v.options.empty()) values[v.path] = v.options.at(static_cast<size_t>(v.found));
    if (v.found == v.start) continue;
    worth[v.path] = {{"difference", v.worth}, {"low", v.worth_low}, {"high", v.worth_high}};
  }
  for (const TunedLoss& l : r.losses) {
    entries.push_back({{"model", l.model},
                       {"items", l.items},
                       {"base", l.base},
                       {"expert", l.expert},
                       {"start", l.start},
                       {"found", l.found}});
  }
  Json json = {{"out", r.out.string()},
               {"values", values},
               {"worth", worth},
               {"evaluations", r.evaluations},
               {"taken_over", r.taken_over},
               {"objective", {{"start", r.start_objective}, {"found", r.objective}}},
               {"held_out",
                {{"gain", r.gain},
                 {"low", r.gain_low},
                 {"high", r.gain_high},
                 {"shown", r.gain_low > 0 || r.gain_high < 0},
                 {"entries", entries}}}};
  if (!r.warnings.empty()) json["warnings"] = r.warnings;
  return dump_json(json, 2);
}

std::string version() { return lewis_version(); }

std::string json_text(const PullResult& r) {
  Json models = Json::array();
  for (const PulledModel& m : r.models) {
    models.push_back({{"id", m.id},
                      {"commit", m.commit},
                      {"folder", m.folder.string()},
                      {"files", m.files},
                      {"bytes", m.bytes}});
  }
  return dump_json(Json{{"models", models}}, 2);
}

std::string json_text(const PushResult& r) {
  return dump_json(
      Json{{"url", r.url}, {"commit", r.commit}, {"files", r.files}, {"bytes", r.bytes}}, 2);
}

}  // namespace lewis
