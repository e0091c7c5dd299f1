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
#include <utility>
#include <vector>

#include "base/column_factors.h"
#include "base/random.h"
#include "base/tensor.h"
#include "base/threads.h"
#include "merge/parameter_values.h"

namespace lewis {

// Prefetches the stored elements that follow a piece of an input. Pieces are too short for the
// processor to detect the stream by itself, and prefetching all lines at once stalls it. So a
// kernel asks for a few at a time while it works on the piece before.
class Ahead {
 public:
  static constexpr size_t kStep = 32;  // elements that are asked for at once

  Ahead() = default;  // prefetches nothing
  Ahead(const std::byte* at, size_t element_bytes) : at_(at), element_bytes_(element_bytes) {}

  // Prefetches elements [i, i + kStep).
  [[gnu::always_inline]] inline void ask(size_t i) const {
    if (!at_) return;
    __builtin_prefetch(at_ + i * element_bytes_);
    if (kStep * element_bytes_ > kLine) __builtin_prefetch(at_ + i * element_bytes_ + kLine);
  }
  void ask(size_t begin, size_t end) const {
    for (size_t i = begin; i < end; i += kStep) ask(i);
  }

 private:
  static constexpr size_t kLine = 64;
  const std::byte* at_ = nullptr;
  size_t element_bytes_ = 0;
};

// Elements [first, first + size()) of every input of one tensor, widened to float. At most
// kChunkElements, so that a chunk and what a method makes of it stay in the fastest cache.
constexpr size_t kChunkElements = 512;
struct Chunk {
  int64_t first = 0;
  std::span<const float> base;                 // empty when the recipe has no base model
  std::vector<std::span<const float>> models;  // the models to merge, in recipe order, without
                                               // the base where the method takes a base apart
  std::span<float> scratch;                    // [models, size()], room to work in
  mutable std::vector<Ahead> ahead;            // [models], prefetches what follows in each

  // Hands the prefetching of a model to the kernel that calls this.
  Ahead take_ahead(size_t model) const { return std::exchange(ahead[model], {}); }
  size_t size() const { return models.empty() ? base.size() : models[0].size(); }
};

// One model's values of the parameters for this tensor, and its random numbers.
struct ModelParameters : ParameterValues {
  ModelParameters() = default;
  explicit ModelParameters(const TensorRandom& numbers) : random(numbers) {}

  TensorRandom random;
  // Factors of the magnitudes by which entries are ranked; null: all are 1.
  const ColumnFactors* trim_factors = nullptr;
};

// All that a method knows about a tensor before it sees numbers. Its own values are those of the
// parameters of the whole merge.
struct TensorTask : ParameterValues {
  std::string_view name;
  Shape shape;
  int64_t count = 0;                    // elements
  std::vector<ModelParameters> models;  // as in Chunk::models
  // Places in `models` in the order of the models' names, for sums that must not depend on the
  // order in the recipe; empty: that order.
  std::vector<size_t> by_name;
  std::string_view result = "the result";  // for messages
  // Factors that result - base is multiplied by; null: none. Methods need not look at them.
  const ColumnFactors* relaxation = nullptr;

  // A row lies along the last dimension; a scalar or a vector is one row.
  int64_t columns() const { return shape.size() < 2 ? count : shape.back(); }
  int64_t rows() const { return count == 0 ? 0 : count / columns(); }
};

// Streams the tensor through `see(slot, chunk)`. A slot is a range of elements whose bounds do not
// depend on the number of threads; its chunks come in order on one thread, different slots come in
// parallel. A method that reduces keeps one result per slot and combines them in slot order. Where
// the method is row_wise, slots hold whole rows (chunks need not).
class ChunkPass {
 public:
  using See = std::function<void(size_t slot, const Chunk& chunk)>;
  virtual ~ChunkPass() = default;
  virtual size_t slots() const = 0;
  virtual int64_t slot_elements() const = 0;  // of every slot but the last
  virtual bool has_base() const = 0;
  virtual Threads& threads() const = 0;  // of a survey that computes outside of the streaming
  // Streams the slots that are listed, or all of them.
  virtual void run(std::span<const size_t> slots, const See& see) const = 0;
  void run_all(const See& see) const;
};

// The result of a survey of the whole tensor; each method derives its own.
struct Survey {
  virtual ~Survey() = default;
  // Set: the result is this model's tensor (kBaseItself: the base's), bit for bit.
  static constexpr int kBaseItself = -1;
  std::optional<int> copy_of;
};

// How a method treats the recipe's base model.
enum class BaseRole {
  kApart,     // the method needs a base, apart from the models
  kOptional,  // the method takes a base apart from the models if the recipe has one
  kWeighted,  // the base is a model like others where it has a weight; else it is not merged
  kModel,     // the base is a model like others
};

struct MergeMethod {
  std::string_view name;
  BaseRole base = BaseRole::kApart;
  size_t min_models = 1, max_models = SIZE_MAX;  // not counting a base that is taken apart
  std::string_view about;  // docs/methods.md: sentences that say what the result is
  std::string_view paper;  // docs/methods.md: where the method is described; empty: nowhere
  // The parameters that it reads, of each model and of the whole merge; a recipe that has others
  // gets a note.
  std::vector<MethodParameter> model_parameters, whole_parameters;
  std::unique_ptr<Survey> (*survey)(const TensorTask& task, const ChunkPass& pass) = nullptr;
  // out: chunk.size() floats.
  void (*blend)(const TensorTask& task, const Survey& survey, const Chunk& chunk,
                std::span<float> out) = nullptr;
  // Blends several merges of the same models from one chunk; `out`: [surveys, chunk.size()]. The
  // bits are those of `blend` with each survey alone. Null: `blend` is called for each.
  void (*blend_all)(std::span<const Survey* const> surveys, const Chunk& chunk,
                    std::span<float> out) = nullptr;
  // Fills rows, [models, chunk.size()], with the task vectors (model - base) after trimming and
  // before any weight; entries that are dropped are 0. Null: the method trims nothing.
  void (*trim)(const TensorTask& task, const Survey& survey, const Chunk& chunk,
               std::span<float> rows) = nullptr;
  // Whether slots must hold whole rows; null: never.
  bool (*row_wise)(const TensorTask& task) = nullptr;
  // Whether the method ranks entries of task vectors, by magnitudes times trim_factors.
  bool reads_trim_factors = false;
  // How many matrices of doubles of a linear layer's size a survey holds at once; null: none.
  size_t (*matrices_held)(size_t models) = nullptr;

  bool reads(std::string_view parameter) const;
};

// Throws Error(kUsage) with the nearest name when there is no method of that name.
const MergeMethod& find_merge_method(std::string_view name);
std::vector<std::string_view> merge_method_names();

// Gives the parameters that the task lacks the method's defaults.
void set_defaults(const MergeMethod& method, TensorTask& task);

}  // namespace lewis
