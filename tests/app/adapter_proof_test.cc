// The proof that an adapter is in a model, on models that the test merges itself, in double and by
// PEFT's formulas: right ones must pass, and what wrong ones have done is said.
#include <gtest/gtest.h>

#include <lewis/lewis.h>

#include <cmath>
#include <fstream>
#include <functional>
#include <map>
#include <numeric>
#include <random>
#include <tuple>

#include "app/adapter_proof.h"
#include "app/running_model.h"
#include "base/error.h"
#include "base/json.h"
#include "golden_file.h"
#include "io/checkpoint.h"
#include "io/safetensors.h"
#include "merge/memory_source.h"
#include "snapshot.h"
#include "temp_dir.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kLoraRank = 4, kMixture = 3;
constexpr double kScale = 4;  // alpha 16
const std::string kMoe = "model.layers.0.mlp.experts.";

using Floats = std::vector<float>;

Floats some(int64_t n, uint32_t seed, double size) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal(0, size);
  Floats values(static_cast<size_t>(n));
  for (float& v : values) v = static_cast<float>(normal(random));
  return values;
}

// A weight that the adapter changes: [out, in], or [experts, out, in].
struct Layer {
  std::string name;  // of the tensor
  int64_t out, in, experts = 1;
  uint32_t seed;
  bool is_fused() const { return experts > 1; }
  int64_t size() const { return experts * out * in; }
  Shape shape() const { return is_fused() ? Shape{experts, out, in} : Shape{out, in}; }
  Floats weight() const { return some(size(), seed, 0.05); }
  // [experts * rank, in] and [out, rank * experts], as PEFT saves them.
  Floats a(uint32_t adapter) const {
    return some(experts * kLoraRank * in, seed + 1 + adapter, 0.1);
  }
  Floats b(uint32_t adapter) const {
    return some(experts * kLoraRank * out, seed + 2 + adapter, 0.02);
  }

  // The change by PEFT's formula, einsum("o r e, e r i -> e o i"), without the scale.
  // `swapped`: with rank and expert of B exchanged.
  std::vector<double> product(uint32_t adapter, bool swapped = false) const {
    const Floats a_ = a(adapter), b_ = b(adapter);
    std::vector<double> delta;
    for (int64_t e = 0; e < experts; ++e) {
      for (int64_t o = 0; o < out; ++o) {
        for (int64_t i = 0; i < in; ++i) {
          double sum = 0;
          for (int64_t r = 0; r < kLoraRank; ++r) {
            const int64_t at =
                swapped ? (o * experts + e) * kLoraRank + r : (o * kLoraRank + r) * experts + e;
            sum += double(b_[size_t(at)]) * double(a_[size_t((e * kLoraRank + r) * in + i)]);
          }
          delta.push_back(sum);
        }
      }
    }
    return delta;
  }
};

const std::vector<Layer> kProofLayers = {{"model.layers.0.self_attn.q_proj.weight", 48, 48, 1, 10},
                                         {"model.layers.0.self_attn.v_proj.weight", 24, 48, 1, 20},
                                         {"model.layers.1.self_attn.q_proj.weight", 48, 48, 1, 30},
                                         {kMoe + "gate_up_proj", 40, 48, kMixture, 40},
                                         {kMoe + "down_proj", 48, 20, kMixture, 50}};

// What a merge makes of a layer's change: factors times the product of the adapter.
using Change = std::function<std::vector<double>(const Layer&)>;

std::vector<double> times(std::vector<double> values, double factor) {
  for (double& v : values) v *= factor;
  return values;
}
std::vector<double> right(const Layer& layer) { return times(layer.product(0), kScale); }

class Proof : public testing::Test {
 protected:
  Proof() {
    write_model("base", [](const Layer& l) { return std::vector<double>(size_t(l.size())); });
    write_adapter("adapter", 0);
  }

  // The stored types may differ from the base's, which is F32.
  void write_model(const std::string& name, const Change& change, DType dtype = DType::kF32,
                   const std::string& without = "") const {
    MemorySource model;
    for (const Layer& layer : kProofLayers) {
      if (layer.name == without) continue;
      Floats weight = layer.weight();
      const std::vector<double> delta = change(layer);
      for (size_t i = 0; i < weight.size(); ++i)
        weight[i] = static_cast<float>(double(weight[i]) + delta[i]);
      model.add(layer.name, dtype, layer.shape(), weight);
    }
    model.add("model.norm.weight", dtype, {48}, some(48, 3, 1));
    fs::create_directories(dir_.path / name);
    model.write(dir_.path / name / "model.safetensors");
    std::ofstream(dir_.path / name / "config.json") << Json{{"model_type", "none_that_is_known"}};
  }

  void write_adapter(const std::string& name, uint32_t adapter) const {
    MemorySource file;
    for (const Layer& layer : kProofLayers) {
      std::string module = layer.name.substr(0, layer.name.rfind('.'));
      // Of two parameters of a module, PEFT calls the first one's keys base_layer.
      if (layer.name.ends_with("gate_up_proj")) module += ".base_layer";
      const std::string key = "base_model.model." + module;
      file.add(key + ".lora_A.weight", DType::kF32, {layer.experts * kLoraRank, layer.in},
               layer.a(adapter));
      file.add(key + ".lora_B.weight", DType::kF32, {layer.out, layer.experts * kLoraRank},
               layer.b(adapter));
    }
    fs::create_directories(dir_.path / name);
    file.write(dir_.path / name / "adapter_model.safetensors");
    std::ofstream(dir_.path / name / "adapter_config.json")
        << Json{{"peft_type", "LORA"},
                {"r", kLoraRank},
                {"lora_alpha", kLoraRank * kScale},
                {"peft_version", "0.21.0"},
                {"target_parameters", {"mlp.experts.gate_up_proj", "mlp.experts.down_proj"}}};
  }

  AdapterProof proof_of(const std::string& model, const std::string& base = "base",
                        const std::string& adapter = "adapter") const {
    return prove({.model = dir_.path / model,
                  .base = dir_.path / base,
                  .adapters = {dir_.path / adapter},
                  .logits = false});
  }

  // Proves a merge that does `change`.
  AdapterProof proof_of(const Change& change, DType dtype = DType::kF32) const {
    write_model("merged", change, dtype);
    return proof_of("merged");
  }

  TempDir dir_;
};

size_t count(const AdapterProof& proof, AdapterVerdict verdict) {
  size_t n = 0;
  for (const AdaptedTensor& t : proof.tensors) n += t.verdict == verdict ? 1 : 0;
  return n;
}

void expect_said(const AdapterProof& proof, const std::string& words) {
  EXPECT_FALSE(proof.holds);
  EXPECT_NE(proof.lines[0].find(words), std::string::npos) << proof.lines[0];
}

TEST_F(Proof, RightMergesPassInEveryType) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    const AdapterProof proof = proof_of(right, dtype);
    EXPECT_TRUE(proof.holds) << proof.lines[0];
    EXPECT_EQ(proof.changed, 12u) << "experts count one by one: 3 of 3 matrices";
    EXPECT_EQ(count(proof, AdapterVerdict::kProven), proof.tensors.size());
    // The error is that of rounding: unit / sqrt(12) of the power of two below a weight, which is
    // about 0.8 times as large.
    double changes = 0, weights = 0;
    for (const Layer& layer : kProofLayers) {
      for (const double d : right(layer)) changes += d * d;
      for (const float w : layer.weight()) weights += double(w) * double(w);
    }
    const double unit = dtype == DType::kF32 ? 0 : dtype == DType::kBF16 ? 1.0 / 128 : 1.0 / 1024;
    const double expected = 0.8 * unit / std::sqrt(12.0) * std::sqrt(weights / changes);
    EXPECT_NEAR(proof.error, expected, expected * 0.2 + 1e-6);
    EXPECT_NEAR(proof.error, proof.rounding, 1e-6);
  }
}

// A program that rounds B A to bfloat16 on its way is not refused.
TEST_F(Proof, OtherRoundingPasses) {
  const AdapterProof proof = proof_of(
      [](const Layer& layer) {
        std::vector<double> change = right(layer);
        for (double& v : change) v = double(bf16_to_float(float_to_bf16(float(v))));
        return change;
      },
      DType::kBF16);
  EXPECT_TRUE(proof.holds) << proof.lines[0];
}

TEST_F(Proof, ALayerThatIsMissing) {
  const AdapterProof proof = proof_of([](const Layer& layer) {
    return times(right(layer), layer.name.starts_with("model.layers.1") ? 0 : 1);
  });
  expect_said(proof, "in 11 of 12 tensors; 1 of 12 (model.layers.1.self_attn.q_proj.weight)");
  expect_said(proof, "is that of the base: the adapter is not in it");
}

TEST_F(Proof, SkippedExperts) {
  const AdapterProof proof =
      proof_of([](const Layer& l) { return times(right(l), l.is_fused() ? 0 : 1); }, DType::kBF16);
  expect_said(proof, "in 3 of 12 tensors");
  EXPECT_EQ(count(proof, AdapterVerdict::kAbsent), 9u);
  for (const AdaptedTensor& t : proof.tensors)
    EXPECT_EQ(t.verdict == AdapterVerdict::kAbsent, t.name.starts_with(kMoe)) << t.name;
}

TEST_F(Proof, AppliedTwice) {
  const AdapterProof proof = proof_of([](const Layer& l) { return times(right(l), 2); });
  expect_said(proof, "in 0 of 12 tensors");
  expect_said(proof, "applied twice (factor 2)");
  EXPECT_NEAR(proof.tensors[0].factor, 2, 1e-4);
}

TEST_F(Proof, ForgottenScale) {
  const AdapterProof proof = proof_of([](const Layer& l) { return l.product(0); }, DType::kBF16);
  expect_said(proof, "without its scale (factor 0.25, 1 / 4)");
}

TEST_F(Proof, OtherFactors) {
  expect_said(proof_of([](const Layer& l) { return times(right(l), -1); }), "subtracted");
  // alpha / sqrt(4) instead of alpha / 4 is twice as much, so 2 may mean both; 3 means neither.
  expect_said(proof_of([](const Layer& l) { return times(right(l), 3); }),
              "another strength (factor 3)");
}

TEST_F(Proof, RankAndExpertExchanged) {
  const AdapterProof proof =
      proof_of([](const Layer& l) { return times(l.product(0, l.is_fused()), kScale); });
  expect_said(proof, "in 3 of 12 tensors");
  expect_said(proof, "read in the other layout (of experts: rank and expert exchanged)");
  EXPECT_EQ(count(proof, AdapterVerdict::kMisread), 9u);
}

// lora_B of a dense layer, taken for [rank, out]; and a square product that is transposed.
TEST_F(Proof, OtherLayouts) {
  const auto flipped = [](const Layer& l) {
    if (l.is_fused()) return right(l);
    const Floats a = l.a(0), b = l.b(0);
    std::vector<double> delta;
    for (int64_t o = 0; o < l.out; ++o) {
      for (int64_t i = 0; i < l.in; ++i) {
        double sum = 0;
        for (int64_t r = 0; r < kLoraRank; ++r)
          sum += double(b[size_t(r * l.out + o)]) * double(a[size_t(r * l.in + i)]);
        delta.push_back(kScale * sum);
      }
    }
    return delta;
  };
  expect_said(proof_of(flipped), "lora_B read in the other layout");
  const auto transposed = [](const Layer& l) {
    std::vector<double> delta = right(l), turned = delta;
    if (l.is_fused() || l.out != l.in) return delta;
    for (int64_t o = 0; o < l.out; ++o)
      for (int64_t i = 0; i < l.in; ++i) turned[size_t(o * l.in + i)] = delta[size_t(i * l.in + o)];
    return turned;
  };
  expect_said(proof_of(transposed), "in 10 of 12 tensors");
  expect_said(proof_of(transposed), "product transposed");
}

// Nobody has merged anything into the base's own logits: the demo's model, with a tokenizer.
TEST_F(Proof, LogitsOfAnAdapterAtRunTime) {
  const fs::path base = fs::path(LEWIS_DEMO) / "models" / "base";
  MemorySource file;
  for (const auto& [module, out, in] : {std::tuple{"self_attn.q_proj", 128, 128},
                                        {"mlp.up_proj", 384, 128},
                                        {"mlp.gate_proj", 384, 128},
                                        {"mlp.down_proj", 128, 384}}) {
    const std::string key = fmt::format("base_model.model.model.layers.3.{}", module);
    const auto seed = static_cast<uint32_t>(out + 7 * in);
    file.add(key + ".lora_A.weight", DType::kF32, {kLoraRank, in}, some(kLoraRank * in, seed, 0.1));
    file.add(key + ".lora_B.weight", DType::kF32, {out, kLoraRank},
             some(kLoraRank * out, seed + 1, 0.1));
  }
  fs::create_directories(dir_.path / "lora");
  file.write(dir_.path / "lora" / "adapter_model.safetensors");
  std::ofstream(dir_.path / "lora" / "adapter_config.json")
      << Json{{"peft_type", "LORA"}, {"r", kLoraRank}, {"lora_alpha", kLoraRank}};
  for (const std::string dtype : {"float32", "bfloat16"}) {
    MergeJob job{.recipe = adapter_recipe(base.string(), {(dir_.path / "lora").string()}, dtype),
                 .out = dir_.path / dtype};
    job.prove.wanted = true;
    const LogitProof logits = merge(job).proofs[0].logits;
    EXPECT_EQ(logits.why_not, "");
    EXPECT_EQ(logits.texts, 8u);
    EXPECT_EQ(logits.beside, 4u);
    EXPECT_EQ(logits.merged, 0u);
    if (dtype == "float32") {
      EXPECT_LT(logits.largest, 1e-3) << "the order of float32 sums";
      EXPECT_EQ(logits.rounding_largest, 0);
    } else {
      EXPECT_GT(logits.mean, 0);
      EXPECT_NEAR(logits.mean, logits.rounding_mean, 0.01 * logits.rounding_mean);
    }
  }
  // The base itself lacks the adapter, and the logits say so, too.
  const AdapterProof absent =
      prove({.model = base, .base = base, .adapters = {dir_.path / "lora"}});
  EXPECT_FALSE(absent.holds);
  EXPECT_GT(absent.logits.mean, 10 * absent.logits.rounding_mean);
  ASSERT_EQ(absent.warnings.size(), 1u);
  EXPECT_NE(absent.warnings[0].find("logits differ"), std::string::npos);
}

// Experts that are stored one by one have their products beside them; those of gpt-oss, whose
// outputs are stored in turns, are merged for this.
TEST_F(Proof, LogitsOfMixtures) {
  struct Mixture {
    const char* family;
    std::vector<int> layers;
    int64_t experts, gate_up, inner;
    uint64_t beside, merged;
  };
  for (const Mixture& m : {Mixture{"qwen2_moe", {1, 3}, 8, 96, 48, 48, 0},
                           Mixture{"gpt_oss", {0, 1}, 6, 96, 48, 0, 36}}) {
    MemorySource file;
    for (const int layer : m.layers) {
      const std::string key = fmt::format("base_model.model.model.layers.{}.mlp.experts", layer);
      const int64_t wide = m.experts * kLoraRank;
      const auto add = [&](const std::string& name, Shape shape, uint32_t seed) {
        const int64_t size = element_count(shape);
        file.add(key + name, DType::kF32, shape, some(size, seed + 4 * uint32_t(layer), 0.1));
      };
      add(".base_layer.lora_A.weight", {wide, 64}, 1);
      add(".base_layer.lora_B.weight", {m.gate_up, wide}, 2);
      add(".lora_A.weight", {wide, m.inner}, 3);
      add(".lora_B.weight", {64, wide}, 4);
    }
    fs::create_directories(dir_.path / "lora");
    file.write(dir_.path / "lora" / "adapter_model.safetensors");
    std::ofstream(dir_.path / "lora" / "adapter_config.json")
        << Json{{"peft_type", "LORA"},
                {"r", kLoraRank},
                {"lora_alpha", kLoraRank},
                {"peft_version", "0.21.0"},
                {"target_parameters", {"mlp.experts.gate_up_proj", "mlp.experts.down_proj"}}};
    const fs::path base = fs::path(LEWIS_TEST_DATA) / "golden" / "families" / m.family;
    MergeJob job{
        .recipe = adapter_recipe(base.string(), {(dir_.path / "lora").string()}, "float32"),
        .out = dir_.path / m.family};
    job.prove.wanted = true;
    const AdapterProof proof = merge(job).proofs[0];
    EXPECT_TRUE(proof.holds) << proof.lines[0];
    EXPECT_EQ(proof.logits.beside, m.beside) << m.family;
    EXPECT_EQ(proof.logits.merged, m.merged) << m.family;
    EXPECT_LT(proof.logits.largest, 1e-3) << m.family;
  }
}

TEST_F(Proof, AnotherAdapter) {
  const auto other = [](const Layer& l) { return times(l.product(1000), kScale); };
  const AdapterProof proof = proof_of(other);
  expect_said(proof, "in 0 of 12 tensors");
  expect_said(proof, "another change (cosine ");
  write_adapter("other", 1000);
  EXPECT_TRUE(proof_of("merged", "base", "other").holds) << "it is the other one's";
}

TEST_F(Proof, ATensorThatIsNotThere) {
  write_model("merged", right, DType::kF32, "model.layers.1.self_attn.q_proj.weight");
  expect_said(proof_of("merged"), "is missing");
}

// What the adapter does not change may differ, which is said.
TEST_F(Proof, OtherTensorsAreLookedAt) {
  write_model("merged", right);
  write_model("changed", right);
  MemorySource model;
  const Checkpoint merged = Checkpoint::open(dir_.path / "merged");
  for (const TensorInfo& t : merged.tensors())
    model.add(t.name, t.dtype, t.shape, merged.read_floats(t));
  model.remove("model.norm.weight");
  model.add("model.norm.weight", DType::kF32, {48}, some(48, 4, 1));
  model.write(dir_.path / "changed" / "model.safetensors");
  const AdapterProof proof = proof_of("changed");
  EXPECT_TRUE(proof.holds) << proof.lines[0];
  ASSERT_EQ(proof.warnings.size(), 1u);
  EXPECT_NE(proof.warnings[0].find("model.norm.weight differs from the base"), std::string::npos);
}

// lewis's own merge, and a change that bfloat16 has no room for.
TEST_F(Proof, ApplyWritesWhatHolds) {
  MergeJob job{.recipe = adapter_recipe((dir_.path / "base").string(),
                                        {(dir_.path / "adapter").string()}, "bfloat16"),
               .out = dir_.path / "out",
               .shard_bytes = 8000};
  job.prove.wanted = true;
  const MergeResult result = merge(job);
  ASSERT_EQ(result.proofs.size(), 1u);
  EXPECT_TRUE(result.proofs[0].holds) << result.proofs[0].lines[0];
  EXPECT_EQ(result.proofs[0].lines.size(), 3u);
  EXPECT_GT(result.tensors.shards, 2u);
  const Json record = parse_json(file_text(dir_.path / "out" / "lewis_run.json"), "record");
  EXPECT_EQ(record["proofs"][0]["changed"], 12);
  EXPECT_EQ(record["proofs"][0]["lines"].dump().find(dir_.path.string()), std::string::npos);
}

// A file with the tensors of `merged`, and those of the base that it does not have.
void write_peft_merge(const fs::path& base, const fs::path& merged, const fs::path& file) {
  MemorySource model;
  const SafetensorsFile changed(merged);
  for (const auto& entry : changed.entries()) {
    std::vector<std::byte> bytes(byte_size(entry.info));
    changed.read(entry, 0, bytes);
    model.add_bytes(entry.info.name, entry.info.dtype, entry.info.shape, std::move(bytes));
  }
  const Checkpoint before = Checkpoint::open(base);
  for (const TensorInfo& t : before.tensors()) {
    if (!changed.find(t.name)) model.add(t.name, t.dtype, t.shape, before.read_floats(t));
  }
  model.write(file);
}

// The logits of PEFT's adapters at run time, never merged, are those of lewis's merged models.
TEST_F(Proof, LogitsArePefts) {
  const fs::path golden = fs::path(LEWIS_TEST_DATA) / "golden" / "adapters";
  Threads threads(2);
  size_t compared = 0;
  for (const auto& entry : fs::directory_iterator(golden)) {
    const std::string name = entry.path().filename().string();
    const fs::path base = golden / name.substr(0, name.find('_'));
    // gpt2's family is not one that lewis runs.
    if (!fs::exists(entry.path() / "logits.safetensors") || name.starts_with("gpt2")) continue;
    const SafetensorsFile theirs(entry.path() / "logits.safetensors");
    const RecipePtr recipe = adapter_recipe(base.string(), {entry.path().string()}, "");
    const auto model = RunningModel::open(recipe->models[0], threads, false, ComputeType::kF32);
    const std::vector<std::vector<int32_t>> ids = {read_tensor<int32_t>(theirs, "ids")};
    const TokenBatch batch = make_batch(ids);
    const std::vector<float> hidden = run_layers(*model->transformer, batch, {});
    std::vector<int64_t> rows(batch.ids.size());
    std::iota(rows.begin(), rows.end(), int64_t{0});
    const auto expected = read_tensor<float>(theirs, "logits");
    std::vector<float> logits(expected.size());
    model->transformer->head(hidden, rows, logits);
    double largest = 0, worst = 0;
    for (size_t i = 0; i < logits.size(); ++i) {
      largest = std::max(largest, std::abs(double(expected[i])));
      worst = std::max(worst, std::abs(double(logits[i]) - double(expected[i])));
    }
    EXPECT_LT(worst, 1e-5 * largest) << name;
    ++compared;
  }
  EXPECT_EQ(compared, 17u);
}

// What PEFT itself has merged (tests/data/golden/make_adapters.py) holds its adapter, and no other.
TEST_F(Proof, PeftsOwnMerges) {
  const fs::path golden = fs::path(LEWIS_TEST_DATA) / "golden" / "adapters";
  size_t proven = 0;
  for (const auto& entry : fs::directory_iterator(golden)) {
    const fs::path merged = entry.path() / "merged.safetensors";
    if (!fs::exists(merged)) continue;
    const std::string name = entry.path().filename().string();
    const fs::path base = golden / name.substr(0, name.find('_')), model = dir_.path / name;
    fs::create_directories(model);
    fs::copy(base / "config.json", model / "config.json");
    write_peft_merge(base, merged, model / "model.safetensors");
    const ProveJob job{.model = model, .base = base, .adapters = {entry.path()}, .logits = false};
    const AdapterProof proof = prove(job);
    EXPECT_TRUE(proof.holds) << proof.lines[0];
    EXPECT_LT(proof.error, 1e-5) << name;
    EXPECT_GT(proof.changed, 0u) << name;
    ++proven;
    // A merge of another adapter on the same base.
    const std::string other = name == "llama_lora"  ? "llama_dora"
                              : name == "gpt2_lora" ? "gpt2_dora"
                                                    : "";
    if (other.empty()) continue;
    EXPECT_FALSE(
        prove({.model = model, .base = base, .adapters = {golden / other}, .logits = false}).holds);
  }
  EXPECT_GE(proven, 29u);
}

// DoRA that is merged as LoRA: PEFT's adapter without its magnitudes makes the wrong merge.
TEST_F(Proof, DoraWithoutMagnitudes) {
  const fs::path golden = fs::path(LEWIS_TEST_DATA) / "golden" / "adapters";
  const SafetensorsFile dora(golden / "llama_dora" / "adapter_model.safetensors");
  MemorySource lora;
  for (const auto& entry : dora.entries()) {
    if (entry.info.name.find("magnitude") != std::string::npos) continue;
    std::vector<std::byte> bytes(byte_size(entry.info));
    dora.read(entry, 0, bytes);
    lora.add_bytes(entry.info.name, entry.info.dtype, entry.info.shape, std::move(bytes));
  }
  Json config =
      parse_json(file_text(golden / "llama_dora" / "adapter_config.json"), "adapter_config.json");
  config["use_dora"] = false;
  fs::create_directories(dir_.path / "lora");
  lora.write(dir_.path / "lora" / "adapter_model.safetensors");
  std::ofstream(dir_.path / "lora" / "adapter_config.json") << config;
  merge({.recipe = adapter_recipe((golden / "llama").string(), {(dir_.path / "lora").string()}),
         .out = dir_.path / "wrong"});
  expect_said(prove({.model = dir_.path / "wrong",
                     .base = golden / "llama",
                     .adapters = {golden / "llama_dora"},
                     .logits = false}),
              "without DoRA's magnitudes");
}

// Each of several adapters has a proof of its own: the first in what the second is merged into.
TEST_F(Proof, SeveralAdapters) {
  write_adapter("other", 1000);
  MergeJob job{
      .recipe = adapter_recipe((dir_.path / "base").string(),
                               {(dir_.path / "adapter").string(), (dir_.path / "other").string()}),
      .out = dir_.path / "out"};
  job.prove.wanted = true;
  const MergeResult result = merge(job);
  ASSERT_EQ(result.proofs.size(), 2u);
  for (const AdapterProof& proof : result.proofs) EXPECT_TRUE(proof.holds) << proof.lines[0];
  write_model("both", [](const Layer& l) {
    std::vector<double> change = right(l), more = times(l.product(1000), kScale);
    for (size_t i = 0; i < more.size(); ++i) change[i] += more[i];
    return change;
  });
  const Checkpoint ours = Checkpoint::open(dir_.path / "out"),
                   theirs = Checkpoint::open(dir_.path / "both");
  for (const TensorInfo& t : theirs.tensors()) {
    const Floats a = ours.read_floats(ours.get(t.name)), b = theirs.read_floats(t);
    for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 1e-6) << t.name;
  }
}

// Another program's merge of two adapters, in bfloat16, and one that lacks the second.
TEST_F(Proof, SeveralAdaptersOfAnyProgram) {
  write_adapter("other", 1000);
  const auto both = [](const Layer& l) {
    std::vector<double> change = right(l), more = times(l.product(1000), kScale);
    for (size_t i = 0; i < more.size(); ++i) change[i] += more[i];
    return change;
  };
  for (const bool whole : {true, false}) {
    write_model("merged", whole ? Change(both) : Change(right), DType::kBF16);
    const ProveJob job{.model = dir_.path / "merged",
                       .base = dir_.path / "base",
                       .adapters = {dir_.path / "adapter", dir_.path / "other"},
                       .logits = false};
    const AdapterProof proof = prove(job);
    EXPECT_EQ(proof.holds, whole) << proof.lines[0];
    EXPECT_EQ(proof.changed, 12u);
    EXPECT_TRUE(proof.model.ends_with("adapter+" + (dir_.path / "other").string()));
    const std::string words = "it holds the others without " + (dir_.path / "other").string();
    EXPECT_EQ(proof.lines[0].find(words) != std::string::npos, !whole) << proof.lines[0];
  }
  try {
    prove({.model = dir_.path / "merged", .base = dir_.path / "base"});
    FAIL() << "no adapter is named";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kUsage) << e.what();
  }
}

// A merge of several models is proven in what it reads: in bfloat16, or unrounded where its output
// is float32.
TEST_F(Proof, WhatAMergeReads) {
  const auto base = dir_.path / "rounded";
  write_model(
      "rounded", [](const Layer& l) { return std::vector<double>(size_t(l.size())); },
      DType::kBF16);
  for (const std::string dtype : {"bfloat16", "float32"}) {
    MergeJob job{.recipe = make_recipe(
                     fmt::format("merge_method: linear\nmodels:\n"
                                 "- {{model: {0}+{1}, parameters: {{weight: 1}}}}\n"
                                 "- {{model: {0}, parameters: {{weight: 1}}}}\ndtype: {2}\n",
                                 base.string(), (dir_.path / "adapter").string(), dtype)),
                 .out = dir_.path / dtype};
    job.prove.wanted = true;
    const AdapterProof proof = merge(job).proofs.at(0);
    EXPECT_TRUE(proof.holds) << proof.lines[0];
    EXPECT_NE(proof.lines[0].find("what the merge reads"), std::string::npos) << proof.lines[0];
    EXPECT_EQ(proof.rounding < 1e-6, dtype == "float32") << proof.rounding;
  }
  MergeJob none{.recipe = make_recipe("merge_method: linear\nmodels: [{model: " + base.string() +
                                      ", parameters: {weight: 1}}]\n"),
                .out = dir_.path / "none"};
  none.prove.wanted = true;
  EXPECT_THROW(merge(none), Error) << "there is nothing to prove";
  EXPECT_FALSE(fs::exists(dir_.path / "none"));
}

TEST_F(Proof, LostChangesAreRefused) {
  const fs::path config = dir_.path / "adapter" / "adapter_config.json";
  Json json = parse_json(file_text(config), "config");
  json["lora_alpha"] = 0.05;  // changes of a thousandth of a weight
  std::ofstream(config) << json;
  MergeJob job{.recipe = adapter_recipe((dir_.path / "base").string(),
                                        {(dir_.path / "adapter").string()}, "bfloat16"),
               .out = dir_.path / "out"};
  job.prove.wanted = true;
  try {
    merge(job);
    FAIL() << "rounding has lost the change";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kVerify);
    EXPECT_NE(std::string(e.what()).find("of its change by rounding to BF16"), std::string::npos)
        << e.what();
    EXPECT_NE(std::string(e.what()).find("--force-rounding"), std::string::npos) << e.what();
  }
  EXPECT_FALSE(fs::exists(dir_.path / "out"));
  EXPECT_FALSE(fs::exists(dir_.path / "out.partial"));
  job.prove.force_rounding = true;
  EXPECT_GT(merge(job).proofs[0].rounding, 0.5);
  job.recipe = adapter_recipe((dir_.path / "base").string(), {(dir_.path / "adapter").string()});
  job.out = dir_.path / "exact";
  job.prove.force_rounding = false;
  EXPECT_TRUE(merge(job).proofs[0].holds) << "float32 has room";
}

}  // namespace
}  // namespace lewis
