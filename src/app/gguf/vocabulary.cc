#include "app/gguf/vocabulary.h"

#include <algorithm>
#include <array>
#include <optional>
#include <set>

#include "base/error.h"
#include "base/json.h"

namespace lewis {
namespace {

enum TokenType : int32_t { kNormal = 1, kControl = 3, kUserDefined = 4, kUnused = 5 };

// The expressions that split a text before BPE, by llama.cpp's names for them.
struct NamedExpression {
  std::string_view name, expression;
};
constexpr std::array<NamedExpression, 4> kExpressions = {{
    {"qwen2",
     "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
     "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
     "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
    {"llama-bpe",
     "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
     "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
    {"tekken",
     "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|"
     "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|"
     "\\p{N}| "
     "?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
    {"gpt-4o",
     "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"
     "(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
     "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*"
     "(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}| "
     "?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
}};

Json read_object(const ModelFiles& files, const std::string& name) {
  const auto text = files.read(name);
  if (!text) return Json::object();
  Json json = parse_json(*text, files.path_of(name));
  if (!json.is_object()) throw input_error("{}: not a JSON object", files.path_of(name));
  return json;
}

class Vocabulary {
 public:
  Vocabulary(const ModelFiles& files, int64_t size)
      : files_(files),
        where_(files.path_of("tokenizer.json")),
        tokenizer_(read_object(files, "tokenizer.json")),
        config_(read_object(files, "tokenizer_config.json")),
        tokens_(static_cast<size_t>(size)),
        types_(static_cast<size_t>(size), kUnused) {
    if (tokenizer_.empty()) throw input_error("{}: is missing", where_);
  }

  GgufMetadata metadata(const std::string& pre) {
    check_kind();
    read_tokens();
    GgufMetadata m;
    m["tokenizer.ggml.model"] = std::string("gpt2");
    m["tokenizer.ggml.pre"] = pre.empty() ? pre_name() : pre;
    m["tokenizer.ggml.merges"] = GgufArray{.texts = merges()};
    add_special_tokens(m);
    if (const auto text = chat_template()) m["tokenizer.chat_template"] = *text;
    GgufArray types{.type = 5, .numbers = std::vector<std::byte>(types_.size() * sizeof(int32_t))};
    std::ranges::copy(std::as_bytes(std::span(types_)), types.numbers.begin());
    m["tokenizer.ggml.tokens"] = GgufArray{.texts = std::move(tokens_)};
    m["tokenizer.ggml.token_type"] = std::move(types);
    return m;
  }

 private:
  Error refuse(const std::string& what) const { return input_error("{}: {}", where_, what); }

  // A member of the tokenizer, null where it is not there.
  const Json& member(const char* key) const {
    static const Json none;
    const auto found = tokenizer_.find(key);
    return found == tokenizer_.end() ? none : *found;
  }

  void check_kind() const {
    const Json& model = member("model");
    const std::string type = model.is_object() ? model.value("type", "BPE") : "";
    if (type != "BPE" || !model.contains("vocab") || !model.contains("merges")) {
      throw refuse("a tokenizer of type '" + type +
                   "', expected BPE of bytes: others are not written as GGUF yet");
    }
    if (model.value("byte_fallback", false)) {
      throw refuse(
          "BPE with byte_fallback (SentencePiece's), expected BPE of bytes: it is not "
          "written as GGUF yet");
    }
  }

  void set_token(const std::string& text, int64_t id, TokenType type) {
    if (id < 0 || id >= static_cast<int64_t>(tokens_.size())) {
      throw refuse(fmt::format("token {} has the id {}, the model has {} embeddings", text, id,
                               tokens_.size()));
    }
    std::string& token = tokens_[static_cast<size_t>(id)];
    int32_t& known = types_[static_cast<size_t>(id)];
    if (known != kUnused && token != text)
      throw refuse(fmt::format("id {} is that of {} and of {}", id, token, text));
    token = text;
    known = type;
    ids_[text] = static_cast<uint32_t>(id);
  }

  void read_tokens() {
    for (const auto& [text, id] : member("model").at("vocab").items())
      set_token(text, id.get<int64_t>(), kNormal);
    for (const Json& added : member("added_tokens")) {
      set_token(added.at("content").get<std::string>(), added.at("id").get<int64_t>(),
                added.value("special", false) ? kControl : kUserDefined);
    }
    for (size_t i = 0; i < tokens_.size(); ++i) {
      if (types_[i] == kUnused) tokens_[i] = fmt::format("[PAD{}]", i);
    }
  }

  // "a b" or ["a", "b"]; a space inside of a part would be taken for the one between both.
  std::vector<std::string> merges() const {
    std::vector<std::string> merges;
    for (const Json& merge : member("model").at("merges")) {
      if (merge.is_string()) {
        merges.push_back(merge.get<std::string>());
        continue;
      }
      const auto left = merge.at(0).get<std::string>(), right = merge.at(1).get<std::string>();
      if (left.find(' ') != left.npos || right.find(' ') != right.npos)
        throw refuse(fmt::format("the merge of '{}' and '{}' holds a space", left, right));
      merges.push_back(left + " " + right);
    }
    return merges;
  }

  std::vector<Json> pre_tokenizers() const {
    const Json& pre = member("pre_tokenizer");
    if (pre.is_null()) return {};
    if (pre.value("type", "") != "Sequence") return {pre};
    std::vector<Json> steps;
    for (const Json& step : pre.at("pretokenizers")) steps.push_back(step);
    return steps;
  }

  std::string pre_name() const {
    std::vector<Json> steps = pre_tokenizers();
    const bool of_bytes = !steps.empty() && steps.back().value("type", "") == "ByteLevel";
    if (of_bytes && steps.size() == 1 && steps[0].value("use_regex", true)) return "gpt-2";
    if (of_bytes && steps.size() == 2) {
      const Json& first = steps[0];
      const std::string type = first.value("type", "");
      if (type == "Digits" && first.value("individual_digits", false) &&
          steps[1].value("use_regex", true))
        return "smollm";
      if (type == "Split" && !steps[1].value("use_regex", true)) {
        const Json pattern = first.value("pattern", Json::object());
        const std::string expression = pattern.value("Regex", "");
        for (const NamedExpression& named : kExpressions) {
          if (named.expression == expression) return std::string(named.name);
        }
      }
    }
    throw refuse(
        "its rules for splitting a text (pre_tokenizer) are none that lewis knows by a "
        "name of llama.cpp; --pre NAME says which they are");
  }

  // "<s>" or {"content": "<s>", ...}.
  static std::optional<std::string> content(const Json& token) {
    if (token.is_string()) return token.get<std::string>();
    if (token.is_object() && token.contains("content")) return token["content"].get<std::string>();
    return std::nullopt;
  }

  void add_special_tokens(GgufMetadata& m) const {
    constexpr std::array<std::pair<const char*, const char*>, 4> kIds = {
        {{"bos_token", "tokenizer.ggml.bos_token_id"},
         {"eos_token", "tokenizer.ggml.eos_token_id"},
         {"unk_token", "tokenizer.ggml.unknown_token_id"},
         {"pad_token", "tokenizer.ggml.padding_token_id"}}};
    for (const auto& [key, name] : kIds) {
      const auto token = config_.contains(key) ? content(config_[key]) : std::nullopt;
      if (!token) continue;
      const auto id = ids_.find(*token);
      if (id == ids_.end()) {
        throw input_error("{}: {} is '{}', which is no token",
                          files_.path_of("tokenizer_config.json"), key, *token);
      }
      m[name] = id->second;
    }
    m["tokenizer.ggml.add_bos_token"] = begins_with_bos();
  }

  // tokenizer_config.json says it, or else the template that tokenizer.json has for one text.
  bool begins_with_bos() const {
    const auto said = config_.find("add_bos_token");
    if (said != config_.end() && said->is_boolean()) return said->get<bool>();
    const auto bos = config_.contains("bos_token") ? content(config_["bos_token"]) : std::nullopt;
    const Json& post = member("post_processor");
    if (!bos || !post.is_object()) return false;
    std::vector<Json> steps = {post};
    if (post.value("type", "") == "Sequence") {
      steps.clear();
      for (const Json& step : post.at("processors")) steps.push_back(step);
    }
    for (const Json& step : steps) {
      if (step.value("type", "") != "TemplateProcessing" || step.at("single").empty()) continue;
      const Json first = step["single"][0].value("SpecialToken", Json::object());
      if (first.value("id", "") == *bos) return true;
    }
    return false;
  }

  std::optional<std::string> chat_template() const {
    if (const auto text = files_.read("chat_template.jinja")) return text;
    const auto found = config_.find("chat_template");
    if (found == config_.end()) return std::nullopt;
    if (found->is_string()) return found->get<std::string>();
    for (const Json& named : *found) {  // several, by their names
      if (named.is_object() && named.value("name", "") == "default")
        return named.value("template", "");
    }
    return std::nullopt;
  }

  const ModelFiles& files_;
  std::string where_;
  Json tokenizer_, config_;
  std::vector<std::string> tokens_;
  std::vector<int32_t> types_;
  std::map<std::string, uint32_t> ids_;
};

Json byte_level(bool splits) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", splits}};
}

}  // namespace

std::optional<Json> pre_tokenizer_named(std::string_view pre) {
  if (pre == "gpt-2") return byte_level(true);
  Json first;
  if (pre == "smollm") {
    first = {{"type", "Digits"}, {"individual_digits", true}};
  } else {
    const auto named = std::ranges::find(kExpressions, pre, &NamedExpression::name);
    if (named == kExpressions.end()) return std::nullopt;
    first = {{"type", "Split"},
             {"pattern", {{"Regex", std::string(named->expression)}}},
             {"behavior", "Isolated"},
             {"invert", false}};
  }
  const Json steps = Json::array({first, byte_level(pre == "smollm")});
  return Json{{"type", "Sequence"}, {"pretokenizers", steps}};
}

GgufMetadata gguf_vocabulary(const ModelFiles& files, int64_t vocabulary, const std::string& pre) {
  try {
    return Vocabulary(files, vocabulary).metadata(pre);
  } catch (const Json::exception& e) {
    throw input_error("{}: not as expected: {}", files.path_of("tokenizer.json"), e.what());
  }
}

}  // namespace lewis
