// Completion in a shell: what may stand at the end of a command line, by the definitions of verbs
// and options that the program parses with. The shells' scripts ask the program itself.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace lewis {

struct Candidate {
  std::string word;   // replaces the last word whole; a folder to look into ends with '/'
  std::string about;  // one line; may be empty
};
struct Candidates {
  std::vector<Candidate> words;
  bool paths = false;  // they are names of files, which shells quote
};

// What may stand in place of the last of `words`, which follow the program's name; the last may be
// empty. Reads folders and the hub's cache, and throws nothing about them.
Candidates complete(const CLI::App& app, const std::vector<std::string>& words);

// The script that a shell loads: "bash", "zsh" or "fish". Throws Error(kUsage) for another name.
std::string_view completion_script(std::string_view shell);
std::vector<std::string_view> completion_shells();

}  // namespace lewis
