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
#include "merge/extraction/rank_groups.h"
#include "merge/sources/low_rank.h"

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
    if (matrices_.empty() && whole_.empty() && !experts_changed_) {
      throw input_error("{} and {} have the same weights: there is nothing to extract",
                        base_.label(), model_.label());
    }
    if (!adapter_.left_out.empty() && !options_.partial) {
      throw input_error(
          "{}: {} changed, and a {} adapter cannot hold {}; --partial leaves {} as in {}",
          model_.label(), some_of(adapter_.left_out, kNamesShown), options_.dora ? "DoRA" : "LoRA",
          adapter_.left_out.size() == 1 ? "it" : "them",
          adapter_.left_out.size() == 1 ? "it" : "them", base_.label());
    }
    groups_ = rank_groups(matrices_, experts_changed_, model_, options_.fused_experts);
    for (const RankGroup& group : groups_) all_matrices_ += group.matrices.size();
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
    // Where one expert has changed, all have factors.
    if (experts_changed_) std::erase_if(adapter_.unchanged, is_of_experts);
  }

  void sort_in(const TensorInfo& before, const TensorInfo& t) {
    if (is_equal(before, t)) {
      ++adapter_.equal;
      if (t.name.ends_with(kWeight) && is_linear_layer(t.name, t.shape))
        adapter_.unchanged.push_back(module_of(t.name, kWeight));
      return;
    }
    const bool named = t.name.ends_with(kWeight) || t.name.ends_with(kBias);
    const bool factors = is_of_experts(t.name) && !options_.dora && is_arithmetic(t.dtype) &&
                         is_expert_of_adapter(t, options_.fused_experts);
    if (factors) {
      experts_changed_ = true;
    } else if (!named || is_of_experts(t.name) || !is_arithmetic(t.dtype) ||
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

  // The change of a matrix as [outputs, inputs], with what its inputs are weighted by.
  struct Change {
    std::vector<float> values;
    std::vector<float> base;  // for DoRA alone; else empty
    std::vector<float> weights;
    int64_t rows = 0, columns = 0;
    FloatMatrix matrix() const { return {values.data(), rows, columns, columns}; }
  };
  Change change_of(const AdapterMatrix& m) const {
    Change change{{}, {}, {}, m.rows(), m.columns()};
    for (const TensorInfo* t : {m.weight, m.up}) {
      if (!t) continue;
      std::vector<float> values = model_.read_floats(*t);
      std::vector<float> before = base_.read_floats(base_.get(t->name));
      for (size_t i = 0; i < before.size(); ++i) values[i] -= before[i];
      change.values.insert(change.values.end(), values.begin(), values.end());
      if (options_.dora) change.base = std::move(before);
    }
    if (options_.outputs_are_columns) {
      change.values = transposed(change.values, change.rows, change.columns);
      if (options_.dora) change.base = transposed(change.base, change.rows, change.columns);
      std::swap(change.rows, change.columns);
    }
    if (options_.weights) change.weights = options_.weights(*m.weight);
    return change;
  }

  TensorRandom random_of(const AdapterMatrix& m) const {
    return {options_.seed, 0, m.weight->name};
  }

  void tell(const char* what, size_t done) const {
    if (options_.progress) options_.progress({what, "tensors", done, all_matrices_});
  }

  // The spectrum of each group as if it were one matrix: a rank costs as many numbers as all of its
  // matrices take for it.
  std::vector<MatrixSpectrum> spectra(int64_t rank) const {
    std::vector<MatrixSpectrum> all;
    size_t done = 0;
    for (const RankGroup& group : groups_) {
      MatrixSpectrum sum;
      std::vector<double> squares;
      for (const AdapterMatrix& m : group.matrices) {
        const Change change = change_of(m);
        const LowRankFit fit =
            fit_low_rank(change.matrix(), change.weights, rank, random_of(m), threads_);
        const size_t known = std::min(fit.values.size(), static_cast<size_t>(rank));
        squares.resize(std::max(squares.size(), known));
        for (size_t k = 0; k < known; ++k) squares[k] += fit.values[k] * fit.values[k];
        sum.rows += change.rows;
        sum.columns += change.columns;
        sum.squares += squared_residual(change.matrix(), change.weights, {}, {}, 0, threads_);
        tell("finding ranks", ++done);
      }
      for (const double s : squares) sum.values.push_back(std::sqrt(s));
      all.push_back(std::move(sum));
    }
    return all;
  }

  // One rank per group.
  std::vector<int64_t> choose_ranks() const {
    const std::vector<int64_t> uniform(groups_.size(), options_.rank);
    if (groups_.empty() || (options_.rank > 0 && options_.ranks == RankChoice::kUniform))
      return uniform;
    int64_t most = 0;
    for (const RankGroup& group : groups_) most = std::max(most, full_rank(group));
    if (options_.rank > 0)
      return ranks_for_size(spectra(std::min(most, kTimesRank * options_.rank)), options_.rank);
    for (int64_t rank = std::min(most, kFirstRank);; rank = std::min(most, 2 * rank)) {
      const std::vector<MatrixSpectrum> known = spectra(rank);
      if (options_.ranks == RankChoice::kUniform) {
        if (const auto found = rank_for_error(known, options_.error))
          return std::vector<int64_t>(groups_.size(), *found);
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

  static int64_t full_rank(const RankGroup& group) {
    int64_t most = 0;
    for (const AdapterMatrix& m : group.matrices)
      most = std::max(most, std::min(m.rows(), m.columns()));
    return most;
  }

  void fit(const std::vector<int64_t>& ranks) {
    for (size_t i = 0; i < groups_.size(); ++i) {
      if (groups_[i].parameter.empty()) {
        fit_layers(groups_[i], ranks[i]);
        continue;
      }
      // gate_up_proj and down_proj of a layer. PEFT wraps the first one first, so that its keys
      // are those of the inner layer where both have factors.
      const FittedParameter gate_up = fit_parameter(groups_[i], ranks[i]);
      const FittedParameter down = fit_parameter(groups_[i + 1], ranks[i + 1]);
      add_parameter(gate_up, down.layer.rank > 0 ? ".base_layer" : "");
      add_parameter(down, "");
      ++i;
    }
  }

  // The factors of a matrix as the file holds them, and what they miss. `rank` of 0: none.
  LowRankFit fit(const AdapterMatrix& m, const Change& change, int64_t rank,
                 ExtractedLayer& layer) {
    const double squares = squared_residual(change.matrix(), change.weights, {}, {}, 0, threads_);
    layer.squares += squares;
    layer.weighted = !change.weights.empty();
    LowRankFit fit;
    if (rank > 0) {
      fit = fit_low_rank(change.matrix(), change.weights, rank, random_of(m), threads_);
      round_factor(m.weight->name, fit.a);
      round_factor(m.weight->name, fit.b);
    }
    layer.residual += fit.rank == 0 ? squares
                                    : squared_residual(change.matrix(), change.weights, fit.b,
                                                       fit.a, fit.rank, threads_);
    tell("extracting", ++fitted_);
    return fit;
  }

  // Layers with factors of their own. Experts have one rank, with zeros where a change has less.
  void fit_layers(const RankGroup& group, int64_t rank) {
    const int64_t all = std::min(rank, full_rank(group));
    for (const AdapterMatrix& m : group.matrices) {
      const Change change = change_of(m);
      ExtractedLayer layer{module_of(m.weight->name, kWeight), change.rows, change.columns};
      LowRankFit fit = this->fit(m, change, rank, layer);
      if (group.experts) widen_rank(fit, change.rows, change.columns, all);
      layer.rank = fit.rank;
      layer.expert = group.experts;
      if (fit.rank > 0) {
        add(layer.module + ".lora_A.weight", {fit.rank, change.columns}, fit.a);
        add(layer.module + ".lora_B.weight", {change.rows, fit.rank}, fit.b);
        if (options_.dora) add_magnitudes(change, fit, layer);
      }
      adapter_.layers.push_back(std::move(layer));
    }
  }

  struct FittedParameter {
    ExtractedLayer layer;
    int64_t experts = 0, inputs = 0, outputs = 0;
    std::vector<float> a, b;
  };

  // The experts of a parameter have the rank of the one that needs most.
  FittedParameter fit_parameter(const RankGroup& group, int64_t rank) {
    ExtractedLayer layer{group.parameter, group.matrices[0].rows(), group.matrices[0].columns()};
    layer.parameter = true;
    std::vector<LowRankFit> fits;
    for (const AdapterMatrix& m : group.matrices) {
      fits.push_back(fit(m, change_of(m), rank, layer));
      layer.rank = std::max(layer.rank, fits.back().rank);
    }
    ParameterFactors factors(group, layer.rank);
    for (size_t expert = 0; expert < fits.size(); ++expert) {
      widen_rank(fits[expert], layer.rows, layer.columns, layer.rank);
      factors.put(static_cast<int64_t>(expert), fits[expert].a, fits[expert].b);
    }
    return {std::move(layer),     static_cast<int64_t>(fits.size()),
            factors.inputs,       factors.outputs,
            std::move(factors.a), std::move(factors.b)};
  }

  void add_parameter(const FittedParameter& p, const char* level) {
    const int64_t wide = p.experts * p.layer.rank;
    const std::string module = p.layer.module.substr(0, p.layer.module.rfind('.')) + level;
    adapter_.layers.push_back(p.layer);
    if (wide == 0) return;
    add(module + ".lora_A.weight", {wide, p.inputs}, p.a);
    add(module + ".lora_B.weight", {p.outputs, wide}, p.b);
  }

  // Fills factors up with zeros.
  static void widen_rank(LowRankFit& fit, int64_t rows, int64_t columns, int64_t rank) {
    if (fit.rank >= rank) return;
    std::vector<float> b(static_cast<size_t>(rows * rank));
    for (int64_t row = 0; row < rows; ++row)
      std::copy_n(fit.b.begin() + row * fit.rank, fit.rank, b.begin() + row * rank);
    fit.b = std::move(b);
    fit.a.resize(static_cast<size_t>(rank * columns));
    fit.rank = rank;
  }

  // Adds the norms of the rows of the model as magnitudes m, so that a row w + b a of the base with
  // the factors becomes m (w + b a) / |w + b a|. `layer` gets the error of this.
  void add_magnitudes(const Change& change, const LowRankFit& fit, ExtractedLayer& layer) {
    struct Row {
      double before = 0, after = 0;              // squared norms
      double wanted = 0, product = 0, both = 0;  // weighted
    };
    std::vector<Row> rows(static_cast<size_t>(change.rows));
    const auto width = static_cast<size_t>(change.columns);
    threads_.run(rows.size(), [&](size_t r) {
      const float* base = change.base.data() + r * width;
      std::vector<double> made(base, base + width);
      for (int64_t k = 0; k < fit.rank; ++k) {
        const double b = fit.b[r * static_cast<size_t>(fit.rank) + static_cast<size_t>(k)];
        const float* a = fit.a.data() + static_cast<size_t>(k) * width;
        for (size_t c = 0; c < width; ++c) made[c] += b * static_cast<double>(a[c]);
      }
      for (size_t c = 0; c < width; ++c) {
        const double want =
            static_cast<double>(base[c]) + static_cast<double>(change.values[r * width + c]);
        const double w = change.weights.empty() ? 1 : static_cast<double>(change.weights[c]);
        rows[r].before += made[c] * made[c], rows[r].after += want * want;
        rows[r].wanted += w * w * want * want, rows[r].product += w * w * made[c] * made[c];
        rows[r].both += w * w * want * made[c];
      }
    });
    std::vector<float> magnitudes;
    for (const Row& row : rows) magnitudes.push_back(static_cast<float>(std::sqrt(row.after)));
    round_factor(layer.module, magnitudes);
    layer.residual = 0;
    for (size_t r = 0; r < rows.size(); ++r) {
      if (rows[r].before == 0)
        throw input_error("{}: output {} is 0 with the factors, and DoRA divides by its norm",
                          layer.module, r);
      const double factor = static_cast<double>(magnitudes[r]) / std::sqrt(rows[r].before);
      layer.residual += std::max(
          0.0, rows[r].wanted - 2 * factor * rows[r].both + factor * factor * rows[r].product);
    }
    add(layer.module + ".lora_magnitude_vector", {change.rows}, magnitudes);
  }

  // Makes of values what the file will hold.
  void round_factor(const std::string& name, std::vector<float>& values) const {
    if (!all_finite(values)) throw input_error("{}: its factors are not finite", name);
    std::vector<std::byte> bytes(values.size() * dtype_size(options_.dtype));
    narrow(values, options_.dtype, bytes.data());
    widen(options_.dtype, bytes.data(), values);
    if (!all_finite(values))
      throw input_error("{}: its factors are too large for {}", name, dtype_name(options_.dtype));
  }

  // Stores values that the type of the factors holds exactly.
  void add(const std::string& name, Shape shape, const std::vector<float>& values) {
    std::vector<std::byte> bytes(values.size() * dtype_size(options_.dtype));
    narrow(values, options_.dtype, bytes.data());
    adapter_.numbers += values.size();
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
  bool experts_changed_ = false;                     // then all experts have factors, too
  std::vector<RankGroup> groups_;                    // of both
  size_t all_matrices_ = 0, fitted_ = 0;
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
