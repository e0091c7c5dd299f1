#include "app/own_task.h"

#include <algorithm>
#include <limits>
#include <span>

#include "base/error.h"
#include "base/suggest.h"
#include "base/text_file.h"
#include "recipe/yaml.h"

namespace lewis {
namespace {

using Names = std::span<const std::string_view>;

class Reader {
 public:
  explicit Reader(const std::filesystem::path& file) : file_(file), where_(file.string()) {}

  OwnTask read() {
    const std::vector<YamlNode> documents = parse_yaml(read_text_file(file_), where_);
    if (documents.size() != 1) throw usage_error("{}: expected one document", where_);
    const YamlNode& root = documents[0];
    static constexpr std::string_view kKeys[] = {
        "task",         "data",   "prompt",  "target", "stops",     "shots",         "shots_data",
        "shots_choice", "answer", "compare", "python", "delimiter", "max_new_tokens"};
    check_keys(root, kKeys, "the task");
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
    task.shots_in_order = choice_of(root, "shots_choice", {"sample", "first"}) == "first";
    read_answer(root, task);
    read_compare(root, task);
    read_python(root, task);
    check(root, task);
    return task;
  }

 private:
  [[noreturn]] void fail(const YamlNode& node, const std::string& message) const {
    throw usage_error("{}:{}: {}", where_, node.line, message);
  }

  void check_keys(const YamlNode& map, Names known, std::string_view what) const {
    if (map.kind != YamlNode::Kind::kMap) fail(map, fmt::format("{} must be a map", what));
    for (const auto& [key, value] : map.entries) {
      if (std::ranges::find(known, key.scalar) != known.end()) continue;
      fail(key, fmt::format("unknown key {} in {}; did you mean '{}'?", in_quotes(key.scalar), what,
                            nearest_name(key.scalar, known)));
    }
  }

  std::optional<std::string> text_of(const YamlNode& map, std::string_view key) const {
    const YamlNode* node = map.find(key);
    if (!node) return std::nullopt;
    if (node->kind != YamlNode::Kind::kScalar) fail(*node, fmt::format("{} must be a text", key));
    return node->scalar;
  }

  std::string needed(const YamlNode& map, std::string_view key) const {
    const auto text = text_of(map, key);
    if (!text) fail(map, fmt::format("there is no '{}'", key));
    return *text;
  }

  std::vector<std::string> texts_of(const YamlNode& map, std::string_view key) const {
    const YamlNode* node = map.find(key);
    if (!node) return {};
    if (node->kind != YamlNode::Kind::kList) fail(*node, fmt::format("{} must be a list", key));
    std::vector<std::string> texts;
    for (const YamlNode& item : node->items) {
      if (item.kind != YamlNode::Kind::kScalar) fail(item, fmt::format("{}: expected texts", key));
      texts.push_back(item.scalar);
    }
    return texts;
  }

  std::optional<uint64_t> whole_of(const YamlNode& map, std::string_view key,
                                   uint64_t least) const {
    const YamlNode* node = map.find(key);
    if (!node) return std::nullopt;
    const auto number = node->number();
    constexpr double kMost = 1e9;
    if (!number || *number < static_cast<double>(least) || *number > kMost ||
        *number != static_cast<double>(static_cast<uint64_t>(*number))) {
      fail(*node, fmt::format("{} must be a whole number from {}", key, least));
    }
    return static_cast<uint64_t>(*number);
  }

  bool flag_of(const YamlNode& map, std::string_view key, bool otherwise) const {
    const YamlNode* node = map.find(key);
    if (!node) return otherwise;
    const auto flag = node->boolean();
    if (!flag) fail(*node, fmt::format("{} must be true or false", key));
    return *flag;
  }

  // The first of the known ones where the key is not there.
  std::string choice_of(const YamlNode& map, std::string_view key,
                        std::initializer_list<std::string_view> known) const {
    const auto text = text_of(map, key);
    if (!text) return std::string(*known.begin());
    if (std::ranges::find(known, *text) == known.end()) {
      fail(*map.find(key), fmt::format("{} is {}; known: {}, {}", key, in_quotes(*text),
                                       *known.begin(), *(known.begin() + 1)));
    }
    return *text;
  }

  std::filesystem::path beside(const std::string& path) const { return file_.parent_path() / path; }

  void read_answer(const YamlNode& root, OwnTask& task) const {
    const YamlNode* map = root.find("answer");
    if (!map) return;
    static constexpr std::string_view kKeys[] = {"regex", "match", "group"};
    check_keys(*map, kKeys, "answer");
    task.answer.regex = needed(*map, "regex");
    task.answer.last = choice_of(*map, "match", {"first", "last"}) == "last";
    if (const auto group = whole_of(*map, "group", 0)) task.answer.group = *group;
  }

  void read_compare(const YamlNode& root, OwnTask& task) const {
    const YamlNode* map = root.find("compare");
    if (!map) return;
    static constexpr std::string_view kKeys[] = {"remove", "ignore_case", "strip"};
    check_keys(*map, kKeys, "compare");
    task.remove = texts_of(*map, "remove");
    task.ignore_case = flag_of(*map, "ignore_case", false);
    task.strip = flag_of(*map, "strip", true);
  }

  void read_python(const YamlNode& root, OwnTask& task) const {
    const YamlNode* map = root.find("python");
    if (!map) return;
    static constexpr std::string_view kKeys[] = {"program", "tests"};
    check_keys(*map, kKeys, "python");
    task.program = text_of(*map, "program").value_or("{generated}");
    task.tests = needed(*map, "tests");
    if (task.tests.empty()) fail(*map, "the tests are empty");
    if (task.program.find("{generated}") == std::string::npos) {
      fail(*map, "the program has no {generated}, the text of the model");
    }
  }

  void check(const YamlNode& root, const OwnTask& task) const {
    if (task.data.empty()) fail(root, "there is no 'data'");
    if (task.target.empty() && (!task.runs_programs() || task.shots > 0)) {
      fail(root, "there is no 'target': what a right answer is");
    }
    if (task.runs_programs() && (root.find("answer") || root.find("compare"))) {
      fail(root, "'python' and 'answer' or 'compare' exclude each other");
    }
    if (task.shots > 0 && task.shots_data.empty()) fail(root, "'shots' need 'shots_data'");
  }

  std::filesystem::path file_;
  std::string where_;
};

}  // namespace

OwnTask read_own_task(const std::filesystem::path& file) { return Reader(file).read(); }

}  // namespace lewis
