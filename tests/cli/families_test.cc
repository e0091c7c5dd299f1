// Families of 2026 through the program: the random checkpoints that transformers made the golden
// values of (tests/data/golden), merged, refined and evaluated as their user would; and broken
// ones.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <random>
#include <vector>

#include "base/dtype.h"
#include "io/safetensors.h"
#include "run_lewis.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

struct Tensor {
  DType dtype;
  Shape shape;
  std::vector<std::byte> bytes;
};
using Tensors = std::map<std::string, Tensor>;

Tensors read_tensors(const fs::path& file) {
  Tensors tensors;
  const SafetensorsFile stored(file);
  for (const auto& entry : stored.entries()) {
    Tensor& t = tensors[entry.info.name];
    t = {entry.info.dtype, entry.info.shape, std::vector<std::byte>(byte_size(entry.info))};
    stored.read(entry, 0, t.bytes);
  }
  return tensors;
}

void write_tensors(const fs::path& file, const Tensors& tensors) {
  std::vector<TensorInfo> infos;
  std::vector<std::span<const std::byte>> data;
  for (const auto& [name, t] : tensors) {
    infos.push_back({name, t.dtype, t.shape});
    data.push_back(t.bytes);
  }
  write_safetensors(file, infos, data, {});
}

std::vector<float> floats_of(const Tensor& t) {
  std::vector<float> values(t.bytes.size() / dtype_size(t.dtype));
  widen(t.dtype, t.bytes.data(), values);
  return values;
}

void set_floats(Tensor& t, std::span<const float> values) {
  narrow(values, t.dtype, t.bytes.data());
}

class Families2026 : public LewisTest {
 protected:
  static fs::path golden(const std::string& name) {
    return fs::path(LEWIS_TEST_DATA) / "golden" / name;
  }

  // A copy of a golden model without its values.
  fs::path copy(const std::string& name, const std::string& as) {
    const fs::path folder = dir_.path / as;
    fs::remove_all(folder);
    fs::create_directories(folder);
    for (const char* file : {"config.json", "model.safetensors"}) {
      fs::copy_file(golden(name) / file, folder / file);
      fs::permissions(folder / file, fs::perms::owner_all);
    }
    return folder;
  }

  // The same with noise of a tenth of each tensor's size: a fine-tune.
  fs::path fine_tune(const std::string& name, const std::string& as, unsigned seed) {
    const fs::path folder = copy(name, as);
    Tensors tensors = read_tensors(folder / "model.safetensors");
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (auto& [unused, t] : tensors) {
      if (dtype_size(t.dtype) < 2) continue;
      std::vector<float> values = floats_of(t);
      double squares = 0;
      for (const float v : values) squares += static_cast<double>(v) * v;
      const auto size = static_cast<float>(std::sqrt(squares / static_cast<double>(values.size())));
      for (float& v : values) v += 0.1f * size * normal(random);
      set_floats(t, values);
    }
    write_tensors(folder / "model.safetensors", tensors);
    return folder;
  }

  Json config_of(const fs::path& folder) {
    return parse_json(file_text(folder / "config.json"), "config");
  }
  // Changes the part of config.json that describes the text.
  void change(const fs::path& folder, const std::function<void(Json&)>& f) {
    Json config = config_of(folder);
    f(config.contains("text_config") ? config["text_config"] : config);
    std::ofstream(folder / "config.json") << config.dump();
  }

  // Token ids of four texts of 40.
  std::string text(const fs::path& model) {
    const Json config = config_of(model);
    const Json& part = config.contains("text_config") ? config["text_config"] : config;
    std::mt19937 random(7);
    std::uniform_int_distribution<int> id(0, part.at("vocab_size").get<int>() - 1);
    const fs::path file = dir_.path / "text.jsonl";
    std::ofstream out(file);
    for (int row = 0; row < 4; ++row) {
      Json ids = Json::array();
      for (int i = 0; i < 40; ++i) ids.push_back(id(random));
      out << Json{{"ids", ids}}.dump() << "\n";
    }
    return file.string();
  }

  // TIES of two fine-tunes, guided by calibration and refined.
  std::string recipe(const fs::path& base, const fs::path& a, const fs::path& b, bool refined) {
    const std::string data = ", data: " + text(base) + ", format: ids, samples: 4}\n";
    const std::string path = (dir_.path / "r.yml").string();
    std::ofstream(path) << "merge_method: ties\nbase_model: " << base.string()
                        << "\nmodels:\n- {model: " << a.string()
                        << ", parameters: {weight: 0.5, density: 0.5}}\n- {model: " << b.string()
                        << ", parameters: {weight: 0.5, density: 0.5}}\ndtype: bfloat16\nlewis:\n"
                        << "  calibration:\n  - {model: " << a.string() << data
                        << "  - {model: " << b.string() << data
                        << (refined ? "  refine: {}\n" : "");
    return path;
  }

  // The command that merges a whole model and a broken one.
  std::string merge_with(const fs::path& whole, const fs::path& broken) {
    const fs::path path = dir_.path / "linear.yml";
    std::ofstream(path) << "merge_method: linear\nmodels:\n- {model: " << whole.string()
                        << ", parameters: {weight: 0.5}}\n- {model: " << broken.string()
                        << ", parameters: {weight: 0.5}}\ndtype: bfloat16\n";
    return "merge " + path.string() + " " + out();
  }

  Json losses(const fs::path& model) {
    const lewis::Run run =
        lewis("eval -q " + model.string() + " --task loss:" + text(model) + ":ids --json");
    EXPECT_EQ(run.code, 0) << run.err;
    return run.code == 0 ? parse_json(run.out, "stdout").at("models").at(0).at("results") : Json();
  }

  // One line that has all of `says`, and nothing on the disk.
  void refused(const std::string& arguments, const std::vector<std::string>& says) {
    fs::remove_all(out());
    const lewis::Run run = lewis(arguments + " -q");
    EXPECT_EQ(run.code, 3) << arguments << "\n" << run.err;
    const auto error = run.err.find("error: ");
    ASSERT_NE(error, std::string::npos) << arguments << "\n" << run.err;
    EXPECT_EQ(std::ranges::count(run.err.substr(error), '\n'), 1) << run.err;
    for (const std::string& word : says)
      EXPECT_NE(run.err.find(word), std::string::npos) << word << " is not in: " << run.err;
    EXPECT_FALSE(fs::exists(out()));
    EXPECT_FALSE(fs::exists(out() + ".partial"));
  }
  std::string calibrate(const fs::path& model) {
    return "calibrate " + model.string() + " --data " + text(model) +
           " --format ids --samples 0 -o " + out();
  }
};

// Every tensor of the base is in the merge, of its shape and finite, and most of what refinement
// may change has changed; the merge has a loss.
TEST_F(Families2026, AreMergedGuidedAndRefined) {
  for (const char* name : {"gemma4", "gemma4_moe", "gpt_oss", "llama4", "qwen3_5", "deepseek_v2"}) {
    const std::string family = std::string("families/") + name;
    const fs::path base = copy(family, "base"), a = fine_tune(family, "a", 1),
                   b = fine_tune(family, "b", 2);
    fs::remove_all(out());
    const lewis::Run merge = lewis("merge " + recipe(base, a, b, true) + " " + out());
    ASSERT_EQ(merge.code, 0) << name << "\n" << merge.err;
    const Tensors before = read_tensors(base / "model.safetensors"),
                  after = read_tensors(fs::path(out()) / "model.safetensors");
    ASSERT_EQ(after.size(), before.size()) << name;
    size_t changed = 0;
    for (const auto& [tensor, t] : after) {
      ASSERT_TRUE(before.contains(tensor)) << name << " " << tensor;
      EXPECT_EQ(t.shape, before.at(tensor).shape) << name << " " << tensor;
      for (const float v : floats_of(t)) ASSERT_TRUE(std::isfinite(v)) << name << " " << tensor;
      changed += t.bytes != before.at(tensor).bytes;
    }
    EXPECT_GT(changed, before.size() / 2) << name;
    const Json run = parse_json(file_text(fs::path(out()) / "lewis_run.json"), "run");
    EXPECT_FALSE(run.at("refinement").at(0).at("blocks").empty()) << name;
    const double loss = losses(out()).at("loss_text").at("answer_loss,none");
    EXPECT_GT(loss, 0) << name;
  }
}

// The MXFP4 form of some experts, and the bfloat16 values that it stands for: the codes of
// E2M1 in the low and the high half of a byte, times two to the stored exponent - 127.
void pack_experts(const std::string& name, const Tensor& plain, unsigned seed, Tensors& packed,
                  Tensors& twin) {
  static constexpr float kValues[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  std::mt19937 random(seed);
  const int64_t experts = plain.shape[0], in = plain.shape[1], rows = plain.shape[2];
  const int64_t groups = in / 32;
  Tensor blocks{DType::kU8, {experts, rows, groups, 16}, {}};
  Tensor scales{DType::kU8, {experts, rows, groups}, {}};
  std::vector<float> values(static_cast<size_t>(experts * in * rows));
  for (int64_t row = 0; row < experts * rows; ++row) {
    for (int64_t g = 0; g < groups; ++g) {
      const auto exponent = 119 + random() % 4;
      scales.bytes.push_back(static_cast<std::byte>(exponent));
      for (int64_t i = 0; i < 32; i += 2) {
        const auto byte = static_cast<unsigned>(random() % 256);
        blocks.bytes.push_back(static_cast<std::byte>(byte));
        for (const unsigned half : {0u, 1u}) {
          const unsigned code = half ? byte >> 4 : byte & 15;
          const float value = std::ldexp(kValues[code & 7], static_cast<int>(exponent) - 127);
          const int64_t e = row / rows, column = 32 * g + i + half;
          values[static_cast<size_t>((e * in + column) * rows + row % rows)] =
              code & 8 ? -value : value;
        }
      }
    }
  }
  packed.erase(name);
  packed[name + "_blocks"] = std::move(blocks);
  packed[name + "_scales"] = std::move(scales);
  set_floats(twin[name], values);
}

// gpt-oss as it is published, in MXFP4, beside the same model in bfloat16.
class PackedGptOss : public Families2026 {
 protected:
  void SetUp() override {
    for (const auto& [name, seed] : {std::pair{"a", 1u}, {"b", 2u}}) {
      twin_[name] = fine_tune("variants/gpt_oss_square", std::string(name) + "_twin", seed);
      packed_[name] = copy("variants/gpt_oss_square", name);
      Tensors twin = read_tensors(twin_[name] / "model.safetensors"), packed = twin;
      for (const auto& [tensor, t] : Tensors(twin)) {
        if (tensor.ends_with("experts.gate_up_proj") || tensor.ends_with("experts.down_proj"))
          pack_experts(tensor, t, seed, packed, twin);
      }
      write_tensors(twin_[name] / "model.safetensors", twin);
      write_tensors(packed_[name] / "model.safetensors", packed);
      Json config = config_of(packed_[name]);
      config["quantization_config"] = {{"quant_method", "mxfp4"},
                                       {"modules_to_not_convert",
                                        {"model.layers.*.self_attn", "model.layers.*.mlp.router",
                                         "model.embed_tokens", "lm_head"}}};
      std::ofstream(packed_[name] / "config.json") << config.dump();
    }
  }
  std::map<std::string, fs::path> twin_, packed_;
};

TEST_F(PackedGptOss, IsCalibratedMergedAndEvaluatedAsItsTwin) {
  std::vector<Tensors> statistics, merged;
  std::vector<std::string> scores;
  for (auto* models : {&packed_, &twin_}) {
    const std::string file = (dir_.path / "statistics.safetensors").string();
    const lewis::Run measured =
        lewis("calibrate " + models->at("a").string() + " --data " + text(models->at("a")) +
              " --format ids --samples 0 -q -o " + file);
    ASSERT_EQ(measured.code, 0) << measured.err;
    statistics.push_back(read_tensors(file));
    fs::remove_all(out());
    const fs::path base = copy("variants/gpt_oss_square", "base");
    const lewis::Run merge =
        lewis("merge -q " + recipe(base, models->at("a"), models->at("b"), false) + " " + out());
    ASSERT_EQ(merge.code, 0) << merge.err;
    merged.push_back(read_tensors(fs::path(out()) / "model.safetensors"));
    EXPECT_FALSE(config_of(out()).contains("quantization_config"));
    scores.push_back(losses(models->at("a")).dump() + losses(out()).dump());
  }
  const auto bytes_of = [](const Tensors& tensors) {
    std::map<std::string, std::vector<std::byte>> bytes;
    for (const auto& [name, t] : tensors) bytes[name] = t.bytes;
    return bytes;
  };
  EXPECT_FALSE(statistics[0].empty());
  EXPECT_EQ(bytes_of(statistics[0]), bytes_of(statistics[1]));
  EXPECT_EQ(bytes_of(merged[0]), bytes_of(merged[1]));
  EXPECT_EQ(scores[0], scores[1]);
}

TEST_F(PackedGptOss, AMissingScaleOrOtherBlocksAreRefused) {
  const fs::path model = packed_.at("a");
  const Tensors whole = read_tensors(model / "model.safetensors");
  const std::string name = "model.layers.1.mlp.experts.down_proj";
  const std::string merge = merge_with(twin_.at("b"), model);
  const auto both = [&](const Tensors& tensors, const std::vector<std::string>& says) {
    write_tensors(model / "model.safetensors", tensors);
    refused(calibrate(model), says);
    refused(merge, says);
  };
  Tensors broken = whole;
  broken.erase(name + "_scales");
  both(broken, {model.string(), name, "_scales"});
  broken = whole;
  broken.erase(name + "_blocks");
  both(broken, {model.string(), name});
  broken = whole;
  broken[name + "_blocks"].shape = {4, 32, 2, 8};
  both(broken, {model.string(), name + "_blocks", "[4, 32, 2, 8]"});
  broken = whole;
  broken[name + "_scales"].shape = {4, 16, 2};
  both(broken, {model.string(), name + "_scales", "[4, 16, 2]"});
}

// Configurations that contradict themselves or the tensors.
TEST_F(Families2026, ContradictionsOfTheConfigurationAreRefused) {
  struct Broken {
    const char* family;
    std::function<void(Json&)> change;
    std::vector<std::string> says;
  };
  const auto set = [](const char* key, const Json& value) {
    return [=](Json& config) { config[key] = value; };
  };
  const std::vector<Broken> all = {
      {"nemotron_h", set("hybrid_override_pattern", "MX*-"), {"hybrid_override_pattern", "MX*-"}},
      {"nemotron_h", set("num_experts_per_tok", 1000), {"num_experts_per_tok", "at most the 8"}},
      {"glm4_moe", set("n_group", 3), {"n_group", "a divisor of the 16 experts"}},
      {"glm4_moe", set("topk_group", 9), {"topk_group"}},
      {"qwen3_5", set("linear_num_value_heads", 3), {"linear_num_value_heads", "a multiple of"}},
      {"granitemoehybrid", set("mamba_n_groups", 5), {"mamba_n_groups", "a divisor"}},
      {"deepseek_v2", set("qk_rope_head_dim", 3), {"qk_rope_head_dim", "an even number"}},
      {"gemma4", set("num_kv_shared_layers", 99), {"num_kv_shared_layers"}},
      {"gemma4", set("hidden_size_per_layer_input", 5), {"per_layer_input_gate", "[5, 64]"}},
  };
  for (const Broken& broken : all) {
    const fs::path model = copy(std::string("families/") + broken.family, "model");
    change(model, [](Json& config) {
      if (config.contains("hybrid_override_pattern")) config.erase("hybrid_override_pattern");
    });
    change(model, [&](Json& config) {
      broken.change(config);
      if (config.contains("hybrid_override_pattern")) {
        config.erase("layers_block_type");
        config.erase("layer_types");
      }
    });
    std::vector<std::string> says = broken.says;
    says.push_back(model.string());
    refused(calibrate(model), says);
  }
}

// Lists of another length than the model has layers are refused by merges, too, which would hand
// them on to a model that transformers does not load; unknown kinds where layers are run.
TEST_F(Families2026, ListsOfLayersMustFit) {
  for (const char* name :
       {"gemma4", "gpt_oss", "llama4", "qwen3_5", "lfm2", "granitemoehybrid", "olmo3"}) {
    const std::string family = std::string("families/") + name;
    const fs::path model = copy(family, "model"), whole = copy(family, "whole");
    const Json list = config_of(model).at("layer_types");
    const std::string length = fmt::format("a list of {}", list.size() - 1);
    change(model, [](Json& config) { config["layer_types"].erase(0); });
    refused(calibrate(model), {(model / "config.json").string(), "layer_types"});
    refused(merge_with(whole, model), {(model / "config.json").string(), "layer_types", length});
    change(model, [&](Json& config) {
      config["layer_types"] = list;
      config["layer_types"][0] = "mystery_attention";
    });
    refused(calibrate(model), {(model / "config.json").string(), "layer_types", "mystery"});
  }
}

// A value that is not finite in what only a mixer, a router or an embedding reads.
TEST_F(Families2026, NanInAStateIsRefused) {
  for (const auto& [family, ending] : {std::pair{"granitemoehybrid", "mamba.A_log"},
                                       {"granitemoehybrid", "mamba.D"},
                                       {"qwen3_5", "linear_attn.dt_bias"},
                                       {"qwen3_5", "conv1d.weight"},
                                       {"lfm2", "conv.conv.weight"},
                                       {"gpt_oss", "sinks"},
                                       {"gemma4", "layer_scalar"},
                                       {"gemma4", "embed_tokens_per_layer.weight"},
                                       {"glm4_moe", "e_score_correction_bias"},
                                       {"deepseek_v2", "kv_a_layernorm.weight"}}) {
    const fs::path model = copy(std::string("families/") + family, "model"),
                   whole = copy(std::string("families/") + family, "whole");
    Tensors tensors = read_tensors(model / "model.safetensors");
    const auto found =
        std::ranges::find_if(tensors, [&](const auto& t) { return t.first.ends_with(ending); });
    ASSERT_NE(found, tensors.end()) << family << " " << ending;
    std::vector<float> values = floats_of(found->second);
    std::ranges::fill(values, std::numeric_limits<float>::quiet_NaN());
    set_floats(found->second, values);
    write_tensors(model / "model.safetensors", tensors);
    refused(calibrate(model), {model.string(), found->first, "not finite"});
    refused(merge_with(whole, model), {model.string(), found->first, "not finite"});
  }
}

}  // namespace
}  // namespace lewis
