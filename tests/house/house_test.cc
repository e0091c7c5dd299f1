// Tests HACKING.md's picture: which room may include which, and which library belongs to which.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

namespace fs = std::filesystem;
using Rooms = std::map<std::string, std::set<std::string>>;

namespace {

// Direct arrows; what a room may see beyond them follows the arrows (closure below).
const Rooms kArrows = {
    {"base", {}},
    {"io", {"base"}},
    {"hub", {"io"}},
    {"yaml", {"base"}},
    {"recipe", {"io", "yaml"}},
    {"merge", {"recipe", "text", "compute"}},
    {"text", {"base", "yaml"}},
    {"compute", {"base"}},
    {"model", {"io", "compute", "text"}},
    {"calibrate", {"model"}},
    {"plan", {"io", "recipe", "calibrate"}},
    {"eval", {"model"}},
    {"refine", {"model", "calibrate", "merge"}},
    {"report", {"base"}},
    {"tune", {"io"}},
    {"app",
     {"base", "io", "yaml", "recipe", "text", "compute", "model", "calibrate", "plan", "merge",
      "refine", "eval", "report", "tune", "hub"}},
    {"cli", {"app"}},
};

std::set<std::string> visible_from(const std::string& room) {
  std::set<std::string> seen = {room};
  std::vector<std::string> todo = {room};
  while (!todo.empty()) {
    const std::string next = todo.back();
    todo.pop_back();
    for (const std::string& other : kArrows.at(next)) {
      if (seen.insert(other).second) todo.push_back(other);
    }
  }
  return seen;
}

struct Include {
  std::string file;    // "merge/engine.cc"
  std::string room;    // "merge"
  std::string target;  // "io/checkpoint.h"
};

// The lines of every file of a folder by its name there, "merge/engine.cc".
std::map<std::string, std::vector<std::string>> read_source(const std::string& folder = "src") {
  const fs::path src = fs::path(LEWIS_SOURCE) / folder;
  std::map<std::string, std::vector<std::string>> files;
  for (const auto& entry : fs::recursive_directory_iterator(src)) {
    if (!entry.is_regular_file()) continue;
    auto& lines = files[fs::relative(entry.path(), src).string()];
    std::ifstream in(entry.path());
    for (std::string line; std::getline(in, line);) lines.push_back(line);
  }
  return files;
}

std::vector<Include> read_includes(const std::string& folder = "src") {
  static const std::regex kInclude(R"re(^\s*#\s*include\s*["<]([^">]+)[">])re");
  std::vector<Include> includes;
  for (const auto& [file, lines] : read_source(folder)) {
    for (const std::string& line : lines) {
      std::smatch match;
      if (std::regex_search(line, match, kInclude))
        includes.push_back({file, file.substr(0, file.find('/')), match[1]});
    }
  }
  return includes;
}

TEST(House, OnlyDrawnArrows) {
  const auto includes = read_includes();
  ASSERT_GT(includes.size(), 100u);
  for (const Include& i : includes) {
    const std::string target_room = i.target.substr(0, i.target.find('/'));
    if (!kArrows.contains(target_room)) continue;  // a library's header
    ASSERT_TRUE(kArrows.contains(i.room)) << i.file << " is in a room that the house does not have";
    EXPECT_TRUE(visible_from(i.room).contains(target_room))
        << i.file << " includes " << i.target << ": " << i.room << " may not look into "
        << target_room;
  }
}

TEST(House, LibrariesStayBehindTheirDoor) {
  const std::vector<std::pair<std::regex, std::string>> doors = {
      {std::regex("^nlohmann/"), "base/json"},
      {std::regex("^libfyaml"), "yaml/"},
      {std::regex("^(oneapi/)?dnnl|^omp\\.h|^cuda|^Eigen/|^lapacke?"), "compute/"},
      {std::regex("^lewis_(text|data)\\.h"), "text/"},
      {std::regex("^lewis_http\\.h"), "hub/"},
      {std::regex("^CLI/"), "cli/"},
  };
  for (const Include& i : read_includes()) {
    for (const auto& [library, door] : doors) {
      if (std::regex_search(i.target, library)) {
        EXPECT_TRUE(i.file.starts_with(door))
            << i.file << " includes " << i.target << ", which belongs to " << door;
      }
    }
  }
}

// Programs that link lewis need no other library's headers.
TEST(House, PublicHeadersIncludeOnlyTheStandardLibrary) {
  const auto includes = read_includes("include");
  ASSERT_GT(includes.size(), 20u);
  for (const Include& i : includes) {
    const bool standard = i.target.find_first_of("./") == std::string::npos;
    EXPECT_TRUE(standard || i.target.starts_with("lewis/")) << i.file << ": " << i.target;
  }
}

TEST(House, NothingBelowCliPrintsOrExits) {
  static const std::regex kForbidden(
      R"((std::cout|std::cerr|\bprintf\s*\(|fmt::print|\bputs\s*\(|\b_?exit\s*\(|\babort\s*\())");
  for (const auto& [file, lines] : read_source()) {
    if (file.starts_with("cli/")) continue;
    // The processes of the sandbox and those that work on strangers' texts end by _exit.
    const bool child = file.starts_with("eval/sandbox") || file == "text/child_side.cc";
    for (const std::string& line : lines) {
      const std::string code = line.substr(0, line.find("//"));
      if (child && code.find(" _exit(") != std::string::npos) continue;
      EXPECT_FALSE(std::regex_search(code, kForbidden)) << file << ": " << line;
    }
  }
}

// Two classes of one name are undefined behaviour that links without a word: the inline members of
// one may run for the other.
TEST(House, OneClassOfEachName) {
  static const std::regex kDefinition(
      R"(^(class|struct|enum class) (?:LEWIS_API )?(\w+)( final)?( :.*)? \{)");
  std::map<std::string, std::string> file_of;  // by class
  auto files = read_source();
  files.merge(read_source("include"));
  for (const auto& [file, lines] : files) {
    bool hidden = false;  // in an anonymous namespace
    for (const std::string& line : lines) {
      if (line == "namespace {") hidden = true;
      if (line == "}  // namespace") hidden = false;
      std::smatch match;
      if (hidden || !std::regex_search(line, match, kDefinition)) continue;
      const auto [other, first] = file_of.emplace(match[2], file);
      EXPECT_TRUE(first) << match[2] << " is in " << file << " and in " << other->second;
    }
  }
  EXPECT_GT(file_of.size(), 100u);
}

std::vector<std::string> lines_of(const fs::path& file) {
  std::vector<std::string> lines;
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

// Characters of UTF-8 text.
size_t columns(const std::string& line) {
  return static_cast<size_t>(std::ranges::count_if(
      line, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

TEST(House, HackingIsADoor) {
  const auto lines = lines_of(fs::path(LEWIS_SOURCE) / "HACKING.md");
  EXPECT_GT(lines.size(), 50u);
  EXPECT_LE(lines.size(), 150u);
  for (const std::string& line : lines) EXPECT_LE(columns(line), 100u) << line;
}

// Pages for people and comments may only name files that are there.
TEST(House, NamedFilesExist) {
  static const std::regex kName(
      R"(\b((?:[a-z_0-9]+/)+[a-z_0-9]+\.(?:cc|h|inc|rs|sh|py|yml|md)|docs/[a-z_]+\.md)\b)");
  const fs::path root = LEWIS_SOURCE;
  std::map<std::string, std::vector<std::string>> pages;
  for (const char* page : {"HACKING.md", "README.md"}) pages[page] = lines_of(root / page);
  for (const auto& entry : fs::directory_iterator(root / "docs")) {
    if (entry.path().extension() == ".md")
      pages["docs/" + entry.path().filename().string()] = lines_of(entry.path());
  }
  for (const auto& [file, lines] : read_source()) {
    for (const std::string& line : lines) {
      const size_t comment = line.find("//");
      if (comment != std::string::npos) pages["src/" + file].push_back(line.substr(comment));
    }
  }
  size_t names = 0;
  for (const auto& [page, lines] : pages) {
    for (const std::string& line : lines) {
      for (std::sregex_iterator i(line.begin(), line.end(), kName), end; i != end; ++i) {
        const std::string name = (*i)[1], room = name.substr(0, name.find('/'));
        const bool ours = kArrows.contains(room) || fs::is_directory(root / room);
        if (!ours || name.starts_with("demo/out")) continue;
        ++names;
        EXPECT_TRUE(fs::exists(root / name) || fs::exists(root / "src" / name))
            << page << " names " << name << ", which is not there";
      }
    }
  }
  EXPECT_GT(names, 50u);
}

// The dispatcher of a function of several versions is visible in liblewis.so, whatever its
// attributes say, unless the function has internal linkage.
TEST(House, VectorizedFunctionsAreHidden) {
  size_t functions = 0;
  for (const auto& [file, lines] : read_source()) {
    bool hidden = false;  // in an anonymous namespace
    for (const std::string& line : lines) {
      if (line == "namespace {") hidden = true;
      if (line == "}  // namespace") hidden = false;
      if (!line.starts_with("LEWIS_VECTORIZED ")) continue;
      ++functions;
      EXPECT_TRUE(hidden || line.starts_with("LEWIS_VECTORIZED static ")) << file << ": " << line;
    }
  }
  EXPECT_GT(functions, 30u);
}

// The check itself must be able to fail.
TEST(House, ClosureFollowsArrows) {
  EXPECT_TRUE(visible_from("merge").contains("io"));
  EXPECT_FALSE(visible_from("merge").contains("model"));
  EXPECT_FALSE(visible_from("io").contains("recipe"));
  EXPECT_FALSE(visible_from("plan").contains("merge"));
}

}  // namespace
