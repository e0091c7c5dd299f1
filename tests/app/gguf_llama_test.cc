// GGUF files against what llama.cpp's converter, gguf-py and sentencepiece made of the same inputs
// (tools/gguf_check/record.py); and files in parts.
#include <gtest/gtest.h>

#include <lewis/gguf.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>

#include "app/gguf/export.h"
#include "app/gguf/families/architecture.h"
#include "app/gguf/general/general_keys.h"
#include "app/gguf/general/model_id.h"
#include "app/gguf/vocabulary.h"
#include "app/gguf/vocabulary/sentencepiece.h"
#include "app/gguf/write_tensors.h"
#include "base/dtype.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/text_file.h"
#include "io/checkpoint.h"
#include "io/expert_tensors.h"
#include "model/transformer.h"
#include "temp_dir.h"
#include "text/tokenizer.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

const fs::path kModels = fs::path(LEWIS_DEMO) / "models";
const fs::path kGolden = fs::path(LEWIS_TEST_DATA) / "golden";
const fs::path kMade = fs::path(LEWIS_TEST_DATA) / "tokenizers/made";

Json golden(const char* name) { return parse_json(read_text_file(kGolden / "gguf" / name), name); }

GgufExport exported(const TensorSource& model, const Json& config) {
  const ModelSpec spec = locate_tensors(read_model_spec(config, "config.json"), model);
  return export_model(model, spec, config, "config.json");
}

std::string refusal(const Checkpoint& model, const Json& config) {
  try {
    exported(model, config);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

// A value as the recorder has it.
Json json_of(const GgufValue& value) {
  return std::visit(
      [](const auto& v) -> Json {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<T, GgufArray>) {
          Json list = Json::array();
          const size_t width = v.type == 5 ? 4 : 1;  // int32, or bool
          for (size_t i = 0; i < v.numbers.size(); i += width) {
            const auto number = static_cast<int>(v.numbers[i]);
            list.push_back(width == 1 ? Json(number != 0) : Json(number));
          }
          return list;
        } else {
          return v;
        }
      },
      value);
}

// The file's tensors as the recorder hashes them.
std::string hash_of(const fs::path& path) {
  const GgufFile file(path);
  std::string all;
  for (const GgufFile::Entry& t : file.entries()) {
    std::string shape;
    for (const int64_t n : t.info.shape) shape += (shape.empty() ? "" : "x") + std::to_string(n);
    std::string bytes(byte_size(t.info), '\0');
    file.read(t, 0, std::as_writable_bytes(std::span(bytes)));
    all += fmt::format("{} 0 {} ", t.info.name, shape) + bytes;
  }
  return sha256_hex(all);
}

RunContext quiet() {
  RunContext run;
  run.threads = 2;
  run.notice = [](const Notice&) {};
  return run;
}

// Keys and, byte for byte, tensors of every family are those of the converter of llama.cpp.
TEST(GgufFamilies, AreThoseOfTheConverter) {
  const Json families = golden("families.json");
  const TempDir dir;
  for (const auto& [name, wanted] : families.items()) {
    const fs::path kept = kGolden / "gguf/models" / name;  // with sizes that llama.cpp runs
    const auto folder = std::make_shared<Checkpoint>(
        Checkpoint::open(fs::exists(kept) ? kept : kGolden / "families" / name));
    Json config = folder->config();
    config.update(wanted["changes"]);
    const auto source = split_experts(folder, config).source;
    const TensorSource& model = *source;
    const GgufExport e = exported(model, config);
    GgufMetadata found = e.metadata;
    const std::string architecture = std::get<std::string>(found.at("general.architecture"));
    found.erase("general.architecture");
    found["general.size_label"] = general_keys("x", {}, e).at("general.size_label");
    EXPECT_EQ(found.size(), wanted["keys"].size()) << name;
    for (const auto& [key, value] : wanted["keys"].items()) {
      ASSERT_TRUE(found.contains(key)) << name << ": " << key;
      const Json own = json_of(found.at(key));
      if (value.is_number_float()) {
        EXPECT_EQ(own.get<float>(), value.get<float>()) << name << ": " << key;
      } else {
        EXPECT_EQ(own, value) << name << ": " << key;
      }
    }
    EXPECT_EQ(e.tensors.size() + e.made.size(), wanted["tensors"].get<size_t>()) << name;
    std::vector<GgufTensor> tensors;
    for (const ExportedTensor& t : e.tensors) {
      tensors.push_back(t.tensor);
      EXPECT_TRUE(t.stays_f32 || !t.tensor.name.ends_with(".bias")) << t.tensor.name;
    }
    for (const MadeTensor& t : e.made)
      tensors.push_back({t.name, GgufType::kF32, {static_cast<int64_t>(t.values.size())}});
    const auto parts = gguf_parts(dir.path / (name + ".gguf"), e.metadata, tensors, 0);
    ASSERT_EQ(parts.size(), 1u);
    const RunContext context = quiet();
    RunResources run(context);
    const GgufImportances none;
    GgufTensorWriter writer(model, e, none, run);
    write_file_durably(parts[0].file, [&](const File& file) { writer.write(parts[0], file); });
    EXPECT_EQ(hash_of(parts[0].file), wanted["sha256"].get<std::string>()) << name;
  }
  EXPECT_EQ(families.size(), 22u);
}

// What llama.cpp would compute otherwise than transformers.
TEST(GgufFamilies, WhatLlamaCppDoesNotRunIsRefused) {
  const auto told = [](const char* family, const char* key, const Json& value) {
    const Checkpoint model = Checkpoint::open(kGolden / "families" / family);
    Json config = model.config();
    config[key] = value;
    return refusal(model, config);
  };
  const auto has = [](const std::string& text, const char* words) {
    EXPECT_NE(text.find(words), std::string::npos) << text;
  };
  has(told("gemma2", "query_pre_attn_scalar", 20), "multiplied by 0.223607");
  has(told("olmo2", "tie_word_embeddings", true), "tie_word_embeddings");
  has(told("smollm3", "no_rope_layers", Json::parse("[1, 0, 1, 0]")), "layer 1 is without rope");
  has(told("starcoder2", "use_bias", false), "use_bias");
  has(told("qwen3_5", "max_position_embeddings", 512),
      "linear_key_head_dim is 12, linear_value_head_dim 16");
  has(told("qwen3", "rope_parameters",
           Json::parse(R"({"rope_type": "llama3", "rope_theta": 1e4, "factor": 8,
                           "low_freq_factor": 1, "high_freq_factor": 4,
                           "original_max_position_embeddings": 64})")),
      "rope of type 'llama3'");
  EXPECT_EQ(told("olmo2", "max_position_embeddings", 1024), "");
}

// Positions of three kinds turn the pairs of a head in turns, which llama.cpp counts out.
TEST(GgufFamilies, PairsThatLlamaCppWouldNotTurnAreRefused) {
  const Checkpoint model = Checkpoint::open(kGolden / "gguf/models/qwen3_5");
  Json config = model.config();
  EXPECT_EQ(refusal(model, config), "");
  config["rope_parameters"]["mrope_section"] = {2, 0, 0};
  EXPECT_NE(refusal(model, config).find("leaves pair 1 of 2 without"), std::string::npos);
  config["rope_parameters"].erase("mrope_section");  // {11, 11, 10}, the converter's
  EXPECT_EQ(json_of(exported(model, config).metadata.at("qwen35.rope.dimension_sections")),
            Json::parse("[11, 11, 10, 0]"));
}

// By key heads in the model: 0 0 0 1 1 1; in turns in the file: 0 1 0 1 0 1.
TEST(GgufFamilies, ValueHeadsStandAsLlamaCppRepeatsKeyHeads) {
  const ValueHeads heads{.first = 2, .keys = 2, .each = 3, .width = 2};
  std::vector<int64_t> order;
  for (int64_t i = 0; i < 14; ++i) order.push_back(heads(i));
  EXPECT_EQ(order, (std::vector<int64_t>{0, 1, 2, 3, 8, 9, 4, 5, 10, 11, 6, 7, 12, 13}));
}

// A matrix whose columns change places is rounded with the importances of the same columns.
TEST(GgufFamilies, ImportancesGoWithTheirColumns) {
  const TempDir dir;
  const std::string name = "model.layers.0.linear_attn.out_proj.weight";
  const Checkpoint model = Checkpoint::open(kGolden / "gguf/models/qwen3_5");
  GgufExport e = exported(model, model.config());
  std::erase_if(e.tensors, [&](const ExportedTensor& t) { return t.sources[0] != name; });
  ASSERT_EQ(e.tensors.size(), 1u);
  e.tensors[0].tensor.type = GgufType::kQ4_0;
  GgufImportances importances;
  std::vector<float>& own = importances.by_tensor[name];
  for (size_t i = 0; i < 64; ++i) own.push_back(static_cast<float>(1 + i * i * 37 % 101));
  const auto parts =
      gguf_parts(dir.path / "x.gguf", e.metadata, std::vector{e.tensors[0].tensor}, 0);
  const RunContext context = quiet();
  RunResources run(context);
  GgufTensorWriter writer(model, e, importances, run);
  write_file_durably(parts[0].file, [&](const File& file) { writer.write(parts[0], file); });

  std::vector<std::byte> stored(64 * 64 * 2), expected(64 * 36), found(64 * 36);
  model.read(model.get(name), 0, stored);
  for (size_t row = 0; row < 64; ++row) {
    std::vector<float> x(64), values, weights;
    widen(DType::kBF16, stored.data() + row * 128, x);
    for (const size_t head : {0, 2, 1, 3}) {  // two value heads of 16 numbers per key head
      for (size_t i = head * 16; i < head * 16 + 16; ++i) {
        values.push_back(x[i]);
        weights.push_back(own[i]);
      }
    }
    encode_gguf(GgufType::kQ4_0, values, weights, expected.data() + row * 36);
  }
  std::ifstream(parts[0].file, std::ios::binary)
      .seekg(static_cast<std::streamoff>(parts[0].layout.begins[0]))
      .read(reinterpret_cast<char*>(found.data()), static_cast<std::streamsize>(found.size()));
  EXPECT_TRUE(found == expected);
}

// Tensors that have other sizes than config.json says are refused before rows change places.
TEST(GgufFamilies, LinearAttentionOfOtherSizesIsRefused) {
  const Checkpoint model = Checkpoint::open(kGolden / "gguf/models/qwen3_5");
  Json config = model.config();
  config["linear_num_value_heads"] = 8;
  const std::string told = refusal(model, config);
  EXPECT_NE(told.find("linear_attn."), std::string::npos) << told;
  EXPECT_NE(told.find("expected "), std::string::npos) << told;
}

// A layer pattern other than the one that llama.cpp assumes is listed.
TEST(GgufFamilies, WindowsOfOtherLayersAreListed) {
  const Checkpoint model = Checkpoint::open(kGolden / "families/cohere2");
  Json config = model.config();
  config["layer_types"] = {"full_attention", "sliding_attention", "full_attention",
                           "sliding_attention"};
  const GgufMetadata m = exported(model, config).metadata;
  EXPECT_EQ(json_of(m.at("cohere2.attention.sliding_window_pattern")),
            Json::parse("[false, true, false, true]"));
  EXPECT_EQ(std::get<uint32_t>(m.at("cohere2.attention.sliding_window")), 32u);
}

TEST(GgufGeneral, NamesAreTakenApartAsGgufPyDoes) {
  const Json wanted = golden("ids.json");
  for (const Json& id : wanted["ids"]) {
    const auto text = id["id"].get<std::string>();
    const ModelIdParts p = parts_of_id(text, wanted["parameters"].get<uint64_t>());
    EXPECT_EQ(p.name, id["name"]) << text;
    EXPECT_EQ(p.organization, id["organization"]) << text;
    EXPECT_EQ(p.basename, id["basename"]) << text;
    EXPECT_EQ(p.finetune, id["finetune"]) << text;
    EXPECT_EQ(p.version, id["version"]) << text;
    EXPECT_EQ(p.size_label, id["size_label"]) << text;
    EXPECT_EQ(title_of(p.name), id["title"]) << text;
  }
  for (const Json& size : wanted["sizes"]) {
    GgufExport e;
    e.tensors.push_back({{"a", GgufType::kF16, {static_cast<int64_t>(size[0].get<double>())}}, {}});
    EXPECT_EQ(json_of(general_keys("x", {}, e).at("general.size_label")), size[1]);
  }
}

TEST(GgufGeneral, CardsGiveLicenceTagsAndParents) {
  const CardFields card = fields_of_card(
      "---\nlicense: other\nlicense_name: mine\nlicense_link: https://x.example/l\n"
      "base_model:\n- Qwen/Qwen2.5-0.5B\n- local\ntags: [merge, lewis]\npipeline_tag: chat\n"
      "language:\n- en\nmodel_creator: someone\n---\n# Title\n");
  const GgufMetadata m = general_keys("owner/my-model", card, {});
  const auto text = [&](const char* key) { return std::get<std::string>(m.at(key)); };
  EXPECT_EQ(text("general.name"), "My Model");
  EXPECT_EQ(text("general.organization"), "Owner");
  EXPECT_EQ(text("general.author"), "someone");
  EXPECT_EQ(text("general.license"), "other");
  EXPECT_EQ(text("general.license.name"), "mine");
  EXPECT_EQ(text("general.license.link"), "https://x.example/l");
  EXPECT_EQ(std::get<uint32_t>(m.at("general.base_model.count")), 2u);
  EXPECT_EQ(text("general.base_model.0.name"), "Qwen2.5 0.5B");
  EXPECT_EQ(text("general.base_model.0.repo_url"), "https://huggingface.co/Qwen/Qwen2.5-0.5B");
  EXPECT_EQ(text("general.base_model.1.name"), "Local");
  EXPECT_FALSE(m.contains("general.base_model.1.repo_url"));
  EXPECT_EQ(std::get<GgufArray>(m.at("general.tags")).texts,
            (std::vector<std::string>{"merge", "lewis", "chat"}));
  EXPECT_TRUE(fields_of_card("no front matter").empty());
  EXPECT_TRUE(fields_of_card("---\n&a [broken\n---\n").empty());
}

// ---- SentencePiece ----

TEST(GgufSentencePiece, PiecesAreThoseThatSentencePieceReads) {
  const std::string bytes = read_text_file(kGolden / "gguf/tokenizer.model");
  const SentencePieces model = read_sentencepiece(bytes, "tokenizer.model");
  const Json wanted = golden("pieces.json");
  ASSERT_EQ(model.pieces.size(), wanted.size());
  EXPECT_TRUE(model.space_prefix);
  for (size_t i = 0; i < wanted.size(); ++i) {
    EXPECT_EQ(model.pieces[i].text, wanted[i][0]) << i;
    EXPECT_EQ(model.pieces[i].score, wanted[i][1].get<float>()) << i;
    const int type = wanted[i][2].get<int>();  // sentencepiece calls pieces of the user normal
    EXPECT_EQ(model.pieces[i].type, model.pieces[i].text == "<|user|>" ? kUserDefined : type) << i;
  }
  for (size_t cut = 0; cut < bytes.size(); cut += 7) {  // what is cut off is refused, or shorter
    try {
      const auto part = read_sentencepiece(std::string_view(bytes).substr(0, cut), "cut");
      EXPECT_LE(part.pieces.size(), model.pieces.size());
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find("cut: "), std::string::npos);
    }
  }
  EXPECT_THROW(read_sentencepiece(std::string(20, '\xff'), "x"), Error);
}

// llama.cpp's way with the model "llama": of all neighbours that make a token together, those with
// the best score are joined, the leftmost first.
std::vector<std::string> joined_by_scores(const std::string& text,
                                          const std::map<std::string, float>& scores) {
  std::vector<std::string> symbols;
  for (const char c : text) {
    if (symbols.empty() || (static_cast<unsigned char>(c) & 0xc0) != 0x80) symbols.emplace_back();
    symbols.back() += c;
  }
  while (true) {
    size_t best = symbols.size();
    float score = -INFINITY;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto found = scores.find(symbols[i] + symbols[i + 1]);
      if (found == scores.end() || found->second <= score) continue;
      best = i;
      score = found->second;
    }
    if (best == symbols.size()) return symbols;
    symbols[best] += symbols[best + 1];
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

// Joining by scores gives the tokens that the merges of tokenizer.json give.
TEST(GgufSentencePiece, ScoresStandForTheOrderOfMerges) {
  const TempDir dir;
  fs::copy_file(kMade / "llama2.json", dir.path / "tokenizer.json");
  std::vector<std::string> notes;
  const GgufMetadata m = gguf_vocabulary(ModelFiles(dir.path), Json::object(),
                                         gguf_architecture("llama", ""), {910}, notes);
  EXPECT_TRUE(notes.empty());
  EXPECT_EQ(std::get<std::string>(m.at("tokenizer.ggml.model")), "llama");
  EXPECT_EQ(std::get<std::string>(m.at("tokenizer.ggml.pre")), "default");
  const auto& tokens = std::get<GgufArray>(m.at("tokenizer.ggml.tokens")).texts;
  const auto& numbers = std::get<GgufArray>(m.at("tokenizer.ggml.scores")).numbers;
  const auto& types = std::get<GgufArray>(m.at("tokenizer.ggml.token_type")).numbers;
  std::map<std::string, float> scores;
  for (size_t i = 0; i < tokens.size(); ++i) {
    float score = 0;
    std::memcpy(&score, numbers.data() + 4 * i, 4);
    if (types[4 * i] == std::byte{kNormal}) scores[tokens[i]] = score;
  }
  EXPECT_EQ(types[4 * 4], std::byte{kByte});
  EXPECT_EQ(tokens[909], "[PAD909]");
  const Tokenizer tokenizer =
      Tokenizer::from_json(read_text_file(kMade / "llama2.json"), "llama2.json");
  for (const char* text : {"the quick brown fox and the other things", "one two three four five",
                           "there then that these", "we are here"}) {
    std::string spaced = " " + std::string(text);
    for (size_t at = 0; (at = spaced.find(' ', at)) != spaced.npos;)
      spaced.replace(at, 1, "\u2581");
    std::vector<std::string> wanted;
    for (const int32_t id : tokenizer.encode(text, false))
      wanted.push_back(tokens[static_cast<size_t>(id)]);
    EXPECT_EQ(joined_by_scores(spaced, scores), wanted);
  }
}

TEST(GgufSentencePiece, AddedTokensAndSpaces) {
  const TempDir dir;
  fs::copy_file(kGolden / "gguf/tokenizer.model", dir.path / "tokenizer.model");
  std::ofstream(dir.path / "tokenizer_config.json") << R"({"add_prefix_space": false,
    "bos_token": "<s>", "add_bos_token": true, "added_tokens_decoder": {
      "700": {"content": "a\u2581b", "special": false},
      "701": {"content": "<|x|>", "special": false},
      "702": {"content": "plain", "special": true}}})";
  std::vector<std::string> notes;
  const GgufMetadata m = gguf_vocabulary(ModelFiles(dir.path), Json::object(),
                                         gguf_architecture("llama", ""), {704}, notes);
  const auto& tokens = std::get<GgufArray>(m.at("tokenizer.ggml.tokens")).texts;
  const auto& types = std::get<GgufArray>(m.at("tokenizer.ggml.token_type")).numbers;
  EXPECT_EQ(tokens[700], "a b");
  EXPECT_EQ(types[4 * 700], std::byte{kUserDefined});
  EXPECT_EQ(types[4 * 701], std::byte{kControl}) << "looks special";
  EXPECT_EQ(types[4 * 702], std::byte{kControl});
  EXPECT_EQ(types[4 * 703], std::byte{kUnused});
  EXPECT_EQ(std::get<uint32_t>(m.at("tokenizer.ggml.bos_token_id")), 1u);
  EXPECT_EQ(std::get<bool>(m.at("tokenizer.ggml.add_bos_token")), true);
  EXPECT_EQ(std::get<bool>(m.at("tokenizer.ggml.add_space_prefix")), false);
  EXPECT_THROW(gguf_vocabulary(ModelFiles(dir.path), Json::object(), gguf_architecture("llama", ""),
                               {300}, notes),
               Error);
}

TEST(GgufSentencePiece, IdsOutsideOfTheVocabularyAreRefused) {
  Json tokenizer = parse_json(read_text_file(kMade / "llama2.json"), "t");
  for (const int64_t id : {int64_t{-1}, int64_t{5000}}) {
    tokenizer["added_tokens"][0]["id"] = id;
    const ModelFiles files(kModels / "math", {{"tokenizer.json", tokenizer.dump()},
                                              {"tokenizer_config.json", std::string("{}")}});
    std::vector<std::string> notes;
    EXPECT_THROW(
        gguf_vocabulary(files, Json::object(), gguf_architecture("llama", ""), {910}, notes), Error)
        << id;
  }
}

// ---- special tokens and parts ----

GgufMetadata vocabulary_of(const Json& tokenizer, const Json& settings, const Json& config,
                           int64_t size, const char* family = "qwen2") {
  const ModelFiles files(kModels / "math", {{"tokenizer.json", tokenizer.dump()},
                                            {"tokenizer_config.json", settings.dump()}});
  std::vector<std::string> notes;
  return gguf_vocabulary(files, config, gguf_architecture(family, ""), {size}, notes);
}

TEST(GgufVocabulary, RolesComeFromSettingsTemplateAndConfig) {
  Json tokenizer = parse_json(read_text_file(kModels / "math/tokenizer.json"), "t");
  for (const auto& [id, text] : {std::pair{1024, "<|user|>"}, {1025, "<x>"}, {1026, "\u2581y"}})
    tokenizer["added_tokens"].push_back({{"id", id}, {"content", text}, {"special", false}});
  tokenizer["post_processor"] = Json::parse(R"({"type": "TemplateProcessing",
    "single": [{"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "<x>"}}],
    "pair": [{"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "<x>"}}, {"Sequence": {"id": "B"}},
             {"SpecialToken": {"id": "<x>"}}]})");
  const Json settings = {
      {"eos_token", "<|endoftext|>"},
      {"chat_template",
       {{{"name", "default"}, {"template", "D"}}, {{"name", "tool use"}, {"template", "T"}}}}};
  const GgufMetadata m =
      vocabulary_of(tokenizer, settings, {{"pad_token_id", 7}, {"eos_token_id", 9}}, 1030);
  const auto id = [&](const char* key) { return std::get<uint32_t>(m.at(key)); };
  EXPECT_EQ(id("tokenizer.ggml.eos_token_id"), 1025u) << "what the template ends with";
  EXPECT_EQ(id("tokenizer.ggml.eot_token_id"), 0u) << "what the settings name";
  EXPECT_EQ(id("tokenizer.ggml.padding_token_id"), 7u) << "config.json's";
  EXPECT_EQ(std::get<bool>(m.at("tokenizer.ggml.add_eos_token")), true);
  EXPECT_EQ(std::get<bool>(m.at("tokenizer.ggml.add_sep_token")), false);
  EXPECT_EQ(std::get<std::string>(m.at("tokenizer.chat_template")), "D");
  EXPECT_EQ(std::get<std::string>(m.at("tokenizer.chat_template.tool_use")), "T");
  const auto& types = std::get<GgufArray>(m.at("tokenizer.ggml.token_type")).numbers;
  EXPECT_EQ(types[4 * 1024], std::byte{kControl}) << "looks special";
  EXPECT_EQ(types[4 * 1025], std::byte{kUserDefined});
  EXPECT_EQ(std::get<GgufArray>(m.at("tokenizer.ggml.tokens")).texts[1026], " y");
  const GgufMetadata glm = vocabulary_of(tokenizer, Json::object(), Json::object(), 1030, "glm4");
  EXPECT_EQ(std::get<uint32_t>(glm.at("tokenizer.ggml.eot_token_id")), 1024u);
  const GgufMetadata granite =
      vocabulary_of(tokenizer, {{"add_bos_token", true}}, Json::object(), 49152, "granite");
  EXPECT_EQ(std::get<bool>(granite.at("tokenizer.ggml.add_bos_token")), false);
  EXPECT_EQ(std::get<std::string>(granite.at("tokenizer.ggml.pre")), "refact");
  const GgufMetadata code =
      vocabulary_of(tokenizer, Json::object(), Json::object(), 32016, "llama");
  EXPECT_EQ(std::get<uint32_t>(code.at("tokenizer.ggml.eot_token_id")), 32010u);
}

TEST(GgufVocabulary, MadeTokenizersHaveNamesByTheirRules) {
  const std::map<std::string, std::string> names = {
      {"deepseek", "deepseek-v3"}, {"o200k", "gpt-4o"}, {"qwen", "qwen35"}, {"tekken", "tekken"}};
  for (const auto& [file, name] : names) {
    const Json tokenizer = parse_json(read_text_file(kMade / (file + ".json")), file);
    const GgufMetadata m = vocabulary_of(tokenizer, Json::object(), Json::object(), 520);
    EXPECT_EQ(std::get<std::string>(m.at("tokenizer.ggml.pre")), name) << file;
  }
  const Json unnamed = parse_json(read_text_file(kMade / "cl100k.json"), "cl100k");
  EXPECT_THROW(vocabulary_of(unnamed, Json::object(), Json::object(), 520), Error);
}

// Parts have the tensors of the whole file, each once, and only the first has the metadata.
TEST(GgufParts, TogetherAreTheModel) {
  const TempDir dir;
  const fs::path whole = dir.path / "whole.gguf";
  convert({.model = kModels / "math", .out = whole, .type = "f32"}, quiet());
  const ConvertJob job{.model = kModels / "math",
                       .out = dir.path / "m.gguf",
                       .type = "f32",
                       .part_bytes = 3'000'000};
  const ConvertResult r = convert(job, quiet());
  ASSERT_GT(r.files.size(), 2u);
  EXPECT_EQ(r.files[0].filename(), fmt::format("m-00001-of-{:05}.gguf", r.files.size()));
  EXPECT_FALSE(fs::exists(job.out));
  const GgufFile all(whole);
  std::map<std::string, size_t> seen;
  for (size_t i = 0; i < r.files.size(); ++i) {
    const GgufFile part(r.files[i]);
    EXPECT_EQ(std::get<uint16_t>(part.metadata().at("split.no")), i);
    EXPECT_EQ(std::get<uint16_t>(part.metadata().at("split.count")), r.files.size());
    EXPECT_EQ(std::get<int32_t>(part.metadata().at("split.tensors.count")),
              static_cast<int32_t>(all.entries().size()));
    EXPECT_EQ(part.metadata().contains("general.name"), i == 0);
    uint64_t bytes = 0;
    for (const GgufFile::Entry& t : part.entries()) {
      const GgufFile::Entry* other = all.find(t.info.name);
      ASSERT_TRUE(other);
      std::vector<std::byte> a(byte_size(t.info)), b(a.size());
      part.read(t, 0, a);
      all.read(*other, 0, b);
      EXPECT_TRUE(a == b) << t.info.name;
      bytes += a.size();
      ++seen[t.info.name];
    }
    EXPECT_TRUE(bytes <= job.part_bytes || part.entries().size() == 1);
  }
  EXPECT_EQ(seen.size(), all.entries().size());
  EXPECT_TRUE(std::ranges::all_of(seen, [](const auto& s) { return s.second == 1; }));
  EXPECT_THROW(convert(job, quiet()), Error) << "is there already";
}

}  // namespace
}  // namespace lewis
