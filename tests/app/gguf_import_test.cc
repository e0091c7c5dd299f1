// GGUF files as models: against the folders that they were made of, against gguf-py's dequantiser
// and against sentencepiece.
#include <gtest/gtest.h>

#include <lewis/gguf.h>
#include <lewis/lewis.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>

#include <lewis/gguf.h>
#include "app/check.h"
#include "app/gguf/import.h"
#include "app/gguf/import_tokenizer.h"
#include "app/gguf/vocabulary.h"
#include "app/gguf/vocabulary/pre_names.h"
#include "app/model_difference.h"
#include "app/tokenizers.h"
#include "base/error.h"
#include "base/json.h"
#include "base/text_file.h"
#include "golden_file.h"
#include "io/checkpoint.h"
#include "io/gguf_rounding.h"
#include "io/gguf_source.h"
#include "merge/inputs.h"
#include "model/model_spec.h"
#include "snapshot.h"
#include "temp_dir.h"
#include "text/tokenizer.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

const fs::path kModels = fs::path(LEWIS_DEMO) / "models";
const fs::path kMixtureModels = fs::path(LEWIS_TEST_DATA) / "mixture";
const fs::path kGolden = fs::path(LEWIS_TEST_DATA) / "golden";
const fs::path kTokenizers = fs::path(LEWIS_TEST_DATA) / "tokenizers";

RunContext quiet() {
  RunContext run;
  run.threads = 2;
  return run;
}

void to_gguf(const fs::path& model, const fs::path& out, std::string_view type = "f32") {
  convert({.model = model, .out = out, .type = std::string(type)}, quiet());
}

std::string refusal(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kInput) << e.what();
    EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos);
    return e.what();
  }
  ADD_FAILURE() << "not refused";
  return "";
}

// ---- folders that tests write ----

struct OwnTensor {
  TensorInfo info;
  std::vector<float> values;
};

// Writes model.safetensors, all of it F32.
void write_weights(const fs::path& folder, const std::vector<OwnTensor>& tensors) {
  Json header = Json::object();
  uint64_t at = 0;
  for (const OwnTensor& t : tensors) {
    const uint64_t end = at + t.values.size() * sizeof(float);
    header[t.info.name] = {
        {"dtype", "F32"}, {"shape", t.info.shape}, {"data_offsets", Json::array({at, end})}};
    at = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::ofstream out(folder / "model.safetensors", std::ios::binary);
  const uint64_t size = text.size();
  out.write(reinterpret_cast<const char*>(&size), sizeof size) << text;
  for (const OwnTensor& t : tensors) {
    out.write(reinterpret_cast<const char*>(t.values.data()),
              static_cast<std::streamsize>(t.values.size() * sizeof(float)));
  }
}

std::vector<OwnTensor> tensors_in(const TensorSource& source) {
  std::vector<OwnTensor> tensors;
  for (const TensorInfo& t : source.tensors()) tensors.push_back({t, source.read_floats(t)});
  return tensors;
}

// A byte-level tokenizer of a few letters, for models of the golden files, which have none.
void write_tokenizer(const fs::path& folder) {
  Json vocabulary = Json::object();
  for (const char letter : std::string("abcdefgh"))
    vocabulary[std::string(1, letter)] = letter - 'a';
  vocabulary["ab"] = 8;
  const Json tokenizer = {
      {"version", "1.0"},
      {"added_tokens", Json::array()},
      {"pre_tokenizer",
       {{"type", "ByteLevel"},
        {"add_prefix_space", false},
        {"trim_offsets", true},
        {"use_regex", true}}},
      {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", Json::array({"a b"})}}}};
  std::ofstream(folder / "tokenizer.json") << tokenizer.dump();
  std::ofstream(folder / "tokenizer_config.json") << "{}";
}

// A model of the golden files in a folder of its own, with another config.json.
fs::path copy_of(const fs::path& model, const fs::path& folder, const Json& config) {
  fs::create_directories(folder);
  fs::copy_file(model / "model.safetensors", folder / "model.safetensors");
  std::ofstream(folder / "config.json") << config.dump();
  write_tokenizer(folder);
  return folder;
}

Json config_of(const fs::path& folder) {
  return parse_json(read_text_file(folder / "config.json"), "config.json");
}

// ---- a law: what is written as float32 is read back as it was ----

void expect_same_weights(const TensorSource& file, const TensorSource& folder) {
  ASSERT_EQ(file.tensors().size(), folder.tensors().size());
  for (const TensorInfo& t : folder.tensors()) {
    const TensorInfo* found = file.find(t.name);
    ASSERT_TRUE(found) << t.name;
    EXPECT_EQ(found->shape, t.shape) << t.name;
    EXPECT_EQ(file.read_floats(*found), folder.read_floats(t)) << t.name;
  }
}

// Everything that a forward pass goes by: weights, sizes, rope, routing.
void expect_round_trip(const fs::path& folder) {
  SCOPED_TRACE(folder.string());
  const TempDir dir;
  const fs::path file = dir.path / "model.gguf";
  to_gguf(folder, file);
  const InputModel back = open_input({.model = "m", .folder = file}, open_options(Threads(1)));
  const InputModel model = open_input({.model = "m", .folder = folder}, open_options(Threads(1)));
  expect_same_weights(*back.source, *model.source);
  ModelSpec wanted = read_model_spec(*model.config, "folder");
  const ModelSpec found = read_model_spec(*back.config, "file");
  if (wanted.model_type == "mistral") wanted.model_type = "llama";
  EXPECT_EQ(found.model_type, wanted.model_type);
  EXPECT_EQ(found.layer, wanted.layer);
  EXPECT_TRUE(found.ropes == wanted.ropes) << "rope";
  EXPECT_TRUE(found == wanted);
}

TEST(GgufImport, FloatsComeBackAsTheyWere) {
  for (const char* model : {"base", "math", "code"}) expect_round_trip(kModels / model);
  for (const char* model : {"base", "math", "code", "words"})
    expect_round_trip(kMixtureModels / model);
}

TEST(GgufImport, FamiliesComeBackAsTheyWere) {
  const TempDir dir;
  for (const std::string family : {"llama", "mistral", "qwen2", "qwen3", "mixtral"}) {
    const fs::path golden = kGolden / "families" / family;
    Json config = config_of(golden);
    config.erase("sliding_window");  // which the file does not have
    if (family == "mistral") config["sliding_window"] = nullptr;
    expect_round_trip(copy_of(golden, dir.path / family, config));
  }
}

// Qwen 2's mixture of experts, of whose layers the golden model has experts in two.
TEST(GgufImport, SharedExpertsComeBackAsTheyWere) {
  const TempDir dir;
  const fs::path golden = kGolden / "families/qwen2_moe", folder = dir.path / "qwen2_moe";
  fs::create_directories(folder);
  std::vector<OwnTensor> kept;
  for (OwnTensor& t : tensors_in(Checkpoint::open(golden))) {
    const std::string layers = "model.layers.";
    if (t.info.name.starts_with(layers)) {
      char& number = t.info.name[layers.size()];
      if (number != '1' && number != '3') continue;
      number = number == '1' ? '0' : '1';
    }
    kept.push_back(std::move(t));
  }
  write_weights(folder, kept);
  Json config = config_of(golden);
  config["num_hidden_layers"] = 2;
  config["decoder_sparse_step"] = 1;
  config["layer_types"] = Json::array({"full_attention", "full_attention"});
  std::ofstream(folder / "config.json") << config.dump();
  write_tokenizer(folder);
  expect_round_trip(folder);
}

Json llama_with_rope(const Json& rope) {
  Json config = config_of(kGolden / "families/llama");
  config.erase("rope_parameters");
  config["rope_theta"] = 100000.0;
  config["rope_scaling"] = rope;
  return config;
}

// Factors of rope are all that the file has of Llama 3's settings.
TEST(GgufImport, RopeIsFoundByItsFactors) {
  const TempDir dir;
  int number = 0;
  const auto check = [&](const Json& rope) {
    expect_round_trip(copy_of(kGolden / "families/llama", dir.path / std::to_string(number++),
                              llama_with_rope(rope)));
  };
  const auto llama3 = [](double factor, double high, int64_t length) -> Json {
    return {{"rope_type", "llama3"},
            {"factor", factor},
            {"low_freq_factor", 1.0},
            {"high_freq_factor", high},
            {"original_max_position_embeddings", length}};
  };
  check(llama3(8, 4, 8192));
  check(llama3(32, 4, 8192));
  check(llama3(8, 4, 128));
  check({{"rope_type", "linear"}, {"factor", 2.5}});
  check({{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 128}});
}

// The same numbers come out of the forward pass, and the same tokens go into it.
TEST(GgufImport, LossesAreThoseOfTheFolder) {
  const TempDir dir;
  const auto losses = [&](const fs::path& folder, const std::string& data) {
    const fs::path file = dir.path / "model.gguf";
    fs::remove(file);
    to_gguf(folder, file);
    EvaluateJob job;
    job.models = {folder, file};
    job.tasks = {"loss:" + data};
    job.settings.limit = 3;
    job.guidance.cache = dir.path / "cache";
    const EvaluateResult result = evaluate(job, quiet());
    ASSERT_EQ(result.scores.size(), 2u);
    EXPECT_EQ(result.scores[0].value, result.scores[1].value) << folder;
    EXPECT_GT(result.scores[0].value, 0);
  };
  losses(kMixtureModels / "math", (kMixtureModels / "math_test.jsonl").string() + ":gsm8k");
  losses(kModels / "math", (fs::path(LEWIS_DEMO) / "data/math_test.jsonl").string() + ":gsm8k");
}

// The tokens of both mean the same, though the files that say so differ.
TEST(GgufImport, AFolderIsTheReferenceOfAFile) {
  const TempDir dir;
  const fs::path file = dir.path / "model.gguf";
  to_gguf(kMixtureModels / "math", file);
  EvaluateJob job;
  job.models = {file, kMixtureModels / "code"};
  job.expert = kMixtureModels / "math";
  job.tasks = {"kl:" + (kMixtureModels / "math_test.jsonl").string() + ":gsm8k"};
  job.settings.limit = 2;
  job.guidance.cache = dir.path / "cache";
  const EvaluateResult result = evaluate(job, quiet());
  ASSERT_EQ(result.scores.size(), 2u);
  EXPECT_EQ(result.scores[0].value, 0);
  EXPECT_GT(result.scores[1].value, 0);
}

// ---- tokenizers ----

std::vector<std::string> texts_in_many_scripts() {
  const Json all = parse_json(read_text_file(kTokenizers / "made/expected.json"), "expected.json");
  auto texts = all.at("texts").at("lines").get<std::vector<std::string>>();
  for (const char* text : {"Hello, world! It's 1234567 o'clock.", "<|endoftext|> and <s> as text",
                           "  spaces   and\n\n\nlines\t\ttabs ", "can't CAN'T we'll WE'LL"})
    texts.push_back(text);
  return texts;
}

// The metadata as a file, read as a tokenizer.
ImportedTokenizer tokenizer_of(GgufMetadata metadata, int64_t vocabulary, const fs::path& file) {
  metadata["general.architecture"] = std::string("llama");
  metadata["llama.context_length"] = uint32_t{128};
  write_gguf(file, metadata, {}, {});
  const GgufFile opened(file);
  return import_tokenizer(GgufKeys(opened), vocabulary);
}

GgufMetadata metadata_of(const ModelFiles& files, int64_t vocabulary) {
  std::vector<std::string> notes;
  return gguf_vocabulary(files, Json::object(), gguf_architecture("llama", "config.json"),
                         {.size = vocabulary}, notes);
}

void expect_same_tokens(const ModelFiles& files, int64_t vocabulary) {
  const TempDir dir;
  const ImportedTokenizer back =
      tokenizer_of(metadata_of(files, vocabulary), vocabulary, dir.path / "t.gguf");
  ASSERT_FALSE(back.files.empty()) << back.notes.at(0);
  const Tokenizer wanted = Tokenizer::load(files), found = Tokenizer::load({dir.path, back.files});
  const std::vector<std::string> texts = texts_in_many_scripts();
  for (size_t i = 0; i < texts.size(); i += 3) {
    const std::string& text = texts[texts.size() - 1 - i];
    for (const bool special : {false, true}) {
      const auto ids = wanted.encode(text, special, Tokenizer::SpecialText::kAsTokens);
      ASSERT_EQ(found.encode(text, special, Tokenizer::SpecialText::kAsTokens), ids) << text;
      ASSERT_EQ(found.decode(ids, false), wanted.decode(ids, false)) << text;
    }
  }
}

ModelFiles made(const std::string& name, const Json& config,
                const std::function<void(Json&)>& change = {}) {
  Json tokenizer = parse_json(read_text_file(kTokenizers / "made" / (name + ".json")), name);
  if (change) change(tokenizer);
  return {kTokenizers / "made",
          {{"tokenizer.json", tokenizer.dump()}, {"tokenizer_config.json", config.dump()}}};
}

TEST(GgufImport, TokensAreTheSame) {
  const ModelFiles demo(kModels / "math");
  expect_same_tokens(demo, 1024);
  expect_same_tokens(ModelFiles(kMixtureModels / "math"), 1024);
  expect_same_tokens(ModelFiles(kTokenizers / "gpt2"), 50257);
  expect_same_tokens(made("tekken", {{"bos_token", "<s>"}, {"eos_token", "</s>"}}), 512);
  expect_same_tokens(made("o200k", Json::object()), 512);
  expect_same_tokens(
      made("qwen", {{"eos_token", "<|endoftext|>"}},
           [](Json& t) { t["pre_tokenizer"] = rules_named("qwen2")->pre_tokenizer; }),
      512);
  expect_same_tokens(made("cl100k", {{"bos_token", "<|begin_of_text|>"}, {"add_bos_token", false}},
                          [](Json& t) {
                            t["pre_tokenizer"] = rules_named("llama-bpe")->pre_tokenizer;
                            t["model"]["ignore_merges"] = true;
                          }),
                     512);
}

template <typename T>
GgufArray numbers_of(const Json& list, uint32_t type) {
  const auto values = list.get<std::vector<T>>();
  const auto bytes = std::as_bytes(std::span(values));
  return {.type = type, .numbers = {bytes.begin(), bytes.end()}};
}

// sentencepiece's own ids (golden/gguf/make_sentencepiece.py).
TEST(GgufImport, TokensAreThoseOfSentencePiece) {
  const TempDir dir;
  const Json golden = parse_json(read_text_file(kGolden / "gguf/sentencepiece.json"), "golden");
  const GgufMetadata metadata = {
      {"tokenizer.ggml.model", std::string("llama")},
      {"tokenizer.ggml.tokens",
       GgufArray{.texts = golden["tokens"].get<std::vector<std::string>>()}},
      {"tokenizer.ggml.scores", numbers_of<float>(golden["scores"], 6)},
      {"tokenizer.ggml.token_type", numbers_of<int32_t>(golden["types"], 5)},
      {"tokenizer.ggml.bos_token_id", uint32_t{1}},
      {"tokenizer.ggml.eos_token_id", uint32_t{2}},
      {"tokenizer.ggml.unknown_token_id", uint32_t{0}}};
  const ImportedTokenizer made = tokenizer_of(metadata, 700, dir.path / "t.gguf");
  const Tokenizer tokenizer = Tokenizer::load({dir.path, made.files});
  ASSERT_GT(golden["texts"].size(), 100u);
  for (size_t i = 0; i < golden["texts"].size(); ++i) {
    const auto text = golden["texts"][i].get<std::string>();
    auto ids = golden["ids"][i].get<std::vector<int32_t>>();
    EXPECT_EQ(tokenizer.encode(text, false, Tokenizer::SpecialText::kAsText), ids) << text;
    ids.insert(ids.begin(), 1);
    EXPECT_EQ(tokenizer.encode(text, true, Tokenizer::SpecialText::kAsText), ids) << text;
  }
}

TEST(GgufImport, TokenizersThatContradictThemselvesAreRefused) {
  const TempDir dir;
  const GgufMetadata whole = metadata_of(ModelFiles(kModels / "math"), 1024);
  const auto said = [&](const std::string& key, const GgufValue& value, int64_t vocabulary = 1024) {
    GgufMetadata m = whole;
    m["tokenizer.ggml." + key] = value;
    return refusal([&] { tokenizer_of(m, vocabulary, dir.path / "t.gguf"); });
  };
  EXPECT_NE(said("eos_token_id", uint32_t{5000}).find("there are 1024 tokens"), std::string::npos);
  EXPECT_NE(said("eos_token_id", int32_t{-1}).find("[0, 2^31)"), std::string::npos);
  EXPECT_NE(said("merges", GgufArray{.texts = {"a"}}).find("pair"), std::string::npos);
  EXPECT_NE(said("merges", GgufArray{.texts = {"a b c"}}).find("pair"), std::string::npos);
  EXPECT_NE(said("tokens", GgufArray{.texts = {"a", "a"}}).find("1024 types"), std::string::npos);
  EXPECT_NE(said("add_bos_token", uint32_t{1}).find("true or false"), std::string::npos);
  EXPECT_NE(said("pre", std::string("smollm"), 1000).find("1000 embeddings"), std::string::npos);
  GgufMetadata twice = whole;
  twice["tokenizer.ggml.tokens"] = GgufArray{.texts = {"a", "a"}};
  twice.erase("tokenizer.ggml.token_type");
  EXPECT_NE(refusal([&] { tokenizer_of(twice, 1024, dir.path / "t.gguf"); }).find("ids 0 and 1"),
            std::string::npos);
  for (const char* key : {"pre", "model"}) {  // a note, since an expert needs none
    GgufMetadata other = whole;
    other[std::string("tokenizer.ggml.") + key] = std::string("klingon");
    const ImportedTokenizer none = tokenizer_of(other, 1024, dir.path / "t.gguf");
    EXPECT_TRUE(none.files.empty());
    EXPECT_NE(none.notes.at(0).find("'klingon'"), std::string::npos);
  }
}

// ---- blocks ----

// gguf-py's writer and dequantiser (golden/gguf/make_blocks.py).
TEST(GgufImport, BlocksAreWhatTheyStandFor) {
  const auto parts = open_gguf_parts(kGolden / "gguf/blocks.gguf");
  const auto source = gguf_as_stored("blocks", parts);
  const SafetensorsFile wanted(kGolden / "gguf/blocks.safetensors");
  ASSERT_EQ(source->tensors().size(), 14u);
  for (const TensorInfo& t : source->tensors()) {
    const auto values = read_tensor<float>(wanted, t.name);
    EXPECT_EQ(source->read_floats(t), values) << t.name;
    if (t.dtype != DType::kF32) continue;
    for (const auto& [first, count] : {std::pair{1, 5}, {31, 2}, {255, 258}, {700, 324}}) {
      std::vector<float> part(static_cast<size_t>(count));
      source->read(t, first, std::as_writable_bytes(std::span(part)));
      EXPECT_TRUE(std::equal(part.begin(), part.end(), values.begin() + first)) << t.name << first;
    }
  }
}

// The expected size of rounding beside what it is.
TEST(GgufImport, RoundingIsEstimated) {
  std::vector<float> values(256 * 64), back(values.size());
  uint64_t state = 9;
  for (float& v : values) {  // about normal: a sum of twelve uniform numbers
    v = -6;
    for (int i = 0; i < 12; ++i) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      v += static_cast<float>(state >> 40) * 0x1p-24f;
    }
    v *= 0.02f;
  }
  for (const GgufTypeInfo& type : gguf_types()) {
    if (type.block == 1 || type.type == GgufType::kQ2_K || type.type == GgufType::kQ3_K) continue;
    std::vector<std::byte> bytes(gguf_bytes(type.type, static_cast<int64_t>(values.size())));
    encode_gguf(type.type, values, {}, bytes.data());
    decode_gguf(type.type, bytes.data(), back);
    double sum = 0;
    for (size_t i = 0; i < values.size(); ++i) sum += std::pow(values[i] - back[i], 2);
    EXPECT_NEAR(std::sqrt(rounding_energy(type.type, back) / sum), 1, 0.2) << type.name;
  }
}

// ---- recipes ----

fs::path recipe(const fs::path& file, const fs::path& base, const std::vector<fs::path>& models,
                const std::string& more = "") {
  std::ofstream out(file);
  out << "merge_method: ties\nbase_model: " << base.string() << "\nmodels:\n";
  for (const fs::path& model : models)
    out << "- {model: " << model.string() << ", parameters: {weight: 0.7, density: 0.5}}\n";
  out << "dtype: float32\n" << more;
  return file;
}

std::string merged_bytes(const fs::path& recipe_file, const fs::path& out) {
  MergeJob job;
  job.recipe = std::make_shared<const Recipe>(read_recipe(recipe_file));
  job.out = out;
  merge(job, quiet());
  return read_text_file(out / "model.safetensors");
}

// The numbers that blocks stand for, in a folder.
fs::path folder_of(const fs::path& file, const fs::path& like, const fs::path& folder) {
  fs::create_directories(folder);
  for (const char* name : {"config.json", "tokenizer.json", "tokenizer_config.json"})
    fs::copy_file(like / name, folder / name);
  write_weights(folder, tensors_in(*open_gguf(file).source));
  return folder;
}

TEST(GgufImport, AMergeIsThatOfTheNumbers) {
  for (const fs::path& models : {kModels, kMixtureModels}) {
    const TempDir dir;
    std::vector<fs::path> files, folders;
    for (const auto& [name, type] : {std::pair{"math", "q8_0"}, {"code", "q5_0"}}) {
      files.push_back(dir.path / (std::string(name) + ".gguf"));
      to_gguf(models / name, files.back(), type);
      folders.push_back(folder_of(files.back(), models / name, dir.path / name));
    }
    const fs::path base = models / "base";
    EXPECT_EQ(merged_bytes(recipe(dir.path / "a.yml", base, files), dir.path / "a"),
              merged_bytes(recipe(dir.path / "b.yml", base, folders), dir.path / "b"));
    EXPECT_EQ(read_text_file(dir.path / "a/config.json"),
              read_text_file(dir.path / "b/config.json"));
    EXPECT_EQ(read_text_file(dir.path / "a/tokenizer.json"),
              read_text_file(base / "tokenizer.json"));
  }
}

// The base, and all of the models, may be files; the merge is a whole model then.
TEST(GgufImport, AFileMayBeTheBase) {
  const TempDir dir;
  std::vector<fs::path> files;
  for (const char* name : {"base", "math", "code"}) {
    files.push_back(dir.path / (std::string(name) + ".gguf"));
    to_gguf(kModels / name, files.back());
  }
  const std::string of_folders = merged_bytes(
      recipe(dir.path / "a.yml", kModels / "base", {kModels / "math", kModels / "code"}),
      dir.path / "a");
  EXPECT_EQ(
      merged_bytes(recipe(dir.path / "b.yml", files[0], {files[1], files[2]}), dir.path / "b"),
      of_folders);
  const Tokenizer wanted = Tokenizer::load(ModelFiles(dir.path / "a")),
                  found = Tokenizer::load(ModelFiles(dir.path / "b"));
  EXPECT_EQ(found.encode("What is 12 + 30?", true, Tokenizer::SpecialText::kAsText),
            wanted.encode("What is 12 + 30?", true, Tokenizer::SpecialText::kAsText));
  EXPECT_EQ(found.stop_ids(), wanted.stop_ids());
  EXPECT_TRUE(read_model_spec(config_of(dir.path / "b"), "b") ==
              read_model_spec(config_of(dir.path / "a"), "a"));
  const std::string all =
      read_text_file(dir.path / "b/README.md") + read_text_file(dir.path / "b/mergekit_config.yml");
  EXPECT_EQ(all.find(dir.path.string()), std::string::npos) << "a path of this machine";
}

std::vector<std::string> warnings_of(const fs::path& recipe_file) {
  Threads threads(2);
  return check_recipe(read_recipe(recipe_file), threads).warnings;
}

std::string warning_with(const std::vector<std::string>& warnings, const std::string& words) {
  const auto found = std::ranges::find_if(
      warnings, [&](const std::string& line) { return line.find(words) != line.npos; });
  return found == warnings.end() ? "" : *found;
}

// A model that was trained far and rounded little, and one whose change is below its rounding.
TEST(GgufImport, RoundingIsToldBesideTheTaskVector) {
  const TempDir dir;
  const fs::path fine = dir.path / "math.gguf", base = kModels / "base";
  to_gguf(kModels / "math", fine, "q8_0");
  const std::string first =
      warning_with(warnings_of(recipe(dir.path / "a.yml", base, {fine})), "rounded to blocks");
  EXPECT_NE(first.find(fine.string()), std::string::npos);
  EXPECT_EQ(first.find("noise"), std::string::npos) << first;
  // The difference of a rounded base from the base is its rounding, and nothing else.
  const fs::path noise = dir.path / "base.gguf";
  to_gguf(base, noise, "q4_0");
  const std::string second =
      warning_with(warnings_of(recipe(dir.path / "b.yml", base, {noise})), "rounded to blocks");
  const size_t at = second.find(" to 1");
  ASSERT_NE(at, std::string::npos) << second;
  const double ratio = std::stod(second.substr(second.rfind(' ', at - 1) + 1));
  EXPECT_NEAR(ratio, 1, 0.2) << second;
  EXPECT_EQ(
      warning_with(warnings_of(recipe(dir.path / "c.yml", base, {kModels / "math"})), "blocks"),
      "");
}

// ---- files that are no models ----

// A file with the metadata of the demo's base and these tensors, of ones.
class SmallFile {
 public:
  SmallFile() { to_gguf(kModels / "base", whole_); }

  GgufMetadata metadata() const { return GgufFile(whole_).metadata(); }

  fs::path write(const GgufMetadata& metadata, const std::vector<TensorInfo>& tensors,
                 const std::string& name = "x.gguf") const {
    std::vector<std::vector<std::byte>> bytes;
    std::vector<std::span<const std::byte>> data;
    for (const TensorInfo& t : tensors) bytes.emplace_back(byte_size(t), std::byte{1});
    data.assign(bytes.begin(), bytes.end());
    write_gguf(dir_.path / name, metadata, tensors, data);
    return dir_.path / name;
  }

  std::string refused(const GgufMetadata& metadata, const std::vector<TensorInfo>& tensors = {}) {
    std::vector<TensorInfo> all = {{"token_embd.weight", DType::kF32, {1024, 128}}};
    all.insert(all.end(), tensors.begin(), tensors.end());
    const fs::path file = write(metadata, all);
    const std::string said = refusal([&] { open_gguf(file); });
    EXPECT_NE(said.find(file.string()), std::string::npos) << said;
    return said;
  }

  const fs::path& whole() const { return whole_; }

 private:
  TempDir dir_;
  fs::path whole_ = dir_.path / "whole.gguf";
};

TEST(GgufImport, OtherModelsAreRefusedByName) {
  SmallFile files;
  const GgufMetadata m = files.metadata();
  const auto with = [&](const std::string& key, const GgufValue& value) {
    GgufMetadata changed = m;
    changed[key] = value;
    return changed;
  };
  const auto expect = [](const std::string& said, const std::string& words) {
    EXPECT_NE(said.find(words), std::string::npos) << said;
  };
  expect(files.refused(with("general.architecture", std::string("mamba"))), "'mamba'");
  expect(files.refused(with("llama.block_count", uint32_t{0})), "llama.block_count");
  expect(files.refused(with("llama.block_count", std::string("8"))), "whole number");
  expect(files.refused(with("llama.rope.dimension_count", uint32_t{16})), "rope.dimension_count");
  expect(files.refused(with("llama.vocab_size", uint32_t{99})), "llama.vocab_size");
  expect(files.refused(with("llama.rope.scaling.type", std::string("magic"))), "magic");
  expect(files.refused(with("llama.attention.head_count", uint32_t{0})), "head_count");
  GgufMetadata without = m;
  without.erase("llama.embedding_length");
  expect(files.refused(without), "llama.embedding_length");
  without = m;
  without.erase("general.architecture");
  expect(files.refused(without), "it is no model");
  expect(files.refused(m, {{"blk.8.attn_q.weight", DType::kF32, {128, 128}}}), "8 blocks");
  expect(files.refused(m, {{"blk.01.attn_q.weight", DType::kF32, {128, 128}}}), "has no place");
  expect(files.refused(m, {{"blk.0.ssm_in.weight", DType::kF32, {128, 128}}}), "has no place");
  expect(files.refused(m, {{"blk.0.attn_q.weight", DType::kF32, {126, 128}}}), "even size");
  expect(files.refused(m, {{"rope_freqs.weight", DType::kF32, {5}}}), "expected 16");
  expect(files.refused(m, {{"rope_freqs.weight", DType::kF16, {16}}}), "type F32");
  GgufMetadata mixture = with("llama.expert_count", uint32_t{4});
  mixture["llama.expert_used_count"] = uint32_t{2};
  expect(files.refused(mixture, {{"blk.0.ffn_up_exps.weight", DType::kF32, {3, 8, 128}}}),
         "[4, rows, columns]");
}

// Settings that the family does not have here are named.
TEST(GgufImport, WhatIsLeftOutIsSaid) {
  SmallFile files;
  GgufMetadata m = files.metadata();
  m["llama.attention.clamp_kqv"] = 3.0f;
  const fs::path file = files.write(m, {{"token_embd.weight", DType::kF32, {1024, 128}}});
  EXPECT_NE(warning_with(open_gguf(file).notes, "clamp_kqv"), "");
}

TEST(GgufImport, PartsAreOneModel) {
  SmallFile files;
  const GgufFile whole(files.whole());
  const auto part = [](uint16_t number, uint16_t count, GgufMetadata m) {
    m["split.no"] = number;
    m["split.count"] = count;
    return m;
  };
  std::vector<TensorInfo> first, second;
  for (const auto& entry : whole.entries())
    (entry.info.name < "blk.4" ? first : second).push_back(entry.info);
  const fs::path a = files.write(part(0, 2, whole.metadata()), first, "m-00001-of-00002.gguf");
  EXPECT_NE(refusal([&] { open_gguf(a); }).find("m-00002-of-00002.gguf"), std::string::npos);
  const fs::path b = files.write(part(1, 2, {}), second, "m-00002-of-00002.gguf");
  EXPECT_EQ(open_gguf(a).source->tensors().size(), whole.entries().size());
  EXPECT_NE(refusal([&] { open_gguf(b); }).find("-00001-of-00002.gguf"), std::string::npos);
  second.push_back(first[0]);
  files.write(part(1, 2, {}), second, "m-00002-of-00002.gguf");
  EXPECT_NE(refusal([&] { open_gguf(a); }).find("as well"), std::string::npos);
  files.write(part(2, 3, {}), second, "m-00002-of-00002.gguf");
  EXPECT_NE(refusal([&] { open_gguf(a); }).find("part 3 of 3"), std::string::npos);
}

// A model's fingerprint, by which caches know it, follows the file.
TEST(GgufImport, FingerprintsFollowTheFile) {
  SmallFile files;
  const std::vector<TensorInfo> tensors = {{"token_embd.weight", DType::kF32, {1024, 128}}};
  GgufMetadata m = files.metadata();
  const fs::path file = files.write(m, tensors);
  const std::string before = open_gguf(file).fingerprint();
  EXPECT_EQ(open_gguf(file).fingerprint(), before);
  m["llama.rope.freq_base"] = 77.0f;
  files.write(m, tensors);
  EXPECT_NE(open_gguf(file).fingerprint(), before);
}

}  // namespace
}  // namespace lewis
