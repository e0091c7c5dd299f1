#include "text/regex.h"

#include <limits>

#include "base/error.h"
#include "text/rust_border.h"

namespace lewis {

Regex::Regex(std::string_view pattern) {
  LewisRegex* regex = nullptr;
  rust::Text error;
  if (!lewis_regex_new(pattern.data(), pattern.size(), &regex, &groups_, error.out())) {
    const std::string shown =
        pattern.size() > 200 ? std::string(pattern.substr(0, 200)) + "..." : std::string(pattern);
    if (error.view() == LEWIS_OUT_OF_MEMORY)
      throw resource_error("regular expression '{}': not enough memory", shown);
    throw usage_error("regular expression '{}': {}", shown, error.view());
  }
  regex_ = std::shared_ptr<const LewisRegex>(
      regex, [](const LewisRegex* r) { lewis_regex_free(const_cast<LewisRegex*>(r)); });
}

std::vector<Regex::Match> Regex::find_all(std::string_view text) const {
  rust::Ids spans;
  rust::Text error;
  if (!lewis_regex_find_all(regex_.get(), text.data(), text.size(), spans.out(), error.out())) {
    throw rust::failure(error, "a regular expression cannot be looked for");
  }
  std::vector<Match> matches;
  for (const uint32_t* s = spans.begin(); s != spans.end(); s += 2 * groups_) {
    Match match(groups_);
    for (size_t g = 0; g < groups_; ++g) {
      const uint32_t begin = s[2 * g], end = s[2 * g + 1];
      if (begin != std::numeric_limits<uint32_t>::max()) match[g] = text.substr(begin, end - begin);
    }
    matches.push_back(std::move(match));
  }
  return matches;
}

bool Regex::found_in(std::string_view text) const {
  bool found = false;
  rust::Text error;
  if (!lewis_regex_is_match(regex_.get(), text.data(), text.size(), &found, error.out()))
    throw rust::failure(error, "a regular expression cannot be looked for");
  return found;
}

std::vector<std::string_view> Regex::split(std::string_view text) const {
  std::vector<std::string_view> parts;
  size_t begin = 0;
  for (const Match& match : find_all(text)) {
    const auto at = static_cast<size_t>(match[0]->data() - text.data());
    parts.push_back(text.substr(begin, at - begin));
    begin = at + match[0]->size();
  }
  parts.push_back(text.substr(begin));
  return parts;
}

std::string escape_regex(std::string_view text) {
  std::string pattern;
  for (char c : text) {
    if (std::string_view(R"(\.+*?()|[]{}^$#&-~)").find(c) != std::string_view::npos)
      pattern += '\\';
    pattern += c;
  }
  return pattern;
}

}  // namespace lewis
