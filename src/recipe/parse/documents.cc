// The documents of a recipe file: one is the recipe, the others are its stages.
#include "base/error.h"
#include "base/text_file.h"
#include "recipe/nodes.h"
#include "recipe/parse/recipe_reader.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

// The documents of a recipe file: each is parsed when the first other names it.
class Documents {
 public:
  Documents(const fs::path& file, std::vector<YamlNode> roots, std::vector<std::string> in_memory,
            UnknownKeys unknown)
      : ignored_(unknown == UnknownKeys::kNoted ? std::make_shared<std::vector<std::string>>()
                                                : nullptr),
        yaml_(RecipeReader::where_of(file)),
        reader_(
            file, [this](const std::string& name, int line) { return find(name, line); },
            std::move(in_memory), ignored_) {
    for (YamlNode& root : roots) documents_.push_back({std::move(root), "", false, false, {}});
    for (Document& d : documents_) {
      const YamlNode* name = YamlReader::given(d.root, "name");
      if (!name) continue;
      for (const Document& other : documents_) {
        if (other.name == name->scalar)
          yaml_.fail(name->line, fmt::format("two documents have the name {}", name->scalar));
      }
      d.name = name->scalar;
    }
  }

  std::shared_ptr<const Recipe> find(const std::string& name, int line) {
    for (Document& d : documents_) {
      if (d.name != name || name.empty()) continue;
      if (d.open) yaml_.fail(line, fmt::format("document {} is made from itself", name));
      d.used = true;
      if (!d.recipe) d.recipe = parse(d);
      if (d.recipe->lewis && d.recipe->lewis->refine)
        yaml_.fail(
            line,
            fmt::format("document {} has lewis.refine: only the last one can be refined", name));
      if (d.recipe->fp8_block)
        yaml_.fail(line, fmt::format("document {} has out_dtype: fp8_block, which only the last "
                                     "one may have: it says how files are written",
                                     name));
      if (!d.recipe->outputs.empty())
        yaml_.fail(line, fmt::format("document {} has outputs: only the last one makes several "
                                     "models",
                                     name));
      return d.recipe;
    }
    return nullptr;
  }

  // The one whose result is the model.
  Recipe last() {
    for (Document& d : documents_) {
      if (!d.recipe) d.recipe = parse(d);
    }
    const Document* found = nullptr;
    for (const Document& d : documents_) {
      if (d.used) continue;
      if (found) {
        yaml_.fail(d.root.line,
                   fmt::format("no other document uses the result of this one, nor that of "
                               "line {}: which is the model?",
                               found->root.line));
      }
      found = &d;
    }
    Recipe recipe = *found->recipe;  // there is one: no document is made from itself
    if (ignored_) recipe.notes.insert(recipe.notes.end(), ignored_->begin(), ignored_->end());
    return recipe;
  }

 private:
  struct Document {
    YamlNode root;
    std::string name;
    bool open, used;
    std::shared_ptr<const Recipe> recipe;
  };

  std::shared_ptr<const Recipe> parse(Document& d) {
    d.open = true;
    auto recipe = std::make_shared<const Recipe>(reader_.recipe(d.root));
    d.open = false;
    return recipe;
  }

  std::shared_ptr<std::vector<std::string>> ignored_;
  YamlReader yaml_;
  RecipeReader reader_;
  std::vector<Document> documents_;
};

}  // namespace

Recipe recipe_of(std::vector<YamlNode> documents, const fs::path& file,
                 std::vector<std::string> in_memory, UnknownKeys unknown) {
  return Documents(file, std::move(documents), std::move(in_memory), unknown).last();
}

namespace {

// Only `lewis tune` takes ranges (recipe/tunable.h).
void refuse_ranges(const YamlNode& node, const std::string& key, const fs::path& file) {
  if (is_open(node)) {
    const std::string where = RecipeReader::where_of(file);
    throw usage_error("{}:{}: {} is left open: `lewis tune {} -o OUT.yml` finds its value", where,
                      node.line, key, where);
  }
  for (const YamlNode& item : node.items) refuse_ranges(item, key, file);
  for (const auto& [name, value] : node.entries) refuse_ranges(value, name.scalar, file);
}

}  // namespace

Recipe parse_recipe(std::string_view text, const fs::path& file,
                    const std::vector<std::string>& in_memory, UnknownKeys unknown) {
  std::vector<YamlNode> documents = parse_yaml(text, RecipeReader::where_of(file));
  for (const YamlNode& root : documents) refuse_ranges(root, "", file);
  Recipe recipe = recipe_of(std::move(documents), file, in_memory, unknown);
  recipe.text = text;
  return recipe;
}

Recipe read_recipe(const fs::path& file, UnknownKeys unknown) {
  return parse_recipe(read_text_file(file), file, {}, unknown);
}

}  // namespace lewis
