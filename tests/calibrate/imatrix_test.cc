// Importance matrices: names and files against Python's gguf package, and round trips.
#include "calibrate/imatrix.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <set>

#include "base/error.h"
#include "golden_file.h"
#include "io/checkpoint.h"
#include "io/gguf.h"
#include "model/block_steps.h"
#include "temp_dir.h"

namespace lewis {
namespace {

const std::filesystem::path kGolden = LEWIS_TEST_DATA "/golden";

Checkpoint family(const std::string& name) { return Checkpoint::open(kGolden / "families" / name); }

void fill(std::vector<double>& values, size_t size, std::mt19937_64& random) {
  values.resize(size);
  for (double& v : values) v = std::lognormal_distribution<double>(3, 4)(random);
}

// Numbers without meaning for everything that calibration measures of a model.
Statistics random_statistics(const Checkpoint& model) {
  const ModelSpec spec = locate_tensors(read_model_spec(model.config(), "config.json"), model);
  std::mt19937_64 random(1);
  Statistics s;
  s.tokens = 4321;
  s.sequences = 15;
  s.origin = {{"data", "some.jsonl"}, {"seed", "42"}};
  s.fused["qkv_proj"] = {{"q_proj", 64}, {"k_proj", 32}};
  const auto width = [](int64_t n) { return static_cast<size_t>(n); };
  for (int64_t i = 0; i < spec.layers; ++i) {
    for (const LinearLayer& linear : linear_layers(spec, i)) {
      if (linear.role == LinearRole::kRouter) continue;
      if (linear.expert < 0) {
        fill(s.sum_squares[linear.module], width(linear.in), random);
        continue;
      }
      ExpertStatistics& e = s.experts[linear.module];
      e.tokens.assign(width(spec.experts.count), 7);
      e.tokens[0] = 0;
      const bool down = linear.role == LinearRole::kDown;
      fill(down ? e.mid : e.in, e.tokens.size() * width(linear.in), random);
    }
  }
  return s;
}

// Equal but for the rounding to float32.
void expect_rounded(const std::vector<double>& found, const std::vector<double>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t j = 0; j < found.size(); ++j)
    EXPECT_NEAR(found[j], expected[j], 0x1p-24 * expected[j]);
}

void expect_same_sums(const Statistics& found, const Statistics& expected) {
  ASSERT_EQ(found.sum_squares.size(), expected.sum_squares.size());
  for (const auto& [module, sums] : expected.sum_squares)
    expect_rounded(found.sum_squares.at(module), sums);
  ASSERT_EQ(found.experts.size(), expected.experts.size());
  for (const auto& [module, e] : expected.experts) {
    EXPECT_EQ(found.experts.at(module).tokens, e.tokens);
    expect_rounded(found.experts.at(module).in, e.in);
    expect_rounded(found.experts.at(module).mid, e.mid);
  }
}

class FamilyImatrix : public testing::TestWithParam<std::filesystem::path> {};

TEST_P(FamilyImatrix, ComesBack) {
  const TempDir dir;
  const auto model = Checkpoint::open(GetParam());
  const Statistics s = random_statistics(model);
  write_imatrix(dir.path / "x.gguf", s);
  const Statistics back = read_imatrix(dir.path / "x.gguf", model);
  expect_same_sums(back, s);
  EXPECT_EQ(back.tokens, s.tokens);
  EXPECT_EQ(back.sequences, s.sequences);
  EXPECT_EQ(back.fused, s.fused);
  EXPECT_EQ(back.origin, s.origin);
}

INSTANTIATE_TEST_SUITE_P(All, FamilyImatrix, testing::ValuesIn(golden_families()),
                         [](const auto& folder) { return folder.param.filename().string(); });

// The names of gguf-py's tensor map, except of routers, which are not measured.
TEST(Imatrix, NamesAreThoseOfGgufPy) {
  const TempDir dir;
  const Json golden = parse_json(file_text(kGolden / "imatrix/names.json"), "names.json");
  ASSERT_EQ(golden.size(), 16u);
  for (const auto& [name, modules] : golden.items()) {
    write_imatrix(dir.path / "x.gguf", random_statistics(family(name)));
    std::set<std::string> expected, found;
    for (const auto& [_, ggml] : modules.items()) {
      if (ggml != "blk.1.ffn_gate_inp") expected.insert(ggml.get<std::string>() + ".weight");
    }
    const GgufFile file(dir.path / "x.gguf");
    for (const auto& entry : file.entries()) {
      const std::string& tensor = entry.info.name;
      if (tensor.starts_with("blk.1.")) found.insert(tensor.substr(0, tensor.rfind('.')));
    }
    EXPECT_EQ(found, expected) << name;
  }
}

Statistics golden_statistics(const std::string& name) {
  const SafetensorsFile golden(kGolden / "families" / name / "golden.safetensors");
  Statistics s;
  for (const auto& entry : golden.entries()) {
    const std::string kind = entry.info.name.substr(0, entry.info.name.find('.'));
    const std::string module = entry.info.name.substr(entry.info.name.find('.') + 1);
    if (kind == "sum_squares") s.sum_squares[module] = read_tensor<double>(golden, entry.info.name);
    if (kind == "expert_in") s.experts[module].in = read_tensor<double>(golden, entry.info.name);
    if (kind == "expert_mid") s.experts[module].mid = read_tensor<double>(golden, entry.info.name);
    if (kind == "expert_tokens")
      s.experts[module].tokens = read_tensor<int64_t>(golden, entry.info.name);
  }
  return s;
}

TEST(Imatrix, ReadsFilesOfGgufPy) {
  for (const char* name : {"phi3", "qwen2_moe"}) {
    const auto file = kGolden / "imatrix" / (std::string(name) + ".gguf");
    const Statistics s = read_imatrix(file, family(name));
    expect_same_sums(s, golden_statistics(name));
    EXPECT_EQ(s.tokens, 192u);
    EXPECT_EQ(s.sequences, 0u);
    EXPECT_EQ(s.origin.at("data"), "calibration.txt");
  }
}

TEST(Imatrix, WritesWhatGgufPyWrites) {
  const TempDir dir;
  for (const char* name : {"phi3", "qwen2_moe"}) {
    Statistics s = golden_statistics(name);
    s.tokens = 192;
    s.sequences = 2;
    s.origin["data"] = "calibration.txt";
    write_imatrix(dir.path / "x.gguf", s);
    const GgufFile ours(dir.path / "x.gguf");
    const GgufFile theirs(kGolden / "imatrix" / (std::string(name) + ".gguf"));
    for (const auto& [key, value] : theirs.metadata()) EXPECT_EQ(ours.metadata().at(key), value);
    for (const auto& entry : theirs.entries()) {
      if (entry.info.name.find(".ffn_gate_inp.") != std::string::npos) continue;
      const auto* own = ours.find(entry.info.name);
      ASSERT_TRUE(own) << entry.info.name;
      EXPECT_EQ(own->info, entry.info);
      std::vector<std::byte> a(byte_size(entry.info)), b(a.size());
      theirs.read(entry, 0, a);
      ours.read(*own, 0, b);
      EXPECT_EQ(a, b) << entry.info.name;
    }
  }
}

// A file of llama's names that a test changes before it is read.
class LlamaImatrix : public testing::Test {
 protected:
  LlamaImatrix() {
    write_imatrix(file_, random_statistics(model_));
    const GgufFile file(file_);
    metadata_ = file.metadata();
    for (const auto& entry : file.entries()) {
      values_[entry.info.name].resize(static_cast<size_t>(element_count(entry.info.shape)));
      file.read(entry, 0, std::as_writable_bytes(std::span(values_[entry.info.name])));
    }
  }

  Statistics read() {
    std::vector<TensorInfo> tensors;
    std::vector<std::span<const std::byte>> data;
    for (const auto& [name, values] : values_) {
      tensors.push_back({name, DType::kF32, {static_cast<int64_t>(values.size())}});
      data.push_back(std::as_bytes(std::span(values)));
    }
    write_gguf(file_, metadata_, tensors, data);
    return read_imatrix(file_, model_);
  }

  void expect_refused(const std::string& said) {
    try {
      read();
      FAIL() << "accepted; expected: " << said;
    } catch (const Error& e) {
      const std::string message = e.what();
      EXPECT_EQ(e.code(), ExitCode::kInput);
      EXPECT_NE(message.find(file_.string()), std::string::npos) << message;
      EXPECT_NE(message.find(said), std::string::npos) << message << "\nexpected: " << said;
    }
  }

  void move(const std::string& from, const std::string& to) {
    for (const char* end : {".in_sum2", ".counts"}) {
      auto node = values_.extract(from + end);
      node.key() = to + end;
      values_.insert(std::move(node));
    }
  }

  TempDir dir_;
  std::filesystem::path file_ = dir_.path / "x.gguf";
  Checkpoint model_ = family("llama");
  GgufMetadata metadata_;
  std::map<std::string, std::vector<float>> values_;
};

TEST_F(LlamaImatrix, WhatDoesNotBelongIsIgnored) {
  values_["output.weight.in_sum2"] = {1, 2};
  values_["output.weight.counts"] = {4321};
  values_["blk.0.attn_q.weight.in_sum"] = {1};
  EXPECT_EQ(read().sum_squares.size(), 28u);
}

TEST_F(LlamaImatrix, FusedByTheConverter) {
  const Statistics before = read();
  move("blk.2.attn_k.weight", "blk.2.attn_qkv.weight");
  for (const char* name : {"attn_q", "attn_v"}) {
    values_.erase(fmt::format("blk.2.{}.weight.in_sum2", name));
    values_.erase(fmt::format("blk.2.{}.weight.counts", name));
  }
  const Statistics s = read();
  const std::string attention = "model.layers.2.self_attn.";
  for (const char* name : {"q_proj", "k_proj", "v_proj"})
    EXPECT_EQ(s.sum_squares.at(attention + name), before.sum_squares.at(attention + "k_proj"));
}

TEST_F(LlamaImatrix, OtherCountsAreScaled) {
  const Statistics before = read();
  for (float& v : values_.at("blk.1.ffn_up.weight.in_sum2")) v /= 4;
  values_.at("blk.1.ffn_up.weight.counts") = {4321.f / 4};
  const Statistics s = read();
  EXPECT_EQ(s.tokens, 4321u);
  expect_rounded(s.sum_squares.at("model.layers.1.mlp.up_proj"),
                 before.sum_squares.at("model.layers.1.mlp.up_proj"));
}

TEST_F(LlamaImatrix, RefusesWhatDoesNotFit) {
  const auto values = values_;
  const auto refused = [&](const std::string& said) {
    expect_refused(said);
    values_ = values;
  };
  values_.erase("blk.1.ffn_up.weight.in_sum2");
  refused("blk.1.ffn_up.weight.in_sum2 and .counts do not fit together");
  move("blk.1.ffn_up.weight", "output.weight");
  refused("1 weight(s) of " + model_.label() + " have no entry, the first is " +
          "model.layers.1.mlp.up_proj.weight (blk.1.ffn_up.weight)");
  values_["blk.9.attn_q.weight.in_sum2"] = values_["blk.9.attn_q.weight.counts"] = {1};
  refused("blk.9.attn_q.weight belongs to no weight");
  values_["blk.0.attn_q.weight.in_sum2"].pop_back();
  refused("tensor model.layers.0.self_attn.q_proj.weight");
  values_["blk.0.attn_q.weight.in_sum2"][3] = -1;
  refused("blk.0.attn_q.weight.in_sum2 holds -1");
  values_["blk.0.attn_q.weight.in_sum2"][3] = NAN;
  refused("blk.0.attn_q.weight.in_sum2 holds nan");
  values_["blk.0.attn_q.weight.counts"][0] = 0;
  refused("model.layers.0.self_attn.q_proj saw no token");
  values_["something"] = {1};
  refused("tensor something is not known");
  metadata_["general.type"] = "model";
  refused("general.type is 'model'");
  metadata_.erase("general.type");
  refused("not an importance matrix");
}

TEST_F(LlamaImatrix, RefusesTheProtocolReference) {
  Statistics s = random_statistics(model_);
  s.protocol = Protocol::kReference;
  EXPECT_THROW(write_imatrix(dir_.path / "y.gguf", s), Error);
  EXPECT_FALSE(std::filesystem::exists(dir_.path / "y.gguf"));
}

TEST(Imatrix, NoDamageCrashes) {
  const TempDir dir;
  const auto file = dir.path / "x.gguf";
  const std::string good = file_text(kGolden / "imatrix/phi3.gguf");
  const Checkpoint model = family("phi3");
  const auto read = [&](std::string_view bytes) {
    std::ofstream(file, std::ios::binary) << bytes;
    try {
      read_imatrix(file, model);
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ExitCode::kInput) << e.what();
    }
  };
  for (size_t i = 0; i < good.size(); i += 61) read(std::string_view(good).substr(0, i));
  for (size_t i = 0; i < good.size(); i += 7) {  // all of a smaller file: tests/io/gguf_test.cc
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ (i % 2 ? 0xff : 0x40));
    read(bad);
  }
}

}  // namespace
}  // namespace lewis
