#include "io/quantized_source.h"

#include <algorithm>
#include <array>
#include <bit>
#include <functional>
#include <map>
#include <set>

#include "base/dtype.h"
#include "base/error.h"
#include "base/json.h"
#include "io/layer_name.h"
#include "io/pieces_source.h"
#include "io/quantization.h"

namespace lewis {
namespace {

constexpr size_t kPiece = 1024;       // elements that are widened at a time
constexpr int64_t kBand = 1 << 22;    // elements whose scales are in memory at a time
constexpr int64_t kMxBlock = 32;      // elements of MXFP4 that have one exponent
constexpr int64_t kMxBytes = 16;      // the same in bytes
constexpr uint8_t kNoExponent = 255;  // NaN among the exponents of E8M0

// Which scale an element of a stack of matrices has. That of element (matrix, row, column) is in
// row matrix * rows_per_matrix + row / row_block of the scales, which have `per_row` columns, and
// there in column / column_block.
struct ScaleGrid {
  int64_t rows = 1, columns = 1;  // of a matrix
  int64_t rows_per_matrix = 0, per_row = 1;
  int64_t row_block = 1, column_block = 1;

  // row: of all matrices, one below the other.
  int64_t row_of(int64_t row) const {
    return row / rows * rows_per_matrix + row % rows / row_block;
  }
};

struct QuantizedWeight {
  const TensorInfo *codes = nullptr, *scale = nullptr;  // as they are stored; of the source
  bool mxfp4 = false;
  bool byte_exponents = false;
  ScaleGrid grid;
  Shape shape;  // of the codes, in elements
};
using QuantizedWeights = std::map<std::string, QuantizedWeight>;  // by the names that are shown

int64_t blocks(int64_t size, int64_t block) { return size / block + (size % block != 0); }

LEWIS_VECTORIZED void multiply(float factor, size_t n, float* x) {
  for (size_t i = 0; i < n; ++i) x[i] *= factor;
}

LEWIS_VECTORIZED void multiply(const float* factors, size_t n, float* x) {
  for (size_t i = 0; i < n; ++i) x[i] *= factors[i];
}

// E2M1: 0, 0.5, 1, 1.5, 2, 3, 4, 6, with the sign in bit 3.
inline float fp4_to_float(uint32_t code) {
  const uint32_t rest = code & 7u, small = 0u - static_cast<uint32_t>(rest < 2);
  const uint32_t half = (0u - rest) & 0x3f000000u, normal = (rest << 22) + (126u << 23);
  return std::bit_cast<float>((code & 8u) << 28 | (half & small) | (normal & ~small));
}

LEWIS_VECTORIZED void widen_fp4_pairs(const uint8_t* in, size_t bytes, float* out) {
  for (size_t i = 0; i < bytes; ++i) {
    out[2 * i] = fp4_to_float(in[i]);
    out[2 * i + 1] = fp4_to_float(static_cast<uint32_t>(in[i]) >> 4);
  }
}

// Two codes per byte, the lower half first; `second` skips the first of them.
void widen_fp4(const std::byte* in, bool second, std::span<float> out) {
  std::array<uint8_t, kPiece / 2 + 1> codes;
  const size_t bytes = (out.size() + (second ? 2 : 1)) / 2;
  for (size_t i = 0; i < bytes; ++i) codes[i] = static_cast<uint8_t>(in[i]);
  std::array<float, kPiece + 2> values;
  widen_fp4_pairs(codes.data(), bytes, values.data());
  std::copy_n(values.data() + (second ? 1 : 0), out.size(), out.data());
}

// 2^(e - 127), which for e = 0 is a denormal.
float exponent_to_float(uint8_t e) {
  if (e == kNoExponent) return std::bit_cast<float>(0x7fc00000u);
  return std::bit_cast<float>(e == 0 ? 0x00400000u : static_cast<uint32_t>(e) << 23);
}

class QuantizedSource final : public TensorSource {
 public:
  QuantizedSource(std::shared_ptr<const TensorSource> source,
                  std::shared_ptr<const QuantizedWeights> weights,
                  const std::set<std::string>& consumed)
      : source_(std::move(source)), weights_(std::move(weights)) {
    for (const TensorInfo& t : source_->tensors()) {
      if (!consumed.contains(t.name) && !weights_->contains(t.name)) tensors_.push_back(t);
    }
    for (const auto& [name, weight] : *weights_)
      tensors_.push_back({name, DType::kBF16, weight.shape});
    std::ranges::sort(tensors_, {}, &TensorInfo::name);
    auto next = weights_->begin();
    for (const TensorInfo& t : tensors_) {
      const bool is = next != weights_->end() && next->first == t.name;
      weight_of_.push_back(is ? &next->second : nullptr);
      if (is) ++next;
    }
  }

  const std::string& label() const override { return source_->label(); }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }

  ReadCost read_cost(const TensorInfo& tensor) const override {
    const QuantizedWeight* weight = find_weight(tensor);
    if (!weight) return source_->read_cost(tensor);
    ReadCost cost = source_->read_cost(*weight->codes);
    const ReadCost scale = source_->read_cost(*weight->scale);
    cost.disk_bytes += scale.disk_bytes;
    cost.memory +=
        scale.memory + most_scales(*weight) * (sizeof(float) + dtype_size(weight->scale->dtype));
    cost.places.insert(cost.places.end(), scale.places.begin(), scale.places.end());
    return cost;
  }

  void read(const TensorInfo& tensor, int64_t first, std::span<std::byte> out) const override {
    const QuantizedWeight* found = find_weight(tensor);
    if (!found) return source_->read(tensor, first, out);
    const QuantizedWeight& weight = *found;
    const auto count = static_cast<int64_t>(out.size() / 2);
    if (count == 0) return;
    // The codes come into the end of `out`; what is written never overtakes them.
    const int64_t first_unit = weight.mxfp4 ? first / 2 : first;
    const int64_t end_unit = weight.mxfp4 ? (first + count + 1) / 2 : first + count;
    const auto codes = out.last(static_cast<size_t>(end_unit - first_unit));
    source_->read(*weight.codes, first_unit, codes);
    for (int64_t at = first; at < first + count; at += kBand) {
      const int64_t end = std::min(first + count, at + kBand);
      const int64_t unit = weight.mxfp4 ? at / 2 : at;
      widen_band(weight, codes.data() + (unit - first_unit), at, end,
                 out.data() + 2 * (at - first));
    }
  }

 private:
  // Null for a tensor that is stored as it is shown. Most callers give an element of tensors().
  const QuantizedWeight* find_weight(const TensorInfo& tensor) const {
    const std::less<const TensorInfo*> before;
    const TensorInfo* begin = tensors_.data();
    if (!before(&tensor, begin) && before(&tensor, begin + tensors_.size()))
      return weight_of_[static_cast<size_t>(&tensor - begin)];
    const auto found = weights_->find(tensor.name);
    return found == weights_->end() ? nullptr : &found->second;
  }

  struct ScaleRows {
    int64_t first = 0;  // row of the scales
    std::vector<float> values;
  };

  // Elements [first, end) of a weight, from its codes: those from the byte with `first` on.
  void widen_band(const QuantizedWeight& weight, const std::byte* codes, int64_t first, int64_t end,
                  std::byte* out) const {
    const ScaleGrid& grid = weight.grid;
    const ScaleRows scales = read_scales(weight, first, end);
    std::array<float, kPiece> room;
    for (int64_t at = first; at < end;) {
      const int64_t row = at / grid.columns, column = at % grid.columns;
      const int64_t n = std::min({static_cast<int64_t>(kPiece), end - at, grid.columns - column});
      const std::span values(room.data(), static_cast<size_t>(n));
      const std::byte* in = codes + (weight.mxfp4 ? at / 2 - first / 2 : at - first);
      weight.mxfp4 ? widen_fp4(in, at % 2 == 1, values) : widen(weight.codes->dtype, in, values);
      const int64_t scale_row = grid.row_of(row) - scales.first;
      scale(grid, &scales.values[static_cast<size_t>(scale_row * grid.per_row)], column, values);
      narrow(values, DType::kBF16, out + 2 * (at - first));
      at += n;
    }
  }

  // How many scales are in memory at most while a tensor is read.
  static uint64_t most_scales(const QuantizedWeight& weight) {
    const int64_t scales = std::max<int64_t>(1, element_count(weight.scale->shape));
    const int64_t per_scale = std::max<int64_t>(1, element_count(weight.shape) / scales);
    return static_cast<uint64_t>(
        std::min(scales, kBand / per_scale + 2 * std::max<int64_t>(1, weight.grid.per_row)));
  }

  // The scales of elements [first, end), whole rows of them.
  ScaleRows read_scales(const QuantizedWeight& weight, int64_t first, int64_t end) const {
    const ScaleGrid& grid = weight.grid;
    ScaleRows rows;
    rows.first = grid.row_of(first / grid.columns);
    const int64_t count = (grid.row_of((end - 1) / grid.columns) + 1 - rows.first) * grid.per_row;
    const DType dtype = weight.scale->dtype;
    std::vector<std::byte> bytes(static_cast<size_t>(count) * dtype_size(dtype));
    source_->read(*weight.scale, rows.first * grid.per_row, bytes);
    rows.values.resize(static_cast<size_t>(count));
    if (is_arithmetic(dtype)) {
      widen(dtype, bytes.data(), rows.values);
    } else {
      std::ranges::transform(bytes, rows.values.begin(), [](std::byte e) {
        return exponent_to_float(static_cast<uint8_t>(e));
      });
    }
    if (!all_finite(rows.values)) refuse_scale(weight, rows);
    return rows;
  }

  [[noreturn]] void refuse_scale(const QuantizedWeight& weight, const ScaleRows& rows) const {
    const auto bad = std::ranges::find_if(
        rows.values, [](const float& v) { return !all_finite(std::span(&v, 1)); });
    throw input_error(
        "{}: tensor {} is not finite (NaN or infinity) at element {}, expected a "
        "finite scale for the values of {}",
        label(), weight.scale->name, rows.first * weight.grid.per_row + (bad - rows.values.begin()),
        weight.codes->name);
  }

  // values: elements [column, column + n) of a row, whose scales are `of_row`.
  static void scale(const ScaleGrid& grid, const float* of_row, int64_t column,
                    std::span<float> values) {
    if (grid.column_block == 1) return multiply(of_row + column, values.size(), values.data());
    for (size_t at = 0; at < values.size();) {
      const int64_t c = column + static_cast<int64_t>(at);
      const auto left = static_cast<size_t>(grid.column_block - c % grid.column_block);
      const size_t n = std::min(values.size() - at, left);
      multiply(of_row[c / grid.column_block], n, values.data() + at);
      at += n;
    }
  }

  std::shared_ptr<const TensorSource> source_;
  std::shared_ptr<const QuantizedWeights> weights_;
  std::vector<TensorInfo> tensors_;
  std::vector<const QuantizedWeight*> weight_of_;  // of each tensor; null: it has no scales
};

// The last words of the names of activations' scales.
constexpr std::array<std::string_view, 4> kOfActivations = {"input_scale", "activation_scale",
                                                            "output_scale", "qscale_act"};

// Finds the quantised weights of a checkpoint.
class Finder {
 public:
  Finder(const TensorSource& source, const Json& config)
      : source_(source), scheme_(read_quantization(config, source.label())) {
    has_activations_ = std::ranges::any_of(source.tensors(), [](const TensorInfo& t) {
      return std::ranges::any_of(kOfActivations,
                                 [&](std::string_view end) { return t.name.ends_with(end); });
    });
  }

  void run() {
    for (const TensorInfo& t : source_.tensors()) {
      if (is_float8(t.dtype)) {
        add_float8(t);
      } else if (const auto name = without_end(t.name, "_blocks")) {
        add_mxfp4(t, *name);
      } else if (const auto scales = without_end(t.name, "_scales");
                 scales && scheme_ && scheme_->mxfp4 && !source_.find(*scales + "_blocks")) {
        throw refusal(t, fmt::format("has no {}_blocks beside it: expected both", *scales));
      }
    }
    if (!weights.empty() && scheme_->cache_scales) consume_cache_scales();
  }

  QuantizedWeights weights;
  std::set<std::string> consumed;

 private:
  static std::optional<std::string> without_end(const std::string& name, std::string_view end) {
    if (!name.ends_with(end)) return std::nullopt;
    return name.substr(0, name.size() - end.size());
  }

  Error refusal(const TensorInfo& t, std::string_view what) const {
    return input_error("{}: tensor {} {}", source_.label(), t.name, what);
  }

  // ---- float8 ----

  void add_float8(const TensorInfo& t) {
    if (!scheme_ || scheme_->mxfp4) {
      throw refusal(t, fmt::format("is {}, but config.json has {}", dtype_name(t.dtype),
                                   scheme_ ? "quant_method \"mxfp4\"" : "no quantization_config"));
    }
    const TensorInfo& scale = find_scale(t);
    if (t.shape.size() != 2 && t.shape.size() != 3) {
      throw refusal(t, fmt::format("is {} of {}, expected a matrix or a stack of matrices",
                                   dtype_name(t.dtype), to_string(t.shape)));
    }
    QuantizedWeight weight{&t, &scale, false, scheme_->byte_exponents, {}, t.shape};
    const bool exponents =
        scale.dtype == DType::kF8E8M0 || (scale.dtype == DType::kU8 && weight.byte_exponents);
    if (!exponents && !is_arithmetic(scale.dtype)) {
      throw refusal(scale,
                    fmt::format("is {}, expected F32, F16, BF16 or F8_E8M0 for the scales of {}",
                                dtype_name(scale.dtype), t.name));
    }
    const auto grid = grid_of(t, scale.shape);
    if (!grid) {
      throw refusal(scale, fmt::format("is {}, which does not fit {} of {}: expected {}",
                                       to_string(scale.shape), t.name, to_string(t.shape),
                                       expected_scales(t)));
    }
    weight.grid = *grid;
    weights[t.name] = std::move(weight);
    consumed.insert(scale.name);
    if (has_activations_) consume_activations(t);
  }

  // The scale of a float8 tensor. Throws when it has none, two, or other companions.
  const TensorInfo& find_scale(const TensorInfo& weight) const {
    const TensorInfo* scale = nullptr;
    const std::string prefix = weight.name + "_";
    const auto& all = source_.tensors();
    auto t = std::ranges::lower_bound(all, prefix, {}, &TensorInfo::name);
    for (; t != all.end() && t->name.starts_with(prefix); ++t) {
      const std::string_view rest = std::string_view(t->name).substr(prefix.size());
      if (rest == "bias" || is_of_activations(rest)) continue;
      if (scale || (rest != "scale" && rest != "scale_inv")) {
        throw refusal(weight, fmt::format("is {}, and what {} beside it means is not understood",
                                          dtype_name(weight.dtype), t->name));
      }
      scale = &*t;
    }
    const auto module = without_end(weight.name, "weight");
    for (const char* name : {"scale", "qscale_weight"}) {
      if (!scale && module) scale = source_.find(*module + name);
    }
    if (scale) return *scale;
    throw refusal(weight, fmt::format("is {}, but has no scale: expected {}_scale_inv or {}_scale",
                                      dtype_name(weight.dtype), weight.name, weight.name));
  }

  std::string expected_scales(const TensorInfo& weight) const {
    const size_t n = weight.shape.size();
    const int64_t rows = weight.shape[n - 2], columns = weight.shape[n - 1];
    const std::string stack = n == 3 ? fmt::format("{}, ", weight.shape[0]) : "";
    std::string all;
    const auto add = [&](std::string_view what) {
      all += (all.empty() ? "" : ", or ") + std::string(what);
    };
    if (scheme_->per_tensor) add(n == 3 ? "one number, or one per matrix" : "one number");
    if (scheme_->per_row) add(fmt::format("one per row, [{}{}, 1]", stack, rows));
    if (const auto b = scheme_->block) {
      add(fmt::format("one per block of {} x {}, [{}{}, {}]", (*b)[0], (*b)[1], stack,
                      blocks(rows, (*b)[0]), blocks(columns, (*b)[1])));
    } else {
      all += " (config.json names no weight_block_size)";
    }
    return all;
  }

  std::optional<ScaleGrid> grid_of(const TensorInfo& weight, const Shape& scale) const {
    const bool stack = weight.shape.size() == 3;
    const int64_t matrices = stack ? weight.shape[0] : 1;
    const int64_t rows = weight.shape[stack ? 1 : 0], columns = weight.shape[stack ? 2 : 1];
    // The shape of scales with so many rows and columns per matrix.
    const auto is = [&](int64_t r, int64_t c) {
      return scale == (stack ? Shape{matrices, r, c} : Shape{r, c}) ||
             (c == 1 && scale == (stack ? Shape{matrices, r} : Shape{r}));
    };
    const ScaleGrid whole{std::max<int64_t>(1, rows), std::max<int64_t>(1, columns)};
    ScaleGrid grid = whole;
    grid.row_block = grid.rows;
    grid.column_block = grid.columns;
    if (scheme_->per_tensor && element_count(scale) == 1) return grid;
    grid.rows_per_matrix = 1;
    if (scheme_->per_tensor && stack && (is(1, 1) || scale == Shape{matrices})) return grid;
    if (scheme_->per_row && is(rows, 1)) {
      grid.rows_per_matrix = rows;
      grid.row_block = 1;
      return grid;
    }
    if (scheme_->per_column && stack && scale == Shape{matrices, 1, columns}) {
      grid.per_row = columns;
      grid.column_block = 1;
      return grid;
    }
    return scheme_->block ? block_grid(weight, whole, is) : std::nullopt;
  }

  template <typename Is>
  std::optional<ScaleGrid> block_grid(const TensorInfo& weight, ScaleGrid grid,
                                      const Is& is) const {
    const auto [row_block, column_block] = *scheme_->block;
    grid.row_block = row_block;
    grid.column_block = column_block;
    grid.rows_per_matrix = blocks(grid.rows, row_block);
    grid.per_row = blocks(grid.columns, column_block);
    if (is(grid.rows_per_matrix, grid.per_row)) return grid;
    // Experts' gate and up as one tensor: each has blocks of its own.
    const int64_t half = grid.rows / 2;
    const bool halves = weight.shape.size() == 3 && grid.rows % 2 == 0 && half > 0 &&
                        weight.name.find("gate_up") != std::string::npos;
    if (!halves || !is(2 * blocks(half, row_block), grid.per_row)) return std::nullopt;
    grid.rows = half;
    grid.rows_per_matrix = blocks(half, row_block);
    return grid;
  }

  static bool is_of_activations(std::string_view name) {
    return std::ranges::find(kOfActivations, name) != kOfActivations.end();
  }

  // The scales of what goes into and out of a layer: `module`.input_scale, ...
  void consume_activations(const TensorInfo& weight) {
    const std::string module = weight.name.substr(0, weight.name.rfind('.') + 1);
    const int64_t matrices = weight.shape.size() == 3 ? weight.shape[0] : 1;
    for (const std::string_view name : kOfActivations) {
      for (const std::string& from : {module, weight.name + "_"}) {
        const TensorInfo* t = source_.find(from + std::string(name));
        const int64_t count = t ? element_count(t->shape) : 0;
        if (t && (count == 1 || count == matrices)) consumed.insert(t->name);
      }
    }
  }

  void consume_cache_scales() {
    for (const TensorInfo& t : source_.tensors()) {
      for (const char* name : {".k_scale", ".v_scale", ".kv_scale", ".output_scale"}) {
        if (t.name.ends_with(name) && element_count(t.shape) == 1) consumed.insert(t.name);
      }
    }
  }

  // ---- MXFP4 ----

  void add_mxfp4(const TensorInfo& t, const std::string& name) {
    const TensorInfo* scales = source_.find(name + "_scales");
    const bool configured = scheme_ && scheme_->mxfp4;
    if (!configured) {
      if (!scales || t.dtype != DType::kU8 || scales->dtype != DType::kU8) return;
      throw refusal(t, fmt::format("and {} look like MXFP4, but config.json has {}", scales->name,
                                   scheme_ ? "quant_method \"" + scheme_->method + "\""
                                           : "no quantization_config"));
    }
    if (!scales) throw refusal(t, fmt::format("has no scales: expected {}_scales", name));
    if (source_.find(name))
      throw refusal(t, fmt::format("stands beside {}: expected one of both", name));
    if (t.dtype != DType::kU8 || t.shape.size() != 4 || t.shape[3] != kMxBytes ||
        element_count(t.shape) == 0) {
      throw refusal(
          t, fmt::format("is {} {}, expected U8 [experts, rows, groups, {}] with none of them 0",
                         dtype_name(t.dtype), to_string(t.shape), kMxBytes));
    }
    const Shape expected(t.shape.begin(), t.shape.begin() + 3);
    if ((scales->dtype != DType::kU8 && scales->dtype != DType::kF8E8M0) ||
        scales->shape != expected) {
      throw refusal(*scales, fmt::format("is {} {}, expected U8 {} for {} of {}",
                                         dtype_name(scales->dtype), to_string(scales->shape),
                                         to_string(expected), t.name, to_string(t.shape)));
    }
    const int64_t rows = t.shape[1], columns = t.shape[2] * kMxBlock;
    QuantizedWeight weight{&t, scales, true, true, {}, {t.shape[0], rows, columns}};
    weight.grid = {
        std::max<int64_t>(1, rows), std::max<int64_t>(1, columns), rows, t.shape[2], 1, kMxBlock};
    weights[name] = std::move(weight);
    consumed.insert(t.name);
    consumed.insert(scales->name);
  }

  const TensorSource& source_;
  std::optional<QuantizationScheme> scheme_;
  bool has_activations_ = false;  // some tensor is named as the scales of activations are
};

// Shows the stacks of MXFP4 turned around: [experts, columns, rows].
std::shared_ptr<const TensorSource> turned(std::shared_ptr<const TensorSource> source,
                                           const QuantizedWeights& weights) {
  std::vector<PiecedTensor> shown;
  for (const TensorInfo& t : source->tensors()) {
    const auto found = weights.find(t.name);
    PiecedTensor piece = whole_tensor(t);
    if (found != weights.end() && found->second.mxfp4) {
      std::swap(piece.info.shape[1], piece.info.shape[2]);
      const int64_t rows = t.shape[1], columns = t.shape[2];
      piece.pieces.clear();
      for (int64_t e = 0; e < t.shape[0]; ++e)
        piece.pieces.push_back({&t, {e * rows * columns, columns, rows, 1, columns}});
    }
    shown.push_back(std::move(piece));
  }
  return show_pieces(source, std::move(shown));
}

std::string kind_of(const QuantizedWeight& w) {
  if (w.mxfp4) return "MXFP4";
  const ScaleGrid& g = w.grid;
  const std::string type(dtype_name(w.codes->dtype));
  if (g.row_block >= g.rows && g.column_block >= g.columns) return type + " with one scale each";
  if (g.row_block == 1 && g.column_block >= g.columns) return type + " with one scale per row";
  if (g.column_block == 1) return type + " with one scale per column";
  return fmt::format("{} with one scale per block of {} x {}", type, g.row_block, g.column_block);
}

// Which weights are quantised, and which matrices of layers are not.
std::string note_on(const TensorSource& source, const QuantizedWeights& weights,
                    const std::set<std::string>& consumed) {
  std::map<std::string, size_t> kinds;
  for (const auto& [_, weight] : weights) ++kinds[kind_of(weight)];
  std::string stored;
  for (const auto& [kind, count] : kinds) {
    stored += stored.empty() ? "" : ", ";
    stored += kinds.size() > 1 ? fmt::format("{} as {}", count, kind) : "as " + kind;
  }
  size_t plain = 0;
  std::string first;
  for (const TensorInfo& t : source.tensors()) {
    if (t.shape.size() < 2 || weights.contains(t.name) || consumed.contains(t.name) ||
        t.name.ends_with("bias") || !split_layer(t.name).layer)
      continue;
    if (plain++ == 0) first = fmt::format("{}, {}", t.name, dtype_name(t.dtype));
  }
  const bool one = weights.size() == 1;
  std::string note =
      fmt::format("{}: {} weight{} stored quantised, {}: read as the bfloat16 values that {} for",
                  source.label(), weights.size(), one ? " is" : "s are", stored,
                  one ? "it stands" : "they stand");
  if (plain > 0) {
    note += fmt::format("; {} other matri{} of its layers {} not quantised ({} first)", plain,
                        plain == 1 ? "x" : "ces", plain == 1 ? "is" : "are", first);
  }
  return note;
}

}  // namespace

bool has_scale(const TensorSource& source, const std::string& weight) {
  const std::string module = weight.substr(0, weight.rfind('.') + 1);
  return source.find(weight + "_scale") || source.find(weight + "_scale_inv") ||
         (weight.ends_with(".weight") &&
          (source.find(module + "scale") || source.find(module + "qscale_weight")));
}

WidenedSource widen_quantized(std::shared_ptr<const TensorSource> source, const Json& config) {
  Finder found(*source, config);
  found.run();
  if (found.weights.empty()) return {std::move(source), {}, ""};
  std::string note = note_on(*source, found.weights, found.consumed);
  const auto weights = std::make_shared<const QuantizedWeights>(std::move(found.weights));
  const bool mxfp4 = weights->begin()->second.mxfp4;  // the config says it of all
  std::shared_ptr<const TensorSource> shown =
      std::make_shared<const QuantizedSource>(std::move(source), weights, found.consumed);
  if (mxfp4) shown = turned(std::move(shown), *weights);
  return {std::move(shown), {found.consumed.begin(), found.consumed.end()}, std::move(note)};
}

}  // namespace lewis
