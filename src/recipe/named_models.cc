#include "recipe/named_models.h"

#include <algorithm>
#include <set>

#include "io/gguf.h"
#include "recipe/parse/recipe_reader.h"
#include "recipe/print.h"
#include "yaml/scalar_places.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;
using Kind = YamlNode::Kind;

// A scalar that names something.
struct NameUse {
  NameKind kind = NameKind::kModel;
  const YamlNode* node = nullptr;
  std::string revision{};  // of {path, revision}
  std::string part{};      // of data: "#CONFIG/SPLIT" by the keys beside it
  bool in_lewis = false;   // the models there are named outside as well
  std::string name() const {
    return node->scalar + (revision.empty() ? "" : "@" + revision) + part;
  }
};

const YamlNode* scalar_of(const YamlNode& node, std::string_view key) {
  const YamlNode* found = node.kind == Kind::kMap ? node.find(key) : nullptr;
  return found && found->kind == Kind::kScalar ? found : nullptr;
}

class NameCollector {
 public:
  // Goes through maps and lists; names stand under these keys wherever they are.
  void collect(const YamlNode& node) {
    for (const auto& [key, value] : node.entries) {
      if (key.scalar == "model" || key.scalar == "base_model" || key.scalar == "lora") {
        add_model(value);
      } else if (key.scalar == "tokenizer_source") {
        add(NameKind::kTokenizer, &value);
      } else if (key.scalar == "tokenizer") {
        add_tokenizer(value);
      } else if (key.scalar == "data") {
        add(NameKind::kData, &value);
        if (!uses_.empty() && uses_.back().node == &value) uses_.back().part = part_beside(node);
      } else if (key.scalar == "statistics") {
        for (const auto& [_, file] : value.entries) add(NameKind::kStatistics, &file);
      } else if (key.scalar == "lewis") {
        in_lewis_ = true;
        collect(value);
        in_lewis_ = false;
      } else if (key.scalar != "parameters") {
        collect(value);
      }
    }
    for (const YamlNode& item : node.items) collect(item);
  }

  std::vector<NameUse> uses() { return std::move(uses_); }

 private:
  void add(NameKind kind, const YamlNode* node, const YamlNode* revision = nullptr) {
    if (node && node->kind == Kind::kScalar && !node->is_null() && !node->scalar.empty())
      uses_.push_back({kind, node, revision ? revision->scalar : "", "", in_lewis_});
  }

  // "MODEL", "MODEL+ADAPTER", {path, revision}, {model, lora}.
  void add_model(const YamlNode& node) {
    if (node.kind != Kind::kMap) return add(NameKind::kModel, &node);
    const YamlNode* path = scalar_of(node, "path");
    if (!path) return collect(node);
    add(NameKind::kModel, path, scalar_of(node, "revision"));
  }

  // `source`, and the models that tokens get their rows from.
  void add_tokenizer(const YamlNode& node) {
    if (node.kind != Kind::kMap) return;
    add(NameKind::kTokenizer, scalar_of(node, "source"));
    const YamlNode* tokens = node.find("tokens");
    if (!tokens) return;
    for (const auto& [_, setting] : tokens->entries) {
      const YamlNode* source = setting.kind == Kind::kMap ? setting.find("source") : nullptr;
      if (source)
        add(NameKind::kModel, source->kind == Kind::kMap ? scalar_of(*source, "model") : source);
    }
  }

  static std::string part_beside(const YamlNode& entry) {
    std::string part;
    if (const YamlNode* config = scalar_of(entry, "config")) part = config->scalar + "/";
    if (const YamlNode* split = scalar_of(entry, "split")) part += split->scalar;
    return part.empty() ? "" : "#" + part;
  }

  std::vector<NameUse> uses_;
  bool in_lewis_ = false;
};

// The documents of a recipe's text, and all names in them.
struct NamesOfRecipe {
  NamesOfRecipe(std::string_view text, const fs::path& file)
      : folder(file.empty() ? fs::path() : file.parent_path()),
        yaml(parse_yaml_with_places(text, RecipeReader::where_of(file))) {
    NameCollector names;
    for (const YamlNode& root : yaml.documents) {
      if (const YamlNode* name = scalar_of(root, "name")) documents.insert(name->scalar);
      names.collect(root);
    }
    uses = names.uses();
  }

  bool is_model(const std::string& name) const {
    std::error_code error;
    return fs::is_directory(name, error) || fs::is_directory(folder / name, error) ||
           is_gguf_path(name) || is_gguf_path(folder / name);
  }
  bool is_there(const std::string& name) const {
    std::error_code error;
    return fs::exists(name, error) || fs::exists(folder / name, error);
  }

  fs::path folder;
  YamlWithPlaces yaml;
  std::set<std::string> documents;
  std::vector<NameUse> uses;
};

}  // namespace

std::vector<NamedModel> named_models(std::string_view text, const fs::path& file) {
  const NamesOfRecipe names(text, file);
  std::vector<NamedModel> models, tokenizers;
  const auto add = [&](std::vector<NamedModel>& list, const std::string& name, int line,
                       bool tokenizer) {
    if (name.empty() || names.documents.contains(name) || names.is_model(name)) return;
    if (std::ranges::find(list, name, &NamedModel::name) != list.end()) return;
    list.push_back({name, line, tokenizer});
  };
  for (const NameUse& use : names.uses) {
    const std::string name = use.name();
    if (use.in_lewis) continue;
    if (use.kind == NameKind::kTokenizer && name != "base" && name != "union") {
      // "model:" is mergekit's older spelling.
      add(tokenizers, name.substr(name.starts_with("model:") ? 6 : 0), use.node->line, true);
    } else if (use.kind == NameKind::kModel && !names.is_model(name)) {
      const size_t plus =
          use.revision.empty() ? std::min(name.find('+'), name.size()) : name.size();
      add(models, name.substr(0, plus), use.node->line, false);
      if (plus < name.size()) add(models, name.substr(plus + 1), use.node->line, false);
    }
  }
  // Weights come before the tokenizer of the same name.
  for (NamedModel& t : tokenizers) {
    if (std::ranges::find(models, t.name, &NamedModel::name) == models.end())
      models.push_back(std::move(t));
  }
  return models;
}

std::vector<NamedData> named_data(std::string_view text, const fs::path& file) {
  const NamesOfRecipe names(text, file);
  std::vector<NamedData> data;
  for (const NameUse& use : names.uses) {
    const std::string& written = use.node->scalar;
    if (use.kind != NameKind::kData || names.is_there(written) ||
        names.is_model(written.substr(0, written.rfind('#'))))
      continue;
    if (std::ranges::find(data, use.name(), &NamedData::name) == data.end())
      data.push_back({use.name(), use.node->line});
  }
  return data;
}

namespace {

// All scalars in the order of the text.
void add_scalars(const YamlNode& node, std::vector<const YamlNode*>& scalars) {
  if (node.kind == Kind::kScalar) scalars.push_back(&node);
  for (const YamlNode& item : node.items) add_scalars(item, scalars);
  for (const auto& [key, value] : node.entries) {
    add_scalars(key, scalars);
    add_scalars(value, scalars);
  }
}

// What stands between scalars: punctuation, white space and comments.
std::string with_comments(std::string_view between,
                          const std::function<std::string(std::string_view)>& comment) {
  std::string out;
  for (size_t at = 0; at < between.size();) {
    const size_t mark = std::min(between.find('#', at), between.size());
    const size_t end = std::min(between.find('\n', mark), between.size());
    out += between.substr(at, mark - at);
    if (mark < end) out += comment(between.substr(mark, end - mark));
    at = end;
  }
  return out;
}

}  // namespace

std::string renamed(std::string_view text, const fs::path& file, const RenameFn& rename,
                    const std::function<std::string(std::string_view)>& comment) {
  const NamesOfRecipe names(text, file);
  std::vector<const YamlNode*> scalars;
  for (const YamlNode& root : names.yaml.documents) add_scalars(root, scalars);
  std::string out;
  size_t at = 0;
  for (size_t i = 0; i < scalars.size(); ++i) {
    const auto [begin, end] = names.yaml.places.at(i);
    if (end <= begin) continue;
    out += with_comments(text.substr(at, begin - at), comment);
    std::string now(text.substr(begin, end - begin));
    at = end;
    const auto use = std::ranges::find(names.uses, scalars[i], &NameUse::node);
    if (use != names.uses.end()) {
      const std::string revision = use->revision.empty() ? "" : "@" + use->revision;
      std::string name = rename(use->kind, scalars[i]->scalar + revision);
      if (!revision.empty() && name.ends_with(revision)) name.resize(name.size() - revision.size());
      if (name != scalars[i]->scalar) now = yaml_scalar(name) + (now.ends_with('\n') ? "\n" : "");
    }
    out += now;
  }
  return out + with_comments(text.substr(at), comment);
}

}  // namespace lewis
