#include "hub/needed_files.h"

#include <algorithm>
#include <array>
#include <set>

#include "base/error.h"
#include "base/json.h"
#include "io/model_folder.h"

namespace lewis {
namespace {

bool is_code(std::string_view name) {
  static constexpr std::array<std::string_view, 6> kEnds = {".py", ".pyc",   ".so",
                                                            ".sh", ".ipynb", ".exe"};
  return std::ranges::any_of(kEnds, [&](std::string_view end) { return name.ends_with(end); });
}

bool is_small_file(std::string_view name) {
  static constexpr std::array<std::string_view, 5> kNames = {
      "config.json", "generation_config.json", "adapter_config.json", kIndexFile, "README.md"};
  if (is_code(name) || is_weights_file(name)) return false;
  return std::ranges::find(kNames, name) != kNames.end() || is_tokenizer_file(name) ||
         is_processor_file(name);
}

template <typename F>
std::vector<RemoteFile> files_that(const RemoteRepo& repo, const F& fits) {
  std::vector<RemoteFile> files;
  std::ranges::copy_if(repo.files, std::back_inserter(files),
                       [&](const RemoteFile& file) { return fits(file.name); });
  return files;
}

std::set<std::string> shards_of(const RemoteRepo& repo, std::string_view index) {
  const std::string where = fmt::format("{}: {}", repo.id.label(), kIndexFile);
  std::set<std::string> shards;
  const Json rest = parse_json_members(index, where, "weight_map", [&](std::string&, Json& shard) {
    if (shard.is_string()) shards.insert(shard.get<std::string>());
  });
  for (const std::string& shard : shards) {
    if (!find_file(repo, shard)) {
      throw input_error("{} names {}, which the repository does not have", where, shard);
    }
  }
  return shards;
}

[[noreturn]] void refuse(const RemoteRepo& repo) {
  for (const RemoteFile& file : repo.files) {
    if (is_weights_file(file.name)) {
      throw input_error(
          "{}: has no weights as safetensors, only others ({}); a converted copy may be a pull "
          "request of it: try {}@refs/pr/1, or look for one at the hub",
          repo.id.label(), file.name, repo.id.name);
    }
  }
  throw input_error("{}: has no weights: neither {} nor {} nor {}", repo.id.label(), kWeightsFile,
                    kIndexFile, kAdapterFiles[0]);
}

}  // namespace

const RemoteFile* find_file(const RemoteRepo& repo, std::string_view name) {
  const auto it = std::ranges::find(repo.files, name, &RemoteFile::name);
  return it == repo.files.end() ? nullptr : &*it;
}

std::vector<RemoteFile> small_files(const RemoteRepo& repo) {
  return files_that(repo, is_small_file);
}

std::vector<RemoteFile> tokenizer_files(const RemoteRepo& repo) {
  return files_that(repo, [](std::string_view name) {
    return is_small_file(name) && (is_tokenizer_file(name) || name == "config.json");
  });
}

std::vector<RemoteFile> weight_files(const RemoteRepo& repo, std::string_view index) {
  if (const RemoteFile* single = find_file(repo, kWeightsFile)) return {*single};
  if (find_file(repo, kIndexFile)) {
    const std::set<std::string> shards = shards_of(repo, index);
    return files_that(repo, [&](const std::string& name) { return shards.contains(name); });
  }
  for (const std::string_view name : kAdapterFiles) {
    if (const RemoteFile* adapter = find_file(repo, name)) return {*adapter};
  }
  refuse(repo);
}

}  // namespace lewis
