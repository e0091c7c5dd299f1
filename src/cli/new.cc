// lewis new [RECIPE]: writes a first recipe, by asking or from options.
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <functional>
#include <optional>

#include "app/first_recipe.h"
#include "app/interrupts.h"
#include "app/outputs.h"
#include "base/error.h"
#include "cli/verbs.h"
#include "io/file.h"
#include "io/hub_cache.h"
#include "merge/method.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

struct NewArguments {
  fs::path file = "recipe.yml";
  FirstRecipe recipe;
  std::string models, data, formats;
  bool force = false;
};

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> parts;
  std::string part;
  const auto end_part = [&] {
    const size_t begin = part.find_first_not_of(" \t");
    if (begin != part.npos)
      parts.push_back(part.substr(begin, part.find_last_not_of(" \t") + 1 - begin));
    part.clear();
  };
  for (const char c : list) c == ',' ? end_part() : part.push_back(c);
  end_part();
  return parts;
}

// A line of standard input without its line feed; nothing at the end of it. An interrupt is
// answered at once.
std::optional<std::string> read_line() {
  constexpr int kSlice = 50;  // milliseconds
  constexpr size_t kMost = 1 << 16;
  std::string line;
  for (;;) {
    pollfd input = {STDIN_FILENO, POLLIN, 0};
    const int ready = poll(&input, 1, kSlice);
    check_interrupt(interrupt_flag());
    if (ready <= 0) continue;
    char c = 0;
    const ssize_t got = read(STDIN_FILENO, &c, 1);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return line.empty() ? std::nullopt : std::optional(line);
    if (c == '\n') return line;
    if (line.size() == kMost) throw usage_error("lewis new: an answer is too long");
    line += c;
  }
}

// The answer to a question; `otherwise` where it is empty. `problem` says what is wrong with an
// answer, "" if it is good.
std::string ask(const TerminalText& question, const std::string& otherwise,
                const std::function<std::string(const std::string&)>& problem) {
  for (;;) {
    write_err("{}{}: ", question, otherwise.empty() ? "" : fmt::format(" [{}]", otherwise));
    const auto line = read_line();
    if (!line) throw usage_error("lewis new: the answers end before the questions do");
    const auto parts = split(*line);
    const std::string answer = parts.empty() ? otherwise : *line;
    const std::string wrong = problem(answer);
    if (wrong.empty()) return answer;
    write_err("  {}\n", wrong);
  }
}

// What `check` throws as Error(kUsage), or "".
std::string usage_problem(const std::function<void()>& check) {
  try {
    check();
  } catch (const Error& e) {
    if (e.code() != ExitCode::kUsage) throw;
    return e.what();
  }
  return "";
}

void ask_for_texts(FirstRecipe& recipe) {
  if (!needs_base(recipe.method)) return;
  write_err(
      "\nThe best merges come with a text per model that shows what it can do: a few dozen "
      "questions "
      "with\nanswers, or conversations (.jsonl, .parquet, .csv). Press Enter to go without.\n");
  for (const std::string& model : recipe.models) {
    const std::string text =
        ask(terminal_text("Text of {}", model), "", [](const std::string& answer) -> std::string {
          if (answer.empty() || fs::exists(answer)) return "";
          return fmt::format("{}: there is no such file", answer);
        });
    if (text.empty()) {
      recipe.data.clear();
      return;
    }
    recipe.data.push_back(text);
  }
}

void ask_for_all(NewArguments& o) {
  FirstRecipe& recipe = o.recipe;
  write_err(
      "A recipe says which models to merge, and how. A model is a folder or an id of the hub.\n\n");
  recipe.base = ask("Which model were yours fine-tuned from", "", [](const std::string& answer) {
    return std::string(answer.empty() ? "Name the base model." : "");
  });
  const std::string models =
      ask("Which models do you want to merge (MODEL,MODEL)", "", [](const std::string& answer) {
        return std::string(split(answer).empty() ? "Name one model or more." : "");
      });
  recipe.models = split(models);
  recipe.method = ask("How (Enter is a good start; docs/methods.md has all)", recipe.method,
                      [&](const std::string& answer) {
                        FirstRecipe tried = recipe;
                        tried.method = answer;
                        return usage_problem([&] { first_recipe(tried, o.file); });
                      });
  ask_for_texts(recipe);
  o.file = ask("Where shall the recipe be", o.file.string(), [&](const std::string& answer) {
    return std::string(fs::exists(answer) && !o.force ? answer + " exists already." : "");
  });
}

// A note about a model that is not here yet.
void note_missing(const std::string& model) {
  const std::string name = model.substr(0, model.find('+'));
  std::error_code ignored;
  if (name.empty() || fs::exists(name, ignored) || find_in_hub_cache(name)) return;
  write_err("lewis: note: {}: no such folder, and not in the hub's cache yet\n", name);
}

void run_new(NewArguments& o) {
  o.recipe.models = split(o.models);
  o.recipe.data = split(o.data);
  o.recipe.formats = split(o.formats);
  const bool asks = o.recipe.models.empty() && o.recipe.base.empty();
  if (asks && !isatty(STDIN_FILENO)) {
    throw usage_error(
        "lewis new asks in a terminal; elsewhere give --base MODEL --models MODEL,MODEL");
  }
  if (asks) ask_for_all(o);
  const std::string text = first_recipe(o.recipe, o.file == "-" ? "recipe.yml" : o.file);
  if (o.file == "-") return write_out(TerminalText::ready(text));
  if (fs::exists(fs::symlink_status(o.file)) && !o.force) {
    throw usage_error("{}: exists already; give another name, or --force to replace it",
                      o.file.string());
  }
  check_output(o.file);
  write_file_durably(o.file, text);
  note_missing(o.recipe.base);
  for (const std::string& model : o.recipe.models) note_missing(model);
  write_out("Written: {}\nNext: lewis check {}, then lewis merge {} merged --report\n", o.file,
            o.file, o.file);
}

}  // namespace

void add_new_verb(CLI::App& app) {
  auto o = std::make_shared<NewArguments>();
  CLI::App* verb = app.add_subcommand("new", "Write a first recipe: asks for your models");
  verb->add_option("RECIPE", o->file, "Where it is written (default: recipe.yml; -: shown only)");
  verb->add_option("--base", o->recipe.base, "The model that the others were fine-tuned from");
  verb->add_option("--models", o->models, "The models to merge, separated by commas");
  verb->add_option("--method", o->recipe.method, "The merge method (default: ties)");
  verb->add_option("--data", o->data,
                   "A text per model that shows what it can do, separated by commas");
  verb->add_option("--format", o->formats, "Formats of the texts (default: by what lies in them)");
  verb->add_flag("--force", o->force, "Replace RECIPE if it exists");
  verb->callback([o] { run_new(*o); });
}

}  // namespace lewis
