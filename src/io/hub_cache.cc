#include "io/hub_cache.h"

#include <algorithm>
#include <cstdlib>
#include <string>

#include "base/text_file.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

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

std::string without_newline(std::string text) {
  text.erase(text.find_last_not_of(" \r\n") + 1);
  return text;
}

}  // namespace

fs::path hub_cache_folder() {
  if (const fs::path cache = variable("HF_HUB_CACHE"); !cache.empty()) return cache;
  if (const fs::path home = variable("HF_HOME"); !home.empty()) return home / "hub";
  if (const fs::path xdg = variable("XDG_CACHE_HOME"); !xdg.empty()) return xdg / "huggingface/hub";
  return variable("HOME") / ".cache/huggingface/hub";
}

std::optional<fs::path> find_in_hub_cache(std::string_view id) {
  const size_t at = std::min(id.find('@'), id.size());
  const std::string revision(at < id.size() ? id.substr(at + 1) : "main");
  const std::string_view name = id.substr(0, at);
  const size_t slash = name.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  const std::string owner(name.substr(0, slash)), model(name.substr(slash + 1));
  if (!is_plain(owner) || !is_plain(model) || !is_plain(revision)) return std::nullopt;
  const fs::path folder = hub_cache_folder() / ("models--" + owner + "--" + model);
  const fs::path ref = folder / "refs" / revision;
  const std::string commit =
      fs::is_regular_file(ref) ? without_newline(read_text_file(ref)) : revision;
  if (!is_plain(commit)) return std::nullopt;
  const fs::path snapshot = folder / "snapshots" / commit;
  return fs::is_directory(snapshot) ? std::optional(snapshot) : std::nullopt;
}

}  // namespace lewis
