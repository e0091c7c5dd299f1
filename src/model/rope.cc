// Formulas: RoFormer (Su et al., arXiv 2104.09864); linear: position interpolation (Chen et al.,
// arXiv 2306.15595); dynamic: NTK-aware scaling; yarn (Peng et al., arXiv 2309.00071); longrope
// (Ding et al., arXiv 2402.13753); llama3: Llama 3.1's release. Steps of rounding as in
// transformers.
#include "model/rope.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "base/json.h"

namespace lewis {
namespace {

constexpr std::string_view kOriginal = "original_max_position_embeddings";

// A rope that is being read.
struct RopeInput {
  const ConfigReader& config;
  const ConfigReader& rope;
  double theta;
  int64_t dim;  // of a head, that rotates
  int64_t head_dim;
  double share;  // of a head, that rotates

  double positions() const { return static_cast<double>(config.size("max_position_embeddings")); }
  // The length of the training texts: beside the rope's keys (Phi-3) or among them.
  double original() const {
    const bool outside = config.find(kOriginal), inside = rope.find(kOriginal);
    if (!outside && !inside) return positions();
    const int64_t length = outside ? config.size(kOriginal) : rope.size(kOriginal);
    if (inside && rope.size(kOriginal) != length) {
      throw rope.refuse(kOriginal, fmt::format("{}, as beside the rope's keys", length));
    }
    return static_cast<double>(length);
  }
};

constexpr std::string_view kProportional = "proportional";

// theta^(2i / dim) in the steps of rounding that transformers takes.
std::vector<float> powers(double theta, int64_t dim) {
  std::vector<float> result;
  for (int64_t i = 0; i < dim; i += 2) {
    const double exponent = static_cast<double>(i) / static_cast<double>(dim);
    result.push_back(static_cast<float>(std::pow(theta, exponent)));
  }
  return result;
}

}  // namespace

std::vector<float> default_frequencies(double theta, int64_t dim) {
  std::vector<float> frequencies = powers(theta, dim);
  for (float& f : frequencies) f = 1.0f / f;
  return frequencies;
}

namespace {

void read_default(const RopeInput& in, RopeSpec& spec) {
  spec.inverse_frequency = default_frequencies(in.theta, in.dim);
}

// Gemma 4: the frequencies of a whole head, the slowest of which are 0.
void read_proportional(const RopeInput& in, RopeSpec& spec) {
  const auto factor = static_cast<float>(in.rope.positive("factor", 1));
  const auto turning = static_cast<size_t>(in.share * static_cast<double>(in.head_dim) / 2);
  spec.inverse_frequency = default_frequencies(in.theta, in.head_dim);
  for (size_t i = 0; i < spec.inverse_frequency.size(); ++i) {
    float& f = spec.inverse_frequency[i];
    f = i < turning ? f / factor : 0.0f;
  }
}

void read_linear(const RopeInput& in, RopeSpec& spec) {
  spec.inverse_frequency = default_frequencies(in.theta, in.dim);
  const auto factor = static_cast<float>(in.rope.positive("factor"));
  for (float& f : spec.inverse_frequency) f /= factor;
}

void read_dynamic(const RopeInput& in, RopeSpec& spec) {
  spec.inverse_frequency = default_frequencies(in.theta, in.dim);
  spec.short_length = in.config.size("max_position_embeddings");
  spec.dynamic_factor = in.rope.positive("factor");
  if (in.dim <= 2) throw in.rope.refuse("rope_type", "another one for heads that rotate 2 values");
}

// Hunyuan: dynamic in name; its alpha stretches theta once and for all.
void read_alpha(const RopeInput& in, RopeSpec& spec) {
  const auto dim = static_cast<double>(in.dim);
  if (in.dim <= 2) throw in.rope.refuse("rope_type", "another one for heads that rotate 2 values");
  spec.inverse_frequency =
      default_frequencies(in.theta * std::pow(in.rope.positive("alpha"), dim / (dim - 2)), in.dim);
}

// Llama 3.1: long waves are slowed by `factor`, short ones kept, those between interpolated.
void read_llama3(const RopeInput& in, RopeSpec& spec) {
  spec.inverse_frequency = default_frequencies(in.theta, in.dim);
  const double factor = in.rope.positive("factor");
  const double low = in.rope.positive("low_freq_factor");
  const double high = in.rope.positive("high_freq_factor");
  if (low >= high) throw in.rope.refuse("low_freq_factor", "less than high_freq_factor");
  const double length = in.original();
  for (float& f : spec.inverse_frequency) {
    const double frequency = f, wave = 2 * std::numbers::pi / frequency;
    const double smooth = std::clamp((length / wave - low) / (high - low), 0.0, 1.0);
    f = static_cast<float>((1 - smooth) * frequency / factor + smooth * frequency);
  }
}

// Section 3.4: what the lengthened context does to the entropy of attention.
double yarn_attention_factor(const ConfigReader& rope, double factor) {
  const auto mscale = [&](double weight) {
    return factor <= 1 ? 1.0 : 0.1 * weight * std::log(factor) + 1.0;
  };
  if (rope.find("attention_factor")) return rope.positive("attention_factor");
  if (!rope.find("mscale") || !rope.find("mscale_all_dim")) return mscale(1);
  return mscale(rope.positive("mscale")) / mscale(rope.positive("mscale_all_dim"));
}

// Section 3.2: fast waves are kept, slow ones slowed by `factor`, a ramp between.
void read_yarn(const RopeInput& in, RopeSpec& spec) {
  const double original = in.original();
  const double factor = in.rope.positive("factor", in.positions() / original);
  const auto dim = static_cast<double>(in.dim);
  // The pair that turns `rotations` times within the original length.
  const auto pair_of = [&](double rotations) {
    return dim * std::log(original / (rotations * 2 * std::numbers::pi)) / (2 * std::log(in.theta));
  };
  double low = pair_of(in.rope.positive("beta_fast", 32));
  double high = pair_of(in.rope.positive("beta_slow", 1));
  if (in.rope.boolean("truncate", true)) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1);
  if (low == high) high += 0.001;
  spec.inverse_frequency = powers(in.theta, in.dim);
  const auto slowing = static_cast<float>(factor);
  for (size_t i = 0; i < spec.inverse_frequency.size(); ++i) {
    float& f = spec.inverse_frequency[i];
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    const auto slow = static_cast<float>(ramp);
    f = 1.0f / (slowing * f) * slow + 1.0f / f * (1.0f - slow);
  }
  spec.attention_factor = static_cast<float>(yarn_attention_factor(in.rope, factor));
}

std::vector<float> longrope_frequencies(const RopeInput& in, std::string_view key) {
  std::vector<float> frequencies = powers(in.theta, in.dim);
  const std::vector<double> factors = in.rope.numbers(key);
  if (factors.size() != frequencies.size()) {
    throw in.rope.refuse(key, fmt::format("{} numbers (it has {}): one for each pair that rotates",
                                          frequencies.size(), factors.size()));
  }
  for (size_t i = 0; i < factors.size(); ++i) {
    frequencies[i] = 1.0f / (static_cast<float>(factors[i]) * frequencies[i]);
  }
  return frequencies;
}

void read_longrope(const RopeInput& in, RopeSpec& spec) {
  spec.inverse_frequency = longrope_frequencies(in, "short_factor");
  spec.long_frequency = longrope_frequencies(in, "long_factor");
  const double original = in.original();
  spec.short_length = static_cast<int64_t>(original);
  const double factor = in.rope.positive("factor", in.positions() / original);
  const double attention = factor <= 1 ? 1 : std::sqrt(1 + std::log(factor) / std::log(original));
  spec.attention_factor = static_cast<float>(in.rope.positive("attention_factor", attention));
}

struct RopeType {
  std::string_view name;
  void (*read)(const RopeInput& in, RopeSpec& spec);
  std::array<std::string_view, 6> own_keys;  // besides kRopeKeys
};
constexpr RopeType kRopeTypes[] = {
    {"default", read_default, {}},
    {"linear", read_linear, {}},
    {kProportional, read_proportional, {}},
    {"dynamic", read_dynamic, {}},
    {"yarn",
     read_yarn,
     {"attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"}},
    {"longrope", read_longrope, {"attention_factor", "short_factor", "long_factor"}},
    {"su", read_longrope, {"attention_factor", "short_factor", "long_factor"}},  // its old name
    {"llama3", read_llama3, {"low_freq_factor", "high_freq_factor"}},
};
constexpr std::array<std::string_view, 6> kRopeKeys = {
    "rope_type", "type", "rope_theta", "factor", kOriginal, "partial_rotary_factor"};

bool is_listed(std::string_view key, std::string_view list) {
  return fmt::format(" {} ", list).find(fmt::format(" {} ", key)) != std::string::npos;
}

// Hunyuan writes the keys of yarn beside an alpha, without a meaning.
constexpr std::string_view kBesideAlpha = "alpha beta_fast beta_slow mscale mscale_all_dim";

void check_keys(const ConfigReader& rope, const RopeType& type, std::string_view own_keys) {
  for (const auto& [key, value] : rope.json().items()) {
    const bool known = std::ranges::find(kRopeKeys, key) != kRopeKeys.end() ||
                       std::ranges::find(type.own_keys, key) != type.own_keys.end() ||
                       is_listed(key, own_keys) ||
                       (is_listed("alpha", own_keys) && is_listed(key, kBesideAlpha));
    if (!known && !value.is_null()) {
      throw rope.refuse(key, fmt::format("to be absent: rope type {} does not know it", type.name));
    }
  }
}

const RopeType& find_type(const ConfigReader& rope, std::string_view own_keys) {
  const std::string_view key = rope.find("rope_type") || !rope.find("type") ? "rope_type" : "type";
  std::string name = rope.text(key, "default");
  if (name == "mrope" && is_listed("mrope_section", own_keys)) name = "default";
  const auto type = std::ranges::find(kRopeTypes, std::string_view(name), &RopeType::name);
  const bool strange = name == kProportional && !is_listed(kProportional, own_keys);
  if (type == std::end(kRopeTypes) || strange) {
    throw rope.refuse(key, "one of default, linear, dynamic, yarn, longrope, llama3");
  }
  return *type;
}

constexpr std::string_view kPartial = "partial_rotary_factor";

// Where the share of a head that rotates is written: among the rope's keys, or beside them.
const ConfigReader& place_of_share(const ConfigReader& config, const ConfigReader& rope) {
  return rope.find(kPartial) ? rope : config;
}

int64_t rotary_dim(const ConfigReader& where, double share, int64_t head_dim) {
  const auto dim = static_cast<int64_t>(static_cast<double>(head_dim) * share);
  if (share > 1 || dim < 2 || dim % 2 != 0) {
    throw where.refuse(kPartial, fmt::format("a share of head_dim {} that gives an even number of "
                                             "values",
                                             head_dim));
  }
  return dim;
}

}  // namespace

std::optional<ConfigReader> rope_object(const ConfigReader& config) {
  auto parameters = config.object("rope_parameters");
  auto scaling = config.object("rope_scaling");
  if (parameters && scaling && parameters->json() != scaling->json()) {
    throw config.refuse("rope_scaling", "to be absent, as rope_parameters says something else");
  }
  return parameters ? parameters : scaling;
}

RopeSpec read_rope(const ConfigReader& config, const std::optional<ConfigReader>& rope,
                   int64_t head_dim, double theta, std::string_view own_keys) {
  static const Json kNothing = Json::object();
  const ConfigReader object = rope ? *rope : ConfigReader(kNothing, config.file());
  const RopeType& type = find_type(object, own_keys);
  check_keys(object, type, own_keys);
  RopeSpec spec;
  const ConfigReader& where = place_of_share(config, object);
  const double share = where.positive(kPartial, 1);
  // Any share will do where all of a head rotates, some of it by nothing.
  const bool whole = type.name == kProportional && share <= 1;
  const RopeInput in = {config,
                        object,
                        object.positive("rope_theta", theta),
                        whole ? head_dim : rotary_dim(where, share, head_dim),
                        head_dim,
                        share};
  const bool fixed = type.name == "dynamic" && is_listed("alpha", own_keys) &&
                     object.find("alpha") && *object.find("alpha") != 0;
  spec.theta = in.theta;
  fixed ? read_alpha(in, spec) : type.read(in, spec);
  return spec;
}

float rope_attention_factor(const RopeSpec& rope, int64_t length) {
  const bool is_long = length > rope.short_length && rope.long_attention_factor != 0;
  return is_long ? rope.long_attention_factor : rope.attention_factor;
}

std::vector<float> rope_frequencies(const RopeSpec& rope, int64_t length) {
  if (length <= rope.short_length) return rope.inverse_frequency;
  if (!rope.long_frequency.empty()) return rope.long_frequency;
  const double factor = rope.dynamic_factor;
  const double stretch =
      factor * static_cast<double>(length) / static_cast<double>(rope.short_length) - (factor - 1);
  const auto dim = static_cast<int64_t>(2 * rope.inverse_frequency.size());
  const auto pairs = static_cast<double>(dim);
  return default_frequencies(rope.theta * std::pow(stretch, pairs / (pairs - 2)), dim);
}

bool rope_changes(const ModelSpec& spec, int64_t before, int64_t after) {
  return std::ranges::any_of(spec.ropes, [&](const RopeSpec& rope) {
    const bool dynamic = rope.long_frequency.empty();
    return after > rope.short_length && (dynamic || before <= rope.short_length);
  });
}

}  // namespace lewis
