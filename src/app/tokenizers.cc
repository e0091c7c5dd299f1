#include "app/tokenizers.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/json.h"
#include "io/hub_cache.h"
#include "io/model_folder.h"
#include "text/template_choice.h"
#include "text/tokenizer.h"
#include "text/tokenizer_merge.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

class Builder {
 public:
  Builder(const Recipe& recipe, const std::vector<InputModel>& models, size_t main)
      : recipe_(recipe), models_(models), main_(main) {}

  TokenizerChange change() const {
    TokenizerChange change;
    ModelFiles files = models_[main_].files();
    if (recipe_.tokenizer) {
      files = change_vocabulary(*recipe_.tokenizer, change);
      if (files.folder != models_[main_].folder) follow_eos(files, change);
    }
    if (recipe_.chat_template) {
      const Json chosen = chat_template();
      if (chosen.is_null()) {
        change.warnings.push_back("chat_template auto: no model has a chat template");
      } else {
        set_template(files, chosen);
      }
    }
    change.files = difference(files);
    return change;
  }

 private:
  Error at_line(int line, std::string_view message) const {
    const std::string file = recipe_.file.empty() ? "recipe" : recipe_.file.string();
    return usage_error("{}:{}: {}", file, line, message);
  }

  // The tokenizer's files that are not those of the main model.
  ChangedFiles difference(const ModelFiles& files) const {
    const ModelFiles main = models_[main_].files();
    ChangedFiles changed;
    std::set<std::string> names;
    for (const ModelFiles* of : {&files, &main}) {
      for (std::string& name : tokenizer_files_of(*of)) names.insert(std::move(name));
    }
    for (const std::string& name : names) {
      auto content = files.read(name);
      if (content != main.read(name)) changed[name] = std::move(content);
    }
    return changed;
  }

  Json chat_template() const {
    std::vector<ModelFiles> all;
    for (const InputModel& model : models_) all.push_back(model.files());
    try {
      return choose_template(*recipe_.chat_template, all, main_);
    } catch (const Error& e) {
      if (e.code() != ExitCode::kUsage) throw;
      throw usage_error("{}: {}", recipe_.file.empty() ? "recipe" : recipe_.file.string(),
                        e.what());
    }
  }

  // The model of that name or folder, if the recipe has it.
  std::optional<size_t> find_model(const std::string& name) const {
    for (size_t m = 0; m < models_.size(); ++m) {
      if (models_[m].name == name) return m;
    }
    for (const fs::path& folder : {fs::path(name), recipe_.file.parent_path() / name}) {
      for (size_t m = 0; m < models_.size(); ++m) {
        const RecipeModel& model = recipe_.models[m];
        if (!model.stage && model.adapter.empty() && fs::is_directory(folder) &&
            fs::equivalent(folder, model.folder))
          return m;
      }
    }
    return std::nullopt;
  }

  TokenizerInput input(size_t model) const {
    return {models_[model].files(), models_[model].vocab_size()};
  }

  // The tokenizer that keeps its ids; it may be of a model that is not merged.
  TokenizerInput source(const TokenizerSettings& s) const {
    if (s.source == "base" || s.source == "union") return input(main_);
    // mergekit's older spelling.
    const std::string name = s.source.starts_with("model:") ? s.source.substr(6) : s.source;
    if (const auto model = find_model(name)) return input(*model);
    for (const fs::path& folder : {fs::path(name), recipe_.file.parent_path() / name}) {
      if (has_model_file(folder, "tokenizer.json")) return {ModelFiles(folder), 0};
    }
    if (const auto cached = find_in_hub_cache(name)) return {ModelFiles(*cached), 0};
    throw at_line(s.line, fmt::format("tokenizer source {}: expected union, base, or a model; "
                                      "there is no such folder",
                                      s.source));
  }

  // The rows are counted before any tensor is read, so a tensor must have as many.
  static void check_rows(const InputModel& model) {
    const int64_t rows = model.vocab_size();
    const std::string config = model.files().path_of("config.json");
    if (rows <= 0)
      throw input_error("{}: vocab_size is missing, which another tokenizer needs", config);
    const bool there = std::ranges::any_of(model.source->tensors(), [&](const TensorInfo& t) {
      return !t.shape.empty() && t.shape[0] == rows;
    });
    if (there) return;
    throw input_error("{}: vocab_size is {}, but no tensor has as many rows", config, rows);
  }

  // Nothing to unite, to add or to move: the files need not even be understood.
  bool is_the_same_everywhere(const TokenizerSettings& s, const TokenizerInput& from) const {
    if (!s.tokens.empty() || s.pad_to_multiple_of > 0) return false;
    const auto text = from.files.read("tokenizer.json");
    const int64_t rows = models_[main_].vocab_size();
    return std::ranges::all_of(models_, [&](const InputModel& m) {
      return m.vocab_size() == rows && m.files().read("tokenizer.json") == text;
    });
  }

  ModelFiles change_vocabulary(const TokenizerSettings& s, TokenizerChange& change) const {
    TokenizerRequest request;
    request.source = source(s);
    if (is_the_same_everywhere(s, request.source)) return request.source.files;
    request.unite = s.source == "union";
    for (size_t m = 0; m < models_.size(); ++m) {
      request.models.push_back(input(m));
      check_rows(models_[m]);
    }
    for (const TokenSetting& t : s.tokens) request.tokens.push_back(t.token);
    const MergedTokenizer merged = merge_tokenizers(request);
    change.warnings = merged.warnings;
    plan_rows(s, merged, change);
    return merged.files;
  }

  void plan_rows(const TokenizerSettings& s, const MergedTokenizer& merged,
                 TokenizerChange& change) const {
    std::vector<bool> has_token;
    for (const std::string& token : merged.tokens) has_token.push_back(!token.empty());
    std::vector<VocabularyMap> maps;
    for (size_t m = 0; m < models_.size(); ++m)
      maps.push_back({models_[m].vocab_size(), merged.rows_of(m)});
    warn_of_orphans(merged, maps, s, change);
    renumber(merged, maps[main_], change);
    auto plan = plan_embeddings(maps, std::move(has_token), rules_of(s, merged), recipe_.base_index,
                                s.pad_to_multiple_of);
    if (plan) change.plan = std::make_shared<const EmbeddingPlan>(std::move(*plan));
  }

  std::vector<TokenRule> rules_of(const TokenizerSettings& s, const MergedTokenizer& merged) const {
    std::vector<TokenRule> rules;
    for (const TokenSetting& t : s.tokens) {
      TokenRule rule{.force = t.force};
      const auto id = std::ranges::find(merged.tokens, t.token);
      rule.token = static_cast<int32_t>(id - merged.tokens.begin());
      if (t.source.kind == TokenSource::Kind::kZero) rule.kind = TokenRule::Kind::kZero;
      if (t.source.kind == TokenSource::Kind::kModelToken) {
        rule.kind = TokenRule::Kind::kRow;
        rule.row = row_of(t, merged);
      }
      rules.push_back(rule);
    }
    return rules;
  }

  RowOf row_of(const TokenSetting& t, const MergedTokenizer& merged) const {
    const auto model = find_model(t.source.model);
    if (!model) {
      throw at_line(t.line, fmt::format("token '{}': source {} is none of the recipe's models",
                                        t.token, t.source.model));
    }
    const auto place = static_cast<uint32_t>(*model);
    if (t.source.token_id) {
      const int64_t rows = models_[*model].vocab_size();
      if (*t.source.token_id < rows) return {place, static_cast<int32_t>(*t.source.token_id)};
      throw at_line(t.line, fmt::format("token '{}': {} has {} rows, so none for token_id {}",
                                        t.token, t.source.model, rows, *t.source.token_id));
    }
    const Vocabulary& vocabulary = merged.vocabularies[*model];
    const std::string& token = t.source.token ? *t.source.token : t.token;
    const auto found = vocabulary.find(token);
    if (found != vocabulary.end()) return {place, found->second};
    throw at_line(t.line,
                  fmt::format("token '{}': {} has no token '{}'", t.token, t.source.model, token));
  }

  // Tokens that get zeros because no model has them and the recipe does not say what else.
  void warn_of_orphans(const MergedTokenizer& merged, const std::vector<VocabularyMap>& maps,
                       const TokenizerSettings& s, TokenizerChange& change) const {
    size_t orphans = 0;
    std::string first;
    for (size_t id = 0; id < merged.tokens.size(); ++id) {
      const auto has = [&](const VocabularyMap& m) { return m.row_of[id] >= 0; };
      const auto said = [&](const TokenSetting& t) {
        return t.token == merged.tokens[id] && t.source.kind != TokenSource::Kind::kDefault;
      };
      if (merged.tokens[id].empty() || std::ranges::any_of(maps, has) ||
          std::ranges::any_of(s.tokens, said))
        continue;
      if (orphans++ == 0) first = merged.tokens[id];
    }
    if (orphans == 0) return;
    change.warnings.push_back(fmt::format(
        "{} token{} in no model, '{}' first: their rows are zeros; tokenizer.tokens can say more",
        orphans, orphans == 1 ? " is" : "s are", first));
  }

  // Ids of the main model that config.json may name and that are others now.
  void renumber(const MergedTokenizer& merged, const VocabularyMap& map,
                TokenizerChange& change) const {
    for (const auto& [token, row] : merged.vocabularies[main_]) change.renumbered[row] = -1;
    for (size_t id = 0; id < map.row_of.size(); ++id) {
      if (map.row_of[id] >= 0) change.renumbered[map.row_of[id]] = static_cast<int64_t>(id);
    }
    std::erase_if(change.renumbered, [](const auto& pair) { return pair.first == pair.second; });
    warn_of_lost_ids("config.json", *models_[main_].config, merged, change);
    const ModelFiles files = models_[main_].files();
    if (const auto text = files.read("generation_config.json")) {
      const std::string path = files.path_of("generation_config.json");
      warn_of_lost_ids("generation_config.json", parse_json(*text, path), merged, change);
    }
  }

  void warn_of_lost_ids(std::string_view file, const Json& config, const MergedTokenizer& merged,
                        TokenizerChange& change) const {
    for (const auto& [key, value] : config.items()) {
      if (key == "text_config") warn_of_lost_ids(file, value, merged, change);
      if (!key.ends_with("_token_id")) continue;
      for (const Json& id : value.is_array() ? value : Json::array({value})) {
        if (!id.is_number_integer()) continue;
        const auto now = change.renumbered.find(id.get<int64_t>());
        if (now == change.renumbered.end() || now->second >= 0) continue;
        const auto lost = std::ranges::find(merged.vocabularies[main_], now->first,
                                            &Vocabulary::value_type::second);
        change.warnings.push_back(
            fmt::format("{}: {} {} is '{}', which the new tokenizer lacks: it is left out", file,
                        key, now->first, lost->first));
      }
    }
  }

  // Whether a file of the main model names an EOS but not this one.
  bool names_another_eos(const Json& config, int64_t eos, const TokenizerChange& change) const {
    if (config.contains("text_config") && config["text_config"].is_object() &&
        names_another_eos(config["text_config"], eos, change))
      return true;
    const auto ids = config.find("eos_token_id");
    if (ids == config.end() || ids->is_null()) return false;
    const auto is_eos = [&](const Json& id) {
      if (!id.is_number_integer()) return false;
      const auto now = change.renumbered.find(id.get<int64_t>());
      return (now == change.renumbered.end() ? id.get<int64_t>() : now->second) == eos;
    };
    return ids->is_array() ? std::ranges::none_of(*ids, is_eos) : !is_eos(*ids);
  }

  // A tokenizer of another model ends texts with its own EOS: config.json and
  // generation_config.json, which stay the main model's, must name it, or generation goes on.
  void follow_eos(const ModelFiles& files, TokenizerChange& change) const {
    const std::string token = read_special_tokens(files).eos;
    const auto text = files.read("tokenizer.json");
    if (token.empty() || !text) return;
    const auto eos =
        Tokenizer::from_json(*text, files.path_of("tokenizer.json")).token_to_id(token);
    if (!eos) return;
    std::vector<std::string> others;
    if (names_another_eos(*models_[main_].config, *eos, change)) others.push_back("config.json");
    const std::string name = "generation_config.json";
    const ModelFiles main = models_[main_].files();
    const auto generation = main.read(name);
    if (generation && names_another_eos(parse_json(*generation, main.path_of(name)), *eos, change))
      others.push_back(name);
    if (others.empty()) return;
    change.eos = *eos;
    change.warnings.push_back(fmt::format(
        "eos_token_id in {} becomes {}, the '{}' with which the new tokenizer ends texts",
        fmt::join(others, " and "), *eos, token));
  }

  const Recipe& recipe_;
  const std::vector<InputModel>& models_;
  size_t main_;
};

}  // namespace

TokenizerChange change_tokenizer(const Recipe& recipe, const std::vector<InputModel>& models,
                                 size_t main) {
  return Builder(recipe, models, main).change();
}

}  // namespace lewis
