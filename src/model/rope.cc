#include "model/rope.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

namespace lewis {
namespace {

constexpr std::array<std::string_view, 7> kRopeKeys = {"rope_type",
                                                       "type",
                                                       "rope_theta",
                                                       "factor",
                                                       "low_freq_factor",
                                                       "high_freq_factor",
                                                       "original_max_position_embeddings"};

void check_keys(const ConfigReader& rope) {
  for (const auto& [key, value] : rope.json().items()) {
    const bool known = std::find(kRopeKeys.begin(), kRopeKeys.end(), key) != kRopeKeys.end();
    const bool neutral = value.is_null() || (key == "partial_rotary_factor" && value == 1.0);
    if (!known && !neutral) throw rope.refuse(key, "to be absent: it is not supported");
  }
}

// theta^(-2i / dim) in the steps of rounding that transformers takes.
std::vector<float> default_frequencies(double theta, int64_t dim) {
  std::vector<float> frequencies;
  for (int64_t i = 0; i < dim; i += 2) {
    const double exponent = static_cast<double>(i) / static_cast<double>(dim);
    frequencies.push_back(1.0f / static_cast<float>(std::pow(theta, exponent)));
  }
  return frequencies;
}

// Llama 3.1: long waves are slowed by `factor`, short ones kept, those between interpolated.
void scale_llama3(const ConfigReader& config, const ConfigReader& rope,
                  std::vector<float>& frequencies) {
  constexpr std::string_view kOriginal = "original_max_position_embeddings";
  const double factor = rope.positive("factor");
  const double low = rope.positive("low_freq_factor"), high = rope.positive("high_freq_factor");
  if (low >= high) throw rope.refuse("low_freq_factor", "less than high_freq_factor");
  const auto length =
      static_cast<double>(config.find(kOriginal) && !rope.find(kOriginal) ? config.size(kOriginal)
                                                                          : rope.size(kOriginal));
  for (float& f : frequencies) {
    const double frequency = f, wave = 2 * std::numbers::pi / frequency;
    const double smooth = std::clamp((length / wave - low) / (high - low), 0.0, 1.0);
    f = static_cast<float>((1 - smooth) * frequency / factor + smooth * frequency);
  }
}

}  // namespace

RopeSpec read_rope(const ConfigReader& config, int64_t rotary_dim, double default_theta) {
  const auto parameters = config.object("rope_parameters"), scaling = config.object("rope_scaling");
  if (parameters && scaling && parameters->json() != scaling->json()) {
    throw config.refuse("rope_scaling", "to be absent, as rope_parameters says something else");
  }
  const auto& rope = parameters ? parameters : scaling;
  const double theta = config.positive("rope_theta", default_theta);
  if (!rope) return {default_frequencies(theta, rotary_dim), 1};

  const std::string_view type_key =
      rope->find("rope_type") || !rope->find("type") ? "rope_type" : "type";
  const std::string type = rope->text(type_key, "default");
  if (type != "default" && type != "linear" && type != "llama3") {
    throw rope->refuse(type_key, "one of default, linear, llama3");
  }
  check_keys(*rope);
  RopeSpec spec{default_frequencies(rope->positive("rope_theta", theta), rotary_dim), 1};
  if (type == "linear") {
    const auto factor = static_cast<float>(rope->positive("factor"));
    for (float& f : spec.inverse_frequency) f /= factor;
  } else if (type == "llama3") {
    scale_llama3(config, *rope, spec.inverse_frequency);
  }
  return spec;
}

}  // namespace lewis
