// One tensor of several models in memory, merged by a method.
#pragma once

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "merge/tensor/merge_tensor.h"

namespace lewis {

// Shows the ranges that it is asked for, never more than a block.
class BlockInputs final : public TensorInputs {
 public:
  BlockInputs(std::vector<StoredTensor> tensors, int64_t block)
      : whole_(std::move(tensors)), block_(block) {}
  int64_t block_elements() const override { return block_; }
  void visit(std::span<const ElementRange> ranges, const Use& use) const override {
    whole_.visit(ranges, use);
  }

 private:
  MemoryInputs whole_;
  int64_t block_;
};

struct TestTensor {
  std::vector<float> base;  // empty: none
  std::vector<std::vector<float>> models;
  TensorTask task;

  explicit TestTensor(size_t count, size_t model_count, uint64_t seed = 0) {
    task.name = "model.layers.0.mlp.up_proj.weight";
    task.shape = {static_cast<int64_t>(count)};
    task.count = static_cast<int64_t>(count);
    base.resize(count);
    models.assign(model_count, std::vector<float>(count));
    task.set("lambda", 1);
    for (size_t m = 0; m < model_count; ++m) {
      ModelParameters& p = task.models.emplace_back(TensorRandom(seed, m, task.name));
      p.set("weight", 1);
      p.set("density", 1);
      p.set("gamma", 0.01);
      p.set("epsilon", 0.15);
      p.set("scale", 1);
    }
  }

  StoredTensor stored(const std::vector<float>& values) const {
    return {DType::kF32, std::as_bytes(std::span(values)), "model"};
  }

  std::vector<float> merge(std::string_view method, size_t thread_count = 2) const {
    return run(method, find_merge_method(method).base == BaseRole::kApart, thread_count);
  }
  // The task with the method's defaults for what a test did not set.
  TensorTask task_of(const MergeMethod& method) const {
    TensorTask all = task;
    set_defaults(method, all);
    return all;
  }
  // In blocks of so many elements, as of a tensor that does not fit in memory.
  std::vector<float> merge_in_blocks(std::string_view method, int64_t block) const {
    const MergeMethod& how = find_merge_method(method);
    const bool with_base = how.base == BaseRole::kApart;
    std::vector<StoredTensor> inputs;
    for (const auto& m : models) inputs.push_back(stored(m));
    if (with_base) inputs.push_back(stored(base));
    std::vector<float> out(base.size());
    MemoryOutput output(std::as_writable_bytes(std::span(out)), sizeof(float));
    Threads threads(2);
    merge_tensor(how, task_of(how), BlockInputs(inputs, block), with_base, DType::kF32, output,
                 threads);
    return out;
  }
  // Methods that take a base apart if there is one.
  std::vector<float> merge_with_base(std::string_view method) const { return run(method, true, 2); }

 private:
  std::vector<float> run(std::string_view method, bool with_base, size_t thread_count) const {
    Threads threads(thread_count);
    std::vector<float> out(base.size());
    std::vector<StoredTensor> inputs;
    for (const auto& m : models) inputs.push_back(stored(m));
    const StoredTensor base_input = stored(base);
    const MergeMethod& how = find_merge_method(method);
    merge_tensor(how, task_of(how), with_base ? &base_input : nullptr, inputs, DType::kF32,
                 std::as_writable_bytes(std::span(out)), threads);
    return out;
  }
};

// How values of test tensors are spread.
enum class Spread {
  kNormal,
  kHeavyTies,
  kTiny,  // denormal
  kMostlyZero,
  kSorted,
  kFewRows,    // a few rows dwarf the others
  kUnchanged,  // the models are the base
  kOneGiant,   // every thousandth entry dwarfs the others
};

// A base of normal values and models = base + delta, delta spread as said. Like a bf16
// checkpoint's, deltas of kHeavyTies take a few values only.
inline void fill(TestTensor& t, Spread spread, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  const size_t n = t.base.size();
  const bool no_base = spread == Spread::kTiny || spread == Spread::kOneGiant;
  for (float& b : t.base) b = no_base ? 0.0f : std::round(normal(random) * 64) / 64;
  for (auto& model : t.models) {
    for (size_t i = 0; i < n; ++i) {
      const float g = normal(random);
      float delta = 0;
      switch (spread) {
        case Spread::kNormal:
          delta = g;
          break;
        case Spread::kHeavyTies:
          delta = std::round(g * 2) / 32;
          break;
        case Spread::kTiny:
          delta = g * 1e-40f;
          break;
        case Spread::kMostlyZero:
          delta = random() % 50 == 0 ? g : 0.0f;
          break;
        case Spread::kSorted:
          delta = static_cast<float>(i) * 1e-3f;
          break;
        case Spread::kFewRows:
          delta = i / 1000 % 97 == 13 ? g : g * 1e-6f;
          break;
        case Spread::kUnchanged:
          break;
        case Spread::kOneGiant:
          delta = i % 1000 == 3 ? g : g * 1e-9f;
          break;
      }
      model[i] = t.base[i] + delta;
    }
  }
}

}  // namespace lewis
