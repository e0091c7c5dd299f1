// Conversations: {"messages": [{"role": ..., "content": ...}, ...], "tools": [...]} (tools are
// optional), through the model's chat template. The answer is the last message of the assistant
// with what the template writes around it; messages after it are left out.
#include "base/json.h"
#include "text/formats/format.h"

namespace lewis {
namespace {

// Templates that print today's date print this one (26 July 2024, where Llama 3 defaults to), so
// that the same data gives the same tokens every day.
constexpr int64_t kDate = 1721952000;

// Index of the last message of the assistant. Checks every message.
size_t last_answer(const Row& row, const Json& messages) {
  if (!messages.is_array() || messages.empty()) {
    throw row_error(row, "the field 'messages' must be a list of messages with at least one");
  }
  size_t last = messages.size();
  for (size_t i = 0; i < messages.size(); ++i) {
    const Json& message = messages[i];
    if (!message.is_object() || !message.contains("role") || !message["role"].is_string()) {
      throw row_error(row, fmt::format("message {} must be an object with a string 'role'", i + 1));
    }
    if (message["role"] == "assistant") last = i;
  }
  if (last == messages.size()) throw row_error(row, "no message has the role 'assistant'");
  return last;
}

std::string render(const Row& row, const FormatInput& input, const Json& messages, bool prompt) {
  ChatOptions options;
  options.add_generation_prompt = prompt;
  if (row.has("tools")) options.tools = row.field("tools");
  options.now = kDate;
  try {
    return input.chat->render(messages, options);
  } catch (const Error& error) {
    throw row_error(row, error.what());
  }
}

DataItem read_conversation(const Row& row, const FormatInput& input) {
  const Json& messages = row.field("messages");
  const auto answer = static_cast<std::ptrdiff_t>(last_answer(row, messages));
  if (answer == 0) throw row_error(row, "no message stands before the one of the assistant");
  const Json before(Json::array_t(messages.begin(), messages.begin() + answer));
  const Json all(Json::array_t(messages.begin(), messages.begin() + answer + 1));
  DataItem item = row.item(DataItem::Kind::kChat);
  item.reference_text = render(row, input, all, false);
  item.prompt = render(row, input, before, true);
  // Some templates open an answer with more than a finished answer has, a "<think>" for instance.
  if (!item.reference_text.starts_with(item.prompt)) {
    item.prompt = render(row, input, before, false);
  }
  if (!item.reference_text.starts_with(item.prompt)) {
    throw row_error(row,
                    "the chat template writes the messages before the answer differently when the "
                    "answer follows, so the answer cannot be told apart");
  }
  item.answer = item.reference_text.substr(item.prompt.size());
  return item;
}

}  // namespace

std::vector<DataItem> read_chat(const FormatInput& input) {
  if (input.chat == nullptr) {
    throw usage_error("{}: format chat needs a model with a chat template",
                      input.options.file.string());
  }
  return read_rows(input, [&](const Row& row) { return read_conversation(row, input); });
}

}  // namespace lewis
