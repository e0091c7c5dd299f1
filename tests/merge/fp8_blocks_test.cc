// out_dtype: fp8_block: every code and scale by plain arithmetic, what is copied bit for bit, and
// what is refused.
#include "merge/fp8_blocks.h"

#include <cmath>
#include <random>

#include "base/dtype.h"
#include "small_models.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

// The E4M3 code that is nearest, the even one of two, by trying all.
uint8_t nearest_code(double value) {
  const double size = std::min(std::abs(value), 448.0);
  int best = 0;
  for (int c = 1; c < 0x7f; ++c) {
    const double is =
        std::abs(static_cast<double>(f8e4m3_to_float(static_cast<uint8_t>(c))) - size);
    const double was =
        std::abs(static_cast<double>(f8e4m3_to_float(static_cast<uint8_t>(best))) - size);
    if (is < was || (is == was && c % 2 == 0)) best = c;
  }
  return static_cast<uint8_t>(best | (std::signbit(value) ? 0x80 : 0));
}

TEST(Fp8Code, IsTheNearest) {
  for (uint32_t bits = 0; bits < 0x7f800000; bits += 99991) {
    const float f = std::bit_cast<float>(bits);
    ASSERT_EQ(float_to_f8e4m3(f), nearest_code(f)) << f;
    ASSERT_EQ(float_to_f8e4m3(-f), nearest_code(-f)) << f;
  }
  for (int c = 0; c < 0x7f; ++c) {
    const auto code = static_cast<uint8_t>(c);
    const float exact = f8e4m3_to_float(code);
    EXPECT_EQ(float_to_f8e4m3(exact), code);
    const float half = (exact + f8e4m3_to_float(static_cast<uint8_t>(std::min(c + 1, 0x7e)))) / 2;
    EXPECT_EQ(float_to_f8e4m3(half), nearest_code(half)) << "a tie";
  }
}

class Fp8Blocks : public SmallModels {
 protected:
  // X [150, 200] and Y [64, 300] in float8, blocks of 128 x 128 with ragged ends; norm in BF16.
  void write_model(const std::string& name, unsigned x_seed, unsigned y_seed, Json quantization) {
    MemorySource source;
    add_matrix(source, "x.weight", 150, 200, x_seed);
    add_matrix(source, "y.weight", 64, 300, y_seed);
    source.add("norm.weight", DType::kBF16, {4}, {1, 2, 3, static_cast<float>(x_seed)});
    fs::create_directories(dir_.path / name);
    source.write(dir_.path / name / "model.safetensors");
    const Json config = {{"model_type", "deepseek_v3"},
                         {"torch_dtype", "bfloat16"},
                         {"quantization_config", std::move(quantization)}};
    std::ofstream(dir_.path / name / "config.json") << config.dump();
  }
  void add_matrix(MemorySource& source, const std::string& name, int64_t rows, int64_t columns,
                  unsigned seed) {
    std::mt19937 random(seed);
    std::vector<std::byte> codes(static_cast<size_t>(rows * columns));
    for (std::byte& b : codes) {
      uint32_t c = random() & 0xff;
      if ((c & 0x7f) == 0x7f) c ^= 1;
      b = static_cast<std::byte>(c);
    }
    const int64_t block_rows = (rows + 127) / 128, block_columns = (columns + 127) / 128;
    std::vector<float> scales;
    for (int64_t i = 0; i < block_rows * block_columns; ++i)
      scales.push_back(0.001f + 1e-6f * static_cast<float>(random() % 1000));
    source.add_bytes(name, DType::kF8E4M3, {rows, columns}, std::move(codes));
    source.add(name + "_scale_inv", DType::kF32, {block_rows, block_columns}, scales);
  }
  std::vector<std::byte> raw(const fs::path& folder, const std::string& name) const {
    const Checkpoint model = Checkpoint::open(folder);
    const TensorInfo& t = model.get(name);
    std::vector<std::byte> bytes(byte_size(t));
    model.read(t, 0, bytes);
    return bytes;
  }
  Values values(const fs::path& folder) const {
    const Checkpoint model = Checkpoint::open(folder);
    Values all;
    for (const TensorInfo& t : model.tensors())
      if (is_arithmetic(t.dtype)) all[t.name] = model.read_floats(t);
    return all;
  }
  fs::path write_merge(const std::string& text, MergeOptions options = {}) {
    options.out = dir_.path / fmt::format("out{}", ++runs_);
    Threads threads(2);
    report_ = merge(recipe(text), options, threads);
    return options.out;
  }

  const Json kBlocks = {{"quant_method", "fp8"}, {"weight_block_size", {128, 128}}};
  const std::string kTies =
      "merge_method: task_arithmetic\nbase_model: base\nmodels:\n- {model: a, parameters: {weight: "
      "0.7}}\n- {model: b, parameters: {weight: 0.4}}\n";
};

TEST_F(Fp8Blocks, EveryCodeAndScale) {
  write_model("base", 1, 10, kBlocks);
  write_model("a", 2, 10, kBlocks);
  write_model("b", 3, 10, kBlocks);
  const fs::path out = write_merge(kTies + "out_dtype: fp8_block\n");
  // Nobody changed y: it is the base's, bit for bit.
  for (const char* name : {"y.weight", "y.weight_scale_inv"})
    EXPECT_EQ(raw(out, name), raw(dir_.path / "base", name)) << name;
  EXPECT_NE(raw(out, "x.weight"), raw(dir_.path / "base", "x.weight"));
  EXPECT_TRUE(has_note("1 matrices have new codes and scales"));
  EXPECT_TRUE(has_note("1 have the base's values"));
  // x: from the same merge in float32, by plain arithmetic.
  const std::vector<float> x = values(write_merge(kTies + "out_dtype: float32\n"))["x.weight"];
  ASSERT_EQ(x.size(), 150u * 200u);
  const std::vector<std::byte> codes = raw(out, "x.weight");
  const std::vector<std::byte> stored = raw(out, "x.weight_scale_inv");
  ASSERT_EQ(stored.size(), 4 * 4u);
  for (size_t block = 0; block < 4; ++block) {
    const size_t top = block / 2 * 128, left = block % 2 * 128;
    float largest = 0;
    for (size_t r = top; r < std::min<size_t>(top + 128, 150); ++r) {
      for (size_t c = left; c < std::min<size_t>(left + 128, 200); ++c)
        largest = std::max(largest, std::abs(x[r * 200 + c]));
    }
    float scale = 0;
    std::memcpy(&scale, stored.data() + 4 * block, 4);
    EXPECT_EQ(scale, largest / 448);
    for (size_t r = top; r < std::min<size_t>(top + 128, 150); ++r) {
      for (size_t c = left; c < std::min<size_t>(left + 128, 200); ++c) {
        ASSERT_EQ(static_cast<uint8_t>(codes[r * 200 + c]), nearest_code(x[r * 200 + c] / scale))
            << r << " " << c;
      }
    }
  }
  // The result is a float8 model like its base, and can be merged again.
  const Checkpoint model = Checkpoint::open(out);
  EXPECT_EQ(model.config()["quantization_config"], kBlocks);
  EXPECT_EQ(model.config()["torch_dtype"], "bfloat16");
  EXPECT_EQ(model.get("norm.weight").dtype, DType::kBF16);
  fs::rename(dir_.path / "a", dir_.path / "old");
  fs::rename(out, dir_.path / "a");
  write_merge(kTies + "out_dtype: fp8_block\n");
}

TEST_F(Fp8Blocks, InBlocksInPartsAndInShards) {
  write_model("base", 1, 10, kBlocks);
  write_model("a", 2, 10, kBlocks);
  write_model("b", 3, 11, kBlocks);
  const std::string text = kTies + "out_dtype: fp8_block\n";
  const fs::path whole = write_merge(text);
  std::map<std::string, std::vector<std::byte>> expected;
  const Checkpoint model = Checkpoint::open(whole);
  ASSERT_EQ(model.tensors().size(), 5u);
  for (const TensorInfo& t : model.tensors()) expected[t.name] = raw(whole, t.name);
  const auto same = [&](const fs::path& out) {
    for (const auto& [name, bytes] : expected) EXPECT_EQ(raw(out, name), bytes) << name;
  };
  Threads threads(2);
  uint64_t least = 0;
  try {
    merge(recipe(text), {.out = dir_.path / "never", .max_memory = 1}, threads);
  } catch (const Error& e) {
    const std::string said = e.what();
    least = std::stoull(said.substr(said.find("at least ") + 9));
  }
  same(write_merge(text, {.max_memory = least}));
  same(write_merge(text, {.shard_bytes = 100}));  // a shard for every tensor
  for (const uint64_t part : {2, 0, 1}) {
    merge(recipe(text),
          {.out = dir_.path / "parts", .shard_bytes = 100, .part = MergePart{part, 3}}, threads);
  }
  same(dir_.path / "parts");
}

// A matrix that the merge only passes on keeps its codes and scales as well.
TEST_F(Fp8Blocks, WhatOnlyTheBaseHasIsCopied) {
  for (const char* name : {"base", "a", "b"}) write_model(name, 1u + name[0], 10, kBlocks);
  const Checkpoint base = Checkpoint::open(dir_.path / "base");
  MemorySource all;
  for (const TensorInfo& t : base.tensors())
    all.add_bytes(t.name, t.dtype, t.shape, raw(dir_.path / "base", t.name));
  add_matrix(all, "more.weight", 130, 40, 77);
  all.write(dir_.path / "base" / "model.safetensors");
  const fs::path out = write_merge(kTies + "missing: base\nout_dtype: fp8_block\n");
  for (const char* name : {"more.weight", "more.weight_scale_inv", "y.weight"})
    EXPECT_EQ(raw(out, name), raw(dir_.path / "base", name)) << name;
  EXPECT_TRUE(has_note("2 have the base's values"));
}

TEST_F(Fp8Blocks, PowersOfTwo) {
  Json config = kBlocks;
  config["scale_fmt"] = "ue8m0";
  for (const char* name : {"base", "a", "b"})
    write_model(name, static_cast<unsigned>(name[0]), static_cast<unsigned>(name[1]), config);
  const fs::path out = write_merge(kTies + "out_dtype: fp8_block\n");
  const std::vector<std::byte> stored = raw(out, "x.weight_scale_inv");
  for (size_t i = 0; i < stored.size(); i += 4) {
    uint32_t bits = 0;
    std::memcpy(&bits, stored.data() + i, 4);
    EXPECT_EQ(bits & 0x7fffffu, 0u) << "a power of two";
  }
}

TEST_F(Fp8Blocks, WhatIsRefused) {
  const std::string more = "out_dtype: fp8_block\n";
  write("plain", {{"x.weight", {1, 2}}}, {{"model_type", "llama"}});
  expect_refused(
      "merge_method: linear\nmodels:\n- {model: plain, parameters: {weight: 1}}\n" + more,
      ExitCode::kUsage, "stores no float8");
  for (const char* name : {"base", "a", "b"}) write_model(name, 1, 2, kBlocks);
  const auto does_not_go_with = [&](const std::string& text, const std::string& what) {
    expect_refused(text + more, ExitCode::kUsage, "out_dtype: fp8_block does not go with " + what);
  };
  does_not_go_with(
      "merge_method: passthrough\nslices:\n- sources: [{model: base, layer_range: [0, 1]}]\n",
      "slices");
  std::ofstream(dir_.path / "a.jsonl") << "{\"ids\": [1]}\n";
  does_not_go_with(kTies + "experts: fused\n", "experts: fused");
  does_not_go_with(
      kTies + "lewis: {calibration: [{model: a, data: a.jsonl, format: ids}], refine: {}}\n",
      "lewis.refine");
  expect_refused(kTies + "out_dtype: fp8_blocks\n", ExitCode::kUsage, "or fp8_block");
  expect_refused(kTies + "dtype: fp8_block\n", ExitCode::kUsage, "dtype");
}

}  // namespace
}  // namespace lewis
