#include "app/gguf/vocabulary/pre_names.h"

#include <algorithm>
#include <string_view>

namespace lewis {
namespace {

// ByteLevel with an expression of its own, and one that splits digits one by one before it.
constexpr std::string_view kGpt2 = "gpt-2", kDigits = "smollm";

// The expressions of Split steps, in their order, before ByteLevel without an expression.
struct NamedRules {
  std::string_view name;
  std::vector<std::string_view> expressions;
  bool ignore_merges = false;
};

constexpr std::string_view kQwen2 =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
constexpr std::string_view kQwen35 =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| "
    "?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
constexpr std::string_view kLlama3 =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
constexpr std::string_view kTekken =
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|"
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|"
    "\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
constexpr std::string_view kGpt4o =
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*"
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
constexpr std::string_view kDeepseek =
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|"
    "[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|"
    "\\s+(?!\\S)|\\s+";
constexpr std::string_view kSeedCoder =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| "
    "?[^\\s\\p{L}\\p{N}\\r\\n]+|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

const std::vector<NamedRules>& named_rules() {
  static const std::vector<NamedRules> rules = {
      {"llama-bpe", {kLlama3}, true},
      {"dbrx", {kLlama3}},
      {"qwen2", {kQwen2}},
      {"qwen35", {kQwen35}},
      {"tekken", {kTekken}, true},
      {"gpt-4o", {kGpt4o}},
      {"seed-coder", {kSeedCoder}},
      {"deepseek-v3", {"\\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+", kDeepseek}},
  };
  return rules;
}

// The expressions of all steps but the last; nothing where a step is no Split that keeps what it
// finds.
std::optional<std::vector<std::string>> expressions_of(std::span<const Json> splits) {
  std::vector<std::string> found;
  for (const Json& step : splits) {
    const Json pattern = step.value("pattern", Json::object());
    if (step.value("type", "") != "Split" || step.value("behavior", "") != "Isolated" ||
        step.value("invert", false) || !pattern.contains("Regex"))
      return std::nullopt;
    found.push_back(pattern["Regex"].get<std::string>());
  }
  return found;
}

Json byte_level(bool splits) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", splits}};
}

Json sequence(const Json& steps) { return {{"type", "Sequence"}, {"pretokenizers", steps}}; }

}  // namespace

std::optional<RulesOfName> rules_named(std::string_view pre) {
  if (pre == kGpt2) return RulesOfName{byte_level(true)};
  if (pre == kDigits) {
    const Json digits = {{"type", "Digits"}, {"individual_digits", true}};
    return RulesOfName{sequence(Json::array({digits, byte_level(true)}))};
  }
  const auto found = std::ranges::find(named_rules(), pre, &NamedRules::name);
  if (found == named_rules().end()) return std::nullopt;
  Json steps = Json::array();
  for (const std::string_view expression : found->expressions) {
    steps.push_back({{"type", "Split"},
                     {"pattern", {{"Regex", std::string(expression)}}},
                     {"behavior", "Isolated"},
                     {"invert", false}});
  }
  steps.push_back(byte_level(false));
  return RulesOfName{sequence(steps), found->ignore_merges};
}

std::string pre_name_of(const TokenizerFiles& files) {
  const std::vector<Json> steps = files.steps("pre_tokenizer");
  if (steps.empty() || steps.back().value("type", "") != "ByteLevel" ||
      steps.back().value("add_prefix_space", false))
    return "";
  const bool splits_itself = steps.back().value("use_regex", true);
  if (splits_itself) {
    if (steps.size() == 1) return std::string(kGpt2);
    const bool digits = steps.size() == 2 && steps[0].value("type", "") == "Digits" &&
                        steps[0].value("individual_digits", false);
    return digits ? std::string(kDigits) : "";
  }
  const auto found = expressions_of(std::span(steps).first(steps.size() - 1));
  if (!found) return "";
  const Json& ignores = files.member("model").value("ignore_merges", Json(false));
  const NamedRules* other = nullptr;  // with the same expressions, but for ignore_merges
  for (const NamedRules& rules : named_rules()) {
    if (!std::ranges::equal(rules.expressions, *found)) continue;
    if (rules.ignore_merges == (ignores == true)) return std::string(rules.name);
    other = &rules;
  }
  return other ? std::string(other->name) : "";
}

std::vector<std::string> known_pre_names() {
  std::vector<std::string> names = {std::string(kGpt2), std::string(kDigits)};
  for (const NamedRules& rules : named_rules()) names.emplace_back(rules.name);
  return names;
}

}  // namespace lewis
