// Recipe -> YAML. Written by hand: the forms are few, and YAML 1.1 readers (PyYAML) must read every
// number as a number.
#include "recipe/print.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/printable.h"
#include "recipe/outputs.h"
#include "recipe/recipe.h"

namespace lewis {
std::string yaml_scalar(const std::string& text) {
  const auto harmless = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '/' || c == '.' ||
           c == '-';
  };
  const bool word = !text.empty() && std::all_of(text.begin(), text.end(), harmless) &&
                    (std::isalpha(static_cast<unsigned char>(text[0])) || text[0] == '/' ||
                     text.starts_with("./") || text.starts_with("../"));
  static constexpr const char* kWords[] = {"true", "false", "yes", "no", "on",
                                           "off",  "null",  "y",   "n"};
  std::string lower = text;
  std::transform(lower.begin(), lower.end(), lower.begin(), [](char c) {
    return static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  });
  if (word &&
      std::none_of(std::begin(kWords), std::end(kWords), [&](const char* w) { return lower == w; }))
    return text;
  std::string quoted = "\"";
  for (size_t i = 0; i < text.size();) {
    const Utf8Character c = utf8_character_at(text, i);
    if (c.code == '"' || c.code == '\\') {
      quoted += '\\';
      quoted += text[i];
    } else if (c.valid && !is_shown(c.code)) {
      quoted += c.code < 0x100     ? fmt::format("\\x{:02x}", c.code)
                : c.code < 0x10000 ? fmt::format("\\u{:04x}", c.code)
                                   : fmt::format("\\U{:08x}", c.code);
    } else {
      quoted += text.substr(i, c.bytes);
    }
    i += c.bytes;
  }
  return quoted + "\"";
}

namespace {

// Shortest text that reads back as the same double; YAML 1.1 wants a '.' before an exponent.
std::string number(double value) {
  std::string text = fmt::format("{}", value);
  const size_t e = text.find('e');
  if (e != std::string::npos && text.find('.') == std::string::npos) text.insert(e, ".0");
  return text;
}

std::string value_text(const SettingValue& value) {
  if (const double* single = std::get_if<double>(&value)) return number(*single);
  std::string text;
  for (const double v : std::get<Gradient>(value)) text += (text.empty() ? "" : ", ") + number(v);
  return "[" + text + "]";
}

std::string parameters_text(const Parameters& parameters, const std::string& indent) {
  std::string text;
  for (const auto& [name, setting] : parameters) {
    text += indent + name + ":";
    if (const auto* conditions = std::get_if<std::vector<Condition>>(&setting)) {
      text += "\n";
      for (const Condition& c : *conditions) {
        text += indent + "  - {" +
                (c.filter.empty() ? "" : "filter: " + yaml_scalar(c.filter) + ", ") +
                "value: " + value_text(c.value) + "}\n";
      }
    } else if (const double* single = std::get_if<double>(&setting)) {
      text += " " + number(*single) + "\n";
    } else {
      text += " " + value_text(std::get<Gradient>(setting)) + "\n";
    }
  }
  return text;
}

std::string slices_text(const Recipe& recipe) {
  std::string text = "slices:\n";
  for (const OutputSlice& slice : recipe.slices) {
    text += "  - sources:\n";
    for (const SliceSource& s : slice.sources) {
      text += "      - model: " + yaml_scalar(recipe.models[s.model].model) + "\n";
      text += fmt::format("        layer_range: [{}, {}]\n", s.begin, s.end);
      if (!s.parameters.empty())
        text += "        parameters:\n" + parameters_text(s.parameters, "          ");
    }
    if (slice.base_index)
      text += "    base_model: " + yaml_scalar(recipe.models[*slice.base_index].model) + "\n";
    if (!slice.parameters.empty())
      text += "    parameters:\n" + parameters_text(slice.parameters, "      ");
  }
  return text;
}

std::string models_text(const Recipe& recipe) {
  std::string text = "models:\n";
  for (const RecipeModel& m : recipe.models) {
    if (!m.listed) continue;
    text += "  - model: " + yaml_scalar(m.model) + "\n";
    if (!m.parameters.empty() && recipe.outputs.empty())
      text += "    parameters:\n" + parameters_text(m.parameters, "      ");
  }
  return text;
}

// The weights as lists, wherever they are from.
std::string outputs_text(const Recipe& recipe) {
  std::string text = "outputs:\n";
  for (const RecipeOutput& out : recipe.outputs) {
    std::string weights;
    for (size_t m = 0; m < recipe.models.size(); ++m) {
      if (recipe.models[m].listed)
        weights += (weights.empty() ? "" : ", ") + number(out.weights[m]);
    }
    text += fmt::format("  - name: {}\n    weights: [{}]\n", yaml_scalar(out.name), weights);
  }
  return text;
}

std::string inputs_text(const Recipe& recipe) {
  return recipe.slices.empty() ? models_text(recipe) : slices_text(recipe);
}

std::string indented(const std::string& text, const std::string& indent) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size() - 1) + 1;
    out += indent + text.substr(at, end - at);
    at = end;
  }
  return out;
}

std::string module_text(const Recipe& recipe) {
  std::string text = inputs_text(recipe);
  if (!recipe.module_parameters.empty())
    text += "parameters:\n" + parameters_text(recipe.module_parameters, "  ");
  return text;
}

std::string modules_text(const Recipe& recipe) {
  std::string text = "modules:\n";
  for (const RecipeModule& m : recipe.modules)
    text += "  " + yaml_scalar(m.name) + ":\n" + indented(module_text(*m.recipe), "    ");
  return text;
}

// The stages that the recipe uses, each before those that use it, each once.
void collect_stages(const Recipe& recipe, std::vector<const Recipe*>& stages) {
  for (const RecipeModel& m : recipe.models) {
    if (!m.stage || std::ranges::find(stages, m.stage.get()) != stages.end()) continue;
    collect_stages(*m.stage, stages);
    if (std::ranges::find(stages, m.stage.get()) == stages.end()) stages.push_back(m.stage.get());
  }
}

std::string source_text(const TokenSource& s) {
  if (s.kind == TokenSource::Kind::kZero) return "{kind: zero}";
  if (!s.token && !s.token_id) return yaml_scalar(s.model);
  return "{kind: model_token, model: " + yaml_scalar(s.model) +
         (s.token ? ", token: " + yaml_scalar(*s.token)
                  : fmt::format(", token_id: {}", *s.token_id)) +
         "}";
}

std::string tokenizer_text(const TokenizerSettings& s) {
  if (s.tokens.empty() && s.pad_to_multiple_of == 0)
    return "tokenizer_source: " + yaml_scalar(s.source) + "\n";
  std::string text = "tokenizer:\n  source: " + yaml_scalar(s.source) + "\n";
  if (s.pad_to_multiple_of) text += fmt::format("  pad_to_multiple_of: {}\n", s.pad_to_multiple_of);
  if (!s.tokens.empty()) text += "  tokens:\n";
  for (const TokenSetting& t : s.tokens) {
    text += "    " + yaml_scalar(t.token) + ":\n";
    if (t.source.kind != TokenSource::Kind::kDefault)
      text += "      source: " + source_text(t.source) + "\n";
    text += fmt::format("      force: {}\n", t.force);
  }
  return text;
}

std::string calibration_text(const CalibrationEntry& e) {
  std::string text = "    - model: " + yaml_scalar(e.model) + "\n";
  if (e.has_statistics()) {
    return text + "      statistics:\n        base: " + yaml_scalar(e.base_statistics.string()) +
           "\n        model: " + yaml_scalar(e.model_statistics.string()) + "\n";
  }
  text += "      data: " + yaml_scalar(e.data.string()) + "\n";
  if (e.format) text += fmt::format("      format: {}\n", name_of(*e.format));
  if (!e.prompt_field.empty()) text += "      prompt_field: " + yaml_scalar(e.prompt_field) + "\n";
  if (!e.answer_field.empty()) text += "      answer_field: " + yaml_scalar(e.answer_field) + "\n";
  return text + fmt::format("      samples: {}\n      seed: {}\n      max_tokens: {}\n", e.samples,
                            e.seed, e.max_tokens);
}

// Settings that are off by default, where they are on.
std::string extras_text(const LewisSection& s) {
  std::string text;
  const bool by_deviation = s.allocation == Allocation::kBudget;
  if (by_deviation || s.allocation == Allocation::kThreshold)
    text += "  budget: " + number(s.budget) + "\n";
  if (by_deviation) text += "  kappa: " + number(s.kappa) + "\n";
  for (size_t i = 0; i < s.scope.size(); ++i)
    text +=
        (i ? ", " : "  scope: [") + yaml_scalar(s.scope[i]) + (i + 1 < s.scope.size() ? "" : "]\n");
  if (s.normalise != Normalise::kMinMax)
    text += fmt::format("  normalise: {}\n", name_of(s.normalise));
  if (s.trim != Trim::kMagnitude) text += fmt::format("  trim: {}\n", name_of(s.trim));
  const CoefficientSettings& c = s.coefficient;
  if (c.method != Coefficient::kNone) {
    text += fmt::format("  coefficient: {{method: {}", name_of(c.method));
    if (c.method == Coefficient::kLines)
      text += ", first: " + number(c.first) + ", last: " + number(c.last);
    text += "}\n";
  }
  if (s.aim) text += "  aim: {omega: " + number(*s.aim) + "}\n";
  return text;
}

std::string refine_text(const RefineSettings& s) {
  const auto or_auto = [](const std::optional<double>& v) { return v ? number(*v) : "auto"; };
  std::string text =
      fmt::format("  refine:\n    method: {}\n    prior: {}\n    samples: {}\n    ridge: {}\n",
                  name_of(s.method), name_of(s.prior), s.samples, or_auto(s.ridge));
  if (s.method == RefineMethod::kRegmean)
    text += fmt::format("    alpha: {}\n", number(s.off_diagonal));
  if (s.method == RefineMethod::kRegression) {
    text += fmt::format("    alpha: {}\n", or_auto(s.alpha));
    text += fmt::format("    weighting: {}\n    prior_scale: {}\n",
                        s.weighting ? name_of(*s.weighting) : "auto", or_auto(s.prior_scale));
  }
  if (s.passes != 1) text += fmt::format("    passes: {}\n", s.passes);
  return text + fmt::format(
                    "    question_weight: {}\n    held_out: {}\n    biases: {}\n    norms: {}\n    "
                    "head: {}\n    routers: {}\n",
                    number(s.question_weight), number(s.held_out), s.biases, s.norms, s.head,
                    s.routers);
}

std::string lewis_text(const LewisSection& s) {
  std::string text = "lewis:\n";
  if (!s.calibration.empty()) text += "  calibration:\n";
  for (const CalibrationEntry& e : s.calibration) text += calibration_text(e);
  text += fmt::format("  protocol: {}\n  importance: {}\n  allocation: {}\n", name_of(s.protocol),
                      name_of(s.importance), name_of(s.allocation));
  text += fmt::format("  gamma: {}\n  epsilon: {}\n  uncovered: {}\n", number(s.gamma),
                      number(s.epsilon), number(s.uncovered));
  text += s.skip_first > 1 ? fmt::format("  skip_first: {}\n", s.skip_first)
                           : fmt::format("  skip_first_token: {}\n", s.skip_first == 1);
  text += fmt::format("  seed: {}\n", s.seed);
  text += extras_text(s);
  if (s.refine) text += refine_text(*s.refine);
  return text;
}

std::string missing_text(const std::vector<MissingRule>& rules) {
  if (rules.empty()) return "";
  if (rules.size() == 1 && rules[0].filter.empty())
    return fmt::format("missing: {}\n", name_of(rules[0].what));
  std::string text = "missing:\n";
  for (const MissingRule& rule : rules) {
    const std::string filter =
        rule.filter.empty() ? "" : "filter: " + yaml_scalar(rule.filter) + ", ";
    text += fmt::format("  - {{{}value: {}}}\n", filter, name_of(rule.what));
  }
  return text;
}

std::string document_text(const Recipe& recipe, bool stock) {
  std::string text;
  if (!recipe.name.empty()) text += "name: " + yaml_scalar(recipe.name) + "\n";
  text += "merge_method: " + yaml_scalar(recipe.merge_method) + "\n";
  if (recipe.base_model) text += "base_model: " + yaml_scalar(*recipe.base_model) + "\n";
  if (!recipe.modules.empty()) {
    text += modules_text(recipe);
  } else if (!recipe.module_parameters.empty()) {
    text += "modules:\n  default:\n" + indented(module_text(recipe), "    ");
  } else {
    text += inputs_text(recipe);
  }
  if (!recipe.parameters.empty())
    text += "parameters:\n" + parameters_text(recipe.parameters, "  ");
  if (recipe.dtype) text += fmt::format("dtype: {}\n", dtype_torch_name(*recipe.dtype));
  if (recipe.out_dtype) text += fmt::format("out_dtype: {}\n", dtype_torch_name(*recipe.out_dtype));
  if (recipe.fp8_block && !stock) text += fmt::format("out_dtype: {}\n", kFp8Block);
  if (recipe.tokenizer) text += tokenizer_text(*recipe.tokenizer);
  if (recipe.chat_template) text += "chat_template: " + yaml_scalar(*recipe.chat_template) + "\n";
  if (!stock) text += missing_text(recipe.missing);
  if (recipe.experts && !stock) text += fmt::format("experts: {}\n", name_of(*recipe.experts));
  if (recipe.expert_order != ExpertOrder::kAlign && !stock)
    text += fmt::format("expert_order: {}\n", name_of(recipe.expert_order));
  if (!recipe.outputs.empty() && !stock) text += outputs_text(recipe);
  if (recipe.lewis && !stock) text += lewis_text(*recipe.lewis);
  return text;
}

}  // namespace

std::string hash_of_factors(const Recipe& recipe) {
  std::string all;
  for (const RecipeModel& m : recipe.models) {
    if (m.trim_factors) all += hash_of(*m.trim_factors);
    if (m.stage) all += hash_of_factors(*m.stage);
  }
  return recipe.relaxation ? all + hash_of(*recipe.relaxation) : all;
}

std::string to_yaml(const Recipe& recipe, bool stock) {
  if (stock) refuse_outputs(recipe, "mergekit");
  std::vector<const Recipe*> stages;
  collect_stages(recipe, stages);
  std::string text;
  for (const Recipe* stage : stages) text += document_text(*stage, stock) + "---\n";
  return text + document_text(recipe, stock);
}

}  // namespace lewis
