#include "cli/help.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <sstream>

#include "cli/terminal.h"

namespace lewis {
namespace {

constexpr size_t kColumn = 30;  // where descriptions begin

constexpr auto kExamples = std::to_array<VerbExample>(
    {{"", "lewis new", "Asks for your models and writes a first recipe."},
     {"", "lewis merge recipe.yml merged", "Merges; merged/ is then a model folder."},
     {"", "lewis eval base expert merged --task gsm8k --baseline merged",
      "Scores models, and says which differences are shown."},
     {"new", "lewis new recipe.yml --base base --models math,code --method ties",
      "Writes a recipe without asking."},
     {"check", "lewis check recipe.yml", "Says whether these models can be merged at all."},
     {"merge", "lewis merge recipe.yml merged --dry-run",
      "Says what time, memory and disk the merge takes."},
     {"merge", "lewis merge recipe.yml merged --resume --report",
      "Merges, goes on where an earlier run was stopped, and writes merged/report.html."},
     {"apply", "lewis apply base+adapter merged",
      "Merges a LoRA adapter into its model, and proves that it is in it."},
     {"plan", "lewis plan recipe.yml -o plan.yml",
      "Shows the densities and writes them into a recipe that mergekit reads, too."},
     {"calibrate", "lewis calibrate math --data math.jsonl --format gsm8k -o math.gguf",
      "Writes llama.cpp's importance matrix."},
     {"tune", "lewis tune recipe.yml -o tuned.yml",
      "Finds what the recipe leaves open: {search: [LOW, HIGH]}, {choose: [A, B]}."},
     {"eval", "lewis eval base merged --task loss:test.jsonl:gsm8k --baseline base",
      "Compares the loss of two models on your own questions and answers."},
     {"report", "lewis report merged --eval results", "Writes the page anew, with scores."},
     {"diff", "lewis diff base merged --top 10", "Shows the ten tensors that changed most."},
     {"convert", "lewis convert recipe.yml merged.gguf --type q8_0 --modelfile Modelfile",
      "Merges straight into a file that llama.cpp and Ollama run."},
     {"extract", "lewis extract base math -o adapter --rank 32",
      "Writes a LoRA adapter that makes math of base."},
     {"inspect", "lewis inspect merged model.norm.weight", "Shows the values of one tensor."},
     {"plan", "lewis plan recipe.yml --workers 16", "Says how to cut the job for 16 machines."},
     {"slurm", "lewis slurm recipe.yml /shared/merged --nodes 16 --partition cpu --submit",
      "Merges on 16 nodes of a cluster."},
     {"status", "lewis status /shared/merged", "Says how far the merge is."},
     {"verify", "lewis verify merged", "Says whether every byte is what was written."},
     {"verify", "lewis verify merged --adapter adapter --base base",
      "Says which tensors lack the adapter, and how a wrong merge went wrong."},
     {"completion", "source <(lewis completion bash)", "Completes in this shell from now on."},
     {"man", "lewis man merge | man -l -", "Shows the manual page of a verb."}});

// The names of values by the option that takes them; an option whose value is another thing in one
// verb is named "VERB --OPTION". Completion goes by these names (completion.cc).
struct ValueName {
  std::string_view option, value;
};
constexpr auto kValues = std::to_array<ValueName>(
    {{"--answer-field", "FIELD"}, {"--base", "MODEL"},           {"--baseline", "MODEL"},
     {"--cache", "FOLDER"},       {"--compute", "TYPE"},         {"--data", "DATA"},
     {"--data-dir", "FOLDER"},    {"--eval", "RESULTS"},         {"--explain", "TENSOR"},
     {"--figures", "FOLDER"},     {"--format", "FORMAT"},        {"--kl-to", "MODEL"},
     {"--layers", "RECIPE"},      {"--max-disk", "BYTES"},       {"--max-memory", "BYTES"},
     {"--method", "METHOD"},      {"--models", "MODELS"},        {"--objective", "OBJECTIVE"},
     {"--out", "FILE"},           {"--out-shard-size", "BYTES"}, {"--output-path", "FOLDER"},
     {"--prompt-field", "FIELD"}, {"--protocol", "PROTOCOL"},    {"--report", "FILE"},
     {"--results", "RESULTS"},    {"--shots-data", "DATA"},      {"--task", "TASK"},
     {"man --out", "FOLDER"},     {"--disk-speed", "BYTES"},     {"--partition", "NAME"},
     {"--account", "NAME"},       {"--adapter", "ADAPTER"},      {"--dtype", "DTYPE"},
     {"--eval-task", "TASK"}});

std::string_view value_name(std::string_view verb, std::string_view option) {
  const std::string of_verb = fmt::format("{} {}", verb, option);
  for (const std::string_view name : {std::string_view(of_verb), option}) {
    const auto row = std::ranges::find(kValues, name, &ValueName::option);
    if (row != kValues.end()) return row->value;
  }
  return "";
}

void name_values(CLI::App& verb) {
  for (CLI::Option* option : verb.get_options()) {
    if (option->get_type_name() != "TEXT") continue;
    if (option->get_positional() && option->get_lnames().empty()) option->type_name("");
    for (const std::string& name : option->get_lnames()) {
      const std::string_view value = value_name(verb.get_name(), "--" + name);
      if (!value.empty()) option->type_name(std::string(value));
    }
  }
}

std::string footer_of(std::string_view verb) {
  const std::vector<VerbExample> examples = examples_of(verb);
  std::string text;
  if (!examples.empty()) text += examples.size() > 1 ? "Examples:\n" : "Example:\n";
  for (const VerbExample& e : examples) text += fmt::format("  {}\n      {}\n", e.line, e.about);
  return text;
}

class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter() : width_(std::clamp<size_t>(Terminal::of(STDOUT_FILENO).width, 60, 100)) {
    column_width(kColumn);
  }

  std::string make_description(const CLI::App* app) const override {
    return joined(app->get_description(), 0) + "\n";
  }
  std::string make_usage(const CLI::App* app, std::string) const override {
    return "Usage: " + usage_line(*app) + "\n";
  }
  std::string make_option_desc(const CLI::Option* option) const override {
    return joined(option->get_description(), kColumn);
  }
  // mergekit's flags that mean nothing here are listed by name.
  std::string make_group(std::string group, bool arguments,
                         std::vector<const CLI::Option*> options) const override {
    if (options.empty() || !is_ignored(*options[0]))
      return CLI::Formatter::make_group(group, arguments, options);
    std::string names;
    for (const CLI::Option* option : options)
      names += (names.empty() ? "" : ", ") + option->get_name(false, false);
    return "\nTaken from mergekit's command lines, and ignored:\n" + joined(names, 0) + "\n";
  }
  std::string make_subcommand(const CLI::App* verb) const override {
    std::ostringstream out;
    CLI::detail::format_help(out, "  " + verb->get_name(), joined(verb->get_description(), kColumn),
                             kColumn);
    return out.str();
  }
  std::string make_subcommands(const CLI::App* app, CLI::AppFormatMode) const override {
    std::string text, title;
    for (const CLI::App* verb : shown_verbs(*app)) {
      if (verb->get_group() != title) text += "\n" + (title = verb->get_group()) + ":\n";
      text += make_subcommand(verb);
    }
    return text;
  }
  std::string make_footer(const CLI::App* app) const override {
    std::string text = footer_of(app->get_parent() ? app->get_name() : "");
    if (!app->get_parent()) {
      text +=
          "\n" +
          joined("lewis VERB --help says more about a verb. Exit codes: " + std::string(kExitCodes),
                 0) +
          "\n";
    }
    return text;
  }

 private:
  // The text in lines that fit behind `column`. CLI11 indents what follows a line feed.
  std::string joined(std::string_view text, size_t column) const {
    std::string all;
    for (const std::string& line : wrapped(text, width_ - column))
      all += (all.empty() ? "" : "\n") + line;
    return all;
  }

  size_t width_;
};

}  // namespace

std::span<const VerbGroup> verb_groups() {
  static const std::vector<VerbGroup> groups = {
      {"Make a merge", {"new", "check", "merge", "apply"}},
      {"Make it better", {"plan", "calibrate", "tune"}},
      {"See how good it is", {"eval", "report", "diff"}},
      {"Look at models", {"inspect", "verify"}},
      {"Take it elsewhere", {"convert", "extract"}},
      {"Use several machines", {"slurm", "status"}},
      {"Fetch and publish", {"pull", "push"}},
      {"Help and shells", {"completion", "man"}}};
  return groups;
}

std::vector<VerbExample> examples_of(std::string_view verb) {
  std::vector<VerbExample> found;
  std::ranges::copy_if(kExamples, std::back_inserter(found),
                       [&](const VerbExample& e) { return e.verb == verb; });
  return found;
}

std::vector<const CLI::App*> shown_verbs(const CLI::App& app) {
  std::vector<const CLI::App*> verbs;
  const auto all = app.get_subcommands([](const CLI::App*) { return true; });
  for (const VerbGroup& group : verb_groups()) {
    for (const std::string_view name : group.verbs) {
      const auto verb = std::ranges::find(all, name, &CLI::App::get_name);
      if (verb != all.end()) verbs.push_back(*verb);
    }
  }
  for (const CLI::App* verb : all) {
    const bool hidden = verb->get_group().empty() || verb->get_name().empty();
    if (!hidden && std::ranges::find(verbs, verb) == verbs.end()) verbs.push_back(verb);
  }
  return verbs;
}

std::vector<std::string> wrapped(std::string_view text, size_t width) {
  std::vector<std::string> lines;
  std::string line;
  std::istringstream words{std::string(text)};
  for (std::string word; words >> word;) {
    if (!line.empty() && line.size() + 1 + word.size() > width)
      lines.push_back(std::exchange(line, ""));
    line += (line.empty() ? "" : " ") + word;
  }
  if (!line.empty()) lines.push_back(line);
  return lines;
}

std::string usage_line(const CLI::App& verb) {
  if (!verb.get_parent()) return "lewis VERB [ARGUMENTS] [OPTIONS]";
  std::string text = "lewis " + verb.get_name();
  for (const CLI::Option* option : verb.get_options()) {
    if (!option->get_positional() || option->get_group().empty()) continue;
    const bool many = option->get_items_expected_max() > 1;
    const std::string name = option->get_name(true, false) + (many ? "..." : "");
    text += option->get_required() ? " " + name : " [" + name + "]";
  }
  return text + " [OPTIONS]";
}

void set_up_help(CLI::App& app) {
  app.formatter(std::make_shared<HelpFormatter>());
  for (CLI::App* verb : app.get_subcommands([](CLI::App*) { return true; })) {
    verb->formatter(app.get_formatter());
    name_values(*verb);
    if (!verb->get_group().empty()) verb->group("Other");
    for (const VerbGroup& group : verb_groups()) {
      if (std::ranges::find(group.verbs, verb->get_name()) != group.verbs.end())
        verb->group(std::string(group.title));
    }
  }
}

}  // namespace lewis
