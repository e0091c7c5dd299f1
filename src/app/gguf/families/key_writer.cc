#include "app/gguf/families/key_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"
#include "base/json.h"
#include "model/rope.h"

namespace lewis {

void KeyWriter::write() {
  e_.metadata["general.architecture"] = std::string(architecture.gguf);
  write_sizes();
  if (architecture.mixture) write_experts();
  write_rope();
  write_windows();
  if (architecture.write_own) architecture.write_own(*this);
}

void KeyWriter::set(std::string_view key, GgufValue value) {
  e_.metadata[fmt::format("{}.{}", architecture.gguf, key)] = std::move(value);
}

void KeyWriter::set_count(std::string_view key, int64_t value) {
  set(key, static_cast<uint32_t>(value));
}

void KeyWriter::remove(std::string_view key) {
  e_.metadata.erase(fmt::format("{}.{}", architecture.gguf, key));
}

void KeyWriter::make(std::string name, std::vector<float> values) {
  e_.made.push_back({std::move(name), std::move(values)});
}

void KeyWriter::note(std::string text) { e_.notes.push_back(std::move(text)); }

const Json* KeyWriter::find(std::string_view key) const {
  const auto found = config.find(key);
  return found == config.end() || found->is_null() ? nullptr : &*found;
}

double KeyWriter::number(const Json& json, std::string_view key) const {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_number())
    throw input_error("{}: {} is no number", file, key);
  return found->get<double>();
}

const Json& KeyWriter::rope() const {
  static const Json none = Json::object();
  const Json* all = find("rope_parameters");
  if (!all) all = find("rope_scaling");
  if (!all || !all->is_object()) return none;
  const auto full = all->find("full_attention");
  return full != all->end() && full->is_object() ? *full : *all;
}

std::string KeyWriter::rope_type() const {
  std::string type = "default";
  for (const char* key : {"type", "rope_type"}) {
    const auto found = rope().find(key);
    if (found != rope().end() && found->is_string()) type = found->get<std::string>();
  }
  return type;
}

int64_t KeyWriter::original_length() const {
  constexpr std::string_view kKey = "original_max_position_embeddings";
  const bool in_rope = rope().contains(kKey) || !has(kKey);
  return static_cast<int64_t>(number(in_rope ? rope() : config, kKey));
}

Error KeyWriter::refuse(std::string_view words) const { return input_error("{}: {}", file, words); }

void KeyWriter::expect_attention_scale(double expected) const {
  if (std::abs(spec.attention_scale / expected - 1) < 1e-5) return;
  throw refuse(
      fmt::format("scores of attention are multiplied by {:.6g}, llama.cpp runs {} with "
                  "{:.6g} only",
                  spec.attention_scale, spec.model_type, expected));
}

void KeyWriter::expect_width_of_rope(int64_t expected) const {
  const auto width = static_cast<int64_t>(2 * spec.ropes.at(0).inverse_frequency.size());
  if (width == expected) return;
  throw refuse(fmt::format("{} numbers of a head rotate, llama.cpp runs {} with {} only", width,
                           spec.model_type, expected));
}

void KeyWriter::write_sizes() {
  set_count("block_count", spec.layers);
  set_count("context_length", spec.max_positions);
  set_count("embedding_length", spec.hidden);
  set_count("feed_forward_length", spec.intermediate);
  set_count("attention.head_count", spec.heads);
  set_count("attention.head_count_kv", spec.kv_heads);
  set(spec.norm.kind == NormKind::kRms ? "attention.layer_norm_rms_epsilon"
                                       : "attention.layer_norm_epsilon",
      spec.norm.epsilon);
  const bool other_heads = spec.head_dim * spec.heads != spec.hidden;
  if (!architecture.head_sizes && other_heads) {
    throw refuse(fmt::format("{} heads of {} numbers, llama.cpp runs {} with hidden_size = {} only",
                             spec.heads, spec.head_dim, spec.model_type, spec.hidden));
  }
  if (architecture.head_sizes && (has("head_dim") || other_heads)) {
    set_count("attention.key_length", spec.head_dim);
    set_count("attention.value_length", spec.head_dim);
  }
  if (!architecture.neighbours) return;
  set_count("vocab_size", spec.vocab);
  set_count("rope.dimension_count", spec.head_dim);
}

void KeyWriter::write_experts() {
  const ExpertsSpec& experts = spec.experts;
  set_count("expert_count", experts.count);
  set_count("expert_used_count", experts.chosen);
  if (architecture.gguf == "llama") return;
  set_count("expert_feed_forward_length", experts.intermediate);
  if (experts.shared_intermediate > 0)
    set_count("expert_shared_feed_forward_length", experts.shared_intermediate);
  if (experts.normalize == architecture.normalizes) return;
  throw refuse(fmt::format("norm_topk_prob is {}, llama.cpp runs {} with {} only",
                           experts.normalize, spec.model_type, architecture.normalizes));
}

void KeyWriter::write_rope() {
  set("rope.freq_base", static_cast<float>(spec.ropes.at(0).theta));
  const std::string type = rope_type();
  if (type == "default") return;
  if (type == "llama3" && architecture.neighbours) return write_divisors();
  if ((type == "longrope" || type == "su") && architecture.gguf == "phi3") return;  // own keys
  if (type != "linear" && type != "yarn") {
    throw refuse(
        fmt::format("rope of type '{}' is not written as GGUF for {}", type, spec.model_type));
  }
  set("rope.scaling.type", type);
  set("rope.scaling.factor", static_cast<float>(number(rope(), "factor")));
  if (type == "yarn") write_yarn(rope());
}

void KeyWriter::write_yarn(const Json& settings) {
  set_count("rope.scaling.original_context_length", original_length());
  struct Setting {
    const char *key, *name;
  };
  for (const auto& [key, name] : {Setting{"extrapolation_factor", "yarn_ext_factor"},
                                  {"attn_factor", "yarn_attn_factor"},
                                  {"attention_factor", "yarn_attn_factor"},
                                  {"beta_fast", "yarn_beta_fast"},
                                  {"beta_slow", "yarn_beta_slow"}}) {
    if (settings.contains(key) && !settings[key].is_null())
      set(fmt::format("rope.scaling.{}", name), static_cast<float>(number(settings, key)));
  }
}

// llama.cpp divides the plain frequencies by these (Llama 3.1): by nothing at short wavelengths, by
// the factor at long ones, in between by a mean. In the steps of rounding that the converter of
// llama.cpp takes.
void KeyWriter::write_divisors() {
  const Json& settings = rope();
  const auto of = [&](const char* key) { return static_cast<float>(number(settings, key)); };
  const float factor = of("factor"), low = of("low_freq_factor"), high = of("high_freq_factor");
  const auto length = static_cast<float>(original_length());
  std::vector<float> divisors = default_frequencies(spec.ropes.at(0).theta, spec.head_dim);
  for (float& x : divisors) {
    const float wavelength = 1 / x * static_cast<float>(2 * std::numbers::pi);
    const float smooth = (1 / wavelength * length - low) / (high - low);
    x = wavelength < length / high  ? 1
        : wavelength > length / low ? factor
                                    : 1 / ((1 - smooth) / factor + smooth);
  }
  make("rope_freqs.weight", std::move(divisors));
}

// llama.cpp takes layers with a window by a rule of the architecture; where the model's are others,
// the file lists them.
void KeyWriter::write_windows() {
  int64_t window = 0;
  bool by_rule = true;
  GgufArray listed{.type = 7};  // bool
  for (int64_t i = 0; i < spec.layers; ++i) {
    const int64_t own = spec.layer[static_cast<size_t>(i)].window;
    const bool all = architecture.window_period > 0 && (i + 1) % architecture.window_period == 0;
    by_rule = by_rule && (own == 0) == all;
    window = std::max(window, own);
    listed.numbers.push_back(std::byte{own != 0});
  }
  if (architecture.window_period == 0) {
    if (window > 0) {
      note(fmt::format("{}: sliding_window {}: llama.cpp lets this architecture see all of a text",
                       file, window));
    }
    return;
  }
  if (window == 0) {
    throw refuse(
        fmt::format("no layer has a window, llama.cpp runs {} with windows only", spec.model_type));
  }
  set_count("attention.sliding_window", window);
  if (!by_rule) set("attention.sliding_window_pattern", std::move(listed));
  if (spec.ropes.size() > 1) {
    set("rope.freq_base_swa", static_cast<float>(spec.ropes[1].theta));
  }
}

}  // namespace lewis
