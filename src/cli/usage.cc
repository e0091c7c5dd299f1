#include "cli/usage.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/suggest.h"
#include "cli/help.h"

namespace lewis {
namespace {

// "--resume" of "--resume=yes".
std::string_view name_in(std::string_view word) { return word.substr(0, word.find('=')); }

bool is_option(std::string_view word) {
  return word.size() > 1 && word[0] == '-' && word != "--" &&
         std::string_view("0123456789.").find(word[1]) == std::string_view::npos;
}

// All ways to write the verb's options: "--threads", "-j".
std::vector<std::string> option_names(const CLI::App& verb) {
  std::vector<std::string> names;
  for (const CLI::Option* option : verb.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    for (const std::string& name : option->get_snames()) names.push_back("-" + name);
  }
  return names;
}

// The nearest name; one that begins like the word, or with which the word begins, is nearer than
// any other ("evaluate", "eval").
std::string nearest(std::string_view word, const std::vector<std::string>& names) {
  constexpr size_t kLeast = 3;
  std::vector<std::string_view> all(names.begin(), names.end()), alike;
  for (const std::string_view name : all) {
    if (word.size() >= kLeast && name.size() >= kLeast &&
        (name.starts_with(word) || word.starts_with(name)))
      alike.push_back(name);
  }
  return std::string(nearest_name(word, alike.empty() ? all : alike));
}

std::string unknown_option(const CLI::App& app, const CLI::App& verb, std::string_view word) {
  const std::string name(name_in(word));
  const std::string who = verb.get_parent() ? "lewis " + verb.get_name() : "lewis";
  std::vector<std::string> others;
  for (const CLI::App* other : shown_verbs(app)) {
    if (other != &verb && std::ranges::count(option_names(*other), name) > 0)
      others.push_back("lewis " + other->get_name());
  }
  if (!verb.get_parent() && !others.empty()) {
    const auto verbs = app.get_subcommands();
    const std::string behind = verbs.empty() ? others[0] : "lewis " + verbs[0]->get_name();
    return fmt::format("options of a verb stand behind it, as in {} ... {}", behind, name);
  }
  const std::string more =
      verb.get_parent() ? fmt::format("lewis {} --help", verb.get_name()) : "lewis --help";
  if (!others.empty()) {
    return fmt::format("{} has no option {}; {} {} it ({} lists those of this verb)", who, name,
                       fmt::join(others, ", "), others.size() == 1 ? "has" : "have", more);
  }
  std::vector<std::string> names = option_names(verb);
  std::erase_if(names, [](const std::string& n) { return !n.starts_with("--"); });
  const bool one_letter = name.size() == 2;
  return fmt::format("{} has no option {}{} ({} lists them)", who, name,
                     one_letter ? "" : fmt::format("; did you mean {}?", nearest(name, names)),
                     more);
}

std::string unknown_verb(const CLI::App& app, std::string_view word) {
  if (word == "help" || word == "version")
    return fmt::format("'{}' is not a verb of lewis; did you mean lewis --{}?", word, word);
  if (word.ends_with(".yml") || word.ends_with(".yaml")) {
    return fmt::format(
        "'{}' is not a verb of lewis; did you mean lewis merge {} OUT? (lewis --help lists verbs)",
        word, word);
  }
  std::vector<std::string> names;
  for (const CLI::App* verb : shown_verbs(app)) names.push_back(verb->get_name());
  return fmt::format("'{}' is not a verb of lewis; did you mean '{}'? (verbs: {})", word,
                     nearest(word, names), fmt::join(names, ", "));
}

std::optional<std::string> first_option(const std::vector<std::string>& words) {
  const auto found = std::ranges::find_if(words, is_option);
  return found == words.end() ? std::nullopt : std::optional(*found);
}

std::string words_of(const CLI::App& app, const CLI::ParseError& error) {
  const std::vector<std::string> before = app.remaining();
  const auto verbs = app.get_subcommands();
  if (verbs.empty()) {
    const auto word = std::ranges::find_if_not(before, is_option);
    if (word != before.end() && *word != "--") return unknown_verb(app, *word);
  }
  if (const auto option = first_option(before)) return unknown_option(app, app, *option);
  if (verbs.empty()) {
    return "a verb is missing, as in lewis merge RECIPE OUT (lewis --help lists them all)";
  }
  const CLI::App& verb = *verbs[0];
  const std::vector<std::string> rest = verb.remaining();
  if (const auto option = first_option(rest)) return unknown_option(app, verb, *option);
  if (dynamic_cast<const CLI::ExtrasError*>(&error) && !rest.empty()) {
    return fmt::format("lewis {}: '{}' is one argument too many: {}", verb.get_name(), rest[0],
                       usage_line(verb));
  }
  if (dynamic_cast<const CLI::RequiredError*>(&error)) {
    return fmt::format("lewis {}: {}: {} (lewis {} --help says more)", verb.get_name(),
                       error.what(), usage_line(verb), verb.get_name());
  }
  return fmt::format("lewis {}: {} (see lewis {} --help)", verb.get_name(), error.what(),
                     verb.get_name());
}

}  // namespace

Error usage_error_of(const CLI::App& app, const CLI::ParseError& error) {
  return usage_error("{}", words_of(app, error));
}

}  // namespace lewis
