// lewis man [VERB]: manual pages, from the definitions of verbs and options.
#include <fmt/format.h>

#include <filesystem>

#include "base/build.h"
#include "base/current_error.h"
#include "base/error.h"
#include "base/suggest.h"
#include "cli/help.h"
#include "cli/verbs.h"
#include "io/file.h"

namespace lewis {
namespace {

constexpr std::string_view kDate = "2026-11-30";  // of the last change to what pages say

// A text of one paragraph for roff: no request at the beginning of a line, and hyphens that stay
// what they are when they are copied.
std::string roff(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else if (c == '\n') {
      out += ' ';
    } else if ((c == '.' || c == '\'') && out.empty()) {
      out += std::string("\\&") + c;
    } else {
      out += c;
    }
  }
  return out;
}

// Lines of at most 79 bytes; none begins with a request.
std::string paragraph(std::string_view text) {
  std::string out;
  for (const std::string& line : wrapped(text, 78)) out += roff(line) + "\n";
  return out;
}

std::string title(const std::string& name) {
  std::string upper = name;
  for (char& c : upper) c = 'a' <= c && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  return fmt::format(".TH {} 1 {} \"lewis {}\" \"Commands\"\n", roff(upper), kDate,
                     lewis_version());
}

std::string option_names(const CLI::Option& option) {
  std::string names;
  const auto add = [&](const std::string& name) {
    names += (names.empty() ? "\\fB" : ", \\fB") + roff(name) + "\\fR";
  };
  for (const std::string& name : option.get_snames()) add("-" + name);
  for (const std::string& name : option.get_lnames()) add("--" + name);
  const bool value = option.get_items_expected_min() > 0;
  const std::string& type = option.get_type_name();
  if (value && !type.empty()) names += " \\fI" + roff(type) + "\\fR";
  return names;
}

std::string options_text(const CLI::App& verb, bool arguments) {
  std::string text;
  for (const CLI::Option* option : verb.get_options()) {
    if (option->get_positional() != arguments || is_ignored(*option)) continue;
    if (option->get_group().empty()) continue;
    const std::string name =
        arguments ? "\\fI" + roff(option->get_name(true, false)) + "\\fR" : option_names(*option);
    text += ".TP\n" + name + "\n" + paragraph(option->get_description());
  }
  return text;
}

std::string examples_text(std::string_view verb) {
  std::string text;
  for (const VerbExample& e : examples_of(verb))
    text += ".TP\n\\fB" + roff(e.line) + "\\fR\n" + paragraph(e.about);
  return text.empty() ? "" : ".SH EXAMPLES\n" + text;
}

std::string section(std::string_view name, const std::string& text) {
  return text.empty() ? "" : fmt::format(".SH {}\n{}", name, text);
}

std::string verb_page(const CLI::App& verb) {
  const std::string name = "lewis-" + verb.get_name();
  return title(name) + section("NAME", paragraph(name + " - " + verb.get_description())) +
         section("SYNOPSIS", "\\fB" + roff(usage_line(verb)) + "\\fR\n") +
         section("ARGUMENTS", options_text(verb, true)) +
         section("OPTIONS", options_text(verb, false)) + examples_text(verb.get_name()) +
         section("EXIT STATUS", paragraph(kExitCodes)) + section("SEE ALSO", "\\fBlewis\\fR(1)\n");
}

std::string main_page(const CLI::App& app) {
  std::string verbs, group;
  for (const CLI::App* verb : shown_verbs(app)) {
    if (verb->get_group() != group) verbs += ".SS " + roff(group = verb->get_group()) + "\n";
    verbs += ".TP\n\\fBlewis\\-" + roff(verb->get_name()) + "\\fR(1)\n" +
             paragraph(verb->get_description());
  }
  const std::string environment =
      ".TP\n\\fBLEWIS_CACHE\\fR\n" + paragraph("Folder of the cache of statistics.") +
      ".TP\n\\fBHF_HUB_CACHE\\fR, \\fBHF_HOME\\fR\n" +
      paragraph("Where the cache of the Hugging Face hub is.") + ".TP\n\\fBNO_COLOR\\fR\n" +
      paragraph("No colours when it is set.");
  return title("lewis") + section("NAME", paragraph("lewis - merges fine-tuned language models")) +
         section("SYNOPSIS", "\\fB" + roff(usage_line(app)) + "\\fR\n") +
         section("DESCRIPTION", paragraph(app.get_description())) + section("VERBS", verbs) +
         section("OPTIONS", options_text(app, false)) + examples_text("") +
         section("ENVIRONMENT", environment) + section("EXIT STATUS", paragraph(kExitCodes));
}

const CLI::App& shown_verb(const CLI::App& app, const std::string& name) {
  std::vector<std::string> names;
  for (const CLI::App* verb : shown_verbs(app)) {
    if (verb->get_name() == name) return *verb;
    names.push_back(verb->get_name());
  }
  const std::vector<std::string_view> known(names.begin(), names.end());
  throw usage_error("lewis man: the verb {}", unknown_name(name, known));
}

void write_pages(const CLI::App& app, const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw file_error(folder, "cannot be made", error);
  write_file_durably(folder / "lewis.1", main_page(app));
  for (const CLI::App* verb : shown_verbs(app))
    write_file_durably(folder / ("lewis-" + verb->get_name() + ".1"), verb_page(*verb));
}

}  // namespace

void add_man_verb(CLI::App& app) {
  struct ManArguments {
    std::string verb;
    std::filesystem::path out;
  };
  auto o = std::make_shared<ManArguments>();
  CLI::App* man = app.add_subcommand("man", "Print the manual page of lewis or of a verb");
  man->add_option("VERB", o->verb, "The verb; none: lewis as a whole");
  man->add_option("-o,--out", o->out, "Write all pages into this folder: lewis.1, lewis-merge.1");
  man->callback([o, &app] {
    if (!o->out.empty()) return write_pages(app, o->out);
    write_out(TerminalText::ready(o->verb.empty() ? main_page(app)
                                                  : verb_page(shown_verb(app, o->verb))));
  });
}

}  // namespace lewis
