#include "text/dataset.h"

#include <gtest/gtest.h>

#include "base/text_file.h"
#include "model_folder.h"

namespace lewis {
namespace {

using Kind = DataItem::Kind;

struct DataSet : TempDir {
  std::filesystem::path file = path / "data.jsonl";
  DataOptions options;

  DataSet(const std::string& format, std::string_view bytes) {
    options.file = file;
    options.format = value_of<DataFormat>(format, "data format");
    write_file(file, bytes);
  }
  std::vector<DataItem> read(const ChatTemplate* chat = nullptr) const {
    return read_data(options, chat);
  }
  // The message without the folder.
  std::string error(const ChatTemplate* chat = nullptr, ExitCode code = ExitCode::kInput) const {
    const std::string message = error_of([&] { read(chat); }, code);
    const std::string prefix = path.string() + "/";
    return message.starts_with(prefix) ? message.substr(prefix.size()) : message;
  }
};

TEST(Dataset, Gsm8k) {
  const DataSet data("gsm8k",
                     "{\"question\": \"1+1?\", \"answer\": \"2\\n#### 2\", \"more\": 1}\r\n"
                     "\n  \n{\"question\": \"é\", \"answer\": \"\"}");
  const auto items = data.read();
  ASSERT_EQ(items.size(), 2u);
  EXPECT_EQ(items[0].kind, Kind::kDocument);
  EXPECT_EQ(items[0].prompt, "Question: 1+1?\nAnswer:");
  EXPECT_EQ(items[0].answer, " 2\n#### 2");
  EXPECT_EQ(items[0].reference_text, "1+1? 2\n#### 2");
  EXPECT_EQ(items[0].line, 1u);
  EXPECT_EQ(items[1].line, 4u);
  EXPECT_EQ(items[1].where, data.file.string() + ":4");
}

TEST(Dataset, Mbpp) {
  const DataSet data("mbpp", R"({"text": "Add.", "code": "x", "test_list": ["a", "b"]}
{"prompt": "Sub.", "code": "y", "test_list": ["c"]})");
  const auto items = data.read();
  ASSERT_EQ(items.size(), 2u);
  EXPECT_EQ(items[0].prompt, "\"\"\"\nAdd.\na\n\"\"\"\n");
  EXPECT_EQ(items[0].answer, "x");
  EXPECT_EQ(items[0].reference_text, "Add. x");
  EXPECT_EQ(items[1].prompt, "\"\"\"\nSub.\nc\n\"\"\"\n");
}

TEST(Dataset, Jsonl) {
  DataSet data("jsonl", R"({"text": "whole", "q": "Q", "a": "A"})");
  EXPECT_EQ(data.read()[0].prompt, "");
  EXPECT_EQ(data.read()[0].answer, "whole");
  EXPECT_EQ(data.read()[0].reference_text, "whole");
  data.options.answer_field = "a";
  EXPECT_EQ(data.read()[0].answer, "A");
  data.options.prompt_field = "q";
  EXPECT_EQ(data.read()[0].prompt, "Q");
  EXPECT_EQ(data.read()[0].reference_text, "Q A");
  data.options.answer_field = "answer";
  EXPECT_EQ(data.error(), "data.jsonl:1: the field 'answer' is missing; the line has: text, q, a");
  data.options.answer_field = "";
  EXPECT_TRUE(contains(data.error(nullptr, ExitCode::kUsage), "needs an answer field"));
}

TEST(Dataset, Text) {
  const DataSet data("text", "Line one.\r\nLine two.\n");
  const auto items = data.read();
  ASSERT_EQ(items.size(), 1u);
  EXPECT_EQ(items[0].kind, Kind::kText);
  EXPECT_EQ(items[0].prompt, "");
  EXPECT_EQ(items[0].answer, "Line one.\r\nLine two.\n");
  EXPECT_EQ(DataSet("text", "a\xff").error(), "data.jsonl: the text is not UTF-8");
}

TEST(Dataset, Ids) {
  const DataSet data("ids", "{\"ids\": [0, 5, 2147483647]}\n{\"ids\": [1]}\n");
  const auto items = data.read();
  ASSERT_EQ(items.size(), 2u);
  EXPECT_EQ(items[0].ids, (std::vector<int32_t>{0, 5, 2147483647}));
  const TokenSequence sequence = tokenize(nullptr, items[0]);
  EXPECT_EQ(sequence.ids, items[0].ids);
  EXPECT_EQ(sequence.prompt_tokens, 0u);
  for (const char* bad : {"-1", "2147483648", "18446744073709551615", "1.5", "\"7\"", "null"}) {
    const DataSet broken("ids", std::string("{\"ids\": [1]}\n{\"ids\": [3, ") + bad + "]}");
    EXPECT_TRUE(contains(broken.error(), "data.jsonl:2: 'ids' must hold whole numbers from 0 to "));
  }
  EXPECT_TRUE(contains(DataSet("ids", "{\"ids\": []}").error(), "data.jsonl:1: the field 'ids'"));
  EXPECT_TRUE(contains(DataSet("ids", "{\"ids\": 3}").error(), "data.jsonl:1: the field 'ids'"));
}

const char* const kChatMl =
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}";

TEST(Dataset, ChatAnswersWithTheLastMessageOfTheAssistant) {
  const DataSet data(
      "chat",
      R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}, {"role": "user", "content": "e"}]})");
  const ChatTemplate chat(kChatMl, "template");
  const auto items = data.read(&chat);
  ASSERT_EQ(items.size(), 1u);
  EXPECT_EQ(items[0].kind, Kind::kChat);
  EXPECT_EQ(items[0].prompt, "<user>a</s>\n<assistant>b</s>\n<user>c</s>\n<assistant>");
  EXPECT_EQ(items[0].answer, "d</s>\n");
  EXPECT_EQ(items[0].reference_text, items[0].prompt + items[0].answer);
  EXPECT_TRUE(
      contains(data.error(nullptr, ExitCode::kUsage), "needs a model with a chat template"));
}

const char* const kOneChat =
    R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})";

TEST(Dataset, ChatWhereTheGenerationPromptSaysMore) {
  const DataSet data("chat", kOneChat);
  const std::string source(kChatMl);
  const ChatTemplate thinks(source + "{% if add_generation_prompt %}<think>{% endif %}", "t");
  EXPECT_EQ(data.read(&thinks)[0].prompt, "<user>a</s>\n<assistant>");
  EXPECT_EQ(data.read(&thinks)[0].answer, "b</s>\n");
  const ChatTemplate date("{{ strftime_now('%Y-%m-%d') }}" + source, "t");
  EXPECT_TRUE(contains(data.read(&date)[0].prompt, "2024-07-26"));
}

TEST(Dataset, ChatRefusesWhatIsNoConversation) {
  const ChatTemplate chat(kChatMl, "template");
  const auto error = [&](const char* line) { return DataSet("chat", line).error(&chat); };
  EXPECT_TRUE(
      contains(error(R"({"messages": "x"})"), "data.jsonl:1: the field 'messages' must be"));
  EXPECT_TRUE(contains(error(R"({"messages": []})"), "the field 'messages' must be"));
  EXPECT_TRUE(
      contains(error(R"({"messages": [{"content": "x"}]})"), "message 1 must be an object"));
  EXPECT_TRUE(contains(error(R"({"messages": [{"role": "user", "content": "x"}]})"),
                       "no message has the role 'assistant'"));
  EXPECT_TRUE(contains(error(R"({"messages": [{"role": "assistant", "content": "x"}]})"),
                       "no message stands before"));
  const ChatTemplate raises("{{ raise_exception('no such role') }}", "template");
  EXPECT_TRUE(
      contains(DataSet("chat", kOneChat).error(&raises),
               "data.jsonl:1: template: cannot be rendered: invalid operation: no such role"));
}

TEST(Dataset, BrokenLinesAreNamed) {
  const std::string good = R"({"question": "q", "answer": "a"})";
  const auto error = [&](const std::string& line) {
    return DataSet("gsm8k", good + "\n" + line).error();
  };
  EXPECT_TRUE(contains(error("{\"question\": "), "data.jsonl:2: not valid JSON"));
  EXPECT_TRUE(contains(error("plain words"), "data.jsonl:2: not valid JSON"));
  EXPECT_TRUE(contains(error("{\"question\": \"\xff\"}"), "data.jsonl:2: not valid JSON"));
  EXPECT_TRUE(
      contains(error(R"({"question": "\ud800", "answer": ""})"), "data.jsonl:2: not valid"));
  EXPECT_TRUE(contains(error(std::string(100000, '[')), "data.jsonl:2: not valid JSON"));
  EXPECT_EQ(error("[1]"), "data.jsonl:2: expected a JSON object, found array");
  EXPECT_EQ(error("{}"), "data.jsonl:2: the field 'question' is missing; the line has: nothing");
  EXPECT_EQ(error(R"({"question": 5, "answer": ""})"),
            "data.jsonl:2: the field 'question' must be a string, found number");
  EXPECT_TRUE(contains(DataSet("mbpp", R"({"text": "", "code": "", "test_list": []})").error(),
                       "data.jsonl:1: the field 'test_list' must be a list of strings"));
}

TEST(Dataset, FilesWithoutItemsAndUnknownFormats) {
  for (std::string_view format : names_of<DataFormat>()) {
    const ChatTemplate chat(kChatMl, "template");
    EXPECT_TRUE(contains(DataSet(std::string(format), "").error(&chat), "the file is empty"));
  }
  EXPECT_TRUE(contains(DataSet("ids", "\n \n").error(), "the file is empty"));
  EXPECT_TRUE(contains(
      error_of([] { DataSet("gsm8", ""); }, ExitCode::kUsage),
      "data format 'gsm8' is not known; did you mean 'gsm8k'? (known: gsm8k, mbpp, ifeval, chat"));
  DataSet gone("ids", "x");
  gone.options.file = gone.path / "none.jsonl";
  EXPECT_TRUE(contains(gone.error(), "none.jsonl: cannot be opened"));
}

TEST(Tokenize, PromptAndAnswerApart) {
  ModelFolder folder;
  folder.add_bos("!", 1);
  folder.write();
  const Tokenizer t = Tokenizer::load(folder.path);
  DataItem item;
  item.prompt = "Answer:";
  item.answer = " 4";
  const TokenSequence sequence = tokenize(t, item);
  const auto prompt = t.encode("Answer:", true), answer = t.encode(" 4", false);
  EXPECT_EQ(prompt.front(), 1);
  EXPECT_EQ(sequence.prompt_tokens, prompt.size());
  auto both = prompt;
  both.insert(both.end(), answer.begin(), answer.end());
  EXPECT_EQ(sequence.ids, both);

  item.kind = Kind::kChat;
  EXPECT_EQ(tokenize(t, item).ids.size(), both.size() - 1);
  EXPECT_TRUE(contains(error_of([&] { tokenize(nullptr, item); }), "needs a tokenizer"));
}

}  // namespace
}  // namespace lewis
