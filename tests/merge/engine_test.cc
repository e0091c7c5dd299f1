// Whole merges: what is written beside the weights, what is refused, what a failure leaves.
#include "merge/engine.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/hash.h"
#include "golden_file.h"
#include "io/checkpoint.h"
#include "merge/model_card.h"
#include "snapshot.h"
#include "temp_dir.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

const std::string kHead =
    "merge_method: ties\nbase_model: base\nmodels:\n- model: math\n  parameters: {weight: 1, "
    "density: 0.5}\n"
    "- model: code\n  parameters: {weight: 1, density: 0.3}\n";

class Engine : public testing::Test {
 protected:
  Engine() {
    for (const char* name : {"base", "math", "code"})
      fs::copy(std::string(LEWIS_DEMO "/models/") + name, dir_.path / name,
               fs::copy_options::recursive);
  }

  Recipe recipe(const std::string& text = kHead) const {
    return parse_recipe(text, dir_.path / "recipe.yml");
  }
  MergeReport run(const Recipe& r, size_t thread_count = 2, MergeOptions options = {}) {
    options.out = out_;
    options.force = true;
    Threads threads(thread_count);
    return merge(r, options, threads);
  }

  // Rewrites a model as float32 tensors made by `change` from its own.
  template <typename F>
  void rewrite(const std::string& name, const F& change) {
    std::vector<TensorInfo> tensors;
    std::vector<std::vector<std::byte>> storage;
    {
      const Checkpoint c = Checkpoint::open(dir_.path / name);
      for (const TensorInfo& t : c.tensors()) {
        tensors.push_back(t);
        c.read(t, 0, storage.emplace_back(byte_size(t)));
      }
    }
    change(tensors, storage);
    const std::vector<std::span<const std::byte>> data(storage.begin(), storage.end());
    write_safetensors(dir_.path / name / "model.safetensors", tensors, data, {});
  }

  void expect_refused(const std::string& text, ExitCode code,
                      const std::vector<std::string>& said) {
    try {
      run(recipe(text));
      FAIL() << "accepted";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), code) << e.what();
      for (const std::string& s : said)
        EXPECT_NE(std::string(e.what()).find(s), std::string::npos) << e.what();
    }
    EXPECT_FALSE(fs::exists(out_));
    EXPECT_FALSE(fs::exists(out_.string() + ".partial"));
  }

  TempDir dir_;
  fs::path out_ = dir_.path / "out";
};

TEST_F(Engine, WritesAWholeModelFolder) {
  const MergeReport report = run(recipe(kHead + "dtype: bfloat16\n"));
  EXPECT_EQ(report.merged + report.copied, Checkpoint::open(dir_.path / "base").tensors().size());
  EXPECT_EQ(report.bytes_read, 3 * Checkpoint::open(dir_.path / "base").total_bytes());
  for (const char* file :
       {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"}) {
    if (!fs::exists(dir_.path / "base" / file)) continue;
    EXPECT_EQ(file_text(out_ / file), file_text(dir_.path / "base" / file)) << file;
  }
  EXPECT_EQ(file_text(out_ / "mergekit_config.yml"), kHead + "dtype: bfloat16\n");
  const std::string card = file_text(out_ / "README.md");
  EXPECT_TRUE(
      card.starts_with("---\nbase_model:\n- \"math\"\n- \"code\"\n- \"base\"\nbase_model_relation: "
                       "merge\nlibrary_name: "
                       "transformers\ntags:\n- mergekit\n- merge\n- lewis\n---\n"))
      << card;
  EXPECT_NE(card.find("```yaml\n" + kHead), std::string::npos);
}

TEST_F(Engine, ConfigSaysWhatTheWeightsAre) {
  run(recipe(kHead + "dtype: float32\n"));
  const Json config = read_json(out_ / "config.json");
  for (const char* key : {"dtype", "torch_dtype"}) {
    if (config.contains(key)) {
      EXPECT_EQ(config[key], "float32");
    }
  }
  EXPECT_EQ(Checkpoint::open(out_).tensors()[0].dtype, DType::kF32);
  EXPECT_EQ(
      patched_config("{\"torch_dtype\" : \"torch.float16\", \"a\": \"float16\"}", DType::kBF16),
      "{\"torch_dtype\" : \"bfloat16\", \"a\": \"float16\"}");
}

TEST_F(Engine, BytesDoNotDependOnThreadsShardsOrTheHour) {
  for (const char* method : {"ties", "dare_ties", "dare_linear", "linear", "task_arithmetic"}) {
    const std::string text =
        std::string("merge_method: ") + method + kHead.substr(kHead.find('\n'));
    run(recipe(text), 1, {.seed = 3});
    const std::string once = sha256_hex(file_text(out_ / "model.safetensors"));
    for (const size_t threads : {1, 2, 7}) {
      run(recipe(text), threads, {.seed = 3});
      EXPECT_EQ(sha256_hex(file_text(out_ / "model.safetensors")), once)
          << method << " on " << threads;
    }
    const Checkpoint whole = Checkpoint::open(out_);
    std::map<std::string, std::vector<float>> values;
    for (const TensorInfo& t : whole.tensors()) values[t.name] = whole.read_floats(t);
    EXPECT_GT(run(recipe(text), 2, {.shard_bytes = 1'000'000, .seed = 3}).shards, 2u);
    const Checkpoint sharded = Checkpoint::open(out_);
    for (const TensorInfo& t : sharded.tensors())
      EXPECT_EQ(sharded.read_floats(t), values.at(t.name));
  }
}

TEST_F(Engine, OneModelAtDensityOneIsThatModel) {
  run(
      recipe("merge_method: ties\nbase_model: base\nmodels:\n- model: math\n  parameters: {weight: "
             "1, density: 1}\n"));
  EXPECT_EQ(file_text(out_ / "model.safetensors").size(),
            file_text(dir_.path / "math/model.safetensors").size());
  const Checkpoint ours = Checkpoint::open(out_), math = Checkpoint::open(dir_.path / "math");
  for (const TensorInfo& t : math.tensors()) {
    std::vector<std::byte> a(byte_size(t)), b(byte_size(t));
    ours.read(ours.get(t.name), 0, a);
    math.read(t, 0, b);
    EXPECT_EQ(a, b) << t.name;
  }
}

TEST_F(Engine, TensorsThatDifferAreNamed) {
  rewrite("math", [](auto& tensors, auto& storage) {
    tensors.erase(tensors.begin() + 3);
    storage.erase(storage.begin() + 3);
  });
  expect_refused(kHead, ExitCode::kInput, {"tensor model.layers.0", "base but not in", "math"});
}

TEST_F(Engine, TensorsThatOnlyAnExpertHasAreNamed) {
  rewrite("code", [](auto& tensors, auto& storage) {
    tensors.push_back({"extra.weight", DType::kF32, {1}});
    storage.emplace_back(4);
  });
  expect_refused(kHead, ExitCode::kInput, {"tensor extra.weight is in", "code but not in", "base"});
}

TEST_F(Engine, ShapesThatDifferAreNamed) {
  rewrite("code", [](auto& tensors, auto&) {
    std::swap(tensors[1].shape[0], tensors[1].shape.back());
    tensors[1].shape.push_back(1);
  });
  expect_refused(kHead, ExitCode::kInput, {"tensor ", " in ", "code"});
}

TEST_F(Engine, IndicesAreCopiedWhenEqualAndRefusedWhenNot) {
  const auto add = [&](const char* model, std::byte value) {
    rewrite(model, [&](auto& tensors, auto& storage) {
      if (tensors.back().name == "position_ids") {
        tensors.pop_back();
        storage.pop_back();
      }
      std::erase_if(tensors, [](const auto& t) { return t.name == "position_ids"; });
      tensors.push_back({"position_ids", DType::kI64, {1}});
      storage.emplace_back(8, value);
    });
  };
  for (const char* m : {"base", "math", "code"}) add(m, std::byte{5});
  EXPECT_EQ(run(recipe()).copied, 1u);
  fs::remove_all(out_);
  add("code", std::byte{6});
  expect_refused(kHead, ExitCode::kInput, {"position_ids", "I64", "differs"});
}

TEST_F(Engine, RecipesThatLackSomethingAreRefused) {
  expect_refused("merge_method: ties\nmodels:\n- model: math\n  parameters: {weight: 1}\n",
                 ExitCode::kUsage, {"ties needs base_model"});
  expect_refused("merge_method: ties\nbase_model: base\nmodels:\n- model: math\n", ExitCode::kUsage,
                 {"recipe.yml:4", "math has no weight"});
  expect_refused(
      "merge_method: tees\nbase_model: base\nmodels:\n- model: math\n  parameters: {weight: 1}\n",
      ExitCode::kUsage, {"did you mean 'ties'"});
}

TEST_F(Engine, LinearTakesTheBaseOnlyWhenItHasAWeight) {
  const std::string models = "models:\n- model: math\n  parameters: {weight: 1}\n";
  const MergeReport without = run(recipe("merge_method: linear\nbase_model: base\n" + models));
  ASSERT_EQ(without.warnings.size(), 1u);
  EXPECT_NE(without.warnings[0].find("takes no base"), std::string::npos);
  const Checkpoint ours = Checkpoint::open(out_), math = Checkpoint::open(dir_.path / "math");
  EXPECT_EQ(ours.read_floats(ours.tensors()[5]), math.read_floats(math.tensors()[5]));
  EXPECT_TRUE(
      run(recipe("merge_method: linear\nbase_model: base\n" + models + "parameters: {weight: 1}\n"))
          .warnings.empty());
  const Checkpoint mean = Checkpoint::open(out_);
  EXPECT_NE(mean.read_floats(mean.tensors()[5]), math.read_floats(math.tensors()[5]));
}

TEST_F(Engine, SaysThatAWeightHasNoEffect) {
  const auto warnings = run(recipe("merge_method: ties\nbase_model: base\nmodels:\n- model: math\n "
                                   " parameters: {weight: 0.5, density: 0.5}\n"))
                            .warnings;
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_NE(warnings[0].find("weight has no effect"), std::string::npos);
}

// Vocabularies that differ need a setting (tests/cli/tokenizers_test.cc).
TEST_F(Engine, OtherVocabulariesAreRefused) {
  rewrite("code", [](auto& tensors, auto& storage) {
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (tensors[i].name != "model.embed_tokens.weight") continue;
      tensors[i].shape[0] = 1020;
      storage[i].resize(byte_size(tensors[i]));
    }
  });
  const fs::path config = dir_.path / "code/config.json";
  std::string text = file_text(config);
  text.replace(text.find("\"vocab_size\": 1024"), 18, "\"vocab_size\": 1020");
  std::ofstream(config) << text;
  expect_refused(kHead, ExitCode::kInput,
                 {"[1024, 128]", "[1020, 128]", "code", "tokenizer_source: union"});
}

// config.json ties the head to the embeddings: a copy in the file is nobody's.
TEST_F(Engine, TiedHeadsAreNotWrittenTwice) {
  rewrite("code", [](auto& tensors, auto& storage) {
    const auto embedding =
        std::ranges::find(tensors, "model.embed_tokens.weight", &TensorInfo::name);
    TensorInfo head = *embedding;
    head.name = "lm_head.weight";
    auto bytes = storage[static_cast<size_t>(embedding - tensors.begin())];
    tensors.insert(tensors.begin(), std::move(head));
    storage.insert(storage.begin(), std::move(bytes));
  });
  run(recipe());
  EXPECT_EQ(Checkpoint::open(out_).find("lm_head.weight"), nullptr);
  EXPECT_EQ(Checkpoint::open(out_).tensors().size(),
            Checkpoint::open(dir_.path / "base").tensors().size());
}

// An interrupt (the callback throws) leaves an old OUT as it was, and what is finished for
// --resume, which gives the bytes of a run that was not interrupted.
TEST_F(Engine, AnInterruptCanBeResumed) {
  const Recipe linear = recipe("merge_method: linear" + kHead.substr(kHead.find('\n')));
  const MergeOptions shards{.shard_bytes = 500'000};
  run(linear, 2, shards);
  const auto expected = snapshot(out_);
  fs::remove_all(out_);
  run(recipe());
  const auto before = snapshot(out_);
  int calls = 0;
  MergeOptions options = shards;
  options.progress = [&](const Progress&) {
    if (++calls == 30) throw Error(ExitCode::kInterrupted, "stop");
  };
  try {
    run(linear, 2, options);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kInterrupted);
    EXPECT_NE(std::string(e.what()).find("--resume"), std::string::npos);
  }
  EXPECT_EQ(snapshot(out_), before);
  EXPECT_TRUE(fs::exists(out_.string() + ".partial"));
  options = shards;
  options.resume = true;
  options.seed = 1;  // another plan
  EXPECT_THROW(run(linear, 2, options), Error);
  options.seed = 0;
  const MergeReport report = run(linear, 2, options);
  EXPECT_GT(report.resumed, 10u);
  EXPECT_LT(report.resumed, 74u);
  EXPECT_EQ(snapshot(out_), expected);
  EXPECT_FALSE(fs::exists(out_.string() + ".partial"));
  options.require_partial = true;
  EXPECT_THROW(run(linear, 2, options), Error);  // nothing is left to resume
}

TEST_F(Engine, AModelThatChangesMeanwhileIsRefused) {
  MergeOptions options;
  int calls = 0;
  options.progress = [&](const Progress&) {
    if (++calls == 5)
      fs::last_write_time(dir_.path / "math/model.safetensors",
                          fs::file_time_type::clock::now() + std::chrono::hours(1));
  };
  EXPECT_THROW(run(recipe(), 2, options), Error);
  EXPECT_FALSE(fs::exists(out_));
}

TEST_F(Engine, AModelThatIsCutMeanwhileIsAnErrorNotASignal) {
  MergeOptions options;
  int calls = 0;
  options.progress = [&](const Progress&) {
    if (++calls == 5) fs::resize_file(dir_.path / "math/model.safetensors", 4096);
  };
  EXPECT_THROW(run(recipe(), 2, options), Error);
  EXPECT_FALSE(fs::exists(out_));
}

TEST_F(Engine, MaxMemoryIsKeptOrRefused) {
  // One tensor of 2.25 M elements, 27 MB with inputs and result: more than the smallest blocks.
  for (const char* name : {"base", "math", "code"}) {
    rewrite(name, [&](auto& tensors, auto& storage) {
      const size_t embed = 0;
      ASSERT_EQ(tensors[embed].name, "model.embed_tokens.weight");
      tensors[embed].shape = {1500, 1500};
      std::vector<std::byte>& bytes = storage[embed];
      const std::vector<std::byte> few = bytes;
      bytes.resize(1500 * 1500 * 2);
      for (size_t i = few.size(); i < bytes.size(); ++i) bytes[i] = few[(i * 7) % few.size()];
      for (size_t i = 1; i < bytes.size(); i += 2) bytes[i] &= std::byte{0xbf};  // finite
    });
  }
  const Threads threads(2);
  const MergeCost cost = preview_merge(recipe(), {}, threads).cost;
  EXPECT_LT(cost.least_memory, cost.peak_memory);
  run(recipe());
  const auto expected = snapshot(out_);
  MergeOptions options{.max_memory = cost.least_memory};  // the tensor goes block by block
  EXPECT_EQ(preview_merge(recipe(), options, threads).cost.peak_memory, cost.least_memory);
  run(recipe(), 2, options);
  EXPECT_EQ(snapshot(out_), expected);
  fs::remove_all(out_);
  options.max_memory = cost.least_memory - 1;
  try {
    run(recipe(), 2, options);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kResource);
  }
  EXPECT_FALSE(fs::exists(out_) || fs::exists(out_.string() + ".partial"));
}

TEST_F(Engine, QuantisedModelsAreRefused) {
  Json config = read_json(dir_.path / "math/config.json");
  config["quantization_config"] = {{"quant_method", "gptq"}, {"bits", 4}};
  std::ofstream(dir_.path / "math/config.json") << config;
  expect_refused(kHead, ExitCode::kInput, {"math", "quantised (gptq)"});
}

TEST_F(Engine, CostIsWhatTheMergeThenDoes) {
  const Recipe r = recipe();
  const MergeCost cost = preview_merge(r, {}, Threads(2)).cost;
  const MergeReport report = run(r);
  EXPECT_EQ(cost.bytes_read, report.bytes_read);
  EXPECT_EQ(cost.bytes_written, report.bytes_written);
  EXPECT_EQ(cost.tensors, report.merged + report.copied);
  EXPECT_EQ(cost.parameters, report.parameters);
}

}  // namespace
}  // namespace lewis
