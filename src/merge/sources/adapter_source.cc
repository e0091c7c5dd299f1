#include "merge/sources/adapter_source.h"

#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>

#include "base/error.h"
#include "base/hash.h"
#include "base/model_files.h"
#include "io/safetensors.h"
#include "io/tied_head.h"
#include "merge/common/gram.h"
#include "merge/sources/adapter_changes.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

// Elements [column, column + size) of a row, which begin `offset` elements into a slab.
struct Piece {
  int64_t row, column;
  size_t size, offset;
};

// A slab is a few rows that stay in the cache between being read and being changed.
int64_t slab_elements(int64_t columns) {
  return std::clamp<int64_t>((int64_t{1} << 18) / columns, 8, 64) * columns;
}

// Cuts elements [first, end) of a matrix into pieces of at most kLowRankColumns, block of columns
// by block of columns, so that a block of the right factor serves all rows of a slab.
template <typename F>
void for_pieces(int64_t first, int64_t end, int64_t columns, const F& f) {
  for (int64_t block = 0; block < columns; block += kLowRankColumns) {
    const int64_t width = std::min<int64_t>(kLowRankColumns, columns - block);
    for (int64_t row = first / columns; row * columns < end; ++row) {
      const int64_t begin = std::max(row * columns + block, first);
      const int64_t stop = std::min(row * columns + block + width, end);
      if (begin >= stop) continue;
      f(Piece{row, begin - row * columns, static_cast<size_t>(stop - begin),
              static_cast<size_t>(begin - first)});
    }
  }
}

LEWIS_VECTORIZED void multiply(float factor, size_t n, float* x) {
  for (size_t i = 0; i < n; ++i) x[i] *= factor;
}
LEWIS_VECTORIZED void multiply_each(const float* factors, size_t n, float* x) {
  for (size_t i = 0; i < n; ++i) x[i] *= factors[i];
}
LEWIS_VECTORIZED void add_squares(const float* x, size_t n, double* sums) {
  for (size_t i = 0; i < n; ++i) sums[i] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
}

class AdapterSource final : public TensorSource {
 public:
  AdapterSource(std::shared_ptr<const TensorSource> base,
                std::shared_ptr<const SafetensorsFile> file, AdapterChanges changes,
                const fs::path& folder)
      : base_(std::move(base)),
        changes_(std::move(changes)),
        products_(std::move(file)),
        label_(base_->label() + "+" + folder.string()),
        tensors_(base_->tensors()) {
    for (TensorInfo& t : tensors_) {
      const auto change = changes_.find(t.name);
      if (change != changes_.end()) t.shape = change->second.tensor.shape;
    }
    for (const auto& [name, change] : changes_) {
      if (!change.magnitude.empty() && change.outputs_are_columns) column_factors_[name];
      for (const auto& [row, values] : change.rows) held_bytes_ += values.size() * sizeof(float);
    }
  }

  const std::string& label() const override { return label_; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }

  // The thin matrices of a few modules are held: these count where they are largest.
  ReadCost read_cost(const TensorInfo& tensor) const override {
    const auto found = changes_.find(tensor.name);
    ReadCost cost = found != changes_.end() && found->second.replaced
                        ? ReadCost{byte_size(found->second.replaced->info), 0}
                        : base_->read_cost(tensor);
    cost.memory += held_bytes_;
    if (found != changes_.end() && found->second.factors)
      cost.memory += FactorCache::memory(*found->second.factors);
    return cost;
  }

  void read(const TensorInfo& tensor, int64_t first, std::span<std::byte> out) const override {
    const auto found = changes_.find(tensor.name);
    if (found == changes_.end()) return base_->read(tensor, first, out);
    const AdapterChange& change = found->second;
    if (!change.factors || out.empty()) return read_stored(change, first, out);
    const auto products = products_.get(*change.factors, change.part);
    const size_t size = dtype_size(tensor.dtype);
    const int64_t columns = products->front().columns, slab = slab_elements(columns);
    const int64_t end = first + static_cast<int64_t>(out.size() / size);
    for (int64_t at = first; at < end;) {
      const int64_t stop = std::min(end, (at / slab + 1) * slab);
      const auto bytes = out.subspan(static_cast<size_t>(at - first) * size,
                                     static_cast<size_t>(stop - at) * size);
      read_stored(change, at, bytes);
      if (change.magnitude.empty()) {
        apply(change, *products, at, bytes, {});
      } else if (change.outputs_are_columns) {
        apply(change, *products, at, bytes, factors_of_columns(change, products->front()));
      } else {
        apply(change, *products, at, bytes,
              factors(change, products->front(), at / columns, (stop - 1) / columns + 1));
      }
      at = stop;
    }
  }

 private:
  struct Once {
    std::once_flag flag;
    std::vector<float> factors;
  };

  // The values that the low-rank change is added to, in the type of the base.
  void read_stored(const AdapterChange& change, int64_t first, std::span<std::byte> out) const {
    read_whole(change, first, out);
    if (change.rows.empty()) return;
    const DType dtype = change.tensor.dtype;
    const auto size = static_cast<int64_t>(dtype_size(dtype)), width = change.tensor.shape[1];
    const int64_t end = first + static_cast<int64_t>(out.size()) / size;
    for (auto row = change.rows.lower_bound(first / width); row != change.rows.end(); ++row) {
      const int64_t begin = std::max(first, row->first * width);
      const int64_t stop = std::min(end, (row->first + 1) * width);
      if (row->first * width >= end) break;
      const auto values = std::span(row->second)
                              .subspan(static_cast<size_t>(begin - row->first * width),
                                       static_cast<size_t>(stop - begin));
      narrow(values, dtype, out.data() + (begin - first) * size);
    }
  }

  void read_whole(const AdapterChange& change, int64_t first, std::span<std::byte> out) const {
    const DType dtype = change.tensor.dtype;
    if (!change.replaced) return base_->read(change.tensor, first, out);
    const DType stored = change.replaced->info.dtype;
    if (stored == dtype) {
      return products_.file().read(*change.replaced,
                                   static_cast<uint64_t>(first) * dtype_size(dtype), out);
    }
    constexpr size_t kPiece = 4096;
    std::byte bytes[kPiece * sizeof(float)];
    float values[kPiece];
    const size_t count = out.size() / dtype_size(dtype);
    for (size_t at = 0; at < count; at += kPiece) {
      const size_t n = std::min(kPiece, count - at);
      products_.file().read(*change.replaced,
                            (static_cast<uint64_t>(first) + at) * dtype_size(stored),
                            std::span(bytes, n * dtype_size(stored)));
      widen(stored, bytes, std::span(values, n));
      narrow(std::span(values, n), dtype, out.data() + at * dtype_size(dtype));
    }
  }

  // bytes: stored elements [first, ...); out: the same with the change. `factors` of DoRA: one a
  // column, or one per row from the first row of the range on.
  void apply(const AdapterChange& change, const std::vector<LowRank>& products, int64_t first,
             std::span<std::byte> bytes, std::span<const float> factors) const {
    const DType dtype = change.tensor.dtype;
    const size_t size = dtype_size(dtype);
    const int64_t rows = products.front().rows, columns = products.front().columns;
    float room[kLowRankColumns];
    const int64_t end = first + static_cast<int64_t>(bytes.size() / size);
    for_pieces(first, end, columns, [&](const Piece& p) {
      std::byte* at = bytes.data() + p.offset * size;
      const std::span values(room, p.size);
      widen(dtype, at, values);
      const LowRank& part = products[static_cast<size_t>(p.row / rows)];
      add_low_rank(part, p.row % rows, p.column, values);
      if (!factors.empty() && change.outputs_are_columns) {
        multiply_each(factors.data() + p.column, p.size, room);
      } else if (!factors.empty()) {
        multiply(factors[static_cast<size_t>(p.row - first / columns)], p.size, room);
      }
      narrow(values, dtype, at);
    });
  }

  // magnitude / norm of the outputs, from rows [begin, end): of those rows, or of all columns (then
  // these must be all rows).
  std::vector<float> factors(const AdapterChange& change, const LowRank& product, int64_t begin,
                             int64_t end) const {
    const DType dtype = change.tensor.dtype;
    const int64_t columns = product.columns;
    const bool by_column = change.outputs_are_columns;
    std::vector<double> sums(static_cast<size_t>(by_column ? columns : end - begin));
    std::vector<std::byte> bytes;
    float room[kLowRankColumns];
    for (int64_t at = begin * columns; at < end * columns;) {
      const int64_t stop = std::min(at + slab_elements(columns), end * columns);
      bytes.resize(static_cast<size_t>(stop - at) * dtype_size(dtype));
      read_stored(change, at, bytes);
      for_pieces(at, stop, columns, [&](const Piece& p) {
        widen(dtype, bytes.data() + p.offset * dtype_size(dtype), std::span(room, p.size));
        add_low_rank(product, p.row, p.column, std::span(room, p.size));
        if (by_column) {
          add_squares(room, p.size, &sums[static_cast<size_t>(p.column)]);
        } else {
          sums[static_cast<size_t>(p.row - begin)] += dot_product(room, room, p.size);
        }
      });
      at = stop;
    }
    return divide(change, begin, sums);
  }

  const std::vector<float>& factors_of_columns(const AdapterChange& change,
                                               const LowRank& product) const {
    Once& once = column_factors_.at(change.tensor.name);
    std::call_once(once.flag, [&] { once.factors = factors(change, product, 0, product.rows); });
    return once.factors;
  }

  std::vector<float> divide(const AdapterChange& change, int64_t begin,
                            const std::vector<double>& sums) const {
    const size_t first = change.outputs_are_columns ? 0 : static_cast<size_t>(begin);
    std::vector<float> factors(sums.size());
    for (size_t i = 0; i < sums.size(); ++i) {
      if (sums[i] == 0) {
        throw input_error("{}: tensor {}: DoRA divides by the norm of output {}, which is 0",
                          label_, change.tensor.name, first + i);
      }
      factors[i] =
          static_cast<float>(static_cast<double>(change.magnitude[first + i]) / std::sqrt(sums[i]));
    }
    return factors;
  }

  std::shared_ptr<const TensorSource> base_;
  AdapterChanges changes_;
  FactorCache products_;
  mutable std::map<std::string, Once> column_factors_;  // of every tensor that needs them
  std::string label_;
  std::vector<TensorInfo> tensors_;
  uint64_t held_bytes_ = 0;
};

fs::path adapter_file(const fs::path& folder) {
  if (!fs::is_directory(folder)) throw input_error("{}: no such folder", folder.string());
  if (!has_model_file(folder, "adapter_config.json"))
    throw input_error("{}: holds no adapter_config.json", folder.string());
  const fs::path file = folder / "adapter_model.safetensors", pickle = folder / "adapter_model.bin";
  if (fs::exists(file)) return file;
  const fs::path mlx = folder / "adapters.safetensors";  // mlx-lm's
  if (fs::exists(mlx)) return mlx;
  if (!fs::exists(pickle)) throw input_error("{}: is missing", file.string());
  throw input_error(
      "{0}: a pickle can run any code and is never opened; convert it first: python -c \"import "
      "torch, safetensors.torch as s; s.save_file({{k: v.contiguous() for k, v in "
      "torch.load('{0}', "
      "map_location='cpu', weights_only=True).items()}}, '{1}')\"",
      pickle.string(), file.string());
}

}  // namespace

ReadAdapter read_adapter(const TensorSource& base, const fs::path& adapter_folder) {
  auto file = std::make_shared<const SafetensorsFile>(adapter_file(adapter_folder));
  ReadAdapter adapter{read_adapter_config(adapter_folder), {}, {}};
  adapter.changes = read_adapter_changes(base, adapter.config, *file);
  adapter.products = std::make_unique<FactorCache>(std::move(file));
  std::erase_if(adapter.changes, [](const auto& change) { return change.second.replaced; });
  return adapter;
}

AdaptedModel adapt(std::shared_ptr<const TensorSource> base, const fs::path& adapter_folder,
                   Misreading misreading) {
  auto file = std::make_shared<const SafetensorsFile>(adapter_file(adapter_folder));
  AdapterConfig config = read_adapter_config(adapter_folder);
  config.misreading = misreading;
  AdaptedModel adapted;
  auto changes = read_adapter_changes(*base, config, *file, &adapted.renamed, &adapted.notes);
  // PEFT trains tokens of tied embeddings in the head as well, and leaves both one.
  const HeadTensors head = find_head(base->tensors());
  const auto embedding = head.embedding ? changes.find(head.embedding->name) : changes.end();
  const bool only_tokens = embedding != changes.end() && !embedding->second.rows.empty() &&
                           !embedding->second.factors && !embedding->second.replaced;
  adapted.keeps_ties = config.keeps_ties || only_tokens;
  for (const auto& [name, _] : changes) adapted.changed.push_back(name);
  adapted.source = std::make_shared<AdapterSource>(std::move(base), std::move(file),
                                                   std::move(changes), adapter_folder);
  return adapted;
}

std::string adapter_fingerprint(const fs::path& adapter_folder) {
  const SafetensorsFile file(adapter_file(adapter_folder));
  struct stat info {};
  if (::stat(file.path().c_str(), &info) != 0)
    throw input_error("{}: is gone", file.path().string());
  Sha256 hash;
  hash.add(fmt::format("{} {}.{:09}\n", info.st_size, info.st_mtim.tv_sec, info.st_mtim.tv_nsec));
  hash.add(file.header());
  hash.add(read_model_file(adapter_folder, "adapter_config.json"));
  return hash.hex();
}

}  // namespace lewis
