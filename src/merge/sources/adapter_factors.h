// The thin matrices of an adapter, which are read when the tensor that they change is read.
#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "io/safetensors.h"
#include "merge/sources/adapter_config.h"
#include "merge/sources/adapter_experts.h"
#include "merge/sources/low_rank.h"

namespace lewis {

// The place of the factors of one module in the adapter's file, and how they become products. The
// entries belong to that file.
struct FactorPlaces {
  const SafetensorsFile::Entry* a = nullptr;  // [rank, in]; null for a bias: its left factor is 1
  const SafetensorsFile::Entry* b = nullptr;  // [out, rank]; the values of a bias
  int64_t rank = 1;
  float scale = 1;
  bool mlx = false;  // a is [in, rank], b [rank, out]
  bool outputs_are_columns = false;
  Misreading misreading = Misreading::kNone;
  // PEFT's stacked experts: a is [experts * rank, in], b [out, rank * experts]. The tensors that
  // hold them are its parts (their `tensor` is not used here).
  std::optional<WrappedParameter> experts;
  bool inputs_are_rows = false;  // of the experts
};

// Reads the products: one vector per tensor that the module changes, in the order of
// experts->parts, each with one product, or one per expert of the tensor.
std::vector<std::vector<LowRank>> read_factors(const SafetensorsFile& file,
                                               const FactorPlaces& places);

// The values of a tensor as floats. Its dtype must be one of F32, F16 and BF16.
std::vector<float> read_values(const SafetensorsFile& file, const SafetensorsFile::Entry& entry);

// Returns whether all values of such a tensor are finite. Holds a small piece of it.
bool values_are_finite(const SafetensorsFile& file, const SafetensorsFile::Entry& entry);

// Products of the modules that were asked for last. A tensor is read piece by piece, from several
// threads, and the experts of a layer, which share two modules, are read in turns: the modules that
// are kept are enough to read none of them twice.
class FactorCache {
 public:
  static constexpr size_t kKept = 4;

  explicit FactorCache(std::shared_ptr<const SafetensorsFile> file) : file_(std::move(file)) {}

  // The products of one tensor of a module, read if they are not kept. `places` must outlive the
  // cache. From any thread; who asks for what another reads waits for it.
  std::shared_ptr<const std::vector<LowRank>> get(const FactorPlaces& places, size_t part) const;

  // The bytes that the cache takes at most while modules of this size are read.
  static uint64_t memory(const FactorPlaces& places);

  const SafetensorsFile& file() const { return *file_; }

 private:
  struct Module {
    const FactorPlaces* places;
    std::once_flag once;
    std::vector<std::vector<LowRank>> products;
  };

  std::shared_ptr<const SafetensorsFile> file_;
  mutable std::mutex mutex_;
  mutable std::list<std::shared_ptr<Module>> modules_;  // the last that was asked for is the first
};

}  // namespace lewis
