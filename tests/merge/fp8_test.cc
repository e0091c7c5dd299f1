// Float8 checkpoints, against the definition in double over all 256 codes.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "base/error.h"
#include "base/json.h"
#include "memory_source.h"
#include "merge/sources/fp8_source.h"

namespace lewis {
namespace {

Json fp8_config(Json more = Json::object()) {
  Json quantization{{"quant_method", "fp8"}, {"activation_scheme", "dynamic"}};
  quantization.update(more);
  return {{"model_type", "llama"}, {"quantization_config", quantization}};
}

Json compressed_config(Json weights = Json::object(), Json more = Json::object()) {
  Json all{{"num_bits", 8}, {"type", "float"}, {"strategy", "channel"}, {"symmetric", true}};
  all.update(weights);
  Json quantization{{"quant_method", "compressed-tensors"},
                    {"format", "float-quantized"},
                    {"kv_cache_scheme", nullptr},
                    {"ignore", {"lm_head"}},
                    {"config_groups", {{"group_0", {{"targets", {"Linear"}}, {"weights", all}}}}}};
  quantization.update(more);
  return {{"quantization_config", quantization}};
}

float code_value(DType dtype, std::byte code) {
  const auto b = static_cast<uint8_t>(code);
  return dtype == DType::kF8E4M3 ? f8e4m3_to_float(b) : f8e5m2_to_float(b);
}

struct Weight {
  DType dtype;
  Shape shape;
  std::vector<std::byte> codes;

  Weight(DType type, int64_t rows, int64_t columns) : dtype(type), shape{rows, columns} {
    codes.resize(static_cast<size_t>(rows * columns));
    for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<std::byte>(i * 7 + i / 256);
  }
};

// scale_of(row, column) -> index into scales. Checks the whole tensor and ranges of it.
void expect_widened(const Weight& w, const std::string& scale_name, const Shape& scale_shape,
                    DType scale_dtype, const Json& config,
                    const std::function<size_t(int64_t, int64_t)>& scale_of) {
  std::vector<float> scales(static_cast<size_t>(element_count(scale_shape)));
  for (size_t i = 0; i < scales.size(); ++i)
    scales[i] = bf16_to_float(float_to_bf16(0.001f * static_cast<float>(i * 37 % 101 + 1)));
  auto source = std::make_shared<MemorySource>();
  source->add_bytes("a.weight", w.dtype, w.shape, w.codes);
  source->add(scale_name, scale_dtype, scale_shape, scales);
  source->add("norm.weight", DType::kBF16, {2}, {1, 2});
  const WidenedSource widened = widen_fp8(source, config);
  EXPECT_EQ(widened.consumed, std::vector<std::string>{scale_name});
  EXPECT_EQ(widened.untrue_config_key, "quantization_config");
  ASSERT_EQ(widened.source->tensors().size(), 2u);
  const TensorInfo& info = widened.source->get("a.weight");
  EXPECT_EQ(info, (TensorInfo{"a.weight", DType::kBF16, w.shape}));
  std::vector<uint16_t> all(w.codes.size());
  widened.source->read(info, 0, std::as_writable_bytes(std::span(all)));
  for (size_t i = 0; i < all.size(); ++i) {
    const auto at = static_cast<int64_t>(i);
    const float value = code_value(w.dtype, w.codes[i]);
    const float scale = scales[scale_of(at / w.shape[1], at % w.shape[1])];
    const float found = bf16_to_float(all[i]);
    if (std::isnan(value)) {
      ASSERT_TRUE(std::isnan(found));
      continue;
    }
    // 4 bits times 8 bits are exact in float: the nearest bf16 of the true product.
    ASSERT_EQ(all[i], float_to_bf16(static_cast<float>(static_cast<double>(value) *
                                                       static_cast<double>(scale))))
        << to_string(w.shape) << " at " << i;
  }
  for (size_t first = 0; first < all.size(); first += 61) {
    const size_t count = std::min<size_t>(first % 173 + 1, all.size() - first);
    std::vector<uint16_t> part(count);
    widened.source->read(info, static_cast<int64_t>(first),
                         std::as_writable_bytes(std::span(part)));
    for (size_t i = 0; i < count; ++i) ASSERT_EQ(part[i], all[first + i]) << first << "+" << i;
  }
}

TEST(Fp8, BlocksWithRaggedEdges) {
  for (const auto& [rows, columns] :
       {std::pair<int64_t, int64_t>{128, 256}, {130, 259}, {1, 300}, {257, 1}, {5, 2000}}) {
    for (const DType dtype : {DType::kF8E4M3, DType::kF8E5M2}) {
      const int64_t per_row = (columns + 127) / 128;
      expect_widened(
          {dtype, rows, columns}, "a.weight_scale_inv", {(rows + 127) / 128, per_row}, DType::kF32,
          fp8_config({{"weight_block_size", {128, 128}}}),
          [&](int64_t r, int64_t c) { return static_cast<size_t>(r / 128 * per_row + c / 128); });
    }
  }
  expect_widened({DType::kF8E4M3, 10, 21}, "a.weight_scale", {4, 3}, DType::kBF16,
                 compressed_config({{"strategy", "block"}, {"block_structure", {3, 8}}}),
                 [&](int64_t r, int64_t c) { return static_cast<size_t>(r / 3 * 3 + c / 8); });
}

TEST(Fp8, OneScaleOrOneARow) {
  const auto one = [](int64_t, int64_t) { return size_t{0}; };
  const auto by_row = [](int64_t r, int64_t) { return static_cast<size_t>(r); };
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{1, 1}}) {
    expect_widened({DType::kF8E4M3, 16, 33}, "a.weight_scale", shape, DType::kF32, fp8_config(),
                   one);
    expect_widened({DType::kF8E5M2, 16, 33}, "a.weight_scale_inv", shape, DType::kBF16,
                   fp8_config({{"weight_block_size", nullptr}}), one);
  }
  for (const Shape& shape : {Shape{19}, Shape{19, 1}}) {
    expect_widened({DType::kF8E4M3, 19, 33}, "a.weight_scale", shape, DType::kBF16,
                   compressed_config(), by_row);
  }
}

TEST(Fp8, ScalesOfActivationsAndCacheAreConsumed) {
  auto source = std::make_shared<MemorySource>();
  const Weight w(DType::kF8E4M3, 2, 2);
  source->add_bytes("k_proj.weight", w.dtype, w.shape, w.codes);
  for (const char* name : {"k_proj.weight_scale", "k_proj.input_scale", "k_proj.activation_scale",
                           "attn.k_scale", "attn.v_scale"}) {
    source->add(name, DType::kF32, {}, {2});
  }
  source->add("other.input_scale", DType::kF32, {}, {2});  // of no float8 weight: stays
  const auto names = [](const WidenedSource& s) {
    std::vector<std::string> all;
    for (const TensorInfo& t : s.source->tensors()) all.push_back(t.name);
    return all;
  };
  const auto plain = widen_fp8(source, fp8_config());
  EXPECT_EQ(names(plain), (std::vector<std::string>{"attn.k_scale", "attn.v_scale", "k_proj.weight",
                                                    "other.input_scale"}));
  const auto cache = widen_fp8(source, fp8_config({{"kv_cache_scheme", "static"}}));
  EXPECT_EQ(names(cache), (std::vector<std::string>{"k_proj.weight", "other.input_scale"}));
  EXPECT_EQ(cache.consumed,
            (std::vector<std::string>{"attn.k_scale", "attn.v_scale", "k_proj.activation_scale",
                                      "k_proj.input_scale", "k_proj.weight_scale"}));
}

TEST(Fp8, ACheckpointWithoutFloat8IsReturnedAsItIs) {
  auto source = std::make_shared<MemorySource>();
  source->add("a.weight", DType::kBF16, {2}, {1, 2});
  source->add("a.weight_scale", DType::kBF16, {}, {1});
  for (const Json& config : {Json::object(), fp8_config()}) {
    const WidenedSource same = widen_fp8(source, config);
    EXPECT_EQ(same.source, source);
    EXPECT_TRUE(same.consumed.empty());
    EXPECT_EQ(same.untrue_config_key, "");
  }
}

void expect_refused(const std::shared_ptr<MemorySource>& source, const Json& config,
                    const std::string& says) {
  try {
    widen_fp8(source, config);
    FAIL() << says;
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kInput);
    EXPECT_NE(std::string(e.what()).find(says), std::string::npos) << says << ": " << e.what();
    EXPECT_TRUE(std::string(e.what()).starts_with("memory: ")) << e.what();
  }
}

std::shared_ptr<MemorySource> with_scale(const std::string& name, const Shape& shape,
                                         DType dtype = DType::kF32, float value = 1) {
  auto source = std::make_shared<MemorySource>();
  const Weight w(DType::kF8E4M3, 6, 4);
  source->add_bytes("a.weight", w.dtype, w.shape, w.codes);
  source->add(name, dtype, shape,
              std::vector<float>(static_cast<size_t>(element_count(shape)), value));
  return source;
}

TEST(Fp8, RefusesScalesThatDoNotFit) {
  const Json blocks = fp8_config({{"weight_block_size", {4, 4}}});
  expect_refused(with_scale("other", {}), blocks, "a.weight is F8_E4M3, but has no scale");
  expect_refused(with_scale("a.weight_scale_inv", {1, 2}), blocks,
                 "a.weight_scale_inv is [1, 2], which does not fit a.weight of [6, 4]");
  expect_refused(with_scale("a.weight_scale_inv", {2, 1}), fp8_config(),
                 "config.json names no weight_block_size");
  expect_refused(with_scale("a.weight_scale", {4}), blocks, "does not fit");
  expect_refused(with_scale("a.weight_scale", {6}, DType::kU8), blocks, "is U8, expected F32");
  expect_refused(with_scale("a.weight_scale", {6}, DType::kF32, INFINITY), blocks, "not finite");
  expect_refused(with_scale("a.weight_zero_point", {}), blocks,
                 "what a.weight_zero_point beside it means is not understood");
  auto both = with_scale("a.weight_scale", {});
  both->add("a.weight_scale_inv", DType::kF32, {}, {1});
  expect_refused(both, blocks, "what a.weight_scale_inv beside it means");
  auto vector = std::make_shared<MemorySource>();
  vector->add_bytes("v", DType::kF8E4M3, {4}, std::vector<std::byte>(4));
  vector->add("v_scale", DType::kF32, {}, {1});
  expect_refused(vector, blocks, "tensor v is F8_E4M3 of [4], expected a matrix");
}

TEST(Fp8, RefusesOtherSchemesByName) {
  const auto good = with_scale("a.weight_scale", {});
  expect_refused(good, Json::object(), "a.weight is F8_E4M3, but config.json has no quant");
  for (const char* method : {"awq", "gptq", "bitsandbytes"}) {
    expect_refused(good, {{"quantization_config", {{"quant_method", method}}}},
                   fmt::format("is quantised ({}): its weights are packed integers", method));
  }
  for (const char* method : {"mxfp4", "modelopt", "int8", ""}) {
    expect_refused(good, {{"quantization_config", {{"quant_method", method}}}},
                   fmt::format("quantization_config.quant_method is \"{}\", expected", method));
  }
  expect_refused(good, {{"quantization_config", {{"bits", 8}}}}, "quant_method is null");
  expect_refused(good, {{"quantization_config", 3}}, "quantization_config is not an object");
  expect_refused(good, fp8_config({{"weight_block_size", {128}}}), "weight_block_size is [128]");
  expect_refused(good, fp8_config({{"weight_block_size", {0, 1}}}), "weight_block_size is [0,1]");
  const auto more = [](const char* key, Json value) {
    return compressed_config(Json::object(), {{key, value}});
  };
  expect_refused(good, more("format", "pack-quantized"), "format is \"pack-quantized\"");
  expect_refused(good, more("format", "nvfp4-pack-quantized"), "format is \"nvfp4-pack");
  expect_refused(good, more("sparsity_config", {{"format", "sparse-24-bitmask"}}), "sparsity_con");
  expect_refused(good, more("transform_config", {{"u", 1}}), "transform_config is");
  expect_refused(good, more("config_groups", Json::object()), "config_groups is {}");
  expect_refused(good, compressed_config({{"num_bits", 4}}), "group_0.weights.num_bits is 4");
  expect_refused(good, compressed_config({{"type", "int"}}), "weights.type is \"int\"");
  expect_refused(good, compressed_config({{"symmetric", false}}), "weights.symmetric is false");
  expect_refused(good, compressed_config({{"strategy", "group"}}), "strategy is \"group\"");
  expect_refused(good, compressed_config({{"strategy", "block"}}), "block_structure is null");
}

}  // namespace
}  // namespace lewis
