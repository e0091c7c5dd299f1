#include "merge/fp8_blocks.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <span>

#include "base/dtype.h"
#include "base/error.h"
#include "base/json.h"
#include "io/quantization.h"

namespace lewis {
namespace {

constexpr float kLargest = 448;  // of E4M3

int64_t blocks(int64_t size, int64_t block) { return (size + block - 1) / block; }

const TensorInfo* scale_of(const TensorSource& source, const TensorInfo& codes) {
  for (const char* end : {"_scale_inv", "_scale"}) {
    if (const TensorInfo* scale = source.find(codes.name + end)) return scale;
  }
  return nullptr;
}

bool has_power_of_two_scales(const Json& config) {
  const auto quantization = config.find("quantization_config");
  return quantization != config.end() && quantization->is_object() &&
         quantization->value("scale_fmt", Json()) == "ue8m0";
}

// Branches would keep the loop from being vectorised: small and normal numbers are both computed.
inline uint8_t encode(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const float size = std::min(std::bit_cast<float>(bits & 0x7fffffffu), kLargest);
  const uint32_t u = std::bit_cast<uint32_t>(size);
  // 3 bits of the significand stay; the exponent's bias goes from 127 to 7.
  const uint32_t normal = ((u + 0x7ffffu + ((u >> 20) & 1u)) >> 20) - (120u << 3);
  // Below 2^-6 codes are multiples of 2^-9, which adding 2^14 rounds to.
  const uint32_t small =
      std::bit_cast<uint32_t>(size + 16384.0f) - std::bit_cast<uint32_t>(16384.0f);
  const uint32_t is_small = 0u - static_cast<uint32_t>(u < 0x3c800000u);
  return static_cast<uint8_t>((bits >> 24 & 0x80u) | (small & is_small) | (normal & ~is_small));
}

// Sums of squares, in four lanes each.
constexpr size_t kLanes = 4;
typedef double Doubles __attribute__((vector_size(8 * kLanes)));
typedef float Floats __attribute__((vector_size(4 * kLanes)));
struct Squares {
  Doubles error{}, values{};
};

// n: a multiple of kLanes.
LEWIS_VECTORIZED void add_squares(const float* x, const float* decoded, float scale, size_t n,
                                  Squares& sums) {
  Doubles error = sums.error, values = sums.values;
  for (size_t i = 0; i < n; i += kLanes) {
    Floats a, b;
    std::memcpy(&a, x + i, sizeof a);
    std::memcpy(&b, decoded + i, sizeof b);
    const Doubles value = __builtin_convertvector(a, Doubles);
    const Doubles difference = __builtin_convertvector(b * scale, Doubles) - value;
    error += difference * difference;
    values += value * value;
  }
  sums.error = error;
  sums.values = values;
}

double sum_of(const Doubles& lanes) { return (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]); }

LEWIS_VECTORIZED void encode_all(const float* in, float scale, size_t n, uint8_t* out) {
  for (size_t i = 0; i < n; ++i) out[i] = encode(in[i] / scale);
}

// The bits of the largest magnitude: those of floats of one sign are ordered as whole numbers.
LEWIS_VECTORIZED uint32_t largest_bits(const float* in, size_t n) {
  uint32_t most = 0;
  for (size_t i = 0; i < n; ++i)
    most = std::max(most, std::bit_cast<uint32_t>(in[i]) & 0x7fffffffu);
  return most;
}

float scale_for(float largest, const Fp8Matrix& matrix) {
  float scale = largest == 0 ? 1 : largest / kLargest;
  if (scale == 0) scale = std::bit_cast<float>(0x00800000u);  // values too small to be told apart
  if (matrix.powers_of_two) {
    int exponent = 0;
    const float fraction = std::frexp(scale, &exponent);
    scale = std::ldexp(1.0f, fraction == 0.5f ? exponent - 1 : exponent);
  }
  // The scale as it is stored, but none that would make the largest value overflow by more than the
  // rounding of a code.
  std::array<std::byte, 4> stored;
  narrow({&scale, 1}, matrix.scale.dtype, stored.data());
  widen(matrix.scale.dtype, stored.data(), {&scale, 1});
  return scale;
}

}  // namespace

uint8_t float_to_f8e4m3(float value) { return encode(value); }

void check_fp8(const Recipe& recipe) {
  if (!recipe.fp8_block) return;
  const auto refuse = [&](std::string_view what) {
    throw usage_error(
        "{}: out_dtype: fp8_block does not go with {}: these tensors are written as plain numbers; "
        "use bfloat16",
        recipe.file.string(), what);
  };
  if (!recipe.slices.empty()) refuse("slices");
  if (!recipe.modules.empty()) refuse("modules");
  if (refines(recipe)) refuse("lewis.refine");
  if (recipe.experts == ExpertTensors::kFused) refuse("experts: fused");
}

Fp8Matrices find_fp8_matrices(const InputModel& model) {
  Fp8Matrices found;
  if (!model.quantized) {
    throw usage_error(
        "out_dtype: fp8_block: {} stores no float8 weights; expected a base with "
        "float8 matrices and a scale per block",
        model.label());
  }
  const Json& config = *model.quantized->config;
  const auto scheme = read_quantization(config, model.label());
  for (const TensorInfo& t : model.quantized->stored->tensors()) {
    if (!is_float8(t.dtype)) continue;
    const TensorInfo* scale = scale_of(*model.quantized->stored, t);
    const bool fits = scale && scheme && scheme->block && t.shape.size() == 2 &&
                      t.dtype == DType::kF8E4M3 && is_arithmetic(scale->dtype) &&
                      scale->shape == Shape{blocks(t.shape[0], (*scheme->block)[0]),
                                            blocks(t.shape[1], (*scheme->block)[1])};
    if (!fits) {
      throw input_error(
          "{}: tensor {} is {} {}; out_dtype: fp8_block writes F8_E4M3 matrices with "
          "an F32, BF16 or F16 scale per block of weight_block_size",
          model.label(), t.name, dtype_name(t.dtype), to_string(t.shape));
    }
    // A block may be larger than the matrix.
    found[t.name] = {t, *scale, std::clamp<int64_t>(t.shape[0], 1, (*scheme->block)[0]),
                     std::clamp<int64_t>(t.shape[1], 1, (*scheme->block)[1]),
                     has_power_of_two_scales(config)};
  }
  if (found.empty())
    throw usage_error("out_dtype: fp8_block: {} stores no float8 matrices", model.label());
  return found;
}

std::vector<TensorInfo> with_fp8(const std::vector<TensorInfo>& tensors, const Fp8Matrices& fp8) {
  std::vector<TensorInfo> all;
  for (const TensorInfo& t : tensors) {
    const auto matrix = fp8.find(t.name);
    if (matrix == fp8.end()) {
      all.push_back(t);
    } else {
      all.push_back(matrix->second.codes);
      all.push_back(matrix->second.scale);
    }
  }
  return all;
}

Fp8Writer::Fp8Writer(TensorWriter& inner, const std::vector<TensorInfo>& tensors,
                     const Fp8Matrices& fp8, const QuantizedStore& base)
    : inner_(inner), base_(base) {
  std::map<std::string_view, std::pair<const TensorInfo*, const Fp8Matrix*>> wanted;
  for (const TensorInfo& t : tensors) {
    const auto matrix = fp8.find(t.name);
    const Fp8Matrix* of = matrix == fp8.end() ? nullptr : &matrix->second;
    wanted[t.name] = {&t, of};
    if (of) wanted[of->scale.name] = {&t, of};
  }
  std::map<std::string_view, size_t> known;
  for (size_t i = 0; i < inner.tensors().size(); ++i) {
    const auto& [tensor, matrix] = wanted.at(inner.tensors()[i].name);
    const auto [place, is_new] = known.emplace(tensor->name, places_.size());
    if (is_new) {
      tensors_.push_back(*tensor);
      places_.push_back({kNowhere, kNowhere, matrix});
    }
    Place& p = places_[place->second];
    (matrix && inner.tensors()[i].name == matrix->scale.name ? p.scale : p.codes) = i;
  }
}

bool Fp8Writer::is_done(size_t tensor) const {
  const Place& p = places_.at(tensor);
  return (p.codes == kNowhere || inner_.is_done(p.codes)) &&
         (p.scale == kNowhere || inner_.is_done(p.scale));
}

size_t Fp8Writer::lead(size_t tensor, uint64_t offset) const {
  const Place& p = places_.at(tensor);
  return p.matrix ? 0 : inner_.lead(p.codes, offset);
}

void Fp8Writer::put(size_t tensor, std::span<const std::byte> bytes) {
  if (tensor != kNowhere && !inner_.is_done(tensor)) inner_.write(tensor, 0, bytes);
}

void Fp8Writer::write(size_t tensor, uint64_t offset, std::span<const std::byte> bytes) {
  const Place& place = places_.at(tensor);
  if (!place.matrix) return inner_.write(place.codes, offset, bytes);
  const Fp8Matrix& matrix = *place.matrix;
  const auto columns = static_cast<size_t>(matrix.codes.shape[1]);
  const size_t band = static_cast<size_t>(matrix.rows) * columns;
  const size_t all = static_cast<size_t>(element_count(matrix.codes.shape));
  Begun& begun = begun_[tensor];
  if (offset != begun.seen * sizeof(float)) {
    throw failed_error("fp8_block: bytes of {} came at {}, expected at {}", matrix.codes.name,
                       offset, begun.seen * sizeof(float));
  }
  // A row of blocks is taken as it comes where it comes whole, else it is gathered.
  for (size_t at = 0; at < bytes.size() / sizeof(float);) {
    const size_t left = bytes.size() / sizeof(float) - at, done = begun.seen % band;
    const size_t n = std::min(left, std::min(band - done, all - begun.seen));
    begun.band.resize(done + n);
    std::memcpy(begun.band.data() + done, bytes.data() + at * sizeof(float), n * sizeof(float));
    begun.seen += n;
    at += n;
    if (begun.seen % band != 0 && begun.seen != all) continue;
    const auto first_row =
        static_cast<int64_t>((begun.seen - begun.band.size()) / std::max<size_t>(1, columns));
    encode_band(matrix, begun.band, first_row, begun);
    if (!begun.differs) compare(matrix, begun.band, first_row, begun);
  }
  if (begun.seen < all) return;
  finish(place, begun);
  begun_.erase(tensor);
}

// `values`: whole rows of one row of blocks.
void Fp8Writer::encode_band(const Fp8Matrix& matrix, std::span<const float> values,
                            int64_t first_row, Begun& begun) {
  const int64_t columns = matrix.codes.shape[1];
  const int64_t rows = static_cast<int64_t>(values.size()) / columns;
  const size_t at = static_cast<size_t>(first_row * columns);
  begun.codes.resize(at + values.size());
  auto* codes = reinterpret_cast<uint8_t*>(begun.codes.data() + at);
  const auto room = (static_cast<size_t>(matrix.columns) + kLanes - 1) / kLanes * kLanes;
  std::vector<float> decoded(room), exact(room);
  Squares sums;
  for (int64_t column = 0; column < columns; column += matrix.columns) {
    const auto n = static_cast<size_t>(std::min(matrix.columns, columns - column));
    uint32_t most = 0;
    for (int64_t row = 0; row < rows; ++row)
      most = std::max(most, largest_bits(values.data() + row * columns + column, n));
    const float scale = scale_for(std::bit_cast<float>(most), matrix);
    std::array<std::byte, 4> stored;
    narrow({&scale, 1}, matrix.scale.dtype, stored.data());
    begun.scales.insert(begun.scales.end(), stored.begin(),
                        stored.begin() + dtype_size(matrix.scale.dtype));
    for (int64_t row = 0; row < rows; ++row) {
      const float* from = values.data() + row * columns + column;
      uint8_t* to = codes + row * columns + column;
      encode_all(from, scale, n, to);
      // Zeros behind the end add nothing.
      std::fill(decoded.begin(), decoded.end(), 0.0f);
      std::fill(exact.begin(), exact.end(), 0.0f);
      std::copy_n(from, n, exact.begin());
      widen(DType::kF8E4M3, std::as_bytes(std::span(to, n)).data(), {decoded.data(), n});
      add_squares(exact.data(), decoded.data(), scale, exact.size(), sums);
    }
  }
  begun.error += sum_of(sums.error);
  begun.squares += sum_of(sums.values);
}

void Fp8Writer::compare(const Fp8Matrix& matrix, std::span<const float> values, int64_t first_row,
                        Begun& begun) const {
  const TensorInfo& base = base_.shown->get(matrix.codes.name);
  std::vector<std::byte> own(2 * values.size()), of_base(2 * values.size());
  narrow(values, DType::kBF16, own.data());
  base_.shown->read(base, first_row * matrix.codes.shape[1], of_base);
  begun.differs = own != of_base;
}

void Fp8Writer::finish(const Place& place, Begun& begun) {
  const Fp8Matrix& matrix = *place.matrix;
  if (begun.differs) {
    ++encoded_;
    error_ += begun.error;
    squares_ += begun.squares;
    const double relative = begun.squares > 0 ? std::sqrt(begun.error / begun.squares) : 0;
    if (relative >= worst_) {
      worst_ = relative;
      worst_name_ = matrix.codes.name;
    }
  } else {
    ++copied_;
    base_.stored->read(matrix.codes, 0, begun.codes);
    base_.stored->read(matrix.scale, 0, begun.scales);
  }
  put(place.codes, begun.codes);
  put(place.scale, begun.scales);
}

std::string Fp8Writer::note() const {
  if (encoded_ + copied_ == 0) return "";
  std::string text = fmt::format("fp8_block: {} matrices have new codes and scales", encoded_);
  if (encoded_ > 0) {
    text += fmt::format(
        ", which differ from the merged values by {:.2f} % of their length "
        "({:.2f} % at most, in {})",
        100 * std::sqrt(error_ / std::max(squares_, 1e-300)), 100 * worst_, worst_name_);
  }
  return text +
         fmt::format("; {} have the base's values, and its codes and scales bit for bit", copied_);
}

}  // namespace lewis
