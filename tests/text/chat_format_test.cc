// format: chat under templates that write a conversation in more than one way.
#include <gtest/gtest.h>

#include "model_folder.h"
#include "text/dataset.h"

namespace lewis {
namespace {

struct Read {
  std::vector<DataItem> items;
  std::vector<std::string> notes;
  std::string error;
};

Read read_with(const std::string& source, const std::string& lines) {
  TempDir dir;
  write_file(dir.path / "d.jsonl", lines);
  const ChatTemplate chat(source, "t", Json{{"bos_token", "<s>"}, {"eos_token", "</s>"}});
  Read result;
  DataOptions options;
  options.file = dir.path / "d.jsonl";
  options.format = DataFormat::kChat;
  options.note = [&](const std::string& note) { result.notes.push_back(note); };
  result.error = error_of([&] { result.items = read_data(options, &chat); });
  return result;
}

std::string line_of(const std::vector<std::pair<const char*, const char*>>& messages) {
  Json list = Json::array();
  for (const auto& [role, content] : messages)
    list.push_back({{"role", role}, {"content", content}});
  return Json{{"messages", list}}.dump() + "\n";
}

// Writes <role>content; what opens an answer is `opening`.
std::string simple(const std::string& opening) {
  return "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}"
         "{% if add_generation_prompt %}" +
         opening + "{% endif %}";
}

TEST(ChatFormat, AnAnswerIsWhatFollowsItsHeader) {
  const std::string line = line_of({{"user", "why"}, {"assistant", "<b>so</b>"}});
  for (const char* opening : {"<assistant>", "<assistant><think>", "<assistant><think>\n\n</think>",
                              "<assistant><br><think>", "<assistant>\n<think>"}) {
    const Read read = read_with(simple(opening), line);
    ASSERT_EQ(read.items.size(), 1u) << opening << read.error;
    EXPECT_EQ(read.items[0].prompt, "<user>why</s><assistant>") << opening;
    EXPECT_EQ(read.items[0].answer, "<b>so</b></s>") << opening;
    EXPECT_TRUE(read.notes.empty());
  }
  // An answer of one letter that the header has too.
  const Read a =
      read_with(simple("<assistant><think>"), line_of({{"user", "why"}, {"assistant", "a"}}));
  EXPECT_EQ(a.items.at(0).answer, "a</s>");
}

// Mistral's way: the system message stands in the last turn of the user.
const char* const kMoves =
    "{% if messages[0].role == 'system' %}{% set sys = messages[0].content %}"
    "{% set rest = messages[1:] %}{% else %}{% set rest = messages %}{% endif %}{{ bos_token }}"
    "{% for m in rest %}{% if m.role == 'user' %}"
    "{% if loop.last and sys is defined %}[INST]{{ sys }} {{ m.content }}[/INST]"
    "{% else %}[INST]{{ m.content }}[/INST]{% endif %}"
    "{% else %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}";

// Gemma 2's way.
const char* const kForbids =
    "{{ bos_token }}{% if messages[0].role == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "[{{ m.role }}]{{ m.content|trim }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}";

TEST(ChatFormat, ASystemMessageIsJoinedToTheUsers) {
  const std::string lines =
      line_of({{"system", "be brief"}, {"user", "why"}, {"assistant", "so"}}) +
      line_of({{"user", "hm"}, {"assistant", "yes"}}) +
      line_of({{"system", "sys"},
               {"user", "a"},
               {"assistant", "b"},
               {"user", "c"},
               {"assistant", "d"}});
  const Read moved = read_with(kMoves, lines);
  ASSERT_EQ(moved.items.size(), 3u) << moved.error;
  EXPECT_EQ(moved.items[0].prompt, "<s>[INST]be brief\n\nwhy[/INST]");
  EXPECT_EQ(moved.items[0].answer, "so</s>");
  EXPECT_EQ(moved.items[1].prompt, "<s>[INST]hm[/INST]");
  EXPECT_EQ(moved.items[2].prompt, "<s>[INST]sys\n\na[/INST]b</s>[INST]c[/INST]");
  ASSERT_EQ(moved.notes.size(), 1u);
  EXPECT_TRUE(contains(moved.notes[0],
                       "d.jsonl: 2 conversations (line 1 first): the chat template "
                       "moves or forbids the system message"));
  const Read forbidden = read_with(kForbids, lines);
  ASSERT_EQ(forbidden.items.size(), 3u) << forbidden.error;
  EXPECT_EQ(forbidden.items[0].prompt, "<s>[user]be brief\n\nwhy\n[assistant]");
  EXPECT_EQ(forbidden.items[0].answer, "so\n");
  EXPECT_EQ(forbidden.notes.size(), 1u);
}

TEST(ChatFormat, OnlyTheLineThatCannotBeReadIsLeftOut) {
  const std::string bad = line_of({{"system", "s"}, {"assistant", "b"}});
  const Read read = read_with(kForbids, bad + line_of({{"user", "hm"}, {"assistant", "yes"}}));
  ASSERT_EQ(read.items.size(), 1u) << read.error;
  ASSERT_EQ(read.notes.size(), 1u);
  EXPECT_TRUE(contains(read.notes[0], "1 conversation (line 1): left out"));
  EXPECT_TRUE(contains(read.notes[0], "System role not supported"));
  EXPECT_TRUE(contains(read_with(kForbids, bad).error, "d.jsonl:1: t: cannot be rendered"));
}

// LFM2.5's way: thoughts are kept in the last turn of the assistant only.
TEST(ChatFormat, EarlierTurnsMayBeWrittenDifferently) {
  const std::string source =
      "{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'assistant' %}"
      "{% set ns.last = loop.index0 %}{% endif %}{% endfor %}{% for m in messages %}<{{ m.role }}>"
      "{% if loop.index0 < ns.last %}{{ m.content.split('</think>')[-1] }}{% else %}"
      "{{ m.content }}{% endif %}</s>{% endfor %}"
      "{% if add_generation_prompt %}<assistant>{% endif %}";
  const Read read = read_with(source, line_of({{"user", "a"},
                                               {"assistant", "<think>x</think>b"},
                                               {"user", "c"},
                                               {"assistant", "<think>y</think>d"}}));
  ASSERT_EQ(read.items.size(), 1u) << read.error;
  EXPECT_EQ(read.items[0].prompt, "<user>a</s><assistant>b</s><user>c</s><assistant>");
  EXPECT_EQ(read.items[0].answer, "<think>y</think>d</s>");
  ASSERT_EQ(read.notes.size(), 1u);
  EXPECT_TRUE(contains(read.notes[0], "writes earlier turns differently"));
}

TEST(ChatFormat, ShareGptIsRead) {
  const std::string lines =
      R"({"id": "x", "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]})"
      "\n"
      R"({"system": "s", "conversations": [{"from": "user", "value": "a"}, {"from": "assistant", "value": "b"}, {"from": "human", "value": "c"}], "tools": ""})"
      "\n"
      R"({"conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "a"}, {"from": "gpt", "value": "b", "weight": 1}]})"
      "\n"
      R"({"conversations": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})";
  const Read read = read_with(simple("<assistant>"), lines);
  ASSERT_EQ(read.items.size(), 4u) << read.error;
  EXPECT_EQ(read.items[0].prompt, "<user>a</s><assistant>");
  EXPECT_EQ(read.items[1].prompt, "<system>s</s><user>a</s><assistant>");
  EXPECT_EQ(read.items[2].prompt, "<system>s</s><user>a</s><assistant>");
  EXPECT_EQ(read.items[3].prompt, "<user>a</s><assistant>");
  for (const DataItem& item : read.items) EXPECT_EQ(item.answer, "b</s>");
  const auto error = [](const char* line) { return read_with(simple(""), line).error; };
  EXPECT_TRUE(contains(error(R"({"conversations": [{"from": "me", "value": "a"}]})"),
                       "d.jsonl:1: message 1 is from 'me', expected human, gpt, system or tool"));
  EXPECT_TRUE(contains(error(R"({"conversations": [{"from": "human", "value": 1}]})"),
                       "message 1 has no text as its 'value'"));
  EXPECT_TRUE(contains(error(R"({"conversations": [{"from": "gpt", "value": "a"}]})"),
                       "no message stands before"));
}

// A template that runs away is not taken for one that dislikes a conversation.
TEST(ChatFormat, ARunawayTemplateEndsTheReading) {
  const std::string source =
      "{% set ns = namespace(x={}) %}{% if messages[0].role == 'system' %}"
      "{% for i in range(99999) %}{% set ns.x = {'a': ns.x} %}{% endfor %}{% endif %}" +
      simple("<assistant>");
  const Read read =
      read_with(source, line_of({{"system", "s"}, {"user", "a"}, {"assistant", "b"}}) +
                            line_of({{"user", "a"}, {"assistant", "b"}}));
  EXPECT_TRUE(contains(read.error, "t: it is nested too deeply"));
}

}  // namespace
}  // namespace lewis
