#include "text/chat_template.h"

#include <gtest/gtest.h>

#include "model_folder.h"

namespace lewis {
namespace {

const Json kHello = Json::parse(R"([{"role": "user", "content": "Hello"}])");

std::string render(const std::string& source, const ChatOptions& options = {}) {
  return ChatTemplate(source, "template").render(kHello, options);
}

// Texts that transformers 5.23 renders (tools/record_templates.py).
TEST(ChatTemplate, RendersAsTransformers) {
  const Json recorded =
      read_json(std::filesystem::path(LEWIS_TEST_DATA) / "tokenizers" / "chat_templates.json");
  ASSERT_GT(recorded["cases"].size(), 100u);
  for (const Json& c : recorded["cases"]) {
    const Json& source = recorded["templates"][c["template"].get<std::string>()];
    const ChatTemplate chat(source["source"].get<std::string>(), "template", source["special"]);
    ChatOptions options;
    options.add_generation_prompt = c["add_generation_prompt"];
    options.tools = c.value("tools", Json());
    options.now = recorded["now"].get<int64_t>();
    const Json& messages = recorded["conversations"][c["conversation"].get<std::string>()];
    const std::string name =
        c["template"].get<std::string>() + ", " + c["conversation"].get<std::string>();
    if (c.contains("raises")) {
      EXPECT_TRUE(contains(error_of([&] { chat.render(messages, options); }),
                           c["raises"].get<std::string>()))
          << name;
    } else {
      EXPECT_EQ(chat.render(messages, options), c["text"].get<std::string>()) << name;
    }
  }
}

TEST(ChatTemplate, MoreVariables) {
  ChatOptions options;
  (*options.variables)["enable_thinking"] = false;
  EXPECT_EQ(render("{{ enable_thinking }} {{ messages[0].content }}", options), "False Hello");
}

TEST(ChatTemplate, TheTimeIsThatOfTheClockOnTheWall) {
  ChatOptions options;
  options.now = 1721952000;
  EXPECT_EQ(render("{{ strftime_now('%d %b %Y') }}", options), "26 Jul 2024");
  EXPECT_EQ(render("{{ strftime_now('%Y')|length }}"), "4");
}

TEST(ChatTemplate, LoadsFromTheModelFolder) {
  ModelFolder folder;
  const auto load = [&] { return ChatTemplate::load(folder.path).render(kHello); };
  folder.write();
  EXPECT_TRUE(contains(error_of(load), "the model has no chat template"));
  folder.config["chat_template"] = "string{{ eos_token }}{{ bos_token }}";
  folder.write();
  EXPECT_EQ(load(), "string<|endoftext|>");
  folder.config["chat_template"] = Json::parse(
      R"([{"name": "tool_use", "template": "no"}, {"name": "default", "template": "yes"}])");
  folder.write();
  EXPECT_EQ(load(), "yes");
  folder.config["chat_template"].erase(1);
  folder.write();
  EXPECT_TRUE(contains(error_of(load), "no template in the list is named \"default\""));
  folder.config["chat_template"] = 5;
  folder.write();
  EXPECT_TRUE(contains(error_of(load), "expected a string or a list"));
  write_file(folder.path / "chat_template.jinja", "own file\n");
  EXPECT_EQ(load(), "own file");
  write_file(folder.path / "chat_template.jinja", "line 1\n{% if %}");
  EXPECT_TRUE(contains(error_of(load), "chat_template.jinja: not a chat template: syntax error"));
  EXPECT_TRUE(contains(error_of(load), "chat template:2"));
  write_file(folder.path / "chat_template.jinja", "\xc3\x28");
  EXPECT_TRUE(contains(error_of(load), "not UTF-8 at byte 0"));
}

TEST(ChatTemplate, HasNoAccessToAnythingElse) {
  EXPECT_TRUE(
      contains(error_of([] { render("{% include '/etc/passwd' %}"); }), "cannot be rendered"));
  EXPECT_TRUE(contains(error_of([] { render("{% extends 'x' %}"); }), "cannot be rendered"));
  EXPECT_EQ(render("{{ messages.__class__ }}"), "");
}

TEST(ChatTemplate, RunawayTemplatesEnd) {
  const std::string loops =
      "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}x"
      "{% endfor %}{% endfor %}{% endfor %}";
  // Its budget of steps ends it or, on a slow machine, that of time.
  const std::string error = error_of([&] { render(loops); });
  EXPECT_TRUE(contains(error, "cannot be rendered") || contains(error, "processor time")) << error;
  EXPECT_TRUE(contains(error_of([] { render("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"); }),
                       "cannot be rendered"));
  EXPECT_TRUE(contains(error_of([] { render("{{ 'x' * 99999999999 }}"); }), "cannot be rendered"));
  const auto nested = [](const char* item) {
    return std::string("{% set ns = namespace(x=[]) %}{% for i in range(99) %}{% set ns.x = ") +
           item + " %}{% endfor %}{{ ns.x | tojson }}";
  };
  EXPECT_EQ(render(nested("[ns.x]")).size(), 200u);
  EXPECT_TRUE(contains(error_of([&] { render(nested("[[ns.x]]")); }), "nested too deeply"));
  EXPECT_TRUE(contains(error_of([&] { render(nested("[ns.x, ns.x]")); }), "template: "));
  EXPECT_EQ(render(std::string(100000, '(')).size(), 100000u);
  EXPECT_TRUE(
      contains(error_of([] { render("{{ " + std::string(100000, '(')); }), "not a chat template"));
  std::string ifs;
  for (int i = 0; i < 100000; ++i) ifs += "{% if 1 %}";
  EXPECT_TRUE(contains(error_of([&] { render(ifs); }), "not a chat template"));
}

}  // namespace
}  // namespace lewis
