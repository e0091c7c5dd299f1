#include "text/tokenizer_merge.h"

#include <algorithm>
#include <memory>
#include <set>

#include "base/error.h"
#include "base/json.h"
#include "text/tokenizer.h"
#include "text/tokenizer_config.h"

namespace lewis {
namespace {

using Merge = std::pair<std::string, std::string>;

struct Token {
  std::string text;
  int32_t id = 0;
  const SortedJson* added = nullptr;  // its entry in added_tokens, if it is there
};

// A tokenizer.json, taken apart.
struct TokenizerFile {
  std::string name;  // for messages
  std::string text;
  int64_t rows = 0;  // 0: not known
  SortedJson json;
  std::vector<Token> tokens;  // those with a row, by id
  size_t without_row = 0;
  Vocabulary ids;  // of tokens

  const SortedJson& model() const { return json.at("model"); }
  std::string kind() const { return model().value("type", "BPE"); }
};

Error broken(const TokenizerFile& file, std::string_view what) {
  return input_error("{}: not a tokenizer: {}", file.name, what);
}

// True if the vocabulary is written in GPT-2's letters for bytes.
bool is_byte_level(const TokenizerFile& file) {
  for (const char* part : {"pre_tokenizer", "decoder"}) {
    if (file.json.contains(part) &&
        file.json[part].dump().find("\"ByteLevel\"") != std::string::npos)
      return true;
  }
  return false;
}

// Ids become places in lists: a single number in a file must not allocate a list of that length.
constexpr int64_t kMostTokens = 1 << 24;
size_t most_ids(size_t tokens) { return 4 * tokens + 1'000'000; }

// The model's vocabulary: a map, or for Unigram a list of [piece, score] whose places are the ids.
std::vector<Token> vocabulary_of(const TokenizerFile& file) {
  std::vector<Token> tokens;
  const SortedJson& vocab = file.model().at("vocab");
  if (file.kind() == "Unigram") {
    for (const SortedJson& piece : vocab)
      tokens.push_back({piece.at(0).get<std::string>(), static_cast<int32_t>(tokens.size())});
  } else {
    for (const auto& [text, id] : vocab.items()) {
      const auto value = id.get<int64_t>();
      if (value < 0 || value >= kMostTokens)
        throw broken(file, fmt::format("token '{}' has id {}", text, value));
      tokens.push_back({text, static_cast<int32_t>(value)});
    }
  }
  return tokens;
}

// The library numbers added tokens that its vocabulary lacks, whatever the file says: ask it.
void find_tokens(TokenizerFile& file) {
  const Tokenizer loaded = Tokenizer::from_json(file.text, file.name);
  std::map<int32_t, Token> by_id;
  for (Token& t : vocabulary_of(file)) by_id.emplace(t.id, t);
  if (file.json.contains("added_tokens")) {
    const SortedJson& entries = file.json["added_tokens"];
    std::vector<std::string> texts;
    for (const SortedJson& entry : entries) texts.push_back(entry.at("content"));
    const auto ids = loaded.tokens_to_ids(texts);
    for (size_t i = 0; i < texts.size(); ++i) {
      const std::string& text = texts[i];
      const auto id = ids[i];
      if (!id) throw broken(file, fmt::format("added token '{}' cannot be found", text));
      by_id.insert_or_assign(*id, Token{text, *id, &entries.at(i)});
    }
  }
  if (!by_id.empty() && static_cast<size_t>(by_id.rbegin()->first) > most_ids(by_id.size())) {
    throw broken(file,
                 fmt::format("token '{}' has id {}, but there are only {} tokens",
                             by_id.rbegin()->second.text, by_id.rbegin()->first, by_id.size()));
  }
  for (const auto& [id, token] : by_id) {
    if (file.rows > 0 && id >= file.rows) {
      ++file.without_row;
      continue;
    }
    file.tokens.push_back(token);
    file.ids.emplace(token.text, id);
  }
}

TokenizerFile take_apart(std::string name, std::string text, int64_t rows) {
  TokenizerFile file;
  file.name = std::move(name);
  file.text = std::move(text);
  file.rows = rows;
  file.json = parse_sorted_json(file.text, file.name);
  try {
    find_tokens(file);
  } catch (const SortedJson::exception& e) {
    throw broken(file, e.what());
  }
  return file;
}

// Every tokenizer is taken apart once, however many models have the same.
class TokenizerFiles {
 public:
  const TokenizerFile& read(const TokenizerInput& input) {
    const std::string path = input.files.path_of("tokenizer.json");
    auto text = input.files.read("tokenizer.json");
    if (!text) throw input_error("{}: missing; lewis reads tokenizers only in this format", path);
    for (const auto& file : files_) {
      if (file->rows == input.rows && file->text == *text) return *file;
    }
    files_.push_back(
        std::make_unique<TokenizerFile>(take_apart(path, std::move(*text), input.rows)));
    return *files_.back();
  }

 private:
  std::vector<std::unique_ptr<TokenizerFile>> files_;
};

// A token of the output and whom it comes from.
struct NewToken {
  Token token;
  const TokenizerFile* from = nullptr;  // null: from the recipe
};

struct Union {
  const TokenizerFile* source = nullptr;
  std::vector<NewToken> added;     // to the source's
  std::vector<std::string> texts;  // of all, by id
  Vocabulary ids;

  void append(Token token, const TokenizerFile* from) {
    token.id = static_cast<int32_t>(texts.size());
    texts.push_back(token.text);
    ids.emplace(token.text, token.id);
    added.push_back({std::move(token), from});
  }
};

// Finds the reasons that make a union of vocabularies impossible, or doubtful.
void check_kinship(const TokenizerFile& source, const TokenizerFile& other, size_t new_pieces,
                   std::vector<std::string>& warnings) {
  if (new_pieces == 0) return;
  const auto refuse = [&](const std::string& a, const std::string& b) {
    throw input_error(
        "tokenizers cannot be united: {} is {}, {} is {}; choose one of them with "
        "tokenizer_source",
        source.name, a, other.name, b);
  };
  if (source.kind() != other.kind()) refuse(source.kind(), other.kind());
  const bool a = is_byte_level(source), b = is_byte_level(other);
  if (a != b) refuse(a ? "of bytes" : "of text", b ? "of bytes" : "of text");
  for (const char* part : {"normalizer", "pre_tokenizer"}) {
    const SortedJson none;
    if (source.json.value(part, none) == other.json.value(part, none)) continue;
    warnings.push_back(fmt::format(
        "{} of {} and {} differ: text is parted as by the former, and of the {} tokens that only "
        "the latter has some may never be used",
        part, source.name, other.name, new_pieces));
  }
}

Union unite(const TokenizerRequest& request, const TokenizerFile& source,
            const std::vector<const TokenizerFile*>& models, std::vector<std::string>& warnings) {
  Union all;
  all.source = &source;
  if (!source.tokens.empty()) all.texts.resize(static_cast<size_t>(source.tokens.back().id) + 1);
  for (const Token& t : source.tokens) all.texts[static_cast<size_t>(t.id)] = t.text;
  all.ids = source.ids;
  for (const TokenizerFile* model : models) {
    size_t new_pieces = 0;
    for (const Token& t : model->tokens) {
      if (!request.unite || all.ids.contains(t.text)) continue;
      if (!t.added) ++new_pieces;
      all.append(t, model);
    }
    check_kinship(source, *model, new_pieces, warnings);
  }
  for (const std::string& text : request.tokens) {
    if (!all.ids.contains(text)) all.append({text}, nullptr);
  }
  return all;
}

// ---- tokenizer.json ----

// "a b" or ["a", "b"].
Merge merge_of(const SortedJson& entry) {
  if (entry.is_array()) return {entry.at(0).get<std::string>(), entry.at(1).get<std::string>()};
  const std::string both = entry.get<std::string>();
  const size_t space = both.find(' ');
  return {both.substr(0, space), both.substr(std::min(space, both.size() - 1) + 1)};
}

std::string joined(const Merge& merge, const SortedJson& model) {
  const SortedJson none;
  const SortedJson& prefix = model.value("continuing_subword_prefix", none);
  const size_t skip = prefix.is_string() ? prefix.get<std::string>().size() : 0;
  return merge.first + merge.second.substr(std::min(skip, merge.second.size()));
}

// The source's merges, without those of tokens that have no row; then the others' that make new
// tokens. A merge that makes an old token in a new way would change how old texts are tokenized.
SortedJson merges_of(const Union& all) {
  std::vector<Merge> merges;
  std::set<Merge> known;
  // Lists are the newer form; programs that know only the older one cannot read them.
  const SortedJson& first = all.source->model().at("merges");
  bool as_lists = !first.empty() && first.at(0).is_array();
  const auto add = [&](const TokenizerFile& file, bool only_new) {
    for (const SortedJson& entry : file.model().at("merges")) {
      const Merge merge = merge_of(entry);
      const std::string result = joined(merge, file.model());
      if (only_new && all.source->ids.contains(result)) continue;
      if (!all.ids.contains(merge.first) || !all.ids.contains(merge.second) ||
          !all.ids.contains(result) || !known.insert(merge).second) {
        continue;
      }
      as_lists = as_lists || result.find(' ') != std::string::npos;
      merges.push_back(merge);
    }
  };
  add(*all.source, false);
  const TokenizerFile* last = nullptr;
  for (const NewToken& t : all.added) {
    if (t.from && t.from != last && !t.token.added) {
      add(*t.from, true);
      last = t.from;
    }
  }
  SortedJson json = SortedJson::array();
  for (const auto& [a, b] : merges)
    json.push_back(as_lists ? SortedJson::array({a, b}) : SortedJson(a + " " + b));
  return json;
}

SortedJson pieces_of(const Union& all) {
  const SortedJson& old = all.source->model().at("vocab");
  double least = 0;
  for (const SortedJson& piece : old) least = std::min(least, piece.at(1).get<double>());
  std::map<std::string, double> scores;
  for (const NewToken& t : all.added) {
    if (!t.from || t.token.added) continue;
    const auto id = static_cast<size_t>(t.from->ids.at(t.token.text));
    scores.emplace(t.token.text, t.from->model().at("vocab").at(id).at(1).get<double>());
  }
  SortedJson pieces = SortedJson::array();
  for (size_t id = 0; id < all.texts.size(); ++id) {
    if (id < old.size()) {
      pieces.push_back(old[id]);
      continue;
    }
    const auto score = scores.find(all.texts[id]);
    pieces.push_back({all.texts[id], score == scores.end() ? least : score->second});
  }
  return pieces;
}

SortedJson added_tokens_of(const Union& all) {
  SortedJson entries = SortedJson::array();
  for (const Token& t : all.source->tokens) {
    if (t.added) entries.push_back(*t.added);
    if (t.added) entries.back()["id"] = t.id;
  }
  for (const NewToken& t : all.added) {
    if (t.from && !t.token.added) continue;
    SortedJson entry = {{"content", t.token.text}, {"single_word", false}, {"lstrip", false},
                        {"rstrip", false},         {"normalized", false},  {"special", false}};
    if (t.token.added) entry = *t.token.added;
    entry["id"] = t.token.id;
    entries.push_back(entry);
  }
  return entries;
}

// Every token gets its place in the model's vocabulary, added ones too, since the library would
// number those by itself.
std::string tokenizer_json(const Union& all) {
  SortedJson json = all.source->json;
  SortedJson& model = json["model"];
  json["added_tokens"] = added_tokens_of(all);
  if (all.source->kind() == "Unigram") {
    model["vocab"] = pieces_of(all);
  } else {
    model["vocab"] = SortedJson::object();
    for (size_t id = 0; id < all.texts.size(); ++id) {
      if (!all.texts[id].empty()) model["vocab"][all.texts[id]] = id;
    }
  }
  if (model.contains("merges")) model["merges"] = merges_of(all);
  return json.dump(2) + "\n";
}

void prove(const std::string& json, const Union& all) {
  const std::string where = "the united tokenizer of " + all.source->name;
  const Tokenizer loaded = Tokenizer::from_json(json, where);
  std::vector<std::string> tokens;
  for (const auto& [text, id] : all.ids) tokens.push_back(text);
  const auto found = loaded.tokens_to_ids(tokens);
  for (size_t i = 0; i < tokens.size(); ++i) {
    const int32_t id = all.ids.at(tokens[i]);
    if (found[i] == id) continue;
    throw input_error("{}: token '{}' should have id {}, found {}", where, tokens[i], id,
                      found[i] ? std::to_string(*found[i]) : "none");
  }
  for (const int32_t id : loaded.encode("text", true)) {
    if (static_cast<size_t>(id) < all.texts.size()) continue;
    throw input_error("{}: a special token around every text has id {}, which has no row", where,
                      id);
  }
}

// ---- the files beside it ----

std::string content_of(const Json& token) {
  if (token.is_string()) return token.get<std::string>();
  if (token.is_object() && token.contains("content") && token["content"].is_string())
    return token["content"].get<std::string>();
  return "";
}

// "bos_token", ..., "additional_special_tokens": without tokens that are not there any more.
void forget_lost_tokens(Json& config, const Union& all, std::vector<std::string>& warnings) {
  const auto lost = [&](const Json& token) {
    const std::string text = content_of(token);
    return !text.empty() && !all.ids.contains(text);
  };
  std::vector<std::string> keys;
  for (auto& [key, value] : config.items()) {
    if (key.ends_with("_token") && lost(value)) keys.push_back(key);
    if (!key.ends_with("special_tokens") || !value.is_array()) continue;
    Json kept = Json::array();
    for (const Json& token : value) {
      if (!lost(token)) kept.push_back(token);
    }
    value = kept;
  }
  for (const std::string& key : keys) {
    warnings.push_back(fmt::format("{} '{}' has no row in the embeddings and is left out", key,
                                   content_of(config[key])));
    config.erase(key);
  }
}

Json decoder_of(const Union& all) {
  Json decoder = Json::object();
  for (const SortedJson& entry : added_tokens_of(all)) {
    Json flags = Json::object();
    for (const char* key :
         {"content", "lstrip", "normalized", "rstrip", "single_word", "special"}) {
      if (entry.contains(key)) flags[key] = Json::parse(entry[key].dump());
    }
    decoder[std::to_string(entry["id"].get<int64_t>())] = flags;
  }
  return decoder;
}

void rewrite_files(const Union& all, MergedTokenizer& out) {
  const std::string json = tokenizer_json(all);
  prove(json, all);
  out.files.changed["tokenizer.json"] = json;
  if (auto config = read_json_object(out.files, "tokenizer_config.json")) {
    if (config->contains("added_tokens_decoder"))
      (*config)["added_tokens_decoder"] = decoder_of(all);
    forget_lost_tokens(*config, all, out.warnings);
    out.files.changed["tokenizer_config.json"] = json_object_text(*config);
  }
  if (auto special = read_json_object(out.files, "special_tokens_map.json")) {
    std::vector<std::string> said_above;
    forget_lost_tokens(*special, all, said_above);
    out.files.changed["special_tokens_map.json"] = json_object_text(*special);
  }
  // The same vocabulary in older forms: tokenizer.json has it all.
  for (const char* name : {"added_tokens.json", "merges.txt", "spiece.model", "tekken.json",
                           "tokenizer.model", "vocab.json", "vocab.txt"}) {
    out.files.changed[name] = std::nullopt;
  }
}

void warn_of_missing(const TokenizerFile& model, const Union& all,
                     std::vector<std::string>& warnings) {
  if (model.without_row > 0) {
    warnings.push_back(fmt::format("{}: {} tokens have no row in the embeddings and are left out",
                                   model.name, model.without_row));
  }
  const size_t shared = static_cast<size_t>(std::ranges::count_if(
      model.tokens, [&](const Token& t) { return all.ids.contains(t.text); }));
  if (2 * shared < all.ids.size()) {
    warnings.push_back(fmt::format(
        "{} has only {} of the {} tokens; the rows of the others are guessed from the other models",
        model.name, shared, all.ids.size()));
  }
}

}  // namespace

std::vector<int32_t> MergedTokenizer::rows_of(size_t model) const {
  std::vector<int32_t> rows;
  for (const std::string& token : tokens) {
    const auto found = vocabularies[model].find(token);
    rows.push_back(token.empty() || found == vocabularies[model].end() ? -1 : found->second);
  }
  return rows;
}

MergedTokenizer merge_tokenizers(const TokenizerRequest& request) {
  TokenizerFiles files;
  std::vector<const TokenizerFile*> models;
  for (const TokenizerInput& input : request.models) models.push_back(&files.read(input));
  const TokenizerFile& source = files.read(request.source);
  MergedTokenizer out;
  out.files = request.source.files;
  const Union all = unite(request, source, models, out.warnings);
  out.tokens = all.texts;
  for (const TokenizerFile* model : models) {
    warn_of_missing(*model, all, out.warnings);
    out.vocabularies.push_back(model->ids);
  }
  if (!all.added.empty() || source.without_row > 0) rewrite_files(all, out);
  return out;
}

}  // namespace lewis
