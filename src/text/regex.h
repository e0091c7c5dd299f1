// Regular expressions of data, tasks and adapters, matched by Rust's crate `regex`: in time linear
// in the text, with a syntax close to that of Python's re, without lookaround and back-references.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

struct LewisRegex;

namespace lewis {

class Regex {
 public:
  // Throws Error(kUsage) with the pattern and what is wrong with it, which may be that it is longer
  // than 10,000 bytes or compiles to more than 4 MiB.
  explicit Regex(std::string_view pattern);

  // Group 0 is the whole match; a group that took no part in it is empty.
  using Match = std::vector<std::optional<std::string_view>>;
  // All matches that do not overlap, from left to right, as views into `text`, which is UTF-8 (else
  // Error(kInput)). One match takes time linear in the text; all of them can take its square, which
  // is refused with Error(kInput), as is a text of more than 64 MiB.
  std::vector<Match> find_all(std::string_view text) const;
  bool found_in(std::string_view text) const;
  // The parts of the text before, between and behind the matches.
  std::vector<std::string_view> split(std::string_view text) const;

  size_t groups() const { return groups_; }  // the whole match included

 private:
  std::shared_ptr<const LewisRegex> regex_;
  size_t groups_ = 0;
};

// A pattern that matches the text itself.
std::string escape_regex(std::string_view text);

}  // namespace lewis
