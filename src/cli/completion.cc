#include "cli/completion.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <functional>

#include "base/data_format.h"
#include "base/enum_names.h"
#include "base/error.h"
#include "base/protocol.h"
#include "base/suggest.h"
#include "cli/help.h"
#include "cli/verbs.h"
#include "eval/tasks.h"
#include "io/hub_cache.h"
#include "merge/method.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

// ---- files ----

using IsWanted = std::function<bool(const fs::directory_entry&)>;

bool is_recipe(const fs::directory_entry& entry) {
  const std::string name = entry.path().filename().string();
  return name.ends_with(".yml") || name.ends_with(".yaml");
}

bool is_model(const fs::directory_entry& entry) {
  std::error_code ignored;
  return entry.path().extension() == ".gguf" || fs::exists(entry.path() / "config.json", ignored);
}

bool is_file(const fs::directory_entry& entry) {
  std::error_code ignored;
  return !entry.is_directory(ignored);
}

std::string home_folder() {
  const char* home = std::getenv("HOME");
  return home ? home : "";
}

// The wanted files whose names begin with `typed`, and the folders to look into.
void add_paths(Candidates& all, const std::string& typed, const IsWanted& wanted) {
  constexpr size_t kMost = 10'000;
  const size_t slash = typed.rfind('/');
  const std::string folder = slash == std::string::npos ? "" : typed.substr(0, slash + 1);
  const std::string begin = typed.substr(folder.size());
  const fs::path where = folder.empty()             ? fs::path(".")
                         : folder.starts_with("~/") ? fs::path(home_folder()) / folder.substr(2)
                                                    : fs::path(folder);
  std::error_code error;
  std::vector<Candidate> found;
  for (fs::directory_iterator it(where, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (!name.starts_with(begin) || (name[0] == '.' && begin.empty())) continue;
    if (name.find('\n') != name.npos || name.find('\t') != name.npos) continue;
    std::error_code ignored;
    const bool is_wanted = wanted(*it);
    if (is_wanted) found.push_back({folder + name, ""});
    if (!is_wanted && it->is_directory(ignored)) found.push_back({folder + name + "/", ""});
    if (found.size() == kMost) break;
  }
  std::ranges::sort(found, {}, &Candidate::word);
  all.paths = true;
  std::ranges::move(found, std::back_inserter(all.words));
}

// The ids of what lies in the hub's cache: "models--owner--name" is owner/name.
void add_ids(Candidates& all, const std::string& typed, const std::string& kind) {
  std::error_code error;
  std::vector<Candidate> found;
  for (fs::directory_iterator it(hub_cache_folder(), error), end; !error && it != end;
       it.increment(error)) {
    std::string id = it->path().filename().string();
    if (!id.starts_with(kind + "--")) continue;
    id = id.substr(kind.size() + 2);
    if (const size_t dashes = id.find("--"); dashes != id.npos) id.replace(dashes, 2, "/");
    if (id.starts_with(typed)) found.push_back({id, "in the hub's cache"});
  }
  std::ranges::sort(found, {}, &Candidate::word);
  std::ranges::move(found, std::back_inserter(all.words));
}

// ---- values ----

void add_names(Candidates& all, const std::string& typed,
               const std::vector<std::string_view>& names) {
  for (const std::string_view name : names) {
    if (name.starts_with(typed)) all.words.push_back({std::string(name), ""});
  }
}

void add_methods(Candidates& all, const std::string& typed) {
  for (const std::string_view name : merge_method_names()) {
    if (name.starts_with(typed))
      all.words.push_back({std::string(name), std::string(find_merge_method(name).about)});
  }
}

// Puts `begin` before the words that `add` adds for the rest of what is typed.
void add_behind(Candidates& all, const std::string& typed, size_t begin,
                const std::function<void(Candidates&, const std::string&)>& add) {
  const size_t before = all.words.size();
  add(all, typed.substr(begin));
  for (size_t i = before; i < all.words.size(); ++i)
    all.words[i].word.insert(0, typed.substr(0, begin));
}

void add_models(Candidates& all, const std::string& typed, bool recipes) {
  if (const size_t plus = typed.rfind('+'); plus != std::string::npos) {  // MODEL+ADAPTER
    add_behind(all, typed, plus + 1, [](Candidates& c, const std::string& rest) {
      add_paths(c, rest, [](const fs::directory_entry& entry) {
        std::error_code ignored;
        return fs::exists(entry.path() / "adapter_config.json", ignored);
      });
    });
    return;
  }
  add_paths(all, typed, [recipes](const fs::directory_entry& entry) {
    return is_model(entry) || (recipes && is_recipe(entry));
  });
  add_ids(all, typed, "models");
}

void add_data(Candidates& all, const std::string& typed) {
  add_paths(all, typed, is_file);
  add_ids(all, typed, "datasets");
}

// TASK, TASK:FILE, TASK:FILE:FORMAT, or a task of the user's own.
void add_tasks(Candidates& all, const std::string& typed) {
  const size_t first = typed.find(':'), last = typed.rfind(':');
  if (first == std::string::npos) {
    add_names(all, typed, task_names());
    if (all.words.empty()) add_paths(all, typed, is_recipe);
  } else if (first == last) {
    add_behind(all, typed, first + 1, add_data);
  } else {
    add_behind(all, typed, last + 1, [](Candidates& c, const std::string& rest) {
      add_names(c, rest, names_of<DataFormat>());
    });
  }
}

// The values of an option or an argument, by what help calls them (help.cc).
void add_values(Candidates& all, std::string_view what, const std::string& typed) {
  if (what == "RECIPE") return add_paths(all, typed, is_recipe);
  if (what == "MODEL|RECIPE") return add_models(all, typed, true);
  if (what == "MODEL" || what == "A" || what == "B") return add_models(all, typed, what == "MODEL");
  if (what == "MODELS") {  // MODEL,MODEL
    return add_behind(all, typed, typed.rfind(',') + 1,
                      [](Candidates& c, const std::string& rest) { add_models(c, rest, false); });
  }
  if (what == "OUT" || what == "FOLDER")
    return add_paths(all, typed, [](const fs::directory_entry&) { return false; });
  if (what == "DATA") return add_data(all, typed);
  if (what == "FILE" || what == "RESULTS") return add_paths(all, typed, is_file);
  if (what == "TASK") return add_tasks(all, typed);
  if (what == "METHOD") return add_methods(all, typed);
  if (what == "FORMAT") return add_names(all, typed, names_of<DataFormat>());
  if (what == "PROTOCOL") return add_names(all, typed, names_of<Protocol>());
  if (what == "TYPE") return add_names(all, typed, {"auto", "bf16", "f32"});
  if (what == "OBJECTIVE") return add_names(all, typed, {"mean", "relative"});
  if (what == "SHELL") return add_names(all, typed, completion_shells());
}

// ---- the line ----

bool takes_word(const CLI::Option& option) { return option.get_items_expected_min() > 0; }

// The option of "--name", "--name=value" or "-n"; null when the verb has none.
const CLI::Option* option_of(const CLI::App& verb, const std::string& word) {
  const std::string name = word.substr(0, word.find('='));
  for (const CLI::Option* option : verb.get_options()) {
    if (!option->nonpositional()) continue;
    for (const std::string& l : option->get_lnames()) {
      if (name == "--" + l) return option;
    }
    for (const std::string& s : option->get_snames()) {
      if (name == "-" + s) return option;
    }
  }
  return nullptr;
}

std::string value_of_option(const CLI::Option& option) {
  return takes_word(option) ? option.get_type_name() : "FILE";  // --report=FILE
}

void add_options(Candidates& all, const CLI::App& verb, const std::string& typed,
                 const std::vector<const CLI::Option*>& given) {
  for (const CLI::Option* option : verb.get_options()) {
    const bool repeats = option->get_items_expected_max() > 1;
    if (!option->nonpositional() || is_ignored(*option)) continue;
    if (!repeats && std::ranges::find(given, option) != given.end()) continue;
    for (const std::string& name : option->get_lnames()) {
      if (("--" + name).starts_with(typed))
        all.words.push_back({"--" + name, option->get_description()});
    }
  }
}

// The name of the argument that stands at this place; "" beyond the last.
std::string argument_at(const CLI::App& verb, size_t place) {
  for (const CLI::Option* option : verb.get_options()) {
    if (!option->get_positional()) continue;
    if (place == 0 || option->get_items_expected_max() > 1) return option->get_name(true, false);
    --place;
  }
  return "";
}

void add_verbs(Candidates& all, const CLI::App& app, const std::string& typed) {
  if (typed.starts_with('-')) return add_options(all, app, typed, {});
  for (const CLI::App* verb : shown_verbs(app)) {
    if (verb->get_name().starts_with(typed))
      all.words.push_back({verb->get_name(), verb->get_description()});
  }
}

}  // namespace

Candidates complete(const CLI::App& app, const std::vector<std::string>& words) {
  Candidates all;
  const std::string typed = words.empty() ? "" : words.back();
  const auto verbs = shown_verbs(app);
  const CLI::App* verb = nullptr;
  const CLI::Option* pending = nullptr;  // its value comes next
  std::vector<const CLI::Option*> given;
  size_t arguments = 0;
  for (size_t i = 0; i + 1 < words.size(); ++i) {
    const std::string& word = words[i];
    if (!verb) {
      const auto found = std::ranges::find(verbs, word, &CLI::App::get_name);
      if (found != verbs.end()) verb = *found;
      if (!verb && !word.starts_with('-')) return all;
    } else if (pending) {
      pending = nullptr;
    } else if (word.starts_with('-') && word.size() > 1) {
      const CLI::Option* option = option_of(*verb, word);
      if (option) given.push_back(option);
      if (option && takes_word(*option) && word.find('=') == word.npos) pending = option;
    } else {
      ++arguments;
    }
  }
  if (!verb) {
    add_verbs(all, app, typed);
  } else if (pending) {
    add_values(all, pending->get_type_name(), typed);
  } else if (const size_t equals = typed.find('=');
             typed.starts_with("--") && equals != typed.npos) {
    if (const CLI::Option* option = option_of(*verb, typed)) {
      add_behind(all, typed, equals + 1, [&](Candidates& c, const std::string& rest) {
        add_values(c, value_of_option(*option), rest);
      });
    }
  } else if (typed.starts_with('-')) {
    add_options(all, *verb, typed, given);
  } else if (verb->get_name() == "man") {
    add_verbs(all, app, typed);
  } else {
    add_values(all, argument_at(*verb, arguments), typed);
  }
  return all;
}

std::vector<std::string_view> completion_shells() { return {"bash", "fish", "zsh"}; }

namespace {

constexpr std::string_view kBash = R"sh(# bash completion of lewis: source <(lewis completion bash)
_lewis() {
  local line=${COMP_LINE:0:COMP_POINT} program=${COMP_WORDS[0]/#\~\//$HOME/}
  local words=() kind part
  # Without -r, read takes the backslashes out that quote spaces.
  # shellcheck disable=SC2162
  read -a words <<<"$line"
  [[ $line == *[[:space:]] && $line != *\\[[:space:]] ]] && words+=("")
  { read -r kind; mapfile -t COMPREPLY; } < <("$program" complete -- "${words[@]:1}" 2>/dev/null)
  # bash replaces what stands behind the last of its word breaks.
  part=${words[-1]%"${words[-1]##*[=:]}"}
  [[ $part && $COMP_WORDBREAKS == *"${part: -1}"* ]] && COMPREPLY=("${COMPREPLY[@]#"$part"}")
  [[ $kind == paths ]] && compopt -o filenames
  [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == */ ]] && compopt -o nospace
  return 0
}
complete -F _lewis lewis
)sh";

constexpr std::string_view kZsh = R"sh(#compdef lewis
# zsh completion of lewis: a file named _lewis in a folder of $fpath, or source <(lewis completion zsh)
_lewis() {
  local -a lines folders others shown
  local kind line quote
  lines=("${(@f)$("${(Q)words[1]/#\~\//$HOME/}" complete --describe -- "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
  kind=$lines[1]
  shift lines
  if [[ $kind == paths ]]; then
    lines=("${(@)lines%%$'\t'*}")
    folders=("${(@M)lines:#*/}")
    others=("${(@)lines:#*/}")
    if [[ $PREFIX == \~/* ]]; then  # the tilde stays one
      folders=("~/${(@q)folders#\~/}")
      others=("~/${(@q)others#\~/}")
      quote=-Q
    fi
    [[ -n $folders ]] && compadd $quote -f -S '' -- "${folders[@]}"
    [[ -n $others ]] && compadd $quote -f -- "${others[@]}"
  else
    for line in "${lines[@]}"; do
      others+=("${line%%$'\t'*}")
      shown+=("${(r:24:)line%%$'\t'*}  ${line#*$'\t'}")
    done
    [[ -n $others ]] && compadd -l -d shown -- "${others[@]}"
  fi
}
if [[ $funcstack[1] == _lewis ]]; then
  _lewis "$@"
else
  compdef _lewis lewis
fi
)sh";

constexpr std::string_view kFish = R"sh(# fish completion of lewis: lewis completion fish | source
function __lewis_complete
    set -l words (commandline -opc)
    set -l typed (commandline -ct)
    $words[1] complete --describe -- $words[2..] "$typed" 2>/dev/null | tail -n +2
end
complete -c lewis -f -a '(__lewis_complete)'
)sh";

}  // namespace

std::string_view completion_script(std::string_view shell) {
  if (shell == "bash") return kBash;
  if (shell == "zsh") return kZsh;
  if (shell == "fish") return kFish;
  throw usage_error("lewis completion: the shell {}", unknown_name(shell, completion_shells()));
}

void add_completion_verb(CLI::App& app) {
  auto shell = std::make_shared<std::string>();
  CLI::App* verb = app.add_subcommand("completion", "Print the script that completes in a shell");
  verb->add_option("SHELL", *shell, "bash, zsh or fish")->required();
  verb->callback(
      [shell] { write_out(TerminalText::ready(std::string(completion_script(*shell)))); });

  // What the scripts ask. The first line says what kind the others are.
  struct CompleteArguments {
    std::vector<std::string> words;
    bool describe = false;
  };
  auto o = std::make_shared<CompleteArguments>();
  CLI::App* ask = app.add_subcommand("complete", "What may stand at the end of a command line");
  ask->group("");
  ask->add_option("WORDS", o->words, "The words behind the program's name");
  ask->add_flag("--describe", o->describe, "Words with a description each, behind a tab");
  ask->callback([o, &app] {
    const Candidates found = complete(app, o->words);
    std::string text = found.paths ? "paths\n" : "words\n";
    for (const Candidate& c : found.words)
      text += c.word + (o->describe && !c.about.empty() ? "\t" + c.about : "") + "\n";
    write_out(TerminalText::ready(text));
  });
}

}  // namespace lewis
