#include "base/path_words.h"

#include <algorithm>
#include <cctype>
#include <cstddef>

namespace lewis {
namespace {

bool ends_word(char c) {
  return static_cast<unsigned char>(c) <= ' ' ||
         std::string_view("\"'`,;()[]{}<>|=").find(c) != std::string_view::npos;
}

// The word without what follows a path in a sentence: "math/config.json:3:" has ":3:".
std::string_view path_in(std::string_view word) {
  const bool drive = word.size() > 2 && word[1] == ':' && word[2] == '\\';
  const size_t colon = word.find(':', drive ? 2 : 0);
  word = word.substr(0, colon);
  while (word.ends_with('.')) word.remove_suffix(1);
  return word;
}

}  // namespace

bool is_path_like(std::string_view text) {
  if (text.starts_with("~/") || text.starts_with("./") || text.starts_with("../")) return true;
  if (text.size() > 1 && text[0] == '/' && text[1] != '/') return true;
  return text.size() > 2 && std::isalpha(static_cast<unsigned char>(text[0])) && text[1] == ':' &&
         (text[2] == '\\' || text[2] == '/') && !text.substr(2).starts_with("//");
}

std::string last_part(std::string_view path) {
  while (path.ends_with('/') || path.ends_with('\\')) path.remove_suffix(1);
  return std::string(path.substr(path.find_last_of("/\\") + 1));
}

std::string without_folders(std::string_view text,
                            const std::function<bool(const std::string& word)>& is_path) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    if (ends_word(text[at])) {
      out += text[at++];
      continue;
    }
    const size_t end = static_cast<size_t>(
        std::find_if(text.begin() + static_cast<ptrdiff_t>(at), text.end(), ends_word) -
        text.begin());
    const std::string_view word = text.substr(at, end - at);
    const std::string path(path_in(word));
    const bool replaced = is_path_like(path) || (is_path && path.find('/') != path.npos &&
                                                 word.find("://") == word.npos && is_path(path));
    out += replaced ? last_part(path) : path;
    out += word.substr(path.size());
    at = end;
  }
  return out;
}

}  // namespace lewis
