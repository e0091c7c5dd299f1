// A task that its user describes (a YAML file, read by app/own_task.h): rows of a .jsonl file
// become prompts, and what the model writes is compared with a target or run with tests.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/json_fwd.h"

namespace lewis {

// Templates are texts with {field}, {field[0]} for an entry of a list, {{ and }} for braces.
struct OwnTask {
  std::string name;
  std::filesystem::path data, shots_data;
  std::string prompt, target;   // templates; the target is what examples show and answers must be
  std::string delimiter = " ";  // between an example's prompt and its target
  std::vector<std::string> stops;
  uint64_t shots = 0;
  bool shots_in_order = false;  // the first ones; else drawn as lm-evaluation-harness draws
  int64_t max_new_tokens = 256;

  // The part of a text that is the answer: a group of a match of a regular expression; empty: all.
  struct Find {
    std::string regex;
    bool last = false;            // match
    std::optional<size_t> group;  // unset: the first that took part
  };
  Find answer;
  std::vector<std::string> remove;  // regular expressions, from answer and target
  bool ignore_case = false, strip = true;

  // A Python test instead: templates, {generated} being the model's text.
  std::string program, tests;
  bool runs_programs() const { return !tests.empty(); }
};

// Fills a template from a row; `generated` may be null. Numbers are written as JSON writes them.
// Throws Error(kInput) beginning with `where` for a field that the row does not have or that is no
// text or number, Error(kUsage) for braces that do not match.
std::string fill_template(std::string_view text, const Json& row, const std::string* generated,
                          std::string_view where);

}  // namespace lewis
