#include "app/gguf/import_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <numbers>
#include <optional>
#include <span>

#include "base/error.h"
#include "base/human.h"
#include "base/json.h"
#include "model/rope.h"

namespace lewis {
namespace {

// The shortest decimal that is this float, as a double: 1e-05 and not 9.99999974e-06, so that what
// is computed in double is the same as with the config.json that the file was made of.
double decimal(float value) { return std::strtod(fmt::format("{}", value).c_str(), nullptr); }

class ConfigMaker {
 public:
  ConfigMaker(const GgufKeys& keys, const GgufArchitecture& architecture,
              const GgufTensorFacts& facts)
      : keys_(keys),
        type_(architecture.model_type),
        normalizes_(architecture.normalizes),
        facts_(facts) {}

  ImportedConfig run(std::string_view class_name) {
    c_["architectures"] = Json::array({std::string(class_name)});
    c_["model_type"] = std::string(type_);
    add_sizes();
    add_rope();
    add_biases();
    if (keys_.find_count(keys_.own("expert_count")).value_or(0) > 0) add_experts();
    c_["tie_word_embeddings"] = facts_.tied_head;
    c_["hidden_act"] = "silu";
    c_["torch_dtype"] = facts_.dtype;
    for (const auto& [key, name] : kTokens) {
      if (const auto id = keys_.find_count(name)) c_[std::string(key)] = *id;
    }
    note_unknown();
    return {std::move(c_), std::move(notes_)};
  }

 private:
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kTokens = {
      {{"bos_token_id", "tokenizer.ggml.bos_token_id"},
       {"eos_token_id", "tokenizer.ggml.eos_token_id"},
       {"pad_token_id", "tokenizer.ggml.padding_token_id"}}};

  Error refuse(std::string_view key, int64_t found, int64_t expected) const {
    return input_error("{}: key '{}' is {}, expected {}: {} knows no other", keys_.where(),
                       keys_.own(key), found, expected, type_);
  }

  void add_sizes() {
    const int64_t hidden = keys_.count("embedding_length"),
                  heads = keys_.count("attention.head_count");
    head_dim_ = keys_.count("attention.key_length", hidden / heads);
    for (const std::string_view key : {"attention.value_length", "rope.dimension_count"}) {
      const int64_t size = keys_.count(key, head_dim_);
      if (size != head_dim_) throw refuse(key, size, head_dim_);
    }
    const int64_t vocabulary = keys_.count("vocab_size", facts_.vocabulary);
    if (vocabulary != facts_.vocabulary) throw refuse("vocab_size", vocabulary, facts_.vocabulary);
    const auto epsilon = keys_.find_float(keys_.own("attention.layer_norm_rms_epsilon"));
    if (!epsilon) {
      throw input_error("{}: key '{}' is missing", keys_.where(),
                        keys_.own("attention.layer_norm_rms_epsilon"));
    }
    c_["vocab_size"] = facts_.vocabulary;
    c_["hidden_size"] = hidden;
    c_["intermediate_size"] = keys_.count("feed_forward_length");
    c_["num_hidden_layers"] = keys_.count("block_count");
    c_["num_attention_heads"] = heads;
    c_["num_key_value_heads"] = keys_.count("attention.head_count_kv", heads);
    c_["head_dim"] = head_dim_;
    c_["max_position_embeddings"] = keys_.count("context_length");
    c_["rms_norm_eps"] = decimal(*epsilon);
  }

  void add_biases() {
    if (type_ == "llama" || type_ == "qwen3" || type_ == "qwen3_moe")
      c_["attention_bias"] = facts_.attention_bias;
    if (type_ == "llama") c_["mlp_bias"] = facts_.mlp_bias;
    if (type_.starts_with("qwen")) c_["use_sliding_window"] = false;
    if (type_ == "mixtral") c_["sliding_window"] = nullptr;
  }

  void add_experts() {
    const int64_t experts = keys_.count("expert_count");
    c_[type_ == "mixtral" ? "num_local_experts" : "num_experts"] = experts;
    c_["num_experts_per_tok"] = keys_.count("expert_used_count");
    if (type_ == "mixtral") return;
    c_["moe_intermediate_size"] = keys_.count("expert_feed_forward_length", facts_.expert_width);
    c_["norm_topk_prob"] = normalizes_;
    c_["decoder_sparse_step"] = 1;
    c_["mlp_only_layers"] = Json::array();
    if (type_ == "qwen2_moe") {
      c_["shared_expert_intermediate_size"] =
          keys_.count("expert_shared_feed_forward_length", facts_.shared_width);
    }
  }

  // ---- rope ----

  void add_rope() {
    theta_ = decimal(keys_.find_float(keys_.own("rope.freq_base")).value_or(10000.0F));
    c_["rope_theta"] = theta_;
    if (!facts_.rope_factors.empty()) return add_rope_factors();
    const std::string type = keys_.find_text(keys_.own("rope.scaling.type")).value_or("none");
    if (type == "none") return;
    if (type != "linear" && type != "yarn") {
      throw input_error("{}: key '{}' is '{}', expected none, linear or yarn", keys_.where(),
                        keys_.own("rope.scaling.type"), type);
    }
    const auto factor = keys_.find_float(keys_.own("rope.scaling.factor"));
    if (!factor) {
      throw input_error("{}: key '{}' is missing", keys_.where(), keys_.own("rope.scaling.factor"));
    }
    Json rope = {{"rope_type", type}, {"factor", decimal(*factor)}};
    if (type == "yarn") {
      rope["original_max_position_embeddings"] =
          keys_.count("rope.scaling.original_context_length");
    }
    c_["rope_scaling"] = rope;
  }

  // The factors that Llama 3's rule makes of these settings, as llama.cpp divides by them.
  std::vector<float> llama3_factors(double factor, double high, double length) const {
    std::vector<float> factors = default_frequencies(theta_, head_dim_);
    for (float& f : factors) {
      const double frequency = f, wave = 2 * std::numbers::pi / frequency;
      const double smooth = std::clamp((length / wave - 1) / (high - 1), 0.0, 1.0);
      f /= static_cast<float>((1 - smooth) * frequency / factor + smooth * frequency);
    }
    return factors;
  }

  bool explains(double factor, double high, double length) const {
    const std::vector<float> made = llama3_factors(factor, high, length);
    return std::ranges::equal(made, facts_.rope_factors, [](float a, float b) {
      return std::abs(a - b) <= 1e-6F * std::abs(b);
    });
  }

  // Settings of Llama 3's rule, with low_freq_factor 1, that give the factors. Between the fast
  // waves, which stay, and the slow ones, which are slowed by `factor`, 1 / factors is a straight
  // line over the frequencies; two points of it are enough.
  std::optional<std::array<double, 3>> solve_llama3() const {
    const double factor = decimal(*std::ranges::max_element(facts_.rope_factors));
    if (!(factor > 1) || !std::isfinite(factor)) return std::nullopt;
    std::vector<std::array<double, 2>> points;  // 1 / wave, smooth
    const std::vector<float> frequencies = default_frequencies(theta_, head_dim_);
    for (size_t i = 0; i < frequencies.size(); ++i) {
      const double smooth = (1 / double{facts_.rope_factors[i]} - 1 / factor) / (1 - 1 / factor);
      if (smooth > 1e-4 && smooth < 1 - 1e-4)
        points.push_back({frequencies[i] / (2 * std::numbers::pi), smooth});
    }
    std::vector<std::array<double, 3>> candidates = {{factor, 4, 8192}};
    if (points.size() >= 2) {
      const auto& [x0, y0] = points.front();
      const auto& [x1, y1] = points.back();
      const double slope = (y1 - y0) / (x1 - x0), at_zero = y0 - slope * x0;
      const double high = std::round(1 - 1 / at_zero);
      candidates.push_back({factor, high, std::round(slope * (1 - 1 / at_zero - 1))});
    }
    for (double length = 64; length <= 1 << 20; length *= 2)
      candidates.push_back({factor, 4, length});
    for (const auto& c : candidates) {
      if (c[1] > 1 && c[2] >= 1 && c[2] <= 1e9 && explains(c[0], c[1], c[2])) return c;
    }
    return std::nullopt;
  }

  void add_rope_factors() {
    if (static_cast<int64_t>(facts_.rope_factors.size()) != head_dim_ / 2) {
      throw input_error(
          "{}: tensor rope_freqs.weight has {} numbers, expected {}: one for each "
          "pair that rotates",
          keys_.where(), facts_.rope_factors.size(), head_dim_ / 2);
    }
    for (const float f : facts_.rope_factors) {
      if (!std::isfinite(f) || f <= 0)
        throw input_error("{}: tensor rope_freqs.weight has the value {}, expected positive ones",
                          keys_.where(), f);
    }
    if (const auto found = solve_llama3()) {
      c_["rope_scaling"] = {
          {"rope_type", "llama3"},
          {"factor", (*found)[0]},
          {"low_freq_factor", 1.0},
          {"high_freq_factor", (*found)[1]},
          {"original_max_position_embeddings", static_cast<int64_t>((*found)[2])}};
      return;
    }
    Json factors = Json::array();
    for (const float f : facts_.rope_factors) factors.push_back(decimal(f));
    c_["rope_scaling"] = {{"rope_type", "longrope"},
                          {"short_factor", factors},
                          {"long_factor", factors},
                          {"attention_factor", 1.0},
                          {"original_max_position_embeddings", c_["max_position_embeddings"]}};
    notes_.push_back(fmt::format(
        "{}: rope_freqs.weight has factors that Llama 3's rule does not give: config.json has them "
        "one by one (longrope)",
        keys_.where()));
  }

  // ---- what is left ----

  void note_unknown() {
    static constexpr std::array<std::string_view, 3> kHarmless = {
        "tensor_data_layout", "rope.scaling.finetuned", "expert_shared_count"};
    std::vector<std::string> unread = keys_.unread();
    std::erase_if(unread, [&](const std::string& key) {
      return std::ranges::any_of(kHarmless,
                                 [&](std::string_view k) { return key == keys_.own(k); });
    });
    if (!unread.empty()) {
      notes_.push_back(fmt::format("{}: left out, since {} has no such setting here: {}",
                                   keys_.where(), type_, some_of(unread, 8)));
    }
  }

  const GgufKeys& keys_;
  std::string_view type_;
  bool normalizes_;
  const GgufTensorFacts& facts_;
  int64_t head_dim_ = 0;
  double theta_ = 0;
  Json c_ = Json::object();
  std::vector<std::string> notes_;
};

// The model types that are read, and transformers' classes of them.
constexpr std::array<std::pair<std::string_view, std::string_view>, 6> kClasses = {
    {{"llama", "LlamaForCausalLM"},
     {"mixtral", "MixtralForCausalLM"},
     {"qwen2", "Qwen2ForCausalLM"},
     {"qwen2_moe", "Qwen2MoeForCausalLM"},
     {"qwen3", "Qwen3ForCausalLM"},
     {"qwen3_moe", "Qwen3MoeForCausalLM"}}};

std::optional<std::string_view> class_of(std::string_view model_type) {
  for (const auto& [type, name] : kClasses) {
    if (type == model_type) return name;
  }
  return std::nullopt;
}

}  // namespace

const GgufArchitecture& model_type_of(const GgufKeys& keys) {
  const bool mixture = keys.find_count(keys.own("expert_count")).value_or(0) > 0;
  for (const GgufArchitecture& row : gguf_architectures()) {
    if (row.gguf == keys.architecture() && row.mixture == mixture && class_of(row.model_type))
      return row;
  }
  throw input_error(
      "{}: architecture '{}'{} is not read, only llama (also with experts), qwen2, qwen3, qwen2moe "
      "and qwen3moe are",
      keys.where(), keys.architecture(), mixture ? " with experts" : "");
}

ImportedConfig import_config(const GgufKeys& keys, const GgufArchitecture& architecture,
                             const GgufTensorFacts& facts) {
  return ConfigMaker(keys, architecture, facts).run(class_of(architecture.model_type).value());
}

}  // namespace lewis
