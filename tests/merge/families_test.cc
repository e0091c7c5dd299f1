// Whole models of families with mechanisms of their own (fused experts, layers that share keys,
// embeddings per layer, latent attention) through every merge method.
#include <bit>
#include <cmath>
#include <random>

#include "small_models.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

class FamiliesThroughMethods : public SmallModels, public testing::WithParamInterface<const char*> {
 protected:
  fs::path family() const { return fs::path(LEWIS_TEST_DATA) / "golden/families" / GetParam(); }

  // A fine-tuned copy: every float value moves a little, the same for the same seed.
  void write_copy(const std::string& name, unsigned seed) {
    const Checkpoint model = Checkpoint::open(family());
    std::mt19937 random(seed);
    std::uniform_real_distribution<float> move(-0.05f, 0.05f);
    MemorySource source;
    for (const TensorInfo& t : model.tensors()) {
      if (!is_arithmetic(t.dtype)) {
        std::vector<std::byte> bytes(byte_size(t));
        model.read(t, 0, bytes);
        source.add_bytes(t.name, t.dtype, t.shape, std::move(bytes));
        continue;
      }
      std::vector<float> values = model.read_floats(t);
      if (seed > 0) {
        for (float& v : values) v += move(random);
      }
      source.add(t.name, t.dtype, t.shape, values);
    }
    fs::create_directories(dir_.path / name);
    source.write(dir_.path / name / "model.safetensors");
    fs::copy_file(family() / "config.json", dir_.path / name / "config.json");
  }

  static std::string recipe_for(const MergeMethod& method) {
    std::string text = fmt::format("merge_method: {}\n", method.name);
    const bool one = method.max_models == 1, with_base = method.base == BaseRole::kModel && !one;
    if (!one || method.base == BaseRole::kApart) text += "base_model: base\n";
    text += "models:\n";
    if (with_base) text += "- {model: base, parameters: {weight: 0.5}}\n";
    text += "- {model: a, parameters: {weight: 0.5, density: 0.5}}\n";
    if (!one && !(with_base && method.max_models == 2))
      text += "- {model: b, parameters: {weight: 0.5, density: 0.5}}\n";
    return text + "parameters: {t: 0.3}\n";
  }
};

INSTANTIATE_TEST_SUITE_P(Merge, FamiliesThroughMethods,
                         testing::Values("gemma4", "gemma4_moe", "llama4", "gpt_oss", "deepseek_v2",
                                         "nemotron_h"),
                         [](const auto& test) { return std::string(test.param); });

TEST_P(FamiliesThroughMethods, EveryTensorHasItsPlace) {
  write_copy("base", 0);
  write_copy("a", 1);
  write_copy("b", 2);
  const Checkpoint base = Checkpoint::open(dir_.path / "base");
  for (const std::string_view name : merge_method_names()) {
    SCOPED_TRACE(name);
    const Values out = merged(recipe_for(find_merge_method(name)));
    EXPECT_EQ(config_, base.config());
    ASSERT_EQ(out.size(), base.tensors().size());
    size_t changed = 0;
    for (const TensorInfo& t : base.tensors()) {
      SCOPED_TRACE(t.name);
      ASSERT_TRUE(out.contains(t.name));
      const std::vector<float>& values = out.at(t.name);
      ASSERT_EQ(values.size(), static_cast<size_t>(element_count(t.shape)));
      for (const float v : values) ASSERT_TRUE(std::isfinite(v));
      changed += values != base.read_floats(t) ? 1 : 0;
    }
    // arcee_fusion takes what stands out, in some tensors nothing.
    EXPECT_GT(4 * changed, out.size());
  }
}

// The mean, by plain arithmetic on what the folders hold.
TEST_P(FamiliesThroughMethods, TheMeanIsTheMean) {
  for (const auto& [name, seed] : {std::pair{"base", 0u}, {"a", 1u}, {"b", 2u}})
    write_copy(name, seed);
  const Values out = merged(recipe_for(find_merge_method("linear")) + "dtype: float32\n");
  const Checkpoint a = Checkpoint::open(dir_.path / "a"), b = Checkpoint::open(dir_.path / "b");
  for (const TensorInfo& t : a.tensors()) {
    const std::vector<float> left = a.read_floats(t), right = b.read_floats(b.get(t.name));
    for (size_t i = 0; i < left.size(); ++i)
      ASSERT_NEAR(out.at(t.name)[i], (left[i] + right[i]) / 2, 1e-6) << t.name << " " << i;
  }
}

// A base in MXFP4 and a fine-tuned model in bfloat16: base + weight x (model - base), the base by
// the table of its codes.
class PackedBase : public SmallModels {
 protected:
  // [experts, rows, columns] of E2M1 codes and exponents, as [experts, columns, rows].
  static std::vector<float> plain(const Checkpoint& model, const std::string& name) {
    static constexpr float kCodes[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    const TensorInfo& blocks = model.get(name + "_blocks");
    const auto bytes = [&](const TensorInfo& t) {
      std::vector<std::byte> all(byte_size(t));
      model.read(t, 0, all);
      return all;
    };
    const std::vector<std::byte> codes = bytes(blocks), scales = bytes(model.get(name + "_scales"));
    const int64_t experts = blocks.shape[0], rows = blocks.shape[1], columns = blocks.shape[2] * 32;
    std::vector<float> values(static_cast<size_t>(experts * rows * columns));
    for (int64_t i = 0; i < experts * rows * columns; ++i) {
      const auto byte = static_cast<unsigned>(codes[static_cast<size_t>(i / 2)]);
      const unsigned code = i % 2 ? byte >> 4 : byte & 15u;
      const int exponent = static_cast<int>(scales[static_cast<size_t>(i / 32)]) - 127;
      const float v = std::ldexp(kCodes[code & 7u], exponent) * (code & 8u ? -1.0f : 1.0f);
      const int64_t e = i / (rows * columns), r = i / columns % rows, c = i % columns;
      values[static_cast<size_t>((e * columns + c) * rows + r)] = v;
    }
    return values;
  }
};

TEST_F(PackedBase, MergesWithAFineTunedModel) {
  const fs::path packed = fs::path(LEWIS_TEST_DATA) / "golden/quantized/mxfp4";
  fs::copy(packed, dir_.path / "base");
  fs::create_directories(dir_.path / "plain");
  fs::copy_file(packed / "expected.safetensors", dir_.path / "plain" / "model.safetensors");
  const Checkpoint base = Checkpoint::open(packed), twin = Checkpoint::open(dir_.path / "plain");
  std::mt19937 random(5);
  std::normal_distribution<float> move(0, 0.1f);
  Values tuned;
  std::map<std::string, Shape> shapes;
  std::map<std::string, DType> types;
  for (const TensorInfo& t : twin.tensors()) {
    std::vector<float>& values = tuned[t.name] = twin.read_floats(t);
    for (float& v : values) v += move(random);
    shapes[t.name] = t.shape;
    types[t.name] = DType::kBF16;
  }
  Json config = base.config();
  config.erase("quantization_config");
  write("a", tuned, config, shapes, types);
  const Values out = merged(
      "merge_method: task_arithmetic\nbase_model: base\nmodels:\n- {model: a, parameters: {weight: "
      "0.7}}\ndtype: float32\n");
  EXPECT_FALSE(config_.contains("quantization_config"));
  const Checkpoint a = Checkpoint::open(dir_.path / "a");
  ASSERT_EQ(out.size(), a.tensors().size());
  for (const TensorInfo& t : a.tensors()) {
    const std::vector<float> from =
        base.find(t.name) ? base.read_floats(base.get(t.name)) : plain(base, t.name);
    const std::vector<float> to = a.read_floats(t);
    ASSERT_EQ(from.size(), to.size());
    for (size_t i = 0; i < to.size(); ++i) {
      ASSERT_NEAR(out.at(t.name)[i], from[i] + 0.7f * (to[i] - from[i]),
                  1e-5 + 1e-6 * std::abs(to[i]))
          << t.name << " " << i;
    }
  }
}

}  // namespace
}  // namespace lewis
