#include "app/proof_json.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/enum_names.h"
#include "base/json.h"

namespace lewis {

template <>
inline constexpr auto kEnumNames<AdapterVerdict> =
    std::to_array<EnumName<AdapterVerdict>>({{AdapterVerdict::kProven, "proven"},
                                             {AdapterVerdict::kCoarse, "coarse"},
                                             {AdapterVerdict::kRounded, "rounded_away"},
                                             {AdapterVerdict::kAbsent, "absent"},
                                             {AdapterVerdict::kFactor, "factor"},
                                             {AdapterVerdict::kMisread, "misread"},
                                             {AdapterVerdict::kOther, "other"},
                                             {AdapterVerdict::kMissing, "missing"},
                                             {AdapterVerdict::kUnasked, "unasked"}});

namespace {

Json to_json(const LogitProof& p) {
  if (!p.why_not.empty()) return {{"why_not", p.why_not}};
  return {{"texts", p.texts},
          {"tokens", p.tokens},
          {"beside", p.beside},
          {"merged", p.merged},
          {"largest", p.largest},
          {"mean", p.mean},
          {"rounding_largest", p.rounding_largest},
          {"rounding_mean", p.rounding_mean}};
}

LogitProof logit_proof_of(const Json& json) {
  LogitProof p;
  p.why_not = json.value("why_not", "");
  if (!p.why_not.empty()) return p;
  p.texts = json.at("texts").get<uint64_t>();
  p.tokens = json.at("tokens").get<uint64_t>();
  p.beside = json.at("beside").get<uint64_t>();
  p.merged = json.at("merged").get<uint64_t>();
  p.largest = json.at("largest").get<double>();
  p.mean = json.at("mean").get<double>();
  p.rounding_largest = json.at("rounding_largest").get<double>();
  p.rounding_mean = json.at("rounding_mean").get<double>();
  return p;
}

std::string percent(double share) { return fmt::format("{:.3g} %", 100 * share); }

}  // namespace

Json to_json(const AdapterProof& proof) {
  Json tensors = Json::object();
  for (const AdaptedTensor& t : proof.tensors) {
    tensors[t.name] = {{"verdict", name_of(t.verdict)}, {"change", t.change}, {"error", t.error},
                       {"rounding", t.rounding},        {"factor", t.factor}, {"cosine", t.cosine}};
    if (!t.words.empty()) tensors[t.name]["words"] = t.words;
  }
  return {{"model", proof.model},       {"subject", proof.subject},
          {"holds", proof.holds},       {"changed", proof.changed},
          {"proven", proof.proven},     {"error", proof.error},
          {"rounding", proof.rounding}, {"lines", proof.lines},
          {"warnings", proof.warnings}, {"logits", to_json(proof.logits)},
          {"tensors", tensors}};
}

AdapterProof adapter_proof_of(const Json& json) {
  AdapterProof proof;
  proof.model = json.at("model").get<std::string>();
  proof.subject = json.at("subject").get<std::string>();
  proof.holds = json.at("holds").get<bool>();
  proof.changed = json.at("changed").get<uint64_t>();
  proof.proven = json.at("proven").get<uint64_t>();
  proof.error = json.at("error").get<double>();
  proof.rounding = json.at("rounding").get<double>();
  proof.lines = json.at("lines").get<std::vector<std::string>>();
  proof.warnings = json.at("warnings").get<std::vector<std::string>>();
  proof.logits = logit_proof_of(json.at("logits"));
  for (const auto& [name, t] : json.at("tensors").items()) {
    const auto verdict = find_value_of<AdapterVerdict>(t.at("verdict").get<std::string>());
    if (!verdict) throw std::runtime_error("a verdict that is not known");
    proof.tensors.push_back({.name = name,
                             .verdict = *verdict,
                             .words = t.value("words", ""),
                             .change = t.at("change").get<double>(),
                             .error = t.at("error").get<double>(),
                             .rounding = t.at("rounding").get<double>(),
                             .factor = t.at("factor").get<double>(),
                             .cosine = t.at("cosine").get<double>()});
  }
  return proof;
}

NumberTable proof_table(const AdapterProof& proof) {
  constexpr size_t kShown = 24;
  NumberTable table{.title = proof.model,
                    .note = fmt::format("{}", fmt::join(proof.lines, ". ")),
                    .head = {"tensor", "relative error", "eaten by rounding", "factor", "verdict"},
                    .rows = {}};
  std::vector<const AdaptedTensor*> sorted;
  for (const AdaptedTensor& t : proof.tensors) sorted.push_back(&t);
  std::ranges::stable_sort(sorted,
                           [](const auto* a, const auto* b) { return a->error > b->error; });
  for (size_t i = 0; i < std::min(kShown, sorted.size()); ++i) {
    const AdaptedTensor& t = *sorted[i];
    table.rows.push_back({t.name, percent(t.error), percent(t.rounding),
                          fmt::format("{:.4f}", t.factor), std::string(name_of(t.verdict))});
  }
  if (sorted.size() > kShown) {
    table.note += fmt::format(". Shown are the {} tensors of {} with the largest errors", kShown,
                              sorted.size());
  }
  return table;
}

}  // namespace lewis
