// Models with quantised weights, beside the plain models that they stand for: every verb that reads
// a model says the same of both.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <span>
#include <vector>

#include "base/dtype.h"
#include "io/safetensors.h"
#include "run_lewis.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kBlock = 48;  // divides none of the demo's matrices

// The code whose value is nearest.
uint8_t nearest_code(float value) {
  static const auto kCodes = [] {
    std::map<float, uint8_t> codes;
    for (unsigned c = 0; c < 256; ++c) {
      const auto code = static_cast<uint8_t>(c);
      if (std::isfinite(f8e4m3_to_float(code))) codes.emplace(f8e4m3_to_float(code), code);
    }
    return codes;
  }();
  auto above = kCodes.lower_bound(value);
  if (above == kCodes.end()) return kCodes.rbegin()->second;
  if (above == kCodes.begin()) return above->second;
  const auto below = std::prev(above);
  return value - below->first < above->first - value ? below->second : above->second;
}

struct Shard {
  std::vector<TensorInfo> tensors;
  std::vector<std::vector<std::byte>> data;

  void add(TensorInfo info, std::span<const std::byte> bytes) {
    tensors.push_back(std::move(info));
    data.emplace_back(bytes.begin(), bytes.end());
  }
  void write(const fs::path& file) const {
    write_safetensors(file, tensors,
                      std::vector<std::span<const std::byte>>(data.begin(), data.end()), {});
  }
};

class Quantized : public LewisTest {
 protected:
  // A demo model as float8 in blocks, the scales in another shard, and its plain twin.
  void SetUp() override {
    const fs::path demo = fs::path(LEWIS_SOURCE) / "demo/models/math";
    for (const fs::path& copy : {fp8_, plain_}) {
      fs::copy(demo, copy, fs::copy_options::recursive);
      fs::permissions(copy, fs::perms::owner_all);
      fs::remove(copy / "model.safetensors");
    }
    Shard codes, scales, twin;
    const SafetensorsFile file(demo / "model.safetensors");
    for (const auto& entry : file.entries()) {
      const bool quantised = entry.info.name.find("proj.weight") != std::string::npos;
      std::vector<std::byte> bytes(byte_size(entry.info));
      file.read(entry, 0, bytes);
      if (quantised) {
        quantise(entry.info, bytes, codes, scales, twin);
      } else {
        codes.add(entry.info, bytes);
        twin.add(entry.info, bytes);
      }
    }
    twin.write(plain_ / "model.safetensors");
    codes.write(fp8_ / "model-00001-of-00002.safetensors");
    scales.write(fp8_ / "model-00002-of-00002.safetensors");
    write_index(codes, scales);
    Json config = parse_json(file_text(demo / "config.json"), "config");
    config["quantization_config"] = {{"quant_method", "fp8"},
                                     {"activation_scheme", "dynamic"},
                                     {"weight_block_size", {kBlock, kBlock}}};
    std::ofstream(fp8_ / "config.json") << config.dump(2);
  }

  void quantise(const TensorInfo& info, std::span<const std::byte> bytes, Shard& codes,
                Shard& scales, Shard& twin) {
    const int64_t rows = info.shape[0], columns = info.shape[1];
    const int64_t down = (rows + kBlock - 1) / kBlock, across = (columns + kBlock - 1) / kBlock;
    std::vector<float> scale(static_cast<size_t>(down * across));
    for (size_t i = 0; i < scale.size(); ++i)
      scale[i] = 0.003f + 0.0001f * static_cast<float>(i % 7);
    std::vector<float> values(static_cast<size_t>(rows * columns));
    widen(info.dtype, bytes.data(), values);
    std::vector<std::byte> code(values.size());
    for (size_t i = 0; i < values.size(); ++i) {
      const auto row = static_cast<int64_t>(i) / columns,
                 column = static_cast<int64_t>(i) % columns;
      const float factor = scale[static_cast<size_t>(row / kBlock * across + column / kBlock)];
      code[i] = static_cast<std::byte>(nearest_code(values[i] / factor));
      values[i] = f8e4m3_to_float(static_cast<uint8_t>(code[i])) * factor;
    }
    codes.add({info.name, DType::kF8E4M3, info.shape}, code);
    scales.add({info.name + "_scale_inv", DType::kF32, {down, across}},
               std::as_bytes(std::span(scale)));
    std::vector<std::byte> plain(2 * values.size());
    narrow(values, DType::kBF16, plain.data());
    twin.add({info.name, DType::kBF16, info.shape}, plain);
  }

  void write_index(const Shard& codes, const Shard& scales) {
    Json map = Json::object();
    for (const TensorInfo& t : codes.tensors) map[t.name] = "model-00001-of-00002.safetensors";
    for (const TensorInfo& t : scales.tensors) map[t.name] = "model-00002-of-00002.safetensors";
    std::ofstream(fp8_ / "model.safetensors.index.json") << Json{{"weight_map", map}}.dump();
  }

  std::string recipe(const fs::path& model) {
    const std::string path = (dir_.path / "r.yml").string();
    std::ofstream(path) << "merge_method: ties\nbase_model: demo/models/base\nmodels:\n- {model: "
                        << model.string()
                        << ", parameters: {weight: 1, density: 0.5}}\n- {model: demo/models/code, "
                           "parameters: {weight: 0.5, density: 0.5}}\nlewis:\n  calibration:\n  - "
                           "{model: "
                        << model.string()
                        << ", data: demo/data/math_train.jsonl, format: gsm8k, samples: 4}\n  - "
                           "{model: demo/models/code, data: demo/data/code_train.jsonl, format: "
                           "mbpp, samples: 4}\n";
    return path;
  }

  static size_t notes_in(const std::string& text) {
    size_t count = 0;
    const std::string note =
        "56 weights are stored quantised, as F8_E4M3 with one scale per block "
        "of 48 x 48: read as the bfloat16 values that they stand for\n";
    for (size_t at = 0; (at = text.find(note, at)) != std::string::npos; ++at) ++count;
    return count;
  }

  fs::path fp8_ = dir_.path / "fp8", plain_ = dir_.path / "plain";
};

TEST_F(Quantized, DiffAndInspectSeeTheValues) {
  const Json same = json("diff " + fp8_.string() + " " + plain_.string());
  EXPECT_EQ(same["all"]["equal_share"], 1.0) << same["all"];
  EXPECT_TRUE(same["only_in_a"].empty());
  EXPECT_EQ(notes_in(lewis("diff " + fp8_.string() + " " + plain_.string()).err), 1u);
  const Json fp8 = json("inspect " + fp8_.string()), plain = json("inspect " + plain_.string());
  EXPECT_EQ(fp8["parameters"], plain["parameters"]);
  EXPECT_EQ(fp8["tensors"].size(), plain["tensors"].size());
  const std::string name = "model.layers.3.mlp.up_proj.weight";
  EXPECT_EQ(fp8["tensors"][name], Json({{"dtype", "F8_E4M3"}, {"shape", {384, 128}}}));
  Json of_fp8 = json("inspect " + fp8_.string() + " " + name);
  const Json of_plain = json("inspect " + plain_.string() + " " + name);
  EXPECT_EQ(of_fp8["dtype"], "F8_E4M3");
  of_fp8["dtype"] = "BF16";
  EXPECT_EQ(of_fp8, of_plain);
  EXPECT_EQ(json("inspect " + fp8_.string() + " " + name + "_scale_inv")["shape"], Json({8, 3}));
  EXPECT_EQ(notes_in(lewis("inspect " + fp8_.string()).err), 1u);
}

TEST_F(Quantized, MergePlanAndEvalComputeTheSame) {
  std::string density, losses;
  for (const fs::path& model : {plain_, fp8_}) {
    const size_t notes = model == fp8_ ? 1 : 0;
    const lewis::Run check = lewis("check " + recipe(model));
    EXPECT_EQ(check.code, 0) << check.err;
    EXPECT_EQ(notes_in(check.out + check.err), notes);
    const fs::path out = dir_.path / ("out_" + model.filename().string());
    const lewis::Run merge = lewis("merge " + recipe(model) + " " + out.string());
    ASSERT_EQ(merge.code, 0) << merge.err;
    EXPECT_EQ(notes_in(merge.err), notes);
    EXPECT_FALSE(
        parse_json(file_text(out / "config.json"), "config").contains("quantization_config"));
    const lewis::Run eval = lewis("eval -q " + model.string() +
                                  " --task loss:demo/data/math_test.jsonl:gsm8k --limit 3 --json");
    ASSERT_EQ(eval.code, 0) << eval.err;
    const Json task = parse_json(eval.out, "stdout").at("models").at(0).at("results");
    if (model == plain_) {
      losses = task.dump();
    } else {
      EXPECT_EQ(task.dump(), losses);
    }
  }
  const Json same =
      json("diff " + (dir_.path / "out_fp8").string() + " " + (dir_.path / "out_plain").string());
  EXPECT_EQ(same["all"]["equal_share"], 1.0);
}

TEST_F(Quantized, AMissingOrWrongScaleIsOneLineAndNothingIsWritten) {
  const auto refused = [&](const std::string& says) {
    const lewis::Run run = lewis("merge " + recipe(fp8_) + " " + out());
    EXPECT_EQ(run.code, 3);
    EXPECT_NE(run.err.find(fp8_.string()), std::string::npos) << run.err;
    EXPECT_NE(run.err.find(says), std::string::npos) << run.err;
    EXPECT_FALSE(fs::exists(out()));
    EXPECT_FALSE(fs::exists(out() + ".partial"));
    EXPECT_EQ(lewis("inspect " + fp8_.string()).code, 0);
  };
  const std::string text = file_text(fp8_ / "config.json");
  Json config = parse_json(text, "config");
  config["quantization_config"]["weight_block_size"] = {128, 128};
  std::ofstream(fp8_ / "config.json") << config.dump();
  refused(
      "_scale_inv is [3, 8], which does not fit model.layers.0.mlp.down_proj.weight of [128, "
      "384]: expected one per block of 128 x 128, [1, 3]");
  config["quantization_config"] = {{"quant_method", "int4_of_tomorrow"}};
  std::ofstream(fp8_ / "config.json") << config.dump();
  refused("quantization_config.quant_method is \"int4_of_tomorrow\", expected \"fp8\"");
  std::ofstream(fp8_ / "config.json") << text;
  fs::rename(fp8_ / "model-00001-of-00002.safetensors", fp8_ / "model.safetensors");
  refused("tensor model.layers.0.mlp.down_proj.weight is F8_E4M3, but has no scale");
}

// The MXFP4 experts of gpt-oss and their plain twin are two spellings of one model.
TEST_F(Quantized, Mxfp4MergesWithPlainExperts) {
  const fs::path packed = fs::path(LEWIS_TEST_DATA) / "golden/quantized/mxfp4";
  const fs::path twin = dir_.path / "twin";
  fs::create_directory(twin);
  fs::copy_file(packed / "expected.safetensors", twin / "model.safetensors");
  Json config = parse_json(file_text(packed / "config.json"), "config");
  config.erase("quantization_config");
  std::ofstream(twin / "config.json") << config.dump();
  const Json same = json("diff " + packed.string() + " " + twin.string());
  EXPECT_EQ(same["all"]["equal_share"], 1.0);
  EXPECT_TRUE(same["only_in_a"].empty());
  const Json inspected = json("inspect " + packed.string());
  EXPECT_EQ(inspected["tensors"]["model.layers.0.mlp.experts.gate_up_proj"],
            Json({{"dtype", "MXFP4"}, {"shape", {2, 96, 64}}}));
  for (const auto& [first, second] : {std::pair{packed, twin}, {twin, packed}}) {
    const fs::path recipe = dir_.path / "m.yml";
    std::ofstream(recipe) << "merge_method: linear\nmodels:\n- {model: " << first.string()
                          << ", parameters: {weight: 0.5}}\n- {model: " << second.string()
                          << ", parameters: {weight: 0.5}}\n";
    fs::remove_all(out());
    const lewis::Run merge = lewis("merge " + recipe.string() + " " + out());
    ASSERT_EQ(merge.code, 0) << merge.err;
    EXPECT_NE(merge.err.find("2 weights are stored quantised, as MXFP4"), std::string::npos);
    EXPECT_NE(merge.err.find("1 other matrix of its layers is not quantised"), std::string::npos);
    const Json equal = json("diff " + out() + " " + twin.string());
    EXPECT_EQ(equal["all"]["equal_share"], 1.0);
    EXPECT_TRUE(equal["only_in_a"].empty() && equal["only_in_b"].empty());
    EXPECT_TRUE(equal["not_compared"].empty()) << equal["not_compared"];
    EXPECT_FALSE(
        parse_json(file_text(out() + "/config.json"), "c").contains("quantization_config"));
  }
}

}  // namespace
}  // namespace lewis
