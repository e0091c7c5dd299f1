// What help, man pages and completion say about a verb beside its options: its group, examples, and
// what the values of its options are.
#pragma once

#include <CLI/CLI.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lewis {

// Verbs by what one wants to do, in the order in which `lewis --help` lists them.
struct VerbGroup {
  std::string_view title;
  std::vector<std::string_view> verbs;
};
std::span<const VerbGroup> verb_groups();

// An example of a verb and the words for what it does. Verb "": of lewis as a whole.
struct VerbExample {
  std::string_view verb, line, about;
};
std::vector<VerbExample> examples_of(std::string_view verb);

// The verbs that are not hidden, in the order of verb_groups(); those of no group come last.
std::vector<const CLI::App*> shown_verbs(const CLI::App& app);

inline constexpr std::string_view kExitCodes =
    "0 done, 1 failed, 2 wrong usage or recipe, 3 input refused, 4 out of space or memory, "
    "5 verification failed, 130 interrupted.";

// Groups, examples, names of values, and lines that end where the terminal does. Call it when all
// verbs have been added.
void set_up_help(CLI::App& app);

// The words of a text in lines of at most `width` bytes (a longer word has a line of its own).
std::vector<std::string> wrapped(std::string_view text, size_t width);

// "lewis merge RECIPE OUT".
std::string usage_line(const CLI::App& verb);

// True for mergekit's flags that mean nothing here.
inline bool is_ignored(const CLI::Option& option) { return option.get_group() == "mergekit"; }

}  // namespace lewis
