// The models and data that a recipe names, before any of them is looked for.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace lewis {

struct NamedModel {
  std::string name;  // a folder or an id: "PATH[@REVISION]", without an adapter
  int line = 0;
  bool only_tokenizer = false;  // its weights are not merged
};

// Models, adapters and sources of tokenizers, as they are written; each name once. Names of
// documents and what is a folder, here or beside the recipe, are left out. `file`: see
// parse_recipe. Throws Error(kUsage) for YAML that is none; anything else is left for parse_recipe
// to refuse.
std::vector<NamedModel> named_models(std::string_view text, const std::filesystem::path& file);

struct NamedData {
  std::string name;  // "FILE", "FOLDER" or "ID", each with "#CONFIG/SPLIT" if a part is meant
  int line = 0;
};
// The data of lewis.calibration, as RecipeReader reads them; what is there, here or beside the
// recipe, is left out. Errors as above.
std::vector<NamedData> named_data(std::string_view text, const std::filesystem::path& file);

// The kinds of names that may be places of this machine.
enum class NameKind { kModel, kTokenizer, kData, kStatistics };
// The name of another kind or place: `written` is "PATH[@REVISION][+ADAPTER]" for kModel.
using RenameFn = std::function<std::string(NameKind kind, const std::string& written)>;

// A recipe's text with other names: `rename` gets every name of a model (also in the form
// {path, revision}, as "PATH@REVISION"), of a tokenizer's source, of data and of statistics. The
// comments go through `comment`; everything else stays byte for byte. Errors as above.
std::string renamed(std::string_view text, const std::filesystem::path& file,
                    const RenameFn& rename,
                    const std::function<std::string(std::string_view)>& comment);

}  // namespace lewis
