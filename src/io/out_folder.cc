#include "io/out_folder.h"

#include <fcntl.h>
#include <stdio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <set>
#include <string>
#include <vector>

#include "base/current_error.h"
#include "base/error.h"
#include "io/disk.h"
#include "io/file.h"
#include "io/json_lines.h"
#include "io/manifest.h"
#include "io/model_folder.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

// True if `inner` is `outer` or lies below it; both are resolved.
bool is_within(const fs::path& inner, const fs::path& outer) {
  const auto [a, b] = std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end());
  return a == outer.end();
}

// Absolute, without a '/' at its end.
fs::path without_slash(const fs::path& path) {
  const fs::path whole = fs::absolute(path);
  return whole.has_filename() ? whole : whole.parent_path();
}

// Links resolved as far as the path exists.
fs::path resolved(const fs::path& path) {
  std::error_code error;
  const fs::path whole = fs::weakly_canonical(without_slash(path), error);
  if (error) throw usage_error("{}: cannot be opened: {}", path.string(), error.message());
  return whole;
}

fs::file_status status_of(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::symlink_status(path, error);
  if (error && status.type() != fs::file_type::not_found)
    throw usage_error("{}: cannot be opened: {}", path.string(), error.message());
  return status;
}

// The files that the folder's manifest names; none where it has no manifest that can be believed.
std::set<std::string, std::less<>> files_of_manifest(const fs::path& folder) {
  std::set<std::string, std::less<>> names;
  try {
    const Manifest manifest = read_manifest(folder / kManifestName);
    for (const auto& [name, _] : manifest.files) names.insert(name);
    for (const ShardRecord& shard : manifest.shards) names.insert(shard.name);
    names.insert(std::string(kManifestName));
  } catch (const Error&) {
    names.clear();
  }
  return names;
}

// True for what others write into the folder of a model.
bool belongs_to_models(std::string_view name) {
  static constexpr std::array<std::string_view, 9> kNames = {
      "README.md", "LICENSE",          "LICENSE.txt",    "LICENSE.md",         "USE_POLICY.md",
      "NOTICE",    "requirements.txt", ".gitattributes", "mergekit_config.yml"};
  static constexpr std::array<std::string_view, 2> kEnds = {".json", ".html"};
  if (is_tokenizer_file(name) || is_processor_file(name) || name == kPartialMarker) return true;
  if (name.starts_with(std::string(kPartsFolder) + "/")) return true;
  if (name.find('/') != std::string_view::npos) return false;
  return is_weights_file(name) || std::ranges::find(kNames, name) != kNames.end() ||
         std::ranges::any_of(kEnds, [&](std::string_view end) { return name.ends_with(end); });
}

// All files and empty folders in a folder and below it, relative to it, sorted; hidden ones too.
std::vector<std::string> all_below(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!fs::is_directory(entry.symlink_status()) || fs::is_empty(entry.path()))
      names.push_back(entry.path().lexically_relative(folder).generic_string());
  }
  std::ranges::sort(names);
  return names;
}

void refuse_other_folder(const fs::path& out) {
  const std::vector<std::string> names = all_below(out);
  if (names.empty()) return;
  const auto of_manifest = files_of_manifest(out);
  const bool weights = std::ranges::any_of(names, [](const std::string& name) {
    return is_weights_file(name) && name.find('/') == std::string::npos;
  });
  const bool model = weights && std::ranges::binary_search(names, "config.json");
  if (of_manifest.empty() && !model) {
    throw usage_error(
        "{}: holds '{}' and is no model (it has neither a manifest of lewis nor config.json and "
        "weights), so --force does not replace it",
        out.string(), names[0]);
  }
  for (const std::string& name : names) {
    if (of_manifest.contains(name) || belongs_to_models(name)) continue;
    throw usage_error(
        "{}: holds '{}', which is no file of a model folder, so --force does not replace it",
        out.string(), name);
  }
}

bool is_ours(const fs::path& partial) {
  if (!fs::is_directory(status_of(partial))) return false;
  // Empty comes first: whoever makes the folder puts the marker into it before anything else.
  std::error_code unreadable;
  if (fs::is_empty(partial, unreadable)) return true;
  const fs::file_status marker = status_of(partial / kPartialMarker);
  if (fs::exists(marker)) return fs::is_regular_file(marker);
  return is_journal_of(partial / kJournalName, "merge") || !files_of_manifest(partial).empty();
}

}  // namespace

fs::path resolved_out(const fs::path& out) {
  const fs::path whole = without_slash(out);
  const fs::path name = whole.filename();
  if (name.empty() || name == "." || name == "..") return resolved(out);
  return resolved(whole.parent_path()) / name;
}

void refuse_out_in_sources(const fs::path& out, std::span<const fs::path> sources) {
  const fs::path target = resolved(out);
  for (const fs::path& source : sources) {
    const fs::path folder = resolved(source);
    if (is_within(target, folder) || is_within(folder, target)) {
      throw usage_error("{}: OUT and the source {} lie in each other; sources are never written to",
                        out.string(), source.string());
    }
  }
}

void refuse_existing_out(const fs::path& out, bool force) {
  const fs::file_status status = status_of(without_slash(out));
  if (!fs::exists(status)) return;
  if (!force) throw usage_error("{}: exists already; --force replaces it", out.string());
  if (fs::is_symlink(status))
    throw usage_error("{}: is a link, which --force does not follow", out.string());
  if (!fs::is_directory(status))
    throw usage_error("{}: is not a folder, so --force does not replace it", out.string());
  refuse_other_folder(out);
}

void refuse_partial_of_others(const fs::path& partial) {
  if (is_ours(partial)) return;
  throw usage_error("{}: {} and was not left by lewis; move it away", partial.string(),
                    fs::is_symlink(status_of(partial)) ? "is a link" : "exists");
}

void remove_partial(const fs::path& partial) {
  std::vector<fs::path> entries;
  for (const auto& entry : fs::directory_iterator(partial)) {
    if (entry.path().filename() != kPartialMarker) entries.push_back(entry.path());
  }
  for (const fs::path& path : entries) fs::remove_all(path);
  fs::remove(partial / kPartialMarker);
  fs::remove(partial);
}

void remove_quietly(const fs::path& partial) {
  try {
    if (fs::is_directory(fs::symlink_status(partial))) remove_partial(partial);
  } catch (const fs::filesystem_error&) {  // the error that brought us here is the one to tell
  }
}

void check_disk_space(const fs::path& folder, const fs::path& out, uint64_t needed) {
  const fs::space_info space = fs::space(folder);
  if (space.available < needed) {
    throw resource_error("{}: needs {} bytes of disk, {} are free", out.string(), needed,
                         space.available);
  }
}

void replace_folder(const fs::path& fresh, const fs::path& out) {
  fs::path old = fresh;
  if (::renameat2(AT_FDCWD, fresh.c_str(), AT_FDCWD, out.c_str(), RENAME_EXCHANGE) != 0) {
    if (errno == ENOENT) throw file_error(fresh, "cannot be renamed");
    old = make_unique_folder(out.parent_path(), out.filename().string() + ".old");
    fs::rename(out, old);
    fs::rename(fresh, out);
  }
  // From here on it is ours to remove, now or by the next run.
  File::open_append(old / kPartialMarker);
  remove_partial(old);
}

}  // namespace lewis
