// What the environment says about the hub; read here and nowhere else.
#include <lewis/hub.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>

#include "base/error.h"
#include "base/whole_file.h"
#include "io/hub_cache.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

bool is_switched_on(const char* name) {
  std::string value = environment(name);
  for (char& c : value) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return value == "1" || value == "ON" || value == "YES" || value == "TRUE";
}

std::string trimmed(std::string text) {
  const auto is_space = [](unsigned char c) { return std::isspace(c) != 0; };
  text.erase(text.begin(), std::ranges::find_if_not(text, is_space));
  text.erase(std::find_if_not(text.rbegin(), text.rend(), is_space).base(), text.end());
  return text;
}

fs::path token_file() {
  if (const std::string file = environment("HF_TOKEN_PATH"); !file.empty()) return file;
  // hub_cache_folder() may be moved by variables of its own, the home of the token not.
  if (const std::string home = environment("HF_HOME"); !home.empty())
    return fs::path(home) / "token";
  if (const std::string xdg = environment("XDG_CACHE_HOME"); !xdg.empty())
    return fs::path(xdg) / "huggingface/token";
  return fs::path(environment("HOME")) / ".cache/huggingface/token";
}

void read_token(HubOptions& options) {
  for (const char* name : {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"}) {
    options.token = trimmed(environment(name));
    options.token_source = name;
    if (!options.token.empty()) return;
  }
  constexpr uint64_t kMostOfToken = 4096;
  const fs::path file = token_file();
  options.token_source.clear();
  std::error_code error;
  if (is_switched_on("HF_HUB_DISABLE_IMPLICIT_TOKEN") || !fs::is_regular_file(file, error)) return;
  options.token = trimmed(read_whole_file(open_file(file), file, kMostOfToken));
  if (!options.token.empty()) options.token_source = file.string();
}

}  // namespace

HubOptions hub_options() {
  HubOptions options;
  if (std::string endpoint = trimmed(environment("HF_ENDPOINT")); !endpoint.empty()) {
    while (endpoint.ends_with('/')) endpoint.pop_back();
    options.endpoint = endpoint;
  }
  read_token(options);
  // A header has one line of printable characters.
  if (!std::ranges::all_of(options.token, [](unsigned char c) { return c > ' ' && c < 0x7f; }))
    throw usage_error("the token of {} has characters that no token has", options.token_source);
  options.cache = hub_cache_folder();
  options.offline = is_switched_on("HF_HUB_OFFLINE") || is_switched_on("TRANSFORMERS_OFFLINE");
  return options;
}

}  // namespace lewis
