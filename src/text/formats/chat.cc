// Conversations: {"messages": [{"role": ..., "content": ...}, ...], "tools": [...]} (tools are
// optional), or ShareGPT's {"conversations": [{"from": "human", "value": ...}, ...]}, through the
// model's chat template. The answer is the last message of the assistant with what the template
// writes behind it; messages after it are left out.
#include <algorithm>
#include <array>

#include "base/json.h"
#include "text/formats/format.h"

namespace lewis {
namespace {

// Templates that print today's date print this one (26 July 2024, where Llama 3 defaults to), so
// that the same data gives the same tokens every day.
constexpr int64_t kDate = 1721952000;

// Who speaks in ShareGPT's conversations and their descendants.
constexpr std::array<std::pair<std::string_view, std::string_view>, 13> kSpeakers = {
    {{"human", "user"},
     {"user", "user"},
     {"gpt", "assistant"},
     {"assistant", "assistant"},
     {"model", "assistant"},
     {"chatgpt", "assistant"},
     {"bing", "assistant"},
     {"bard", "assistant"},
     {"system", "system"},
     {"developer", "developer"},
     {"tool", "tool"},
     {"function_response", "tool"},
     {"observation", "tool"}}};

// A message with a role, whichever way it is written.
Json message_of(const Row& row, const Json& message, size_t number) {
  if (message.is_object() && message.contains("role") && message["role"].is_string())
    return message;
  if (!message.is_object() || !message.contains("from") || !message["from"].is_string()) {
    throw row_error(
        row, fmt::format("message {} must be an object with a string 'role' or 'from'", number));
  }
  const std::string& from = message["from"].get_ref<const std::string&>();
  const auto speaker =
      std::ranges::find(kSpeakers, from, &std::pair<std::string_view, std::string_view>::first);
  if (speaker == kSpeakers.end()) {
    throw row_error(row, fmt::format("message {} is from '{}', expected human, gpt, system or tool",
                                     number, from));
  }
  if (!message.contains("value") || !message["value"].is_string())
    throw row_error(row, fmt::format("message {} has no text as its 'value'", number));
  return Json{{"role", speaker->second}, {"content", message["value"]}};
}

// A conversation that ends with the answer.
struct Conversation {
  Json messages = Json::array();
  Json tools;

  bool has_system() const {
    return messages[0]["role"] == "system" || messages[0]["role"] == "developer";
  }
  const Json& answer() const { return messages.back(); }
};

// A list of messages, which a table may hold as a text of JSON.
Json messages_in(const Row& row, const std::string& key) {
  const Json& list = row.field(key);
  const bool is_json = list.is_string() && list.get_ref<const std::string&>().starts_with('[');
  return is_json ? parse_json(list.get<std::string>(), row.where) : list;
}

// True for a column that has something to say.
bool says(const Row& row, const char* name) {
  return row.has(name) && !row.field(name).is_null() && row.field(name) != "";
}

// A question and an answer in columns of their own, each a text or a list of messages.
Json messages_of_columns(const Row& row, const ChatColumns& columns) {
  Json messages = Json::array();
  if (says(row, "system"))
    messages.push_back({{"role", "system"}, {"content", row.text("system")}});
  const auto add = [&](const char* name, const char* role, const std::string& more) {
    const Json& column = row.field(name);
    if (column.is_array()) {
      messages.insert(messages.end(), column.begin(), column.end());
    } else {
      messages.push_back({{"role", role}, {"content", row.text(name) + more}});
    }
  };
  const bool more = columns.more && says(row, columns.more);
  add(columns.question, "user", more ? "\n\n" + row.text(columns.more) : "");
  add(columns.answer, "assistant", "");
  return messages;
}

Conversation conversation_of(const Row& row) {
  const bool sharegpt = !row.has("messages") && row.has("conversations");
  const std::string key = sharegpt ? "conversations" : "messages";
  const auto columns = row.has(key) ? std::nullopt : chat_columns(row.object);
  if (!columns && !row.has(key)) {
    throw row_error(row,
                    fmt::format("no columns of a conversation (messages, conversations, prompt "
                                "and response, or instruction and output); there are: {}",
                                column_names(row.object)));
  }
  const Json list = columns ? messages_of_columns(row, *columns) : messages_in(row, key);
  if (!list.is_array() || list.empty()) {
    throw row_error(
        row, fmt::format("the field '{}' must be a list of messages with at least one", key));
  }
  Conversation c;
  if (sharegpt && row.has("system") && row.field("system") != "" && !row.field("system").is_null())
    c.messages.push_back({{"role", "system"}, {"content", row.text("system")}});
  size_t last = 0;  // how many messages end with the answer
  for (size_t i = 0; i < list.size(); ++i) {
    c.messages.push_back(message_of(row, list[i], i + 1));
    if (c.messages.back()["role"] == "assistant") last = c.messages.size();
  }
  if (last == 0) throw row_error(row, "no message has the role 'assistant'");
  if (last == 1) throw row_error(row, "no message stands before the one of the assistant");
  c.messages.erase(c.messages.begin() + static_cast<std::ptrdiff_t>(last), c.messages.end());
  if (row.has("tools")) c.tools = row.field("tools");
  if (c.tools.is_string())  // ShareGPT's descendants write them as a text
    c.tools = c.tools == "" ? Json() : parse_json(c.tools.get<std::string>(), row.where);
  return c;
}

// The content of a message as text; "" where it is something else.
std::string content_of(const Json& message) {
  constexpr std::string_view kSpace = " \t\r\n";
  const auto found = message.find("content");
  if (found == message.end() || !found->is_string()) return "";
  const std::string& text = found->get_ref<const std::string&>();
  const size_t begin = std::min(text.find_first_not_of(kSpace), text.size());
  return text.substr(begin, text.find_last_not_of(kSpace) + 1 - begin);
}

// The conversation without its system message, which stands before the first words of the user;
// nothing where there are none.
std::optional<Conversation> joined(const Conversation& c) {
  Conversation result{Json(Json::array_t(c.messages.begin() + 1, c.messages.end())), c.tools};
  const std::string system = content_of(c.messages[0]);
  for (Json& message : result.messages) {
    if (message["role"] != "user" || !message.contains("content")) continue;
    Json& content = message["content"];
    if (content.is_string()) {
      content = system + "\n\n" + content.get<std::string>();
    } else if (content.is_array()) {
      content.insert(content.begin(), Json{{"type", "text"}, {"text", system + "\n\n"}});
    } else {
      continue;
    }
    return result;
  }
  return std::nullopt;
}

size_t common_prefix(std::string_view a, std::string_view b) {
  return static_cast<size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
}

// A line and its conversation.
struct Line {
  DataItem item;  // without a text yet
  Conversation conversation;
  std::string all, opened;     // the finished conversation, and the one before the answer
  std::optional<Error> error;  // of one of the two
};

Error line_error(const Line& line, std::string_view problem) {
  return input_error("{}: {}", line.item.where, problem);
}

// Reads the conversations of a file and counts what is to be said about them.
class ChatReader {
 public:
  explicit ChatReader(const FormatInput& input) : input_(input) {}

  std::vector<DataItem> read();

 private:
  struct Count {
    size_t conversations = 0, first_line = 0;
    void add(const Line& line) {
      if (conversations++ == 0) first_line = line.item.line;
    }
  };

  void read_lines();
  void finish_lines();
  void render_lines();
  std::optional<DataItem> item_of(const Line& line);
  std::optional<DataItem> changed(const Line& line);
  ChatTemplate::Job job(const Conversation& c, const Json& messages, bool prompt) const;
  std::string render(const Line& line, const Json& messages, bool prompt) const;
  std::optional<size_t> begin_of_answer(const Line& line) const;
  std::optional<size_t> begin_by_change(const Line& line) const;
  void tell() const;
  void note(const Count& count, std::string_view what) const;

  const FormatInput& input_;
  std::vector<Line> lines_;  // that are rendered together
  std::vector<DataItem> items_;
  Count joined_, finished_, left_out_;
  std::optional<Error> first_error_;
};

ChatTemplate::Job ChatReader::job(const Conversation& c, const Json& messages, bool prompt) const {
  ChatOptions options;
  options.add_generation_prompt = prompt;
  options.tools = c.tools;
  options.now = kDate;
  return {&messages, options};
}

std::string ChatReader::render(const Line& line, const Json& messages, bool prompt) const {
  auto rendered = input_.chat->render_all({job(line.conversation, messages, prompt)});
  if (rendered[0].error) throw line_error(line, rendered[0].error->what());
  return std::move(rendered[0].text);
}

Json before_answer(const Conversation& c) {
  return Json(Json::array_t(c.messages.begin(), c.messages.end() - 1));
}

// The texts that every line needs, of all lines in one request.
void ChatReader::render_lines() {
  std::vector<Json> befores;
  befores.reserve(lines_.size());
  std::vector<ChatTemplate::Job> jobs;
  for (const Line& line : lines_) {
    befores.push_back(before_answer(line.conversation));
    jobs.push_back(job(line.conversation, line.conversation.messages, false));
    jobs.push_back(job(line.conversation, befores.back(), true));
  }
  auto rendered = input_.chat->render_all(jobs);
  for (size_t i = 0; i < lines_.size(); ++i) {
    ChatTemplate::Rendering& all = rendered[2 * i];
    ChatTemplate::Rendering& opened = rendered[2 * i + 1];
    lines_[i].all = std::move(all.text);
    lines_[i].opened = std::move(opened.text);
    for (const auto* r : {&all, &opened}) {
      if (r->error && !lines_[i].error) lines_[i].error = line_error(lines_[i], r->error->what());
    }
  }
}

// Where the answer begins in the text of the finished conversation; nothing where the messages
// before it are written differently there.
std::optional<size_t> ChatReader::begin_of_answer(const Line& line) const {
  const std::string& all = line.all;
  if (all.starts_with(line.opened)) return line.opened.size();
  const std::string closed = render(line, before_answer(line.conversation), false);
  if (!all.starts_with(closed)) return std::nullopt;
  // Some templates open an answer with more than a finished answer has, a "<think>" for instance.
  // What both have is the header of the answer, unless the answer begins with the same letters.
  size_t begin = std::max(closed.size(), common_prefix(all, line.opened));
  const std::string content = content_of(line.conversation.answer());
  const size_t found = content.empty() ? std::string::npos : all.rfind(content, begin);
  if (found != std::string::npos && found >= closed.size()) begin = found;
  while (begin > closed.size() && (static_cast<unsigned char>(all[begin]) & 0xC0) == 0x80) --begin;
  return begin;
}

// The same for a template that writes earlier turns differently once the answer follows: where the
// finished conversation changes with the answer.
std::optional<size_t> ChatReader::begin_by_change(const Line& line) const {
  const Conversation& c = line.conversation;
  const std::string content = content_of(c.answer());
  if (content.empty() || c.has_system()) return std::nullopt;
  Json other = c.messages;
  other.back()["content"] = content.front() == 'x' ? "y" : "x";
  const size_t begin = common_prefix(line.all, render(line, other, false));
  const bool is_answer = begin > 0 && line.all.compare(begin, content.size(), content) == 0;
  return is_answer ? std::optional(begin) : std::nullopt;
}

DataItem parted(const Line& line, size_t begin) {
  DataItem item = line.item;
  item.reference_text = line.all;
  item.prompt = line.all.substr(0, begin);
  item.answer = line.all.substr(begin);
  return item;
}

// The item as the line has it; nothing for one that has to be changed. Throws what the template
// says, or that the answer cannot be told apart.
std::optional<DataItem> ChatReader::item_of(const Line& line) {
  if (line.error) throw Error(*line.error);
  if (const auto begin = begin_of_answer(line)) return parted(line, *begin);
  if (const auto begin = begin_by_change(line)) {
    finished_.add(line);
    return parted(line, *begin);
  }
  throw line_error(line,
                   "the chat template writes the messages before the answer differently when the "
                   "answer follows, so the answer cannot be told apart");
}

// The item of a line whose system message stands before the words of the user instead.
std::optional<DataItem> ChatReader::changed(const Line& line) {
  auto conversation = joined(line.conversation);
  if (!conversation) return std::nullopt;
  Line other{line.item, std::move(*conversation), "", "", std::nullopt};
  try {
    other.all = render(other, other.conversation.messages, false);
    other.opened = render(other, before_answer(other.conversation), true);
    if (const auto begin = begin_of_answer(other)) {
      joined_.add(line);
      return parted(other, *begin);
    }
  } catch (const Error& e) {
    if (e.code() != ExitCode::kInput || input_.chat->has_ended()) throw;
  }
  return std::nullopt;
}

void ChatReader::finish_lines() {
  if (lines_.empty()) return;
  render_lines();
  for (const Line& line : lines_) {
    std::optional<DataItem> item;
    try {
      item = item_of(line);
    } catch (const Error& e) {
      // What ends the template ends the reading, whatever the conversation.
      if (!line.conversation.has_system() || e.code() != ExitCode::kInput ||
          input_.chat->has_ended())
        throw;
      item = changed(line);
      if (!item) left_out_.add(line);
      if (!item && !first_error_) first_error_ = e;
    }
    if (item) items_.push_back(std::move(*item));
  }
  lines_.clear();
}

void ChatReader::read_lines() {
  constexpr size_t kTogether = 32;
  read_rows(input_, [&](const Row& row) -> std::optional<DataItem> {
    lines_.push_back({row.item(DataItem::Kind::kChat), conversation_of(row), "", "", std::nullopt});
    if (lines_.size() == kTogether) finish_lines();
    return std::nullopt;
  });
}

std::vector<DataItem> ChatReader::read() {
  try {
    read_lines();
  } catch (const Error&) {
    finish_lines();  // an error of an earlier line comes first
    throw;
  }
  finish_lines();
  tell();
  return std::move(items_);
}

void ChatReader::note(const Count& count, std::string_view what) const {
  if (count.conversations == 0 || !input_.options.note) return;
  input_.options.note(fmt::format("{}: {} conversation{} (line {}{}): {}",
                                  input_.options.file.string(), count.conversations,
                                  count.conversations == 1 ? "" : "s", count.first_line,
                                  count.conversations == 1 ? "" : " first", what));
}

void ChatReader::tell() const {
  if (items_.empty() && first_error_) throw Error(*first_error_);
  note(joined_,
       "the chat template moves or forbids the system message, which stands before the first words "
       "of the user instead");
  note(finished_,
       "the chat template writes earlier turns differently once the answer follows; they are read "
       "as it writes them then");
  note(left_out_, first_error_ ? fmt::format("left out: {}", first_error_->what()) : "");
}

}  // namespace

std::optional<ChatColumns> chat_columns(const Json& row) {
  static constexpr ChatColumns kShapes[] = {
      {"prompt", nullptr, "response"},        {"prompt", nullptr, "completion"},
      {"instruction", "input", "output"},     {"instruction", "input", "response"},
      {"instruction", "context", "response"}, {"question", nullptr, "answer"},
      {"question", nullptr, "response"},      {"query", nullptr, "response"},
      {"problem", nullptr, "solution"},       {"input", nullptr, "output"}};
  // A shape with all its columns comes before one that lacks the column in the middle.
  for (const bool whole : {true, false}) {
    for (const ChatColumns& shape : kShapes) {
      const bool fits = row.contains(shape.question) && row.contains(shape.answer);
      if (fits && (!whole || (shape.more && row.contains(shape.more)))) return shape;
    }
  }
  return std::nullopt;
}

std::vector<DataItem> read_chat(const FormatInput& input) {
  if (input.chat == nullptr) {
    throw usage_error("{}: format chat needs a model with a chat template",
                      input.options.file.string());
  }
  return ChatReader(input).read();
}

}  // namespace lewis
