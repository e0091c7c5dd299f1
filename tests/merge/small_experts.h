// One layer of routed experts, written by hand in every way in which models store them.
#pragma once

#include <random>

#include "small_models.h"

namespace lewis {

inline constexpr int64_t kExperts = 4, kInner = 4, kHidden = 6;
inline const std::string kMlp = "model.layers.0.mlp.";

enum class Kind { kSplit, kMixtral, kFused, kTransposed, kInterleaved };

struct Stored {
  Values values;
  std::map<std::string, Shape> shapes;
};

// One expert's matrices, in the order of rows.
struct Expert {
  std::vector<float> gate, up, down;  // [inner, hidden], [inner, hidden], [hidden, inner]
  std::vector<float> router = std::vector<float>(kHidden, 1);  // its row
};

inline std::vector<Expert> random_experts(unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<Expert> experts(kExperts);
  for (Expert& e : experts) {
    for (auto* matrix : {&e.gate, &e.up, &e.down}) {
      for (int64_t i = 0; i < kInner * kHidden; ++i)
        matrix->push_back(std::round(normal(random) * 64) / 64);
    }
  }
  return experts;
}

inline void add(Stored& stored, const std::string& name, const std::vector<float>& values,
                Shape shape) {
  stored.values[name] = values;
  stored.shapes[name] = std::move(shape);
}

// Element (r, c) of [gate; up], or of both in turns.
inline float gate_up(const Expert& e, int64_t r, int64_t c, bool turns) {
  const bool up = turns ? r % 2 == 1 : r >= kInner;
  const int64_t row = turns ? r / 2 : r % kInner;
  return (up ? e.up : e.gate)[static_cast<size_t>(row * kHidden + c)];
}

inline void add_fused(Stored& stored, const std::vector<Expert>& experts, bool transposed,
                      bool turns) {
  std::vector<float> first, down;
  for (const Expert& e : experts) {
    const int64_t rows = 2 * kInner;
    for (int64_t i = 0; i < rows * kHidden; ++i) {
      first.push_back(transposed ? gate_up(e, i % rows, i / rows, turns)
                                 : gate_up(e, i / kHidden, i % kHidden, turns));
    }
    for (int64_t i = 0; i < kInner * kHidden; ++i) {
      const int64_t at = transposed ? (i % kHidden) * kInner + i / kHidden : i;
      down.push_back(e.down[static_cast<size_t>(at)]);
    }
  }
  add(stored, kMlp + "experts.gate_up_proj", first,
      transposed ? Shape{kExperts, kHidden, 2 * kInner} : Shape{kExperts, 2 * kInner, kHidden});
  add(stored, kMlp + "experts.down_proj", down,
      transposed ? Shape{kExperts, kInner, kHidden} : Shape{kExperts, kHidden, kInner});
}

inline Stored stored_as(Kind kind, const std::vector<Expert>& experts) {
  Stored stored;
  const bool old = kind == Kind::kMixtral;
  std::vector<float> router;
  for (const Expert& e : experts) router.insert(router.end(), e.router.begin(), e.router.end());
  add(stored, old ? "model.layers.0.block_sparse_moe.gate.weight" : kMlp + "gate.weight", router,
      {kExperts, kHidden});
  if (kind != Kind::kSplit && !old) {
    add_fused(stored, experts, kind != Kind::kFused, kind == Kind::kInterleaved);
    return stored;
  }
  for (int64_t e = 0; e < kExperts; ++e) {
    const Expert& x = experts[static_cast<size_t>(e)];
    const std::string place =
        fmt::format("model.layers.0.{}.experts.{}.", old ? "block_sparse_moe" : "mlp", e);
    add(stored, place + (old ? "w1" : "gate_proj") + ".weight", x.gate, {kInner, kHidden});
    add(stored, place + (old ? "w3" : "up_proj") + ".weight", x.up, {kInner, kHidden});
    add(stored, place + (old ? "w2" : "down_proj") + ".weight", x.down, {kHidden, kInner});
  }
  return stored;
}

inline Json config_of(Kind kind) {
  const char* type = kind == Kind::kMixtral       ? "mixtral"
                     : kind == Kind::kInterleaved ? "gpt_oss"
                                                  : "qwen3_moe";
  return {{"model_type", type}, {"hidden_size", kHidden}, {"num_hidden_layers", 1}};
}

}  // namespace lewis
