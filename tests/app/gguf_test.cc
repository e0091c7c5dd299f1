// Models as GGUF files: what a reader of the format finds in them, against the models.
#include <gtest/gtest.h>

#include <lewis/gguf.h>
#include <lewis/lewis.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <numbers>
#include <set>

#include "app/gguf/export.h"
#include "app/gguf/mix.h"
#include "app/gguf/vocabulary.h"
#include "base/error.h"
#include "base/json.h"
#include "base/text_file.h"
#include "io/checkpoint.h"
#include "io/safetensors.h"
#include "model/transformer.h"
#include "snapshot.h"
#include "temp_dir.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

const fs::path kModels = fs::path(LEWIS_DEMO) / "models";
const fs::path kMixtureModels = fs::path(LEWIS_TEST_DATA) / "mixture";
const fs::path kGolden = fs::path(LEWIS_TEST_DATA) / "golden";

const GgufMix& mix(std::string_view name) {
  return *std::ranges::find(gguf_mixes(), name, &GgufMix::name);
}

GgufExport exported(const TensorSource& model, const Json& config, std::string_view type = "f16") {
  const ModelSpec spec = locate_tensors(read_model_spec(config, "config.json"), model);
  GgufExport e = export_model(model, spec, config, "config.json");
  choose_types(mix(type), spec, false, e);
  return e;
}

GgufMetadata vocabulary_of(const ModelFiles& files, int64_t size, const std::string& pre = "",
                           std::string_view family = "qwen2",
                           std::vector<std::string>* notes = nullptr) {
  std::vector<std::string> told;
  GgufMetadata m = gguf_vocabulary(files, Json::object(), gguf_architecture(family, "config.json"),
                                   {size, pre}, notes ? *notes : told);
  return m;
}

// Neighbouring rows become halves again, each head by itself.
std::vector<float> without_neighbours(const std::vector<float>& file, int64_t heads, size_t rows) {
  std::vector<float> model(file.size());
  const size_t columns = file.size() / rows, size = rows / static_cast<size_t>(heads);
  for (size_t h = 0; h < static_cast<size_t>(heads); ++h) {
    for (size_t pair = 0; pair < size / 2; ++pair) {
      for (const size_t half : {size_t{0}, size_t{1}}) {
        const size_t from = h * size + 2 * pair + half, to = h * size + half * size / 2 + pair;
        std::copy_n(file.begin() + static_cast<std::ptrdiff_t>(from * columns), columns,
                    model.begin() + static_cast<std::ptrdiff_t>(to * columns));
      }
    }
  }
  return model;
}

std::vector<float> floats_of(const GgufFile& file, const GgufFile::Entry& entry) {
  std::vector<float> values(static_cast<size_t>(element_count(entry.info.shape)));
  std::vector<std::byte> bytes(byte_size(entry.info));
  file.read(entry, 0, bytes);
  widen(entry.info.dtype, bytes.data(), values);
  return values;
}

RunContext quiet(std::vector<std::string>* notes = nullptr) {
  RunContext run;
  run.threads = 2;
  run.notice = [notes](const Notice& n) {
    if (notes) notes->push_back(n.text);
  };
  return run;
}

// All tensors of the model, bit for bit, once the rows of q and k have changed places again.
TEST(GgufExport, TheFileHoldsTheModel) {
  const TempDir dir;
  const fs::path out = dir.path / "math.gguf";
  const ConvertResult result =
      convert({.model = kModels / "math", .out = out, .type = "f32"}, quiet());
  const GgufFile file(out);
  const Checkpoint model = Checkpoint::open(kModels / "math");
  ASSERT_EQ(file.entries().size(), model.tensors().size());
  EXPECT_EQ(result.tensors, file.entries().size());
  EXPECT_EQ(result.bytes, fs::file_size(out));
  std::set<std::string> seen;
  const GgufExport e = exported(model, model.config(), "f32");
  for (const ExportedTensor& t : e.tensors) {
    const auto* entry = file.find(t.tensor.name);
    ASSERT_TRUE(entry) << t.tensor.name;
    ASSERT_EQ(t.sources.size(), 1u);
    const std::string& source = t.sources[0];
    const TensorInfo& info = model.get(source);
    EXPECT_EQ(entry->info.shape, info.shape) << source;
    std::vector<float> values = floats_of(file, *entry);
    const bool is_q = source.ends_with("q_proj.weight");
    if (is_q || source.ends_with("k_proj.weight"))
      values = without_neighbours(values, is_q ? 4 : 2, static_cast<size_t>(info.shape[0]));
    EXPECT_EQ(values, model.read_floats(info)) << source;
    seen.insert(source);
  }
  EXPECT_EQ(seen.size(), model.tensors().size());
}

// The routed experts of a layer follow each other in one tensor, by their numbers.
TEST(GgufExport, ExpertsBecomeOneTensor) {
  const TempDir dir;
  const fs::path out = dir.path / "mixture.gguf";
  const fs::path folder = kMixtureModels / "math";
  convert({.model = folder, .out = out, .type = "f32"}, quiet());
  const GgufFile file(out);
  const Checkpoint model = Checkpoint::open(folder);
  size_t experts = 0;
  for (const TensorInfo& t : model.tensors()) {
    const size_t at = t.name.find(".mlp.experts.");
    if (at == t.name.npos) continue;
    ++experts;
    const std::string layer = t.name.substr(13, at - 13);  // behind "model.layers."
    const int64_t expert = t.name[at + 13] - '0';
    const char* projection = t.name.find("gate_proj") != t.name.npos ? "gate"
                             : t.name.find("up_proj") != t.name.npos ? "up"
                                                                     : "down";
    const auto* entry = file.find("blk." + layer + ".ffn_" + projection + "_exps.weight");
    ASSERT_TRUE(entry) << t.name;
    EXPECT_EQ(entry->info.shape, (Shape{8, t.shape[0], t.shape[1]}));
    const std::vector<float> all = floats_of(file, *entry), own = model.read_floats(t);
    const auto begin = all.begin() + static_cast<std::ptrdiff_t>(own.size()) * expert;
    EXPECT_TRUE(std::equal(own.begin(), own.end(), begin)) << t.name;
  }
  EXPECT_EQ(experts, 4u * 8 * 3);
  EXPECT_EQ(std::get<uint32_t>(file.metadata().at("qwen3moe.expert_used_count")), 2u);
}

template <typename T>
T value(const GgufMetadata& m, const std::string& key) {
  const auto found = m.find(key);
  if (found == m.end() || !std::holds_alternative<T>(found->second)) {
    ADD_FAILURE() << key << (found == m.end() ? " is missing" : " is of another type");
    return {};
  }
  return std::get<T>(found->second);
}

TEST(GgufExport, TheMetadataAreThoseThatLlamaCppReads) {
  const TempDir dir;
  const fs::path out = dir.path / "math.gguf";
  convert({.model = kModels / "math", .out = out, .type = "bf16"}, quiet());
  const GgufMetadata m = GgufFile(out).metadata();
  EXPECT_EQ(value<std::string>(m, "general.architecture"), "llama");
  EXPECT_EQ(value<uint32_t>(m, "general.file_type"), 32u);
  EXPECT_EQ(value<uint32_t>(m, "llama.block_count"), 8u);
  EXPECT_EQ(value<uint32_t>(m, "llama.attention.head_count"), 4u);
  EXPECT_EQ(value<uint32_t>(m, "llama.attention.head_count_kv"), 2u);
  EXPECT_EQ(value<uint32_t>(m, "llama.rope.dimension_count"), 32u);
  EXPECT_EQ(value<uint32_t>(m, "llama.context_length"), 1024u);
  EXPECT_EQ(value<float>(m, "llama.attention.layer_norm_rms_epsilon"), 1e-5f);
  EXPECT_EQ(value<std::string>(m, "tokenizer.ggml.pre"), "smollm") << "digits one by one";
  EXPECT_EQ(value<bool>(m, "tokenizer.ggml.add_bos_token"), false);
  const auto tokens = value<GgufArray>(m, "tokenizer.ggml.tokens");
  EXPECT_EQ(tokens.texts.size(), 1024u);
  EXPECT_EQ(tokens.texts[value<uint32_t>(m, "tokenizer.ggml.eos_token_id")], "<|endoftext|>");
  const Json tokenizer =
      parse_json(read_text_file(kModels / "math/tokenizer.json"), "tokenizer.json");
  for (const auto& [text, id] : tokenizer["model"]["vocab"].items())
    ASSERT_EQ(tokens.texts.at(id.get<size_t>()), text);
  EXPECT_EQ(value<GgufArray>(m, "tokenizer.ggml.merges").texts.size(),
            tokenizer["model"]["merges"].size());
}

std::string refusal(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_TRUE(e.code() == ExitCode::kInput || e.code() == ExitCode::kUsage) << e.what();
    EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos);
    return e.what();
  }
  ADD_FAILURE() << "not refused";
  return "";
}

TEST(GgufExport, OtherFamiliesAreRefused) {
  for (const char* family : {"olmoe", "falcon_h1"}) {
    const Checkpoint model = Checkpoint::open(kGolden / "families" / family);
    const std::string told = refusal([&] { exported(model, model.config()); });
    EXPECT_NE(told.find("only arcee, cohere2"), std::string::npos) << told;
  }
}

// What llama.cpp would run otherwise than transformers, or not at all.
TEST(GgufExport, MixturesThatLlamaCppDoesNotRunAreRefused) {
  const Checkpoint model = Checkpoint::open(kMixtureModels / "base");
  const auto refused = [&](const char* key, const Json& value) {
    Json config = model.config();
    config["norm_topk_prob"] = true;
    if (config.contains("num_local_experts")) {  // as transformers 5 writes it
      config["num_experts"] = config["num_local_experts"];
      config.erase("num_local_experts");
    }
    config[key] = value;
    try {
      exported(model, config);
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  EXPECT_EQ(refused("norm_topk_prob", true), "");
  EXPECT_NE(refused("norm_topk_prob", false).find("norm_topk_prob"), std::string::npos);
  const char* experts = "num_experts";
  EXPECT_NE(refused(experts, 1000).find("routed experts"), std::string::npos);
  EXPECT_NE(refused(experts, "many").find(experts), std::string::npos);
  const Checkpoint dense = Checkpoint::open(kGolden / "families/qwen2_moe");
  try {
    exported(dense, dense.config());
    ADD_FAILURE() << "its first layer has no experts";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("layers.0.mlp.down_proj.weight"), std::string::npos);
  }
}

// The shared expert of Qwen 2, whose switch is float32.
TEST(GgufExport, SharedExperts) {
  const std::string layer = "model.layers.0.mlp.";
  std::vector<std::vector<std::byte>> bytes;
  std::vector<MemoryTensor> tensors;
  const std::vector<std::pair<std::string, Shape>> shapes = {
      {layer + "experts.0.up_proj.weight", {3, 32}},
      {layer + "experts.1.up_proj.weight", {3, 32}},
      {layer + "gate.weight", {2, 32}},
      {layer + "shared_expert.up_proj.weight", {5, 32}},
      {layer + "shared_expert_gate.weight", {1, 32}}};
  for (const auto& [name, shape] : shapes)
    bytes.emplace_back(static_cast<size_t>(element_count(shape)) * sizeof(float));
  for (size_t i = 0; i < shapes.size(); ++i)
    tensors.push_back({{shapes[i].first, DType::kF32, shapes[i].second}, bytes[i]});
  const auto model = memory_source("memory", std::move(tensors));
  Json config = Checkpoint::open(kGolden / "families/qwen2_moe").config();
  config.erase("num_local_experts");
  config["num_experts"] = 2;
  config["norm_topk_prob"] = false;
  std::map<std::string, GgufTensor> found;
  for (const ExportedTensor& t : exported(*model, config, "q8_0").tensors)
    found[t.tensor.name] = t.tensor;
  EXPECT_EQ(found.size(), 4u);
  EXPECT_EQ(found["blk.0.ffn_up_exps.weight"].shape, (Shape{2, 3, 32}));
  EXPECT_EQ(found["blk.0.ffn_up_exps.weight"].type, GgufType::kQ8_0);
  EXPECT_EQ(found["blk.0.ffn_gate_inp.weight"].type, GgufType::kF32);
  EXPECT_EQ(found["blk.0.ffn_up_shexp.weight"].type, GgufType::kQ8_0);
  EXPECT_EQ(found["blk.0.ffn_gate_inp_shexp.weight"].type, GgufType::kF32);
}

// What a config.json leaves out counts as the family has it in transformers.
TEST(GgufExport, DefaultsAreThoseOfTheFamily) {
  const Checkpoint model = Checkpoint::open(kGolden / "families/mixtral");
  Json config = model.config();
  for (const char* key : {"rope_parameters", "rope_scaling", "rope_theta", "rms_norm_eps"})
    config.erase(key);
  const GgufMetadata m = exported(model, config).metadata;
  EXPECT_EQ(value<float>(m, "llama.rope.freq_base"), 1e6f);
  EXPECT_EQ(value<float>(m, "llama.attention.layer_norm_rms_epsilon"), 1e-5f);
}

// llama.cpp divides the plain frequencies by rope_freqs: then they are those of lewis's own forward
// pass, which is checked against transformers.
TEST(GgufExport, RopeOfLlama3) {
  const Checkpoint model = Checkpoint::open(kGolden / "variants/llama_llama3");
  const GgufExport e = exported(model, model.config());
  const ModelSpec spec = read_model_spec(model.config(), "config.json");
  const std::vector<float>& wanted = spec.ropes.at(0).inverse_frequency;
  ASSERT_EQ(e.made.size(), 1u);
  EXPECT_EQ(e.made[0].name, "rope_freqs.weight");
  const std::vector<float>& factors = e.made[0].values;
  ASSERT_EQ(factors.size(), wanted.size());
  const double theta = value<float>(e.metadata, "llama.rope.freq_base");
  const auto dimensions = 2 * static_cast<double>(wanted.size());
  const Json rope = model.config()[model.config().contains("rope_parameters") ? "rope_parameters"
                                                                              : "rope_scaling"];
  const auto of = [&](const char* key) { return rope.at(key).get<double>(); };
  size_t divided = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    const double plain = std::pow(theta, -2 * static_cast<double>(i) / dimensions);
    EXPECT_NEAR(plain / factors[i] / wanted[i], 1, 1e-5) << i;
    divided += factors[i] != 1;
    // Llama 3.1: nothing at short wavelengths, the factor at long ones, a mean in between.
    const double turns = of("original_max_position_embeddings") * plain / (2 * std::numbers::pi);
    const double low = of("low_freq_factor"), high = of("high_freq_factor");
    const double smooth = std::clamp((turns - low) / (high - low), 0.0, 1.0);
    EXPECT_NEAR(factors[i] * ((1 - smooth) / of("factor") + smooth), 1, 1e-5) << i;
  }
  EXPECT_GT(divided, 0u);
}

// A tokenizer of the demo's with some of its keys changed.
struct ChangedTokenizer {
  ModelFiles files(const std::function<void(Json& tokenizer, Json& config)>& change) const {
    Json tokenizer = parse_json(read_text_file(kModels / "math/tokenizer.json"), "tokenizer");
    Json config = parse_json(read_text_file(kModels / "math/tokenizer_config.json"), "config");
    change(tokenizer, config);
    return {kModels / "math",
            {{"tokenizer.json", dump(tokenizer)}, {"tokenizer_config.json", dump(config)}}};
  }
  static std::string dump(const Json& json) { return json.dump(); }
};

TEST(GgufVocabulary, RulesHaveNames) {
  const ChangedTokenizer tokenizer;
  const auto pre = [&](const char* rules, const std::string& given = "") {
    const ModelFiles files =
        tokenizer.files([&](Json& t, Json&) { t["pre_tokenizer"] = parse_json(rules, "rules"); });
    return value<std::string>(vocabulary_of(files, 1024, given), "tokenizer.ggml.pre");
  };
  EXPECT_EQ(pre(R"({"type": "ByteLevel", "use_regex": true})"), "gpt-2");
  EXPECT_NE(refusal([&] { pre(R"({"type": "Whitespace"})"); }).find("--pre NAME"),
            std::string::npos);
  EXPECT_EQ(pre(R"({"type": "Whitespace"})", "mine"), "mine");
  const Json qwen =
      parse_json(R"({"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern":
      {"Regex": "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
      "behavior": "Isolated"}, {"type": "ByteLevel", "use_regex": false}]})",
                 "rules");
  EXPECT_EQ(pre(ChangedTokenizer::dump(qwen).c_str()), "qwen2");
  const ModelFiles gpt2(fs::path(LEWIS_TEST_DATA) / "tokenizers/gpt2");
  EXPECT_EQ(value<std::string>(vocabulary_of(gpt2, 50257), "tokenizer.ggml.pre"), "gpt-2");
}

TEST(GgufVocabulary, SpecialTokensAndTypes) {
  const ChangedTokenizer tokenizer;
  const ModelFiles files = tokenizer.files([](Json& t, Json& c) {
    t["added_tokens"].push_back({{"id", 1024}, {"content", "<user>"}, {"special", false}});
    t["post_processor"] = parse_json(
        R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<|endoftext|>"}},
            {"Sequence": {"id": "A"}}]})",
        "post");
    c.erase("add_bos_token");
    c["bos_token"] = {{"content", "<|endoftext|>"}};
    c["chat_template"] = "{{ messages }}";
  });
  const GgufMetadata m = vocabulary_of(files, 1030);
  const auto tokens = value<GgufArray>(m, "tokenizer.ggml.tokens");
  ASSERT_EQ(tokens.texts.size(), 1030u);
  EXPECT_EQ(tokens.texts[1024], "<user>");
  EXPECT_EQ(tokens.texts[1029], "[PAD1029]");
  const auto types = value<GgufArray>(m, "tokenizer.ggml.token_type");
  const auto type = [&](size_t id) { return static_cast<int>(types.numbers[4 * id]); };
  EXPECT_EQ(type(0), 3) << "control";
  EXPECT_EQ(type(5), 1) << "normal";
  EXPECT_EQ(type(1024), 4) << "of the user";
  EXPECT_EQ(type(1029), 5) << "unused";
  EXPECT_EQ(value<bool>(m, "tokenizer.ggml.add_bos_token"), true);
  EXPECT_EQ(value<uint32_t>(m, "tokenizer.ggml.bos_token_id"), 0u);
  EXPECT_EQ(value<std::string>(m, "tokenizer.chat_template"), "{{ messages }}");
}

TEST(GgufVocabulary, OtherTokenizersAreRefused) {
  const ChangedTokenizer tokenizer;
  const auto refused = [&](const std::function<void(Json&, Json&)>& change) {
    const ModelFiles files = tokenizer.files(change);
    return refusal([&] { vocabulary_of(files, 1024); });
  };
  const auto has = [](const std::string& text, const char* words) {
    EXPECT_NE(text.find(words), std::string::npos) << text;
  };
  has(refused([](Json& t, Json&) { t["model"]["type"] = "Unigram"; }), "Unigram");
  has(refused([](Json& t, Json&) { t["model"]["vocab"]["far"] = 1'000'000; }), "id 1000000");
  has(refused([](Json& t, Json&) { t["model"]["vocab"]["twice"] = 7; }), "id 7");
  has(refused([](Json& t, Json&) { t["model"]["merges"].push_back({"a b", "c"}); }), "space");
  has(refused([](Json& t, Json&) { t["model"]["merges"].push_back(5); }), "tokenizer.json");
  has(refused([](Json&, Json& c) { c["eos_token"] = "<none>"; }), "eos_token");
}

TEST(GgufExport, WhatIsThereIsKept) {
  const TempDir dir;
  const fs::path out = dir.path / "a.gguf";
  std::ofstream(out) << "mine";
  const auto before = snapshot(dir.path);
  const auto job = [&](const fs::path& model, const fs::path& to) {
    return ConvertJob{.model = model, .out = to, .modelfile = dir.path / "Modelfile"};
  };
  refusal([&] { convert(job(kModels / "math", out), quiet()); });
  refusal([&] { convert(job(kModels / "math", dir.path / "a.bin"), quiet()); });
  refusal([&] { convert(job(kModels / "math", dir.path / "a\nFROM b.gguf"), quiet()); });
  refusal([&] { convert(job(kModels / "math", dir.path / "no/b.gguf"), quiet()); });
  refusal([&] { convert(job(kModels / "nowhere", dir.path / "b.gguf"), quiet()); });
  refusal([&] { convert(job(kGolden / "families/qwen3", dir.path / "b.gguf"), quiet()); });
  EXPECT_EQ(snapshot(dir.path), before);
  ConvertJob forced = job(kModels / "math", out);
  forced.force = true;
  convert(forced, quiet());
  EXPECT_EQ(read_text_file(dir.path / "Modelfile"), "FROM ./a.gguf\n");
  EXPECT_EQ(GgufFile(out).entries().size(), 74u);
}

// Threads change no byte; what a recipe merges is written as it would be if it were merged first.
TEST(GgufExport, ARecipeIsMergedStraightIntoTheFile) {
  const TempDir dir;
  const fs::path recipe = dir.path / "r.yml";
  std::ofstream(recipe) << "merge_method: linear\nmodels:\n- {model: "
                        << (kModels / "math").string()
                        << ", parameters: {weight: 0.5}}\n- {model: " << (kModels / "code").string()
                        << ", parameters: {weight: 0.5}}\ndtype: bfloat16\n";
  merge({.recipe = open_recipe(recipe), .out = dir.path / "r"}, quiet());
  std::vector<std::string> files;
  for (const size_t threads : {1u, 2u, 7u}) {
    for (const fs::path& model : {recipe, dir.path / "r"}) {
      const fs::path out = dir.path / "out.gguf";
      RunContext run = quiet();
      run.threads = threads;
      convert({.model = model, .out = out, .type = "q8_0", .force = true}, run);
      std::ifstream in(out, std::ios::binary);
      files.push_back({std::istreambuf_iterator<char>(in), {}});
    }
  }
  EXPECT_GT(files[0].size(), 1'000'000u);
  for (const std::string& file : files) EXPECT_TRUE(file == files[0]);
}

}  // namespace
}  // namespace lewis
