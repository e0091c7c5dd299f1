// What lewis says to somebody who does not know it yet: nearest names, help, completion, manual
// pages and a first recipe.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <regex>
#include <string>
#include <vector>

#include "merge/method.h"
#include "programs.h"
#include "run_lewis.h"

namespace fs = std::filesystem;

namespace lewis {
namespace {

class Manners : public LewisTest {};

TEST_F(Manners, UnknownVerbsGetTheNearestOne) {
  const std::vector<std::pair<std::string, std::string>> kVerbs = {
      {"mrege recipe.yml out", "'merge'"},
      {"merg", "'merge'"},
      {"mregE a b --resume", "'merge'"},
      {"evaluate model", "'eval'"},
      {"inspct model --json", "'inspect'"},
      {"calibrat", "'calibrate'"},
      {"tunee r", "'tune'"},
      {"vrify out", "'verify'"},
      {"mergekit-yaml r.yml out", "'merge'"},
      {"compeltion bash", "'completion'"},
      {"recipe.yml out", "merge recipe.yml OUT"},
      {"help", "lewis --help"}};
  for (const auto& [line, nearest] : kVerbs) {
    const lewis::Run run = lewis(line);
    EXPECT_EQ(run.code, 2) << line;
    EXPECT_NE(run.err.find("did you mean"), std::string::npos) << line << ": " << run.err;
    EXPECT_NE(run.err.find(nearest), std::string::npos) << line << ": " << run.err;
    EXPECT_EQ(std::count(run.err.begin(), run.err.end(), '\n'), 1) << run.err;
  }
  EXPECT_NE(lewis("").err.find("a verb is missing"), std::string::npos);
}

TEST_F(Manners, UnknownOptionsGetTheNearestOne) {
  const std::vector<std::pair<std::string, std::string>> kOptions = {
      {"merge r.yml out --resmue", "did you mean --resume?"},
      {"merge r.yml --resmue", "did you mean --resume?"},
      {"merge --resmue", "did you mean --resume?"},
      {"merge r.yml out --out-shard-siz 5B", "did you mean --out-shard-size?"},
      {"merge r.yml out --out-shard-siz=5B", "did you mean --out-shard-size?"},
      {"merge r.yml out -resume", "did you mean --resume?"},
      {"eval model --tsak loss", "did you mean --task?"},
      {"calibrate model --protocl clean", "did you mean --protocol?"},
      {"plan r.yml --dry-run", "lewis merge has it"},
      {"--threads 4 merge r.yml out", "behind it, as in lewis merge ... --threads"},
      {"--vresion", "did you mean --version?"},
      {"merge r.yml out -x", "lewis merge has no option -x"},
      {"diff a b c", "'c' is one argument too many: lewis diff A B"},
      {"diff a", "lewis diff A B"}};
  for (const auto& [line, said] : kOptions) {
    const lewis::Run run = lewis(line);
    EXPECT_EQ(run.code, 2) << line;
    EXPECT_NE(run.err.find(said), std::string::npos) << line << ": " << run.err;
    EXPECT_EQ(std::count(run.err.begin(), run.err.end(), '\n'), 1) << run.err;
  }
}

TEST_F(Manners, HelpIsGroupedAndHasThreeExamples) {
  const std::string help = lewis("--help").out;
  for (const char* part : {"Make a merge:", "Make it better:", "See how good it is:",
                           "Look at models:", "Examples:", "Exit codes:"})
    EXPECT_NE(help.find(part), std::string::npos) << part;
  const std::string examples = help.substr(help.find("Examples:"));
  static const std::regex kExample("\n  lewis ");
  EXPECT_EQ(std::distance(std::sregex_iterator(examples.begin(), examples.end(), kExample),
                          std::sregex_iterator()),
            3);
  EXPECT_EQ(help.find("\n    complete "), std::string::npos) << "it is for scripts";
  for (std::istringstream lines(help); lines;) {
    std::string line;
    std::getline(lines, line);
    EXPECT_LE(line.size(), 80u) << line;
  }
}

// ---- resume ----

TEST_F(Manners, ResumeBeginsWhereThereIsNothingToResume) {
  const std::string recipe = (dir_.path / "r.yml").string();
  std::ofstream(recipe) << "merge_method: linear\nmodels:\n"
                           "  - {model: demo/models/math, parameters: {weight: 1}}\n"
                           "  - {model: demo/models/code, parameters: {weight: 1}}\n";
  const std::string merge = "merge " + recipe + " " + out() + " -q ";
  const lewis::Run refused = lewis(merge + "--require-partial");
  EXPECT_EQ(refused.code, 2);
  EXPECT_NE(refused.err.find("nothing to resume"), std::string::npos) << refused.err;
  EXPECT_FALSE(fs::exists(out() + ".partial"));
  EXPECT_EQ(lewis(merge + "--resume --require-partial").code, 2);
  EXPECT_EQ(lewis(merge + "--resume").code, 0);
  const std::string bytes = file_text(out() + "/model.safetensors");
  fs::remove_all(out());
  // A run that was killed before it wrote anything leaves a folder with its mark alone.
  fs::create_directories(out() + ".partial");
  std::ofstream(out() + ".partial/.lewis-partial");
  EXPECT_EQ(lewis(merge + "--resume").code, 0);
  EXPECT_EQ(file_text(out() + "/model.safetensors"), bytes);
  EXPECT_FALSE(fs::exists(out() + ".partial"));
}

// ---- a first recipe ----

// Options for every method, and whether a text per model can guide it.
TEST_F(Manners, FirstRecipesOfAllMethodsAreAccepted) {
  for (const std::string_view name : merge_method_names()) {
    const MergeMethod& method = find_merge_method(name);
    const bool one = method.max_models == 1;
    const std::string recipe = (dir_.path / "first.yml").string();
    const std::string arguments =
        "new " + recipe + " --force --method " + std::string(name) +
        (method.base == BaseRole::kModel ? "" : " --base demo/models/base") +
        (one ? " --models demo/models/math" : " --models demo/models/math,demo/models/code");
    EXPECT_EQ(lewis(arguments).code, 0) << name;
    EXPECT_EQ(lewis("check " + recipe).code, 0) << file_text(recipe);
    // mergekit reads what lewis prints of it.
    EXPECT_NE(file_text(recipe).find("\nmerge_method: " + std::string(name) + "\n"),
              std::string::npos);
    const lewis::Run with_texts =
        lewis(arguments + (one ? " --data demo/data/math_train.jsonl --format gsm8k"
                               : " --data demo/data/math_train.jsonl,demo/data/code_train.jsonl "
                                 "--format gsm8k,mbpp"));
    EXPECT_EQ(with_texts.code, 0) << with_texts.err;
    const lewis::Run merged = lewis("merge " + recipe + " " + out() + " --dry-run -q");
    EXPECT_EQ(merged.code, 0) << merged.err << file_text(recipe);
    if (method.base == BaseRole::kApart && !one) {
      EXPECT_NE(merged.out.find("would be refined"), std::string::npos) << file_text(recipe);
    }
  }
}

// The commented section becomes a section when its marks are removed.
TEST_F(Manners, TheCommentsOfAFirstRecipeAreARecipe) {
  const std::string recipe = (dir_.path / "first.yml").string();
  ASSERT_EQ(
      lewis("new " + recipe + " --base demo/models/base --models demo/models/math,demo/models/code")
          .code,
      0);
  std::string text = file_text(recipe);
  const size_t section = text.find("# lewis:");
  ASSERT_NE(section, std::string::npos);
  std::string lines = std::regex_replace(text.substr(section), std::regex("(^|\n)# "), "$1");
  lines = std::regex_replace(lines, std::regex("text_1.jsonl"),
                             "demo/data/math_train.jsonl, format: gsm8k");
  lines = std::regex_replace(lines, std::regex("text_2.jsonl"),
                             "demo/data/code_train.jsonl, format: mbpp");
  std::ofstream(recipe) << text.substr(0, section) << lines;
  const lewis::Run merged = lewis("merge " + recipe + " " + out() + " --dry-run -q");
  EXPECT_EQ(merged.code, 0) << merged.err << lines;
  EXPECT_NE(merged.out.find("would be refined"), std::string::npos);
}

TEST_F(Manners, FirstRecipesThatCannotBeAreRefused) {
  const std::string file = (dir_.path / "first.yml").string();
  const std::vector<std::pair<std::string, std::string>> kWrong = {
      {"", "--base MODEL --models MODEL,MODEL"},
      {"--models a,b", "give --base"},
      {"--base base", "give --models"},
      {"--base base --models a,a", "named twice"},
      {"--base base --models base", "named twice"},
      {"--base base --models a,b --method slerp", "takes 1 model"},
      {"--base base --models a --method model_stock", "2 or more"},
      {"--base base --models a --method tis", "did you mean 'ties'"},
      {"--base base --models a,b --data x.jsonl", "1 texts for 2 models"},
      {"--base base --models a --data x.jsonl --format gsm", "did you mean 'gsm8k'"}};
  for (const auto& [options, said] : kWrong) {
    const lewis::Run run = lewis("new " + file + " " + options);
    EXPECT_EQ(run.code, 2) << options;
    EXPECT_NE(run.err.find(said), std::string::npos) << options << ": " << run.err;
    EXPECT_FALSE(fs::exists(file)) << options;
  }
  std::ofstream(file) << "mine";
  EXPECT_EQ(lewis("new " + file + " --base base --models a").code, 2);
  EXPECT_EQ(file_text(file), "mine");
}

// Names that YAML would read as something else are quoted.
TEST_F(Manners, AFirstRecipeQuotesNames) {
  const std::string file = (dir_.path / "first.yml").string();
  const fs::path odd = dir_.path / "yes: #1 \"x\"";
  fs::copy(fs::path(LEWIS_DEMO) / "models/math", odd);
  ASSERT_EQ(
      lewis("new '" + file + "' --base demo/models/base --models '" + odd.string() + "'").code, 0);
  EXPECT_EQ(lewis("check " + file).code, 0) << file_text(file);
}

// ---- a terminal ----

// A program on a terminal of its own. Every line is typed when the prompt before it has come.
class Typist {
 public:
  Typist(const std::vector<std::string>& words, const std::string& folder) {
    winsize size{24, 200, 0, 0};
    child_ = forkpty(&terminal_, nullptr, nullptr, &size);
    if (child_ == 0) {
      std::vector<char*> argv;
      for (const std::string& w : words) argv.push_back(const_cast<char*>(w.c_str()));
      argv.push_back(nullptr);
      const std::string path = fs::path(lewis_program()).parent_path().string() + ":/usr/bin:/bin";
      setenv("PATH", path.c_str(), 1);
      setenv("TERM", "vt100", 1);
      setenv("HOME", folder.c_str(), 1);
      setenv("HF_HUB_CACHE", (folder + "/hub").c_str(), 1);
      for (const char* name : {"HISTFILE", "INPUTRC", "ZDOTDIR"}) unsetenv(name);
      if (chdir(LEWIS_SOURCE) == 0) execvp(argv[0], argv.data());
      _exit(127);
    }
  }
  ~Typist() {
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
    close(terminal_);
  }
  Typist(const Typist&) = delete;
  Typist& operator=(const Typist&) = delete;

  // Waits for `text` behind what was waited for before, at most 20 s; what came until then.
  std::string wait_for(const std::string& text) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    for (;;) {
      if (const size_t at = seen_.find(text, read_); at != std::string::npos) {
        const std::string before = seen_.substr(read_, at - read_);
        read_ = at + text.size();
        return before;
      }
      pollfd input = {terminal_, POLLIN, 0};
      char buffer[4096];
      const ssize_t got =
          poll(&input, 1, 200) > 0 ? ::read(terminal_, buffer, sizeof buffer) : ssize_t{-1};
      if (got > 0) seen_.append(buffer, static_cast<size_t>(got));
      if (std::chrono::steady_clock::now() > end || (got <= 0 && (input.revents & POLLHUP))) {
        ADD_FAILURE() << "'" << text << "' did not come; there is: " << seen_;
        return "";
      }
    }
  }
  void type(const std::string& text) {
    EXPECT_EQ(::write(terminal_, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  int code() {
    int status = 0;
    waitpid(child_, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  int terminal_ = -1;
  pid_t child_ = -1;
  std::string seen_;
  size_t read_ = 0;
};

TEST_F(Manners, NewAsksInATerminal) {
  const std::string file = (dir_.path / "asked.yml").string();
  Typist person({lewis_program(), "new"}, dir_.path.string());
  person.wait_for("fine-tuned from: ");
  person.type("demo/models/base\n");
  person.wait_for("MODEL,MODEL): ");
  person.type("demo/models/math, demo/models/code\n");
  person.wait_for("[ties]: ");
  person.type("tise\n");
  person.wait_for("did you mean 'ties'");
  person.wait_for("[ties]: ");
  person.type("\n");
  person.wait_for("models/math: ");
  person.type("no_such_file\n");
  person.wait_for("no such file");
  person.wait_for("models/math: ");
  person.type("\n");
  person.wait_for("[recipe.yml]: ");
  person.type(file + "\n");
  EXPECT_EQ(person.wait_for("Written: ").find("\\n"), std::string::npos) << "escaped line feeds";
  EXPECT_EQ(person.code(), 0);
  EXPECT_EQ(lewis("check " + file).code, 0) << file_text(file);
}

TEST_F(Manners, NewIsInterruptedAtOnce) {
  Typist person({lewis_program(), "new"}, dir_.path.string());
  person.wait_for("fine-tuned from: ");
  person.type("\x03");
  EXPECT_EQ(person.code(), 130);
}

// ---- completion ----

// Makes a cache of the hub with one model and one data set, and folders to choose from.
void furnish(const fs::path& folder) {
  fs::create_directories(folder / "hub/models--owner--small/snapshots");
  fs::create_directories(folder / "hub/datasets--openai--gsm8k/snapshots");
  fs::create_directories(folder / "my models/expert one");
  std::ofstream(folder / "my models/expert one/config.json") << "{}";
  fs::create_directories(folder / "my models/empty");
  std::ofstream(folder / "only.yaml");
  std::ofstream(folder / "other.txt");
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

TEST_F(Manners, CompletionKnowsVerbsOptionsAndValues) {
  furnish(dir_.path);
  const std::string here = dir_.path.string();
  const auto completed = [&](const std::string& words) {
    std::vector<std::string> lines =
        lines_of(run_lewis(dir_.path, "complete -- " + words, here).out);
    if (!lines.empty()) lines.erase(lines.begin());
    return lines;
  };
  using Lines = std::vector<std::string>;
  setenv("HF_HUB_CACHE", (here + "/hub").c_str(), 1);
  EXPECT_EQ(completed("me"), (Lines{"merge"}));
  EXPECT_EQ(completed("merge --res"), (Lines{"--resume"}));
  EXPECT_EQ(completed("merge --resume --res"), Lines{}) << "it is there already";
  EXPECT_EQ(completed("merge ''"), (Lines{"hub/", "my models/", "only.yaml"}));
  EXPECT_EQ(completed("merge only.yaml h"), (Lines{"hub/"}));
  EXPECT_EQ(completed("merge --compute b"), (Lines{"bf16"}));
  EXPECT_EQ(completed("merge --compute=b"), (Lines{"--compute=bf16"}));
  EXPECT_EQ(completed("merge --report=ot"), (Lines{"--report=other.txt"}));
  EXPECT_EQ(completed("inspect 'my models/'"), (Lines{"my models/empty/", "my models/expert one"}));
  EXPECT_EQ(completed("inspect owner/"), (Lines{"owner/small"}));
  EXPECT_EQ(completed("diff x ow"), (Lines{"owner/small"}));
  EXPECT_EQ(completed("eval a b ow"), (Lines{"owner/small"}));
  EXPECT_EQ(completed("eval x --task gsm8k"), (Lines{"gsm8k", "gsm8k_cot"}));
  EXPECT_EQ(completed("eval x --task loss:ot"), (Lines{"loss:other.txt"}));
  EXPECT_EQ(completed("eval x --task loss:other.txt:gs"), (Lines{"loss:other.txt:gsm8k"}));
  EXPECT_EQ(completed("eval x --data openai/"), (Lines{"openai/gsm8k"}));
  EXPECT_EQ(completed("calibrate x --format if"), (Lines{"ifeval"}));
  EXPECT_EQ(completed("calibrate x --protocol r"), (Lines{"reference"}));
  EXPECT_EQ(completed("new --method dare"), (Lines{"dare_linear", "dare_ties"}));
  EXPECT_EQ(completed("new --models a,ow"), (Lines{"a,owner/small"}));
  EXPECT_EQ(completed("completion z"), (Lines{"zsh"}));
  EXPECT_EQ(completed("man ver"), (Lines{"verify"}));
  EXPECT_EQ(completed("nonsense x"), Lines{});
  EXPECT_EQ(completed("diff a b c"), Lines{});
  unsetenv("HF_HUB_CACHE");
}

// Tab in a shell with the script loaded: Ctrl-A and echo show what it made of the line.
void expect_completions(Typist& shell) {
  const std::vector<std::pair<std::string, std::string>> kLines = {
      {"lewis mer", "lewis merge"},
      {"lewis merge --requ", "lewis merge --require-partial"},
      {"lewis plan ~/on", "only.yaml"},
      {"lewis inspect ow", "lewis inspect owner/small"},
      {"lewis eval x --task humane", "lewis eval x --task humaneval"},
      {"lewis eval x --task loss:demo/data/math_te", "loss:demo/data/math_test.jsonl"},
      {"lewis inspect ~/my\\ models/exp", "/my models/expert one"},
      {"lewis new --method nus", "lewis new --method nuslerp"},
      {"lewis merge --compute=b", "lewis merge --compute=bf16"}};
  for (const auto& [typed, completed] : kLines) {
    shell.type(typed + "\t");
    shell.type(
        "\x01"
        "echo G''OT \x05 END\n");
    shell.wait_for("GOT ");
    const std::string line = shell.wait_for(" END");
    EXPECT_NE(line.find(completed), std::string::npos) << typed << " became " << line;
    shell.wait_for("READY>");
  }
}

TEST_F(Manners, BashCompletes) {
  furnish(dir_.path);
  Typist shell({"bash", "--noprofile", "--norc", "-i"}, dir_.path.string());
  shell.type("PS1='READY''>'; bind 'set bell-style none'; source <(lewis completion bash)\n");
  shell.wait_for("READY>");
  expect_completions(shell);
}

TEST_F(Manners, ZshCompletes) {
  if (system("command -v zsh >/dev/null") != 0) GTEST_SKIP() << "no zsh here";
  furnish(dir_.path);
  Typist shell({"zsh", "-f", "-i"}, dir_.path.string());
  shell.type(
      "unsetopt prompt_cr prompt_sp; PS1='READY''>'; bindkey -e; autoload -U compinit; compinit -u "
      "-D; "
      "source <(lewis completion zsh)\n");
  shell.wait_for("READY>");
  expect_completions(shell);
}

TEST_F(Manners, FishCompletes) {
  if (system("command -v fish >/dev/null") != 0) GTEST_SKIP() << "no fish here";
  furnish(dir_.path);
  const std::string path = fs::path(lewis_program()).parent_path().string();
  const std::string script = (dir_.path / "ask.fish").string();
  std::ofstream(script) << "set -x PATH " << path << " $PATH\nset -x HF_HUB_CACHE "
                        << (dir_.path / "hub").string()
                        << "\nlewis completion fish | source\n"
                           "complete -C 'lewis mer'\ncomplete -C 'lewis inspect ow'\n"
                           "complete -C 'lewis eval x --task human'\n"
                           "complete -C 'lewis merge --requ'\n"
                           "complete -C 'lewis plan "
                        << dir_.path.string() << "/on'\n";
  const std::string out_file = (dir_.path / "out.txt").string();
  ASSERT_EQ(
      system(("HOME='" + dir_.path.string() + "' fish --no-config " + script + " >" + out_file)
                 .c_str()),
      0);
  const std::string answers = file_text(out_file);
  for (const char* word :
       {"merge\t", "owner/small\t", "humaneval", "--require-partial\t", "/only.yaml"})
    EXPECT_NE(answers.find(word), std::string::npos) << word << ": " << answers;
}

// ---- manual pages ----

TEST_F(Manners, ManualPagesNameAllOptions) {
  const std::string folder = (dir_.path / "man").string();
  ASSERT_EQ(lewis("man --out " + folder).code, 0);
  const std::string main_page = file_text(folder + "/lewis.1");
  size_t pages = 0;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().stem().string();
    ++pages;
    if (name == "lewis") continue;
    const std::string verb = name.substr(name.find('-') + 1);
    EXPECT_NE(main_page.find("lewis\\-" + verb), std::string::npos) << verb;
    std::string page = file_text(entry.path());
    EXPECT_EQ(lewis("man " + verb).out, page);
    page = std::regex_replace(page, std::regex(R"(\\)"), "");
    const std::string help = lewis(verb + " --help").out;
    const std::string options = help.substr(0, help.find("Taken from mergekit"));
    static const std::regex kOption("\n  (?:-.,)?(--[a-z-]+)");
    for (std::sregex_iterator it(options.begin(), options.end(), kOption), end; it != end; ++it)
      EXPECT_NE(page.find((*it)[1]), std::string::npos) << verb << " " << (*it)[1];
  }
  EXPECT_GE(pages, 14u);
  if (system("command -v mandoc >/dev/null") == 0) {
    EXPECT_EQ(system(("mandoc -Tlint -W warning " + folder + "/*.1").c_str()), 0);
  }
}

}  // namespace
}  // namespace lewis
