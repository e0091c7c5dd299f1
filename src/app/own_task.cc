#include "app/own_task.h"

#include "base/error.h"
#include "base/text_file.h"
#include "yaml/reader.h"

namespace lewis {
namespace {

enum class ShotsChoice { kSample, kFirst };
enum class Match { kFirst, kLast };

}  // namespace

template <>
inline constexpr auto kEnumNames<ShotsChoice> = std::to_array<EnumName<ShotsChoice>>(
    {{ShotsChoice::kSample, "sample"}, {ShotsChoice::kFirst, "first"}});
template <>
inline constexpr auto kEnumNames<Match> = std::to_array<EnumName<Match>>({{Match::kFirst, "first"},
                                                                          {Match::kLast, "last"}});

namespace {

class Reader : private YamlReader {
 public:
  explicit Reader(const std::filesystem::path& file) : YamlReader(file.string()), file_(file) {}

  OwnTask read() {
    const std::vector<YamlNode> documents = parse_yaml(read_text_file(file_), where());
    if (documents.size() != 1) throw usage_error("{}: expected one document", where());
    const YamlNode& root = documents[0];
    check_keys(root,
               {"task", "data", "prompt", "target", "stops", "shots", "shots_data", "shots_choice",
                "answer", "compare", "python", "delimiter", "max_new_tokens"},
               "the task");
    OwnTask task;
    task.name = text_of(root, "task").value_or(file_.stem().string());
    if (const auto data = text_of(root, "data")) task.data = beside(*data);
    if (const auto data = text_of(root, "shots_data")) task.shots_data = beside(*data);
    task.prompt = needed(root, "prompt");
    task.target = text_of(root, "target").value_or("");
    task.delimiter = text_of(root, "delimiter").value_or(" ");
    task.stops = texts_of(root, "stops");
    task.shots = whole_of(root, "shots", 0).value_or(0);
    if (const auto most = whole_of(root, "max_new_tokens", 1)) {
      task.max_new_tokens = static_cast<int64_t>(*most);
    }
    if (const YamlNode* choice_node = root.find("shots_choice")) {
      task.shots_in_order =
          choice<ShotsChoice>(*choice_node, "shots_choice") == ShotsChoice::kFirst;
    }
    read_answer(root, task);
    read_compare(root, task);
    read_python(root, task);
    check(root, task);
    return task;
  }

 private:
  std::optional<std::string> text_of(const YamlNode& map, std::string_view key) const {
    const YamlNode* node = map.find(key);
    return node ? std::optional(any_text(*node, key)) : std::nullopt;
  }

  std::string needed(const YamlNode& map, std::string_view key) const {
    return any_text(need(map, key), key);
  }

  std::vector<std::string> texts_of(const YamlNode& map, std::string_view key) const {
    const YamlNode* node = map.find(key);
    if (!node) return {};
    if (node->kind != YamlNode::Kind::kList)
      fail(node->line, fmt::format("{} must be a list", key));
    std::vector<std::string> texts;
    for (const YamlNode& item : node->items) texts.push_back(any_text(item, key));
    return texts;
  }

  std::optional<uint64_t> whole_of(const YamlNode& map, std::string_view key,
                                   uint64_t least) const {
    constexpr uint64_t kMost = 1'000'000'000;
    const YamlNode* node = map.find(key);
    if (!node) return std::nullopt;
    const uint64_t value = count(*node, key, least);
    if (value > kMost) fail(node->line, fmt::format("{} {} is above {}", key, value, kMost));
    return value;
  }

  bool flag_of(const YamlNode& map, std::string_view key, bool otherwise) const {
    const YamlNode* node = map.find(key);
    return node ? flag(*node, key) : otherwise;
  }

  std::filesystem::path beside(const std::string& path) const { return file_.parent_path() / path; }

  void read_answer(const YamlNode& root, OwnTask& task) const {
    const YamlNode* map = root.find("answer");
    if (!map) return;
    check_keys(*map, {"regex", "match", "group"}, "answer");
    task.answer.regex = needed(*map, "regex");
    if (const YamlNode* match = map->find("match"))
      task.answer.last = choice<Match>(*match, "match") == Match::kLast;
    if (const auto group = whole_of(*map, "group", 0)) task.answer.group = *group;
  }

  void read_compare(const YamlNode& root, OwnTask& task) const {
    const auto map = section(root, "compare");
    if (!map) return;
    check_keys(*map, {"remove", "ignore_case", "strip"}, "compare");
    task.remove = texts_of(*map, "remove");
    task.ignore_case = flag_of(*map, "ignore_case", false);
    task.strip = flag_of(*map, "strip", true);
  }

  void read_python(const YamlNode& root, OwnTask& task) const {
    const YamlNode* map = root.find("python");
    if (!map) return;
    check_keys(*map, {"program", "tests"}, "python");
    task.program = text_of(*map, "program").value_or("{generated}");
    task.tests = needed(*map, "tests");
    if (task.tests.empty()) fail(map->line, "the tests are empty");
    if (task.program.find("{generated}") == std::string::npos) {
      fail(map->line, "the program has no {generated}, the text of the model");
    }
  }

  void check(const YamlNode& root, const OwnTask& task) const {
    if (task.data.empty()) fail(root.line, "there is no 'data'");
    if (task.target.empty() && (!task.runs_programs() || task.shots > 0)) {
      fail(root.line, "there is no 'target': what a right answer is");
    }
    if (task.runs_programs() && (root.find("answer") || root.find("compare"))) {
      fail(root.line, "'python' and 'answer' or 'compare' exclude each other");
    }
    if (task.shots > 0 && task.shots_data.empty()) fail(root.line, "'shots' need 'shots_data'");
  }

  std::filesystem::path file_;
};

}  // namespace

OwnTask read_own_task(const std::filesystem::path& file) { return Reader(file).read(); }

}  // namespace lewis
