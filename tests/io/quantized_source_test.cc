// Quantised checkpoints: float8 against the definition in double over all 256 codes, MXFP4 against
// the table of its 16 codes.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "../golden_file.h"
#include "../merge/memory_source.h"
#include "base/error.h"
#include "base/json.h"
#include "io/expert_tensors.h"
#include "io/plain_source.h"
#include "io/quantization.h"
#include "io/quantized_source.h"

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
  const WidenedSource widened = widen_quantized(source, config);
  EXPECT_EQ(widened.consumed, std::vector<std::string>{scale_name});
  EXPECT_TRUE(widened.note.starts_with("memory: 1 weight is stored quantised, as F8_"));
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
    expect_widened({DType::kF8E4M3, 19, 33}, "a.weight_scale", shape, DType::kF32,
                   {{"quantization_config", {{"quant_method", "fbgemm_fp8"}}}}, by_row);
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
  const auto plain = widen_quantized(source, fp8_config());
  EXPECT_EQ(names(plain), (std::vector<std::string>{"attn.k_scale", "attn.v_scale", "k_proj.weight",
                                                    "other.input_scale"}));
  const auto cache = widen_quantized(source, fp8_config({{"kv_cache_scheme", "static"}}));
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
    const WidenedSource same = widen_quantized(source, config);
    EXPECT_EQ(same.source, source);
    EXPECT_TRUE(same.consumed.empty());
    EXPECT_EQ(same.note, "");
  }
}

void expect_refused_by(const std::function<void()>& act, const std::string& says) {
  try {
    act();
    FAIL() << says;
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kInput);
    EXPECT_EQ(e.what(), says);
  }
}

void expect_refused(const std::shared_ptr<MemorySource>& source, const Json& config,
                    const std::string& says) {
  try {
    widen_quantized(source, config);
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
  for (const Shape& shape : {Shape{4}, Shape{6}, Shape{6, 1}, Shape{}, Shape{3, 2}})
    expect_refused(with_scale("a.weight_scale", shape), blocks, "one per block of 4 x 4, [2, 1]");
  expect_refused(with_scale("a.weight_scale", {}), compressed_config(), "one per row, [6, 1]");
  expect_refused(with_scale("a.weight_scale", {6}), compressed_config({{"strategy", "tensor"}}),
                 "does not fit a.weight of [6, 4]: expected one number");
  expect_refused(with_scale("a.weight_scale", {6}, DType::kU8), fp8_config(),
                 "a.weight_scale is U8, expected F32");
  expect_refused(with_scale("a.weight_zero_point", {}), blocks,
                 "what a.weight_zero_point beside it means is not understood");
  auto both = with_scale("a.weight_scale", {});
  both->add("a.weight_scale_inv", DType::kF32, {}, {1});
  expect_refused(both, blocks, "what a.weight_scale_inv beside it means");
  auto vector = std::make_shared<MemorySource>();
  vector->add_bytes("v", DType::kF8E4M3, {4}, std::vector<std::byte>(4));
  vector->add("v_scale", DType::kF32, {}, {1});
  expect_refused(vector, blocks, "tensor v is F8_E4M3 of [4], expected a matrix or a stack");
}

TEST(Fp8, RefusesOtherSchemesByName) {
  const auto good = with_scale("a.weight_scale", {});
  expect_refused(good, Json::object(), "a.weight is F8_E4M3, but config.json has no quant");
  for (const char* method : {"awq", "gptq", "bitsandbytes"}) {
    expect_refused(good, {{"quantization_config", {{"quant_method", method}}}},
                   fmt::format("is quantised ({}): its weights are packed integers", method));
  }
  for (const char* method : {"modelopt", "int8", "nvfp4", ""}) {
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

// Scales are read with their weights.
TEST(Quantized, AScaleThatIsNotFiniteIsRefusedWhereItIsUsed) {
  for (const float bad : {NAN, INFINITY}) {
    auto source = with_scale("a.weight_scale", {6});
    source->remove("a.weight_scale");
    source->add("a.weight_scale", DType::kF32, {6}, {1, 1, 1, 1, bad, 1});
    const WidenedSource widened = widen_quantized(source, fp8_config());
    const TensorInfo& info = widened.source->get("a.weight");
    std::vector<std::byte> rows(2 * 4 * 4);
    widened.source->read(info, 0, rows);  // the first four
    const auto read_all = [&] {
      std::vector<std::byte> all(2 * 6 * 4);
      widened.source->read(info, 0, all);
    };
    expect_refused_by(read_all,
                      "memory: tensor a.weight_scale is not finite (NaN or infinity) at "
                      "element 4, expected a finite scale for the values of a.weight");
  }
}

std::vector<uint16_t> all_of(const TensorSource& source, const std::string& name) {
  const TensorInfo& info = source.get(name);
  std::vector<uint16_t> values(static_cast<size_t>(element_count(info.shape)));
  source.read(info, 0, std::as_writable_bytes(std::span(values)));
  return values;
}

void expect_parts_equal_whole(const TensorSource& source, const std::string& name) {
  const std::vector<uint16_t> all = all_of(source, name);
  const TensorInfo& info = source.get(name);
  for (size_t first = 0; first < all.size(); first += 7) {
    const size_t count = std::min<size_t>(first % 101 + 1, all.size() - first);
    std::vector<uint16_t> part(count);
    source.read(info, static_cast<int64_t>(first), std::as_writable_bytes(std::span(part)));
    for (size_t i = 0; i < count; ++i) ASSERT_EQ(part[i], all[first + i]) << first << "+" << i;
  }
}

// Experts as one tensor, with scales per block, per matrix and per row of each.
TEST(Fp8, StacksOfMatrices) {
  struct Case {
    Shape scale;
    Json config;
    std::function<int64_t(int64_t e, int64_t r, int64_t c)> index;
    const char* name = "x.experts.down_proj";
  };
  const Json blocks = fp8_config({{"weight_block_size", {4, 8}}});
  const Json fbgemm = {{"quantization_config", {{"quant_method", "fbgemm_fp8"}}}};
  const std::vector<Case> cases = {
      {{3, 2, 2}, blocks, [](auto e, auto r, auto c) { return e * 4 + r / 4 * 2 + c / 8; }},
      {{3, 1, 1}, fp8_config(), [](auto e, auto, auto) { return e; }},
      {{3}, fp8_config(), [](auto e, auto, auto) { return e; }},
      {{1}, fp8_config(), [](auto, auto, auto) { return 0; }},
      {{3, 6, 1}, fbgemm, [](auto e, auto r, auto) { return e * 6 + r; }},
      {{3, 6}, compressed_config(), [](auto e, auto r, auto) { return e * 6 + r; }},
      {{3, 1, 10}, fbgemm, [](auto e, auto, auto c) { return e * 10 + c; }},
      // Gate and up have blocks of their own where the first ends within one.
      {{3, 2, 2},
       fp8_config({{"weight_block_size", {8, 8}}}),
       [](auto e, auto r, auto c) { return (e * 2 + r / 3) * 2 + c / 8; },
       "x.experts.gate_up_proj"}};
  for (const Case& c : cases) {
    auto source = std::make_shared<MemorySource>();
    const std::string name = c.name;
    const Weight w(DType::kF8E4M3, 18, 10);
    source->add_bytes(name, w.dtype, {3, 6, 10}, w.codes);
    std::vector<float> scales(static_cast<size_t>(element_count(c.scale)));
    for (size_t i = 0; i < scales.size(); ++i) scales[i] = static_cast<float>(i + 1) / 8;
    source->add(name + "_scale_inv", DType::kF32, c.scale, scales);
    source->add(name + "_bias", DType::kBF16, {3, 6}, std::vector<float>(18));
    source->add(name + "_activation_scale", DType::kF32, {3}, {1, 1, 1});
    const WidenedSource widened = widen_quantized(source, c.config);
    EXPECT_EQ(widened.consumed,
              (std::vector<std::string>{name + "_activation_scale", name + "_scale_inv"}));
    EXPECT_EQ(widened.source->tensors().size(), 2u);
    const std::vector<uint16_t> all = all_of(*widened.source, name);
    for (int64_t i = 0; i < 180; ++i) {
      const float scale = scales[static_cast<size_t>(c.index(i / 60, i / 10 % 6, i % 10))];
      const float value = code_value(w.dtype, w.codes[static_cast<size_t>(i)]);
      if (std::isnan(value)) continue;
      ASSERT_EQ(all[static_cast<size_t>(i)], float_to_bf16(value * scale))
          << to_string(c.scale) << " at " << i;
    }
    expect_parts_equal_whole(*widened.source, name);
  }
}

// Scales as exponents: F8_E8M0 always, bytes where config.json says so; and the other names.
TEST(Fp8, ExponentsAndOtherNames) {
  for (const auto& [dtype, name] : {std::pair{DType::kF8E8M0, "a.weight_scale_inv"},
                                    {DType::kU8, "a.weight_scale_inv"},
                                    {DType::kF8E8M0, "a.scale"},
                                    {DType::kU8, "a.qscale_weight"}}) {
    auto source = std::make_shared<MemorySource>();
    source->add_bytes("a.weight", DType::kF8E4M3, {2, 2},
                      {std::byte{0x38}, std::byte{0x40}, std::byte{0xb8}, std::byte{0x7e}});
    source->add_bytes(name, dtype, {2}, {std::byte{130}, std::byte{0}});
    const WidenedSource widened = widen_quantized(source, fp8_config({{"scale_fmt", "ue8m0"}}));
    EXPECT_EQ(widened.source->tensors().size(), 1u);
    // 1 and 2 times 2^3; -1 and 448 times 2^-127.
    EXPECT_EQ(all_of(*widened.source, "a.weight"),
              (std::vector<uint16_t>{0x4100, 0x4180, 0x8040, float_to_bf16(448 * 0x1p-127f)}));
  }
}

TEST(Fp8, TheConfigOfTextCounts) {
  const auto source = with_scale("a.weight_scale", {6});
  Json config = {{"text_config", {{"vocab_size", 3}}}, {"vision_config", {{"depth", 1}}}};
  config["text_config"].update(compressed_config());
  EXPECT_EQ(widen_quantized(source, config).consumed.size(), 1u);
  remove_quantization(config);
  EXPECT_EQ(config,
            Json({{"text_config", {{"vocab_size", 3}}}, {"vision_config", {{"depth", 1}}}}));
  Json old = {{"compression_config", compressed_config()["quantization_config"]}};
  EXPECT_EQ(widen_quantized(source, old).consumed.size(), 1u);
  remove_quantization(old);
  EXPECT_EQ(old, Json::object());
  config["text_config"]["quantization_config"] = {{"quant_method", "modelopt"}};
  expect_refused(source, config, "text_config.quantization_config.quant_method is \"modelopt\"");
}

TEST(Quantized, ANoteSaysWhatIsAndWhatIsNot) {
  auto source = with_scale("a.weight_scale", {6});
  EXPECT_EQ(widen_quantized(source, fp8_config()).note,
            "memory: 1 weight is stored quantised, as F8_E4M3 with one scale per row: read as the "
            "bfloat16 values that it stands for");
  const Weight w(DType::kF8E5M2, 2, 2);
  source->add_bytes("b.weight", w.dtype, w.shape, w.codes);
  source->add("b.weight_scale", DType::kF32, {}, {1});
  source->add("model.layers.0.mlp.gate.weight", DType::kF32, {1, 2}, {1, 1});
  source->add("model.layers.0.norm.weight", DType::kF32, {2}, {1, 1});
  source->add("model.layers.1.q.weight", DType::kBF16, {1, 2}, {1, 1});
  source->add("lm_head.weight", DType::kBF16, {1, 2}, {1, 1});
  EXPECT_EQ(widen_quantized(source, fp8_config()).note,
            "memory: 2 weights are stored quantised, 1 as F8_E4M3 with one scale per row, 1 as "
            "F8_E5M2 with one scale each: read as the bfloat16 values that they stand for; 2 other "
            "matrices of its layers are not quantised (model.layers.0.mlp.gate.weight, F32 first)");
}

// ---- MXFP4 ----

constexpr float kFp4[16] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.f, -0.5f, -1, -1.5f, -2, -3, -4, -6};

Json mxfp4_config() {
  return {{"model_type", "gpt_oss"}, {"quantization_config", {{"quant_method", "mxfp4"}}}};
}

// Experts of [experts, rows, 32 * groups] codes; every code occurs with many exponents.
struct Packed {
  int64_t experts, rows, groups;
  std::vector<std::byte> blocks, scales;

  Packed(int64_t e, int64_t r, int64_t g, unsigned seed = 1) : experts(e), rows(r), groups(g) {
    for (int64_t i = 0; i < e * r * g * 16; ++i)
      blocks.push_back(static_cast<std::byte>((seed = seed * 1664525 + 1013904223) >> 24));
    for (int64_t i = 0; i < e * r * g; ++i)
      scales.push_back(static_cast<std::byte>((i * 37 + 1) % 250));
  }
  // Element (e, row, column) of the packed matrices.
  float value(int64_t e, int64_t row, int64_t column) const {
    const auto group = static_cast<size_t>((e * rows + row) * groups + column / 32);
    const auto byte =
        static_cast<unsigned>(blocks[group * 16 + static_cast<size_t>(column % 32 / 2)]);
    return std::ldexp(kFp4[column % 2 ? byte >> 4 : byte & 15u],
                      static_cast<int>(scales[group]) - 127);
  }
  void add_to(MemorySource& source, const std::string& name) const {
    source.add_bytes(name + "_blocks", DType::kU8, {experts, rows, groups, 16}, blocks);
    source.add_bytes(name + "_scales", DType::kU8, {experts, rows, groups}, scales);
  }
};

TEST(Mxfp4, IsShownTurnedAroundAsTransformersDoes) {
  for (const auto& [rows, groups] : {std::pair<int64_t, int64_t>{6, 2}, {1, 1}, {33, 3}, {4, 40}}) {
    auto source = std::make_shared<MemorySource>();
    const Packed packed(2, rows, groups);
    packed.add_to(*source, "x.experts.gate_up_proj");
    const WidenedSource widened = widen_quantized(source, mxfp4_config());
    ASSERT_EQ(widened.source->tensors().size(), 1u);
    EXPECT_EQ(widened.source->tensors()[0],
              (TensorInfo{"x.experts.gate_up_proj", DType::kBF16, {2, 32 * groups, rows}}));
    EXPECT_EQ(widened.consumed, (std::vector<std::string>{"x.experts.gate_up_proj_blocks",
                                                          "x.experts.gate_up_proj_scales"}));
    const auto all = all_of(*widened.source, "x.experts.gate_up_proj");
    size_t i = 0;
    for (int64_t e = 0; e < 2; ++e) {
      for (int64_t column = 0; column < 32 * groups; ++column) {
        for (int64_t row = 0; row < rows; ++row, ++i) {
          ASSERT_EQ(all[i], float_to_bf16(packed.value(e, row, column)));
          ASSERT_EQ(bf16_to_float(all[i]), packed.value(e, row, column)) << "nothing is rounded";
        }
      }
    }
    expect_parts_equal_whole(*widened.source, "x.experts.gate_up_proj");
  }
}

// Gate and up are the even and the odd outputs; what is written again is as transformers has it.
TEST(Mxfp4, ExpertsAreShownOneByOne) {
  auto source = std::make_shared<MemorySource>();
  const Packed first(3, 64, 2, 5), down(3, 64, 1, 6);  // hidden 64, inner 32
  first.add_to(*source, "model.layers.0.mlp.experts.gate_up_proj");
  down.add_to(*source, "model.layers.0.mlp.experts.down_proj");
  source->add("model.layers.0.mlp.experts.gate_up_proj_bias", DType::kBF16, {3, 64},
              std::vector<float>(192, 1));
  source->add("model.layers.0.mlp.experts.down_proj_bias", DType::kBF16, {3, 64},
              std::vector<float>(192, 2));
  const WidenedSource widened = widen_quantized(source, mxfp4_config());
  const SplitExperts split = split_experts(widened.source, mxfp4_config());
  ASSERT_EQ(split.fused.size(), 1u);
  EXPECT_TRUE(split.fused.begin()->second.transposed);
  EXPECT_TRUE(split.fused.begin()->second.interleaved);
  EXPECT_EQ(split.source->tensors().size(), 3u * 6u);
  for (int64_t e = 0; e < 3; ++e) {
    const std::string expert = fmt::format("model.layers.0.mlp.experts.{}.", e);
    for (const auto& [name, packed, step, at, rows, columns] :
         {std::tuple{"gate_proj", &first, 2, 0, 32, 64},
          {"up_proj", &first, 2, 1, 32, 64},
          {"down_proj", &down, 1, 0, 64, 32}}) {
      const std::string tensor = expert + name + ".weight";
      EXPECT_EQ(split.source->get(tensor).shape, (Shape{rows, columns}));
      const auto all = all_of(*split.source, tensor);
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < columns; ++c)
          ASSERT_EQ(bf16_to_float(all[static_cast<size_t>(r * columns + c)]),
                    packed->value(e, r * step + at, c))
              << tensor;
      expect_parts_equal_whole(*split.source, tensor);
    }
  }
}

TEST(Mxfp4, RefusesWhatDoesNotFit) {
  const Packed packed(2, 4, 1);
  const auto with = [&](const Shape& blocks, const Shape& scales, DType type = DType::kU8) {
    auto source = std::make_shared<MemorySource>();
    const auto bytes = [](const Shape& s) {
      return std::vector<std::byte>(static_cast<size_t>(element_count(s)));
    };
    if (!blocks.empty()) source->add_bytes("x_blocks", type, blocks, bytes(blocks));
    if (!scales.empty()) source->add_bytes("x_scales", DType::kU8, scales, bytes(scales));
    return source;
  };
  const Json config = mxfp4_config();
  expect_refused(with({2, 4, 1, 16}, {}), config, "x_blocks has no scales: expected x_scales");
  expect_refused(with({}, {2, 4, 1}), config, "x_scales has no x_blocks beside it");
  expect_refused(with({2, 4, 1, 16}, {2, 4, 2}), config,
                 "x_scales is U8 [2, 4, 2], expected U8 [2, 4, 1] for x_blocks of [2, 4, 1, 16]");
  expect_refused(with({2, 4, 1, 8}, {2, 4, 1}), config,
                 "x_blocks is U8 [2, 4, 1, 8], expected U8 [experts, rows, groups, 16]");
  for (const Shape& shape : {Shape{4, 1, 16}, Shape{0, 4, 1, 16}, Shape{4, 0, 1, 16}})
    expect_refused(with(shape, {4, 1, 1}), config,
                   "expected U8 [experts, rows, groups, 16] with none");
  expect_refused(with({2, 4, 1, 16}, {2, 4, 1}, DType::kI8), config,
                 "x_blocks is I8 [2, 4, 1, 16]");
  expect_refused(
      with({2, 4, 1, 16}, {2, 4, 1}), Json::object(),
      "x_blocks and x_scales look like MXFP4, but config.json has no quantization_config");
  expect_refused(with({2, 4, 1, 16}, {2, 4, 1}), fp8_config(), "has quant_method \"fp8\"");
  auto both = with({2, 4, 1, 16}, {2, 4, 1});
  both->add("x", DType::kBF16, {2, 32, 4}, std::vector<float>(256));
  expect_refused(both, config, "x_blocks stands beside x: expected one of both");
  expect_refused(with_scale("a.weight_scale", {}), config,
                 "a.weight is F8_E4M3, but config.json has quant_method \"mxfp4\"");
}

TEST(Mxfp4, AnExponentThatIsNoNumberIsRefused) {
  auto source = std::make_shared<MemorySource>();
  Packed packed(2, 4, 3);
  packed.scales[17] = std::byte{255};
  packed.add_to(*source, "x");
  const WidenedSource widened = widen_quantized(source, mxfp4_config());
  expect_refused_by(
      [&] { all_of(*widened.source, "x"); },
      "memory: tensor x_scales is not finite (NaN or infinity) at element 17, expected "
      "a finite scale for the values of x_blocks");
}

// Recorded with transformers and torch (golden/make_quantized.py). The scales lie in other shards.
TEST(Quantized, StandsForWhatTransformersMakesOfIt) {
  const std::filesystem::path all = std::filesystem::path(LEWIS_TEST_DATA) / "golden/quantized";
  size_t folders = 0;
  for (const auto& folder : std::filesystem::directory_iterator(all)) {
    SCOPED_TRACE(folder.path().filename());
    ++folders;
    const PlainModel plain =
        show_plain(std::make_shared<const Checkpoint>(Checkpoint::open(folder.path())));
    EXPECT_TRUE(plain.was_quantized);
    EXPECT_EQ(plain.notes.size(), 1u);
    const SafetensorsFile expected(folder.path() / "expected.safetensors");
    ASSERT_EQ(plain.source->tensors().size(), expected.entries().size());
    for (const TensorInfo& info : plain.source->tensors()) {
      const auto* entry = expected.find(info.name);
      ASSERT_TRUE(entry) << info.name;
      EXPECT_EQ(info, entry->info);
      EXPECT_EQ(all_of(*plain.source, info.name), read_tensor<uint16_t>(expected, info.name))
          << info.name;
      expect_parts_equal_whole(*plain.source, info.name);
    }
  }
  EXPECT_EQ(folders, 6u);
}

}  // namespace
}  // namespace lewis
