#include "recipe/named_models.h"

#include <algorithm>
#include <set>

#include "recipe/parse/recipe_reader.h"
#include "yaml/yaml.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;
using Kind = YamlNode::Kind;

class NameCollector {
 public:
  explicit NameCollector(const fs::path& file) : file_(file) {}

  void add_document_names(const std::vector<YamlNode>& roots) {
    for (const YamlNode& root : roots) {
      if (const YamlNode* name = scalar_of(root, "name")) documents_.insert(name->scalar);
    }
  }

  // Goes through maps and lists; models stand under these keys wherever they are.
  void collect(const YamlNode& node) {
    for (const auto& [key, value] : node.entries) {
      if (key.scalar == "model" || key.scalar == "base_model" || key.scalar == "lora") {
        add_model(value);
      } else if (key.scalar == "tokenizer_source") {
        add_tokenizer(value);
      } else if (key.scalar == "tokenizer") {
        if (const YamlNode* source = scalar_of(value, "source")) add_tokenizer(*source);
      } else if (key.scalar != "lewis" && key.scalar != "parameters") {
        collect(value);
      }
    }
    for (const YamlNode& item : node.items) collect(item);
  }

  // Weights come before the tokenizer of the same name.
  std::vector<NamedModel> result() {
    for (NamedModel& t : tokenizers_) {
      if (std::ranges::find(models_, t.name, &NamedModel::name) == models_.end())
        models_.push_back(std::move(t));
    }
    return std::move(models_);
  }

 private:
  static const YamlNode* scalar_of(const YamlNode& node, std::string_view key) {
    const YamlNode* found = node.kind == Kind::kMap ? node.find(key) : nullptr;
    return found && found->kind == Kind::kScalar ? found : nullptr;
  }

  bool is_folder(const std::string& name) const {
    std::error_code error;
    return fs::is_directory(name, error) || fs::is_directory(file_.parent_path() / name, error);
  }

  void add(std::vector<NamedModel>& names, const std::string& name, int line,
           bool tokenizer) const {
    if (name.empty() || documents_.contains(name) || is_folder(name)) return;
    if (std::ranges::find(names, name, &NamedModel::name) != names.end()) return;
    names.push_back({name, line, tokenizer});
  }

  // "MODEL", "MODEL+ADAPTER", {path, revision}, {model, lora}.
  void add_model(const YamlNode& node) {
    if (node.kind == Kind::kMap) {
      const YamlNode *path = scalar_of(node, "path"), *revision = scalar_of(node, "revision");
      if (!path) return collect(node);
      return add(models_, path->scalar + (revision ? "@" + revision->scalar : ""), node.line,
                 false);
    }
    if (node.kind != Kind::kScalar || is_folder(node.scalar)) return;
    const size_t plus = std::min(node.scalar.find('+'), node.scalar.size());
    add(models_, node.scalar.substr(0, plus), node.line, false);
    if (plus < node.scalar.size()) add(models_, node.scalar.substr(plus + 1), node.line, false);
  }

  void add_tokenizer(const YamlNode& node) {
    if (node.kind != Kind::kScalar || node.scalar == "base" || node.scalar == "union") return;
    const bool prefixed = node.scalar.starts_with("model:");  // mergekit's older spelling
    add(tokenizers_, node.scalar.substr(prefixed ? 6 : 0), node.line, true);
  }

  const fs::path& file_;
  std::set<std::string> documents_;
  std::vector<NamedModel> models_, tokenizers_;
};

}  // namespace

std::vector<NamedModel> named_models(std::string_view text, const fs::path& file) {
  const std::vector<YamlNode> roots = parse_yaml(text, RecipeReader::where_of(file));
  NameCollector names(file);
  names.add_document_names(roots);
  for (const YamlNode& root : roots) names.collect(root);
  return names.result();
}

}  // namespace lewis
