#include "io/hub_cache.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string>

#include "base/whole_file.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMostOfRef = 4096;

fs::path variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

// Part of an id or a revision: no way out of its folder.
bool is_plain(std::string_view name) {
  const auto allowed = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.';
  };
  return !name.empty() && name.find("..") == std::string_view::npos &&
         std::all_of(name.begin(), name.end(), allowed);
}

// "main", "refs/pr/7": parts that are plain, with '/' between them.
bool is_plain_path(std::string_view name) {
  for (size_t begin = 0;;) {
    const size_t end = std::min(name.find('/', begin), name.size());
    if (!is_plain(name.substr(begin, end - begin))) return false;
    if (end == name.size()) return true;
    begin = end + 1;
  }
}

// The commit that a branch, a tag or a pull request has in this entry of the cache; a commit is its
// own. A revision "refs/pr/7" is the file refs/refs/pr/7.
std::string commit_of(const fs::path& entry, const std::string& revision) {
  const fs::path refs = entry / "refs";
  std::error_code error;
  if (!fs::is_regular_file(refs / revision, error)) return revision;
  std::string commit =
      read_whole_file(open_file_within(refs, revision), refs / revision, kMostOfRef);
  commit.erase(commit.find_last_not_of(" \r\n") + 1);
  return commit;
}

}  // namespace

fs::path hub_cache_folder() {
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"}) {
    if (const fs::path cache = variable(name); !cache.empty()) return cache;
  }
  if (const fs::path home = variable("HF_HOME"); !home.empty()) return home / "hub";
  if (const fs::path xdg = variable("XDG_CACHE_HOME"); !xdg.empty()) return xdg / "huggingface/hub";
  return variable("HOME") / ".cache/huggingface/hub";
}

namespace {

template <size_t kCount>
bool ends_with_any(std::string_view name, const std::array<std::string_view, kCount>& ends) {
  return std::ranges::any_of(ends, [&](std::string_view end) { return name.ends_with(end); });
}

}  // namespace

bool is_hub_id(std::string_view id) {
  static constexpr std::array<std::string_view, 4> kFiles = {".gguf", ".safetensors", ".yaml",
                                                             ".yml"};
  const size_t at = std::min(id.find('@'), id.size());
  const std::string_view name = id.substr(0, at);
  return std::ranges::count(name, '/') <= 1 && is_plain_path(name) &&
         !ends_with_any(name, kFiles) && (at == id.size() || is_plain_path(id.substr(at + 1)));
}

bool is_data_set_id(std::string_view id) {
  static constexpr std::array<std::string_view, 9> kEnds = {
      ".jsonl", ".json", ".csv", ".tsv", ".txt", ".md", ".parquet", ".gz", ".zst"};
  return is_hub_id(id) && !ends_with_any(id, kEnds);
}

namespace {

// The snapshot of an id; kind: "models" or "datasets".
std::optional<fs::path> find_snapshot(std::string_view id, std::string_view kind) {
  if (!is_hub_id(id)) return std::nullopt;
  const size_t at = std::min(id.find('@'), id.size());
  const std::string revision(at < id.size() ? id.substr(at + 1) : "main");
  const std::string_view name = id.substr(0, at);
  std::string folder = std::string(kind) + "--" + std::string(name);
  if (const size_t slash = folder.find('/'); slash != folder.npos) folder.replace(slash, 1, "--");
  const fs::path entry = hub_cache_folder() / folder;
  const std::string commit = commit_of(entry, revision);
  if (!is_plain(commit)) return std::nullopt;
  const fs::path snapshot = entry / "snapshots" / commit;
  std::error_code error;
  return fs::is_directory(snapshot, error) ? std::optional(snapshot) : std::nullopt;
}

}  // namespace

std::optional<fs::path> find_in_hub_cache(std::string_view id) {
  return find_snapshot(id, "models");
}

std::optional<fs::path> find_data_set_in_hub_cache(std::string_view id) {
  auto found = find_snapshot(id, "datasets");
  if (!found && id.find('@') == id.npos)
    found = find_snapshot(std::string(id) + "@" + std::string(kConvertedRevision), "datasets");
  return found;
}

fs::path resolved_data(const fs::path& data) {
  std::error_code error;
  const std::string text = data.string();
  const size_t mark = std::min(text.rfind('#'), text.size());
  const std::string name = text.substr(0, mark);
  if (fs::exists(data, error) || fs::exists(name, error)) return data;
  const auto cached = find_data_set_in_hub_cache(name);
  return cached ? fs::path(cached->string() + text.substr(mark)) : data;
}

std::string hub_id_of(const fs::path& folder) {
  const fs::path snapshot = (folder / "").parent_path();
  const std::string entry = snapshot.parent_path().parent_path().filename().string();
  if (snapshot.parent_path().filename() != "snapshots" || !entry.starts_with("models--")) return "";
  std::string id = entry.substr(std::string_view("models--").size());
  if (const size_t dashes = id.find("--"); dashes != id.npos) id.replace(dashes, 2, "/");
  return is_hub_id(id) ? id : "";
}

}  // namespace lewis
