// The seam of merge methods: survey what needs the whole tensor, then blend piece by piece. A
// method sees numbers, weights, density and a random source; no files, threads or dtypes.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "base/tensor.h"

namespace lewis {

// Elements [first, first + size()) of every input of one tensor, widened to float. At most
// kChunkElements, so that a chunk and what a method makes of it stay in the fastest cache.
constexpr size_t kChunkElements = 1024;
struct Chunk {
  int64_t first = 0;
  std::span<const float> base;                 // empty when the recipe has no base model
  std::vector<std::span<const float>> models;  // the models to merge, in recipe order, without
                                               // the base where the method takes a base apart
  std::span<float> scratch;                    // [models, size()] to work in
  size_t size() const { return models.empty() ? base.size() : models[0].size(); }
};

// One model's values of the parameters for this tensor, and its random numbers.
struct ModelParameters {
  double weight = 1, density = 1;
  TensorRandom random;
};

// What a method knows of a tensor before it sees numbers.
struct TensorTask {
  std::string_view name;
  Shape shape;
  int64_t count = 0;                    // elements
  std::vector<ModelParameters> models;  // as in Chunk::models
  double lambda = 1;
  std::optional<bool> normalize, rescale;  // unset: the method's default
};

// Streams the tensor through `see(slot, chunk)`. A slot is a range of elements whose bounds do not
// depend on the number of threads; its chunks come in order on one thread, different slots come in
// parallel. A method that reduces keeps one result per slot and combines them in slot order.
class ChunkPass {
 public:
  using See = std::function<void(size_t slot, const Chunk& chunk)>;
  virtual ~ChunkPass() = default;
  virtual size_t slots() const = 0;
  // Only the slots that are listed, or all of them.
  virtual void run(std::span<const size_t> slots, const See& see) const = 0;
  void run_all(const See& see) const;
};

// What survey found out; each method derives its own.
struct Survey {
  virtual ~Survey() = default;
  // Set: the result is this model's tensor (kBaseItself: the base's), bit for bit.
  static constexpr int kBaseItself = -1;
  std::optional<int> copy_of;
};

struct MergeMethod {
  std::string_view name;
  bool needs_base = false;  // refuses recipes without base_model, and takes
                            // the base apart from the models
  bool uses_density = false;
  std::unique_ptr<Survey> (*survey)(const TensorTask& task, const ChunkPass& pass) = nullptr;
  // out: chunk.size() floats.
  void (*blend)(const TensorTask& task, const Survey& survey, const Chunk& chunk,
                std::span<float> out) = nullptr;
};

// Throws Error(kUsage) with the nearest name when there is no method of that name.
const MergeMethod& find_merge_method(std::string_view name);
std::vector<std::string_view> merge_method_names();

}  // namespace lewis
