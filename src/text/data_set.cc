#include "text/data_set.h"

#include <fmt/ranges.h>
#include <fnmatch.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>

#include "base/current_error.h"
#include "base/error.h"
#include "base/text_file.h"
#include "text/data_set_listing.h"
#include "yaml/yaml.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

// Names of files, relative to the folder, by config and split.
using Splits = std::map<std::string, std::vector<std::string>>;
using Configs = std::map<std::string, Splits>;

constexpr size_t kMostFiles = 100'000;

bool is_data_file(std::string_view name) {
  static constexpr std::array<std::string_view, 6> kEnds = {".parquet", ".jsonl", ".json",
                                                            ".csv",     ".tsv",   ".txt"};
  for (const std::string_view packed : {".gz", ".zst"}) {
    if (name.ends_with(packed)) name.remove_suffix(packed.size());
  }
  return std::ranges::any_of(kEnds, [&](std::string_view end) { return name.ends_with(end); });
}

void list_files(const fs::path& folder, const std::string& prefix, size_t depth,
                std::vector<std::string>& names) {
  constexpr size_t kDeepest = 8;
  if (depth == kDeepest) return;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    std::error_code ignored;
    if (name.starts_with('.')) continue;
    if (fs::is_directory(it->symlink_status(ignored))) {
      list_files(it->path(), prefix + name + "/", depth + 1, names);
    } else if (is_data_file(name)) {
      names.push_back(prefix + name);
    }
    if (names.size() > kMostFiles)
      throw input_error("{}: holds more than {} files", folder.string(), kMostFiles);
  }
  if (error) throw file_error(folder, "cannot be read", error);
}

std::vector<std::string> files_of_folder(const fs::path& folder) {
  std::vector<std::string> names;
  list_files(folder, "", 0, names);
  std::ranges::sort(names);
  return names;
}

// ---- what names say ----

// The split that a word is a name of; "" for another word.
std::string_view split_of_word(std::string_view word) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 10> kWords = {
      {{"train", "train"},
       {"training", "train"},
       {"validation", "validation"},
       {"valid", "validation"},
       {"val", "validation"},
       {"dev", "validation"},
       {"test", "test"},
       {"testing", "test"},
       {"eval", "test"},
       {"evaluation", "test"}}};
  const auto found =
      std::ranges::find(kWords, word, &std::pair<std::string_view, std::string_view>::first);
  return found == kWords.end() ? "" : found->second;
}

// The split that one of the words of a name stands for: "gsm8k_test" has "test".
std::string split_in(std::string_view name) {
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find_first_of("-_. ", begin), name.size());
    const std::string_view split = split_of_word(name.substr(begin, end - begin));
    if (!split.empty()) return std::string(split);
    begin = end + 1;
  }
  return "";
}

// "train" of "train-00000-of-00002"; nothing for a name without such an end.
std::optional<std::string> name_of_shard(std::string_view stem) {
  const size_t of = stem.rfind("-of-");
  if (of == stem.npos || of == 0) return std::nullopt;
  const size_t dash = stem.rfind('-', of - 1);
  if (dash == stem.npos || dash == 0) return std::nullopt;
  const auto digits = [](std::string_view text) {
    return !text.empty() && text.find_first_not_of("0123456789") == text.npos;
  };
  std::string_view count = stem.substr(of + 4);
  count = count.substr(0, count.find('-'));  // "train-00000-of-00001-1a2b3c"
  if (!digits(stem.substr(dash + 1, of - dash - 1)) || !digits(count)) return std::nullopt;
  return std::string(stem.substr(0, dash));
}

// CONFIG and SPLIT of "CONFIG/SPLIT/0000.parquet": the hub's own conversion to Parquet, which
// writes "partial-SPLIT" where it has converted only a part.
std::optional<std::pair<std::string, std::string>> converted(const std::string& name) {
  const size_t first = name.find('/'), second = name.rfind('/');
  if (first == name.npos || first == second || !name.ends_with(".parquet")) return std::nullopt;
  const std::string stem = name.substr(second + 1, name.size() - second - 1 - 8);
  std::string split = name.substr(first + 1, second - first - 1);
  if (stem.size() != 4 || stem.find_first_not_of("0123456789") != stem.npos ||
      split.find('/') != split.npos)
    return std::nullopt;
  if (split.starts_with("partial-")) split.erase(0, 8);
  return std::pair(name.substr(0, first), split);
}

Configs configs_by_names(const std::vector<std::string>& names) {
  Configs configs;
  for (const std::string& name : names) {
    if (const auto known = converted(name)) {
      configs[known->first][known->second].push_back(name);
      continue;
    }
    std::string config, split;
    size_t begin = 0;
    for (size_t slash; (slash = name.find('/', begin)) != name.npos; begin = slash + 1) {
      const std::string folder = name.substr(begin, slash - begin);
      if (split.empty()) split = split_of_word(folder);
      if (begin == 0 && folder != "data" && split.empty()) config = folder;
    }
    const std::string stem = name.substr(begin, name.find('.', begin) - begin);
    if (const std::string said = split_in(stem); !said.empty()) {
      split = name_of_shard(stem).value_or(said);
      if (!split_of_word(split).empty()) split = split_of_word(split);
    } else if (const auto shard = name_of_shard(stem)) {
      split = *shard;
    }
    configs[config][split.empty() ? "train" : split].push_back(name);
  }
  return configs;
}

// ---- what README.md says ----

std::vector<std::string> matching(const std::vector<std::string>& names,
                                  const std::string& pattern) {
  constexpr size_t kLongest = 256;
  constexpr long kMostStars = 8;
  std::vector<std::string> found;
  if (pattern.size() > kLongest || std::ranges::count(pattern, '*') > kMostStars) return found;
  const std::string plain = pattern.starts_with("./") ? pattern.substr(2) : pattern;
  const int how = plain.find("**") == plain.npos ? FNM_PATHNAME : 0;
  for (const std::string& name : names) {
    if (fnmatch(plain.c_str(), name.c_str(), how) == 0) found.push_back(name);
  }
  return found;
}

// Adds the files of a scalar or a list of patterns.
void add_matching(const std::vector<std::string>& names, const std::string& folder,
                  const YamlNode& patterns, std::vector<std::string>& files) {
  if (patterns.kind == YamlNode::Kind::kList) {
    for (const YamlNode& item : patterns.items) add_matching(names, folder, item, files);
  } else if (patterns.kind == YamlNode::Kind::kScalar) {
    std::ranges::move(matching(names, folder + patterns.scalar), std::back_inserter(files));
  }
}

// data_files: PATTERN, [PATTERN, ...], {SPLIT: PATTERNS}, or [{split: SPLIT, path: PATTERNS}, ...]
Splits splits_of(const YamlNode& node, const std::string& folder,
                 const std::vector<std::string>& names) {
  Splits splits;
  if (node.kind == YamlNode::Kind::kMap) {
    for (const auto& [split, patterns] : node.entries)
      add_matching(names, folder, patterns, splits[split.scalar]);
    return splits;
  }
  if (node.kind == YamlNode::Kind::kScalar) add_matching(names, folder, node, splits["train"]);
  for (const YamlNode& item : node.items) {
    const YamlNode* split = item.kind == YamlNode::Kind::kMap ? item.find("split") : nullptr;
    const YamlNode* path = item.kind == YamlNode::Kind::kMap ? item.find("path") : &item;
    if (path) add_matching(names, folder, *path, splits[split ? split->scalar : "train"]);
  }
  return splits;
}

// The text of README.md; "" where there is none, or one that is too large to be meant.
std::string readme_of(const fs::path& folder) {
  constexpr uintmax_t kMost = 4 << 20;
  const fs::path file = folder / "README.md";
  std::error_code error;
  if (!fs::is_regular_file(file, error) || fs::file_size(file, error) > kMost) return "";
  return read_text_file(file);
}

// The lines between "---" and "---" with which README.md begins; nothing where there are none.
std::optional<YamlNode> front_matter(const std::string& readme) {
  const size_t begin = readme.find('\n');
  if (!readme.starts_with("---") || begin == readme.npos) return std::nullopt;
  const size_t end = readme.find("\n---", begin);
  if (end == readme.npos) return std::nullopt;
  try {
    return parse_yaml(std::string_view(readme).substr(begin + 1, end - begin), "README.md").at(0);
  } catch (const Error&) {
    return std::nullopt;  // it is for people first: the names of the files say enough
  }
}

Configs configs_of_readme(const std::string& readme, const std::vector<std::string>& names) {
  Configs configs;
  const auto matter = front_matter(readme);
  if (!matter || matter->kind != YamlNode::Kind::kMap) return configs;
  const YamlNode* list = matter->find("configs");
  if (!list || list->kind != YamlNode::Kind::kList) return configs;
  for (const YamlNode& item : list->items) {
    if (item.kind != YamlNode::Kind::kMap) continue;
    const YamlNode* name = item.find("config_name");
    const YamlNode* files = item.find("data_files");
    const YamlNode* in = item.find("data_dir");
    const std::string inner = in && !in->scalar.empty() ? in->scalar + "/" : "";
    Splits splits;
    if (files) {
      splits = splits_of(*files, inner, names);
    } else if (in) {
      std::vector<std::string> inside;
      for (const std::string& n : names) {
        if (n.starts_with(inner)) inside.push_back(n.substr(inner.size()));
      }
      for (auto& [_, of_config] : configs_by_names(inside)) {
        for (auto& [split, found] : of_config) {
          for (const std::string& n : found) splits[split].push_back(inner + n);
        }
      }
    }
    std::erase_if(splits, [](const auto& split) { return split.second.empty(); });
    if (splits.empty()) continue;
    const YamlNode* is_default = item.find("default");
    const std::string config = name ? name->scalar : "default";
    if (is_default && is_default->boolean() == true) configs["default"] = splits;
    configs[config] = std::move(splits);
  }
  return configs;
}

// ---- the choice ----

template <typename Value>
std::string names_in(const std::map<std::string, Value>& map) {
  std::vector<std::string> names;
  for (const auto& [name, _] : map) names.push_back(name.empty() ? "(the folder itself)" : name);
  return fmt::format("{}", fmt::join(names, ", "));
}

// The part of this name; without a name the usual one, or the only one.
template <typename Value>
const Value& chosen(const std::map<std::string, Value>& map, const std::string& name,
                    std::initializer_list<const char*> usual, std::string_view kind,
                    const std::string& label) {
  if (!name.empty()) {
    if (const auto found = map.find(name); found != map.end()) return found->second;
    throw input_error("{}: there is no {} '{}'; there are: {}", label, kind, name, names_in(map));
  }
  for (const char* candidate : usual) {
    if (const auto found = map.find(candidate); found != map.end()) return found->second;
  }
  if (map.size() == 1) return map.begin()->second;
  throw input_error("{}: name one of the {}s (`{}:` in a recipe, DATA#CONFIG/SPLIT elsewhere): {}",
                    label, kind, kind, names_in(map));
}

}  // namespace

DataSetPart data_set_part(const fs::path& data) {
  const std::string text = data.string();
  const size_t mark = text.rfind('#');
  std::error_code error;
  if (mark == text.npos || fs::exists(data, error)) return {data, "", ""};
  const std::string part = text.substr(mark + 1);
  const size_t slash = part.rfind('/');
  if (slash == part.npos) return {text.substr(0, mark), "", part};
  return {text.substr(0, mark), part.substr(0, slash), part.substr(slash + 1)};
}

fs::path path_of(const DataSetPart& part) {
  if (part.config.empty() && part.split.empty()) return part.folder;
  return part.folder.string() + "#" + (part.config.empty() ? "" : part.config + "/") + part.split;
}

std::vector<fs::path> data_files(const fs::path& data) {
  const DataSetPart part = data_set_part(data);
  std::error_code error;
  if (!fs::is_directory(part.folder, error)) return {data};
  const DataSetListing listing{part.folder.string(), files_of_folder(part.folder),
                               readme_of(part.folder)};
  if (listing.names.empty()) {
    throw input_error(
        "{}: expected a file, found a folder without data (.parquet, .jsonl, .json, .csv, .tsv, "
        ".txt)",
        part.folder.string());
  }
  std::vector<fs::path> files;
  for (const std::string& name : names_of_part(listing, part.config, part.split))
    files.push_back(part.folder / name);
  return files;
}

std::vector<std::string> names_of_part(const DataSetListing& listing, const std::string& config,
                                       const std::string& split, bool all_splits) {
  std::vector<std::string> names;
  std::ranges::copy_if(listing.names, std::back_inserter(names), is_data_file);
  if (names.empty()) return names;
  Configs configs = configs_of_readme(listing.readme, names);
  if (configs.empty()) configs = configs_by_names(names);
  const Splits& splits = chosen(configs, config, {"default", ""}, "config", listing.label);
  if (!split.empty() || !all_splits)
    return chosen(splits, split, {"train"}, "split", listing.label);
  std::vector<std::string> all;
  for (const auto& [_, of_split] : splits) all.insert(all.end(), of_split.begin(), of_split.end());
  std::ranges::sort(all);
  all.erase(std::ranges::unique(all).begin(), all.end());
  return all;
}

}  // namespace lewis
