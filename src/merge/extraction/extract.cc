#include "merge/extraction/extract.h"

#include <algorithm>
#include <cmath>

#include "base/dtype.h"
#include "base/error.h"
#include "base/human.h"
#include "base/random.h"
#include "io/compare.h"
#include "io/tied_head.h"
#include "merge/common/task_matrices.h"
#include "merge/extraction/low_rank_fit.h"
#include "merge/extraction/rank_choice.h"

namespace lewis {
namespace {

constexpr std::string_view kWeight = ".weight", kBias = ".bias", kPrefix = "base_model.model.";
constexpr size_t kNamesShown = 3;                   // names in a message
constexpr int64_t kFirstRank = 32, kTimesRank = 2;  // singular values that a choice begins with

std::string module_of(std::string_view tensor, std::string_view ending) {
  return std::string(tensor.substr(0, tensor.size() - ending.size()));
}

// Parameters that classes of transformers hold in modules of another kind than a linear layer.
bool is_router(std::string_view name) {
  return name.ends_with(".mlp.gate.weight") || name.ends_with(".block_sparse_moe.gate.weight") ||
         name.ends_with(".router.weight");
}
bool is_of_experts(std::string_view name) { return name.find(".experts.") != name.npos; }

class Extractor {
 public:
  Extractor(const TensorSource& base, const TensorSource& model, const ExtractOptions& options,
            Threads& threads)
      : base_(base), model_(model), options_(options), threads_(threads) {}

  ExtractedAdapter run() {
    sort_tensors();
    if (matrices_.empty() && whole_.empty()) {
      throw input_error("{} and {} have the same weights: there is nothing to extract",
                        base_.label(), model_.label());
    }
    if (!adapter_.left_out.empty() && !options_.partial) {
      throw input_error(
          "{}: {} changed, and a LoRA adapter cannot hold {}; --partial leaves {} as in {}",
          model_.label(), some_of(adapter_.left_out, kNamesShown),
          adapter_.left_out.size() == 1 ? "it" : "them",
          adapter_.left_out.size() == 1 ? "it" : "them", base_.label());
    }
    fit(choose_ranks());
    for (const TensorInfo* t : whole_) save(*t);
    save_tied_head();
    return std::move(adapter_);
  }

 private:
  void sort_tensors() {
    const HeadTensors head = find_head(model_.tensors());
    for (const TensorInfo& t : base_.tensors()) {
      if (!model_.find(t.name)) {
        throw input_error("tensor {} is in {} but not in {}", t.name, base_.label(),
                          model_.label());
      }
    }
    for (const TensorInfo& t : model_.tensors()) {
      const TensorInfo* before = base_.find(t.name);
      const bool vocabulary = (head.head && head.head->name == t.name) ||
                              (head.embedding && head.embedding->name == t.name);
      if (!before && head.head && head.head->name == t.name) {
        whole_.push_back(&t);
        continue;
      }
      if (!before) {
        throw input_error("tensor {} is in {} but not in {}", t.name, model_.label(),
                          base_.label());
      }
      if (before->shape != t.shape) {
        if (vocabulary && before->shape.size() == 2 && t.shape.size() == 2 &&
            before->shape[1] == t.shape[1] && before->shape[0] < t.shape[0]) {
          whole_.push_back(&t);
          continue;
        }
        throw input_error("tensor {} is {} in {}, but {} in {}", t.name, to_string(before->shape),
                          base_.label(), to_string(t.shape), model_.label());
      }
      sort_in(*before, t);
    }
  }

  void sort_in(const TensorInfo& before, const TensorInfo& t) {
    if (is_equal(before, t)) {
      ++adapter_.equal;
      if (t.name.ends_with(kWeight) && is_linear_layer(t.name, t.shape))
        adapter_.unchanged.push_back(module_of(t.name, kWeight));
      return;
    }
    const bool named = t.name.ends_with(kWeight) || t.name.ends_with(kBias);
    if (!named || is_of_experts(t.name) || !is_arithmetic(t.dtype) ||
        !is_arithmetic(before.dtype)) {
      adapter_.left_out.push_back(t.name);
    } else if (t.name.ends_with(kWeight) && is_linear_layer(t.name, t.shape) &&
               !is_router(t.name)) {
      matrices_.push_back(&t);
    } else {
      whole_.push_back(&t);
    }
  }

  bool is_equal(const TensorInfo& before, const TensorInfo& t) const {
    if (before.dtype == t.dtype) return same_bytes(base_, model_, t.name);
    if (!is_arithmetic(before.dtype) || !is_arithmetic(t.dtype)) return false;
    const TensorDifference d = compare_tensors(base_, model_, t.name, 0, threads_);
    return d.norm_difference == 0;
  }

  // The change of a linear layer as [outputs, inputs], with what its inputs are weighted by.
  struct Change {
    std::vector<float> values;
    std::vector<float> weights;
    int64_t rows = 0, columns = 0;
    FloatMatrix matrix() const { return {values.data(), rows, columns, columns}; }
  };
  Change change_of(const TensorInfo& t) const {
    Change change{model_.read_floats(t), {}, t.shape[0], t.shape[1]};
    const std::vector<float> before = base_.read_floats(base_.get(t.name));
    for (size_t i = 0; i < before.size(); ++i) change.values[i] -= before[i];
    if (options_.outputs_are_columns) {
      std::vector<float> turned(change.values.size());
      for (int64_t r = 0; r < change.rows; ++r) {
        for (int64_t c = 0; c < change.columns; ++c)
          turned[static_cast<size_t>(c * change.rows + r)] =
              change.values[static_cast<size_t>(r * change.columns + c)];
      }
      change.values = std::move(turned);
      std::swap(change.rows, change.columns);
    }
    if (options_.weights) change.weights = options_.weights(t);
    return change;
  }

  TensorRandom random_of(const TensorInfo& t) const { return {options_.seed, 0, t.name}; }

  void tell(const char* what, size_t done) const {
    if (options_.progress) options_.progress({what, "tensors", done, matrices_.size()});
  }

  std::vector<MatrixSpectrum> spectra(int64_t rank) const {
    std::vector<MatrixSpectrum> all;
    for (const TensorInfo* t : matrices_) {
      const Change change = change_of(*t);
      LowRankFit fit = fit_low_rank(change.matrix(), change.weights, rank, random_of(*t), threads_);
      fit.values.resize(std::min(fit.values.size(), static_cast<size_t>(rank)));
      all.push_back({change.rows, change.columns, std::move(fit.values),
                     squared_residual(change.matrix(), change.weights, {}, {}, 0, threads_)});
      tell("finding ranks", all.size());
    }
    return all;
  }

  std::vector<int64_t> choose_ranks() const {
    const std::vector<int64_t> uniform(matrices_.size(), options_.rank);
    if (matrices_.empty() || (options_.rank > 0 && options_.ranks == RankChoice::kUniform))
      return uniform;
    int64_t most = 0;
    for (const TensorInfo* t : matrices_) most = std::max(most, std::min(t->shape[0], t->shape[1]));
    if (options_.rank > 0)
      return ranks_for_size(spectra(std::min(most, kTimesRank * options_.rank)), options_.rank);
    for (int64_t rank = std::min(most, kFirstRank);; rank = std::min(most, 2 * rank)) {
      const std::vector<MatrixSpectrum> known = spectra(rank);
      if (options_.ranks == RankChoice::kUniform) {
        if (const auto found = rank_for_error(known, options_.error))
          return std::vector<int64_t>(matrices_.size(), *found);
      } else if (const auto found = ranks_for_error(known, options_.error)) {
        return *found;
      }
      if (rank == most) {
        throw usage_error(
            "--error {}: not even factors of full rank are so near, since they are "
            "found in float32",
            options_.error);
      }
    }
  }

  void fit(const std::vector<int64_t>& ranks) {
    for (size_t i = 0; i < matrices_.size(); ++i) {
      const TensorInfo& t = *matrices_[i];
      const Change change = change_of(t);
      ExtractedLayer layer{module_of(t.name, kWeight), change.rows, change.columns};
      layer.weighted = !change.weights.empty();
      layer.squares = squared_residual(change.matrix(), change.weights, {}, {}, 0, threads_);
      layer.residual = layer.squares;
      if (ranks[i] > 0) {
        LowRankFit fit =
            fit_low_rank(change.matrix(), change.weights, ranks[i], random_of(t), threads_);
        layer.rank = fit.rank;
        add(layer.module + ".lora_A.weight", {fit.rank, change.columns}, fit.a);
        add(layer.module + ".lora_B.weight", {change.rows, fit.rank}, fit.b);
        adapter_.numbers += fit.a.size() + fit.b.size();
        layer.residual =
            squared_residual(change.matrix(), change.weights, fit.b, fit.a, fit.rank, threads_);
      }
      adapter_.layers.push_back(std::move(layer));
      tell("extracting", i + 1);
    }
  }

  // Stores a factor; `values` become what the file holds.
  void add(const std::string& name, Shape shape, std::vector<float>& values) {
    if (!all_finite(values)) throw input_error("{}: its factors are not finite", name);
    std::vector<std::byte> bytes(values.size() * dtype_size(options_.dtype));
    narrow(values, options_.dtype, bytes.data());
    widen(options_.dtype, bytes.data(), values);
    adapter_.tensors.push_back({std::string(kPrefix) + name, options_.dtype, std::move(shape)});
    adapter_.data.push_back(std::move(bytes));
  }

  // Stores a tensor of the model as it is. A bias of a module that has factors is trained beside
  // them; other modules are saved whole.
  void save(const TensorInfo& t) {
    std::string name = t.name;
    const bool is_bias = t.name.ends_with(kBias);
    const std::string module = module_of(t.name, is_bias ? kBias : kWeight);
    const bool is_saved = !is_bias || std::ranges::any_of(whole_, [&](const TensorInfo* other) {
      return other->name == module + std::string(kWeight);
    });
    if (is_saved) {
      if (std::ranges::find(adapter_.saved, module) == adapter_.saved.end())
        adapter_.saved.push_back(module);
    } else {
      adapter_.biases.push_back(t.name);
      const bool has_factors = std::ranges::any_of(adapter_.layers, [&](const ExtractedLayer& l) {
        return l.module == module && l.rank > 0;
      });
      if (has_factors) name = module + ".base_layer.bias";
    }
    store(t, name);
  }

  // Puts a tensor of the model into the adapter, as it is and by this name.
  void store(const TensorInfo& t, const std::string& name) {
    std::vector<std::byte> bytes(byte_size(t));
    model_.read(t, 0, bytes);
    std::vector<float> values(static_cast<size_t>(element_count(t.shape)));
    widen(t.dtype, bytes.data(), values);
    if (!all_finite(values))
      throw input_error("{}: tensor {} has values that are not finite", model_.label(), t.name);
    adapter_.tensors.push_back({std::string(kPrefix) + name, t.dtype, t.shape});
    adapter_.data.push_back(std::move(bytes));
  }

  // PEFT, which then keeps both one, wants saved embeddings once more as the head.
  void save_tied_head() {
    const HeadTensors head = find_head(model_.tensors());
    if (head.head || std::ranges::find(whole_, head.embedding) == whole_.end()) return;
    adapter_.keeps_ties = true;
    store(*head.embedding, head_name_beside(head.embedding->name));
  }

  const TensorSource& base_;
  const TensorSource& model_;
  const ExtractOptions& options_;
  Threads& threads_;
  ExtractedAdapter adapter_;
  std::vector<const TensorInfo*> matrices_, whole_;  // of the model: by factors, and as they are
};

}  // namespace

double ExtractedAdapter::error() const {
  double squares = 0, residual = 0;
  for (const ExtractedLayer& layer : layers) {
    squares += layer.squares;
    residual += layer.residual;
  }
  return squares > 0 ? std::sqrt(residual / squares) : 0;
}

ExtractedAdapter extract_adapter(const TensorSource& base, const TensorSource& model,
                                 const ExtractOptions& options, Threads& threads) {
  return Extractor(base, model, options, threads).run();
}

}  // namespace lewis
