#include "merge/sources/fp8_source.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/error.h"
#include "base/json.h"
#include "merge/sources/quantization.h"

namespace lewis {
namespace {

constexpr size_t kPiece = 1024;  // elements that are widened at a time

// The factor of element (row, column) is values[row / row_block * per_row + column / column_block].
struct Scales {
  std::vector<float> values;
  int64_t row_block = 1, column_block = 1, per_row = 1;
};

struct Fp8Weight {
  TensorInfo stored;
  Scales scales;
};

LEWIS_VECTORIZED void multiply(float factor, size_t n, float* x) {
  for (size_t i = 0; i < n; ++i) x[i] *= factor;
}

int64_t blocks(int64_t size, int64_t block) { return (size + block - 1) / block; }

class Fp8Source final : public TensorSource {
 public:
  Fp8Source(std::shared_ptr<const TensorSource> source, std::map<std::string, Fp8Weight> weights,
            const std::set<std::string>& consumed)
      : source_(std::move(source)), weights_(std::move(weights)) {
    for (TensorInfo t : source_->tensors()) {
      if (consumed.contains(t.name)) continue;
      if (weights_.contains(t.name)) t.dtype = DType::kBF16;
      tensors_.push_back(std::move(t));
    }
  }

  const std::string& label() const override { return source_->label(); }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }

  ReadCost read_cost(const TensorInfo& tensor) const override {
    const auto found = weights_.find(tensor.name);
    return source_->read_cost(found == weights_.end() ? tensor : found->second.stored);
  }

  void read(const TensorInfo& tensor, int64_t first, std::span<std::byte> out) const override {
    const auto found = weights_.find(tensor.name);
    if (found == weights_.end()) return source_->read(tensor, first, out);
    const Fp8Weight& weight = found->second;
    // The float8 bytes come into the upper half of `out`; what is written never overtakes them.
    const auto stored = out.subspan(out.size() / 2);
    source_->read(weight.stored, first, stored);
    float values[kPiece];
    const int64_t columns = weight.stored.shape[1];
    for (size_t at = 0; at < stored.size();) {
      const int64_t row = (first + static_cast<int64_t>(at)) / columns;
      const int64_t column = (first + static_cast<int64_t>(at)) % columns;
      const size_t n =
          std::min({kPiece, stored.size() - at, static_cast<size_t>(columns - column)});
      widen(weight.stored.dtype, stored.data() + at, std::span(values, n));
      scale(weight.scales, row, column, std::span(values, n));
      narrow(std::span(values, n), DType::kBF16, out.data() + 2 * at);
      at += n;
    }
  }

 private:
  // values: elements [column, column + n) of a row.
  static void scale(const Scales& scales, int64_t row, int64_t column, std::span<float> values) {
    const float* of_row = &scales.values[row / scales.row_block * scales.per_row];
    for (size_t at = 0; at < values.size();) {
      const int64_t c = column + static_cast<int64_t>(at);
      const auto left = static_cast<size_t>(scales.column_block - c % scales.column_block);
      const size_t n = std::min(values.size() - at, left);
      multiply(of_row[c / scales.column_block], n, values.data() + at);
      at += n;
    }
  }

  std::shared_ptr<const TensorSource> source_;
  std::map<std::string, Fp8Weight> weights_;
  std::vector<TensorInfo> tensors_;
};

Scales read_scales(const TensorSource& source, const TensorInfo& weight, const TensorInfo& scale,
                   const Fp8Scheme& scheme) {
  const int64_t rows = weight.shape[0], columns = weight.shape[1];
  Scales scales;
  if (element_count(scale.shape) == 1) {
    scales.row_block = std::max<int64_t>(1, rows);
    scales.column_block = std::max<int64_t>(1, columns);
  } else if (scale.shape == Shape{rows} || scale.shape == Shape{rows, 1}) {
    scales.column_block = std::max<int64_t>(1, columns);
  } else if (const auto b = scheme.block;
             b && scale.shape == Shape{blocks(rows, (*b)[0]), blocks(columns, (*b)[1])}) {
    scales.row_block = (*b)[0];
    scales.column_block = (*b)[1];
    scales.per_row = scale.shape[1];
  } else {
    throw input_error(
        "{}: tensor {} is {}, which does not fit {} of {}: expected one number, one per row{}",
        source.label(), scale.name, to_string(scale.shape), weight.name, to_string(weight.shape),
        scheme.block
            ? fmt::format(" or one per block of {} x {}", (*scheme.block)[0], (*scheme.block)[1])
            : " (config.json names no weight_block_size)");
  }
  scales.values = source.read_floats(scale);
  return scales;
}

// The scale of a float8 tensor. Throws when it has none, two, or other companions.
const TensorInfo& find_scale(const TensorSource& source, const TensorInfo& weight) {
  const TensorInfo* scale = nullptr;
  const std::string prefix = weight.name + "_";
  const auto& all = source.tensors();  // sorted by name
  auto t = std::lower_bound(all.begin(), all.end(), prefix,
                            [](const TensorInfo& a, const std::string& b) { return a.name < b; });
  for (; t != all.end() && t->name.starts_with(prefix); ++t) {
    const std::string_view rest = std::string_view(t->name).substr(weight.name.size());
    if (scale || (rest != "_scale" && rest != "_scale_inv")) {
      throw input_error("{}: tensor {} is {}, and what {} beside it means is not understood",
                        source.label(), weight.name, dtype_name(weight.dtype), t->name);
    }
    scale = &*t;
  }
  if (scale) return *scale;
  throw input_error("{}: tensor {} is {}, but has no scale: expected {}_scale_inv or {}_scale",
                    source.label(), weight.name, dtype_name(weight.dtype), weight.name,
                    weight.name);
}

// The scales of what goes into and out of a layer: `module`.input_scale, ...
void consume_activations(const TensorSource& source, std::string_view weight,
                         std::set<std::string>& consumed) {
  const std::string module(weight.substr(0, weight.rfind('.') + 1));
  for (const char* name : {"input_scale", "activation_scale", "output_scale"}) {
    const TensorInfo* t = source.find(module + name);
    if (t && element_count(t->shape) == 1) consumed.insert(t->name);
  }
}

void consume_cache_scales(const TensorSource& source, std::set<std::string>& consumed) {
  for (const TensorInfo& t : source.tensors()) {
    for (const char* name : {".k_scale", ".v_scale", ".kv_scale", ".output_scale"}) {
      if (t.name.ends_with(name) && element_count(t.shape) == 1) consumed.insert(t.name);
    }
  }
}

}  // namespace

WidenedSource widen_fp8(std::shared_ptr<const TensorSource> source, const Json& config) {
  const std::string& label = source->label();
  const auto scheme = read_fp8_scheme(config, label);
  std::map<std::string, Fp8Weight> weights;
  std::set<std::string> consumed;
  for (const TensorInfo& t : source->tensors()) {
    if (!is_float8(t.dtype)) continue;
    if (!scheme) {
      throw input_error("{}: tensor {} is {}, but config.json has no quantization_config", label,
                        t.name, dtype_name(t.dtype));
    }
    const TensorInfo& scale = find_scale(*source, t);
    if (t.shape.size() != 2) {
      throw input_error("{}: tensor {} is {} of {}, expected a matrix", label, t.name,
                        dtype_name(t.dtype), to_string(t.shape));
    }
    weights[t.name] = {t, read_scales(*source, t, scale, *scheme)};
    consumed.insert(scale.name);
    consume_activations(*source, t.name, consumed);
  }
  if (weights.empty()) return {std::move(source), {}, ""};
  if (scheme->cache_scales) consume_cache_scales(*source, consumed);
  auto widened = std::make_shared<Fp8Source>(std::move(source), std::move(weights), consumed);
  return {std::move(widened), {consumed.begin(), consumed.end()}, "quantization_config"};
}

}  // namespace lewis
