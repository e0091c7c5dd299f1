// What stands for the models, data and folders of a recipe in everything that others will read:
// OUT's card, recipe, manifest and record, and the report. No path of this machine is among it.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "merge/model_origin.h"
#include "recipe/recipe.h"

namespace lewis {

// Ids of the hub for models that are folders here: by the name that the recipe writes, or by its
// last part.
using ModelIds = std::map<std::string, std::string>;

class PublicNames {
 public:
  // A model or adapter goes by the first of these:
  //   the id that `ids` gives it;
  //   its id in the hub's cache ("owner/name@COMMIT" where the recipe names the folder);
  //   the id that config.json has as _name_or_path, unless two models would have it: fine-tuned
  //   models may still carry the id of their base, and then only base_model goes by it;
  //   the last part of its path, with "-2", "-3" where another model has that already.
  // Data go by their id or the last part of their path, numbered likewise. Error(kUsage) for `ids`
  // that name no model of the recipe, or whose values are no ids.
  explicit PublicNames(const Recipe& recipe, const ModelIds& ids = {});

  // A model as the recipe writes it ("MODEL", "MODEL+ADAPTER", a stage); what is no model of the
  // recipe goes through clean().
  std::string of(const std::string& model) const;
  // Data or statistics as the recipe writes them, or as it was resolved.
  std::string of_data(const std::string& data) const;
  // The recipe's text, or its YAML where it has none, with these names.
  std::string recipe_text() const;
  // The text of a recipe that has these names, with folders of this machine again.
  std::string with_folders(std::string_view text, const std::filesystem::path& file) const;
  // A text for people, without the folders of the recipe and without other paths.
  std::string clean(std::string_view text) const;

  // The models and adapters that the merge is made from in the end, each once.
  const std::vector<ModelOrigin>& origins() const { return origins_; }
  // One line for each id that was guessed from config.json.
  const std::vector<std::string>& notes() const { return notes_; }
  // `ids` with last parts as names.
  const ModelIds& ids() const { return ids_; }

 private:
  struct Part {  // a model without its adapter, or an adapter
    std::string written;
    std::filesystem::path folder;
    std::string name;  // the public one
    bool guessed = false, is_base = false;
    ModelOrigin origin;
  };
  void add_parts(const Recipe& recipe);
  void add_part(const std::string& written, const std::filesystem::path& folder, bool is_base);
  void add_tokenizer(const Recipe& recipe);
  void add_data(const Recipe& recipe);
  void add_data_place(const std::filesystem::path& place);
  void name_parts(const ModelIds& ids);
  void settle_collisions();
  void collect_places();
  const Part* find(const std::string& written) const;

  std::string text_;  // of the recipe
  std::filesystem::path file_;
  std::vector<Part> parts_;
  std::vector<std::string> stages_;
  std::vector<std::pair<std::filesystem::path, std::string>> data_;  // place, name
  std::vector<std::pair<std::string, std::string>> places_;  // path -> name, the longest first
  std::vector<ModelOrigin> origins_;
  std::vector<std::string> notes_;
  ModelIds ids_;
};

}  // namespace lewis
