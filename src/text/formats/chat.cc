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

Conversation conversation_of(const Row& row) {
  const bool sharegpt = !row.has("messages") && row.has("conversations");
  const std::string key = sharegpt ? "conversations" : "messages";
  const Json& list = row.field(key);
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

// Reads the conversations of a file and counts what is to be said about them.
class ChatReader {
 public:
  explicit ChatReader(const FormatInput& input) : input_(input) {}

  // Nothing for a conversation that is left out.
  std::optional<DataItem> read(const Row& row);
  // Throws the error of the first conversation that was left out when `items` is empty.
  void finish(const std::vector<DataItem>& items) const;

 private:
  struct Count {
    size_t conversations = 0, first_line = 0;
    void add(const Row& row) {
      if (conversations++ == 0) first_line = row.line;
    }
  };

  std::string render(const Row& row, const Conversation& c, const Json& messages,
                     bool prompt) const;
  std::optional<DataItem> item_of(const Row& row, const Conversation& c) const;
  std::optional<size_t> begin_of_answer(const Row& row, const Conversation& c,
                                        const std::string& all) const;
  std::optional<size_t> begin_by_change(const Row& row, const Conversation& c,
                                        const std::string& all) const;
  void note(const Count& count, std::string_view what) const;

  const FormatInput& input_;
  Count joined_, finished_, left_out_;
  std::optional<Error> first_error_;
};

std::string ChatReader::render(const Row& row, const Conversation& c, const Json& messages,
                               bool prompt) const {
  ChatOptions options;
  options.add_generation_prompt = prompt;
  options.tools = c.tools;
  options.now = kDate;
  try {
    return input_.chat->render(messages, options);
  } catch (const Error& error) {
    // What ends the template ends the reading, whatever the conversation.
    if (error.code() != ExitCode::kInput || input_.chat->has_ended()) throw;
    throw row_error(row, error.what());
  }
}

// Where the answer begins in `all`, the text of the finished conversation; nothing where the
// messages before it are written differently there.
std::optional<size_t> ChatReader::begin_of_answer(const Row& row, const Conversation& c,
                                                  const std::string& all) const {
  const Json before(Json::array_t(c.messages.begin(), c.messages.end() - 1));
  const std::string opened = render(row, c, before, true);
  if (all.starts_with(opened)) return opened.size();
  const std::string closed = render(row, c, before, false);
  if (!all.starts_with(closed)) return std::nullopt;
  // Some templates open an answer with more than a finished answer has, a "<think>" for instance.
  // What both have is the header of the answer, unless the answer begins with the same letters.
  size_t begin = std::max(closed.size(), common_prefix(all, opened));
  const std::string content = content_of(c.answer());
  const size_t found = content.empty() ? std::string::npos : all.rfind(content, begin);
  if (found != std::string::npos && found >= closed.size()) begin = found;
  while (begin > closed.size() && (static_cast<unsigned char>(all[begin]) & 0xC0) == 0x80) --begin;
  return begin;
}

// The same for a template that writes earlier turns differently once the answer follows: where the
// finished conversation changes with the answer.
std::optional<size_t> ChatReader::begin_by_change(const Row& row, const Conversation& c,
                                                  const std::string& all) const {
  const std::string content = content_of(c.answer());
  if (content.empty()) return std::nullopt;
  Json other = c.messages;
  other.back()["content"] = content.front() == 'x' ? "y" : "x";
  const size_t begin = common_prefix(all, render(row, c, other, false));
  const bool is_answer = begin > 0 && all.compare(begin, content.size(), content) == 0;
  const bool is_whole = !c.has_system() || all.find(content_of(c.messages[0])) != std::string::npos;
  return is_answer && is_whole ? std::optional(begin) : std::nullopt;
}

std::optional<DataItem> ChatReader::item_of(const Row& row, const Conversation& c) const {
  DataItem item = row.item(DataItem::Kind::kChat);
  item.reference_text = render(row, c, c.messages, false);
  const auto begin = begin_of_answer(row, c, item.reference_text);
  if (!begin) return std::nullopt;
  item.prompt = item.reference_text.substr(0, *begin);
  item.answer = item.reference_text.substr(*begin);
  return item;
}

std::optional<DataItem> ChatReader::read(const Row& row) {
  const Conversation c = conversation_of(row);
  const auto other = c.has_system() ? joined(c) : std::nullopt;
  std::optional<Error> error;
  try {
    if (auto item = item_of(row, c)) return item;
    if (!c.has_system()) {
      DataItem item = row.item(DataItem::Kind::kChat);
      item.reference_text = render(row, c, c.messages, false);
      if (const auto begin = begin_by_change(row, c, item.reference_text)) {
        finished_.add(row);
        item.prompt = item.reference_text.substr(0, *begin);
        item.answer = item.reference_text.substr(*begin);
        return item;
      }
    }
    throw row_error(row,
                    "the chat template writes the messages before the answer differently when the "
                    "answer follows, so the answer cannot be told apart");
  } catch (const Error& e) {
    if (!c.has_system() || e.code() != ExitCode::kInput || input_.chat->has_ended()) throw;
    error = e;
  }
  try {
    if (auto item = other ? item_of(row, *other) : std::nullopt) {
      joined_.add(row);
      return item;
    }
  } catch (const Error& e) {
    if (e.code() != ExitCode::kInput || input_.chat->has_ended()) throw;
  }
  left_out_.add(row);
  if (!first_error_) first_error_ = error;
  return std::nullopt;
}

void ChatReader::note(const Count& count, std::string_view what) const {
  if (count.conversations == 0 || !input_.options.note) return;
  input_.options.note(fmt::format("{}: {} conversation{} (line {}{}): {}",
                                  input_.options.file.string(), count.conversations,
                                  count.conversations == 1 ? "" : "s", count.first_line,
                                  count.conversations == 1 ? "" : " first", what));
}

void ChatReader::finish(const std::vector<DataItem>& items) const {
  if (items.empty() && first_error_) throw Error(*first_error_);
  note(joined_,
       "the chat template moves or forbids the system message, which stands before the first words "
       "of the user instead");
  note(finished_,
       "the chat template writes earlier turns differently once the answer follows; they are read "
       "as it writes them then");
  note(left_out_, first_error_ ? fmt::format("left out: {}", first_error_->what()) : "");
}

}  // namespace

std::vector<DataItem> read_chat(const FormatInput& input) {
  if (input.chat == nullptr) {
    throw usage_error("{}: format chat needs a model with a chat template",
                      input.options.file.string());
  }
  ChatReader reader(input);
  std::vector<DataItem> items = read_rows(input, [&](const Row& row) { return reader.read(row); });
  reader.finish(items);
  return items;
}

}  // namespace lewis
