#include "text/chat_template.h"

#include <gtest/gtest.h>

#include <memory>
#include <utility>

#include "base/text_file.h"
#include "model_folder.h"

namespace lewis {
namespace {

const Json kHello = Json::parse(R"([{"role": "user", "content": "Hello"}])");

std::string render(const std::string& source, const ChatOptions& options = {}) {
  return ChatTemplate(source, "template").render(kHello, options);
}

// Renders all cases that tools/record_templates.py recorded. `sources`: where the templates are,
// each in a file, if they are not in the record.
void expect_recorded(const std::string& record, const std::string& sources = "") {
  const std::filesystem::path folder = std::filesystem::path(LEWIS_TEST_DATA) / "tokenizers";
  const Json recorded = read_json(folder / record);
  ASSERT_GT(recorded["cases"].size(), 100u);
  std::string before;  // the cases of a template follow each other
  std::unique_ptr<ChatTemplate> chat;
  for (const Json& c : recorded["cases"]) {
    const std::string id = c["template"].get<std::string>();
    const Json& about = recorded["templates"][id];
    const std::string source = sources.empty() ? about["source"].get<std::string>()
                                               : read_text_file(folder / sources / (id + ".jinja"));
    const auto rendered = [&] {
      if (std::exchange(before, id) != id)
        chat = std::make_unique<ChatTemplate>(
            source, "template", about.value("special", recorded.value("special", Json())));
      ChatOptions options;
      options.add_generation_prompt = c["add_generation_prompt"];
      options.tools = c.value("tools", Json());
      options.variables = c.value("variables", Json::object());
      options.now = recorded["now"].get<int64_t>();
      return chat->render(recorded["conversations"][c["conversation"].get<std::string>()], options);
    };
    const std::string name =
        fmt::format("{}, {}, {}{}", id, c["conversation"].get<std::string>(),
                    c.value("variables", Json()).dump(), sources.empty() ? ": " + source : "");
    if (c.contains("raises")) {
      EXPECT_TRUE(contains(error_of([&] { rendered(); }), c["raises"].get<std::string>())) << name;
    } else {
      EXPECT_EQ(rendered(), c["text"].get<std::string>()) << name;
    }
  }
}

// Texts that transformers 5.23 renders.
TEST(ChatTemplate, RendersAsTransformers) { expect_recorded("chat_templates.json"); }

// Templates of models of 2025 and 2026, as transformers 5.24 renders them.
TEST(ChatTemplate, RendersPublishedTemplatesAsTransformers) {
  expect_recorded("published_templates.json", "templates");
}

// 350 pieces of Jinja and of Python's methods, as transformers 5.24 renders them.
TEST(ChatTemplate, RendersPiecesOfJinjaAsTransformers) { expect_recorded("jinja_pieces.json"); }

TEST(ChatTemplate, WhatIsLackingIsRefusedByName) {
  for (const char* name : {"wordwrap", "striptags", "filesizeformat", "xmlattr"})
    EXPECT_TRUE(contains(error_of([&] { render(std::string("{{ 'a' | ") + name + " }}"); }), name));
  for (const char* name : {"cycler('a')", "joiner()", "lipsum()"})
    EXPECT_TRUE(contains(error_of([&] { render(std::string("{{ ") + name + " }}"); }),
                         std::string(name).substr(0, 6)));
  EXPECT_TRUE(contains(error_of([] { render("{{ 1 is callable }}"); }), "callable"));
  EXPECT_TRUE(contains(error_of([] { render("{{ 'a'.encode() }}"); }), "encode"));
  EXPECT_TRUE(contains(error_of([] { render("{{ [].append(1) }}"); }), "append"));
}

// As transformers 5.24: the thoughts of a message have two names, and null is left out.
TEST(ChatTemplate, ThoughtsHaveTheNamesThatTemplatesAskFor) {
  const ChatTemplate chat("{{ messages[0] }}", "template");
  for (const char* name : {"reasoning", "thinking", "reasoning_content"}) {
    const Json message = {{"role", "assistant"}, {"content", nullptr}, {name, "why"}};
    const std::string text = chat.render(Json::array({message}));
    EXPECT_TRUE(contains(text, "'thinking': 'why'")) << text;
    EXPECT_TRUE(contains(text, "'reasoning_content': 'why'")) << text;
    EXPECT_FALSE(contains(text, "content': None")) << text;
  }
  const std::string both = chat.render(
      Json::parse(R"([{"role": "assistant", "thinking": "old", "reasoning_content": "new"}])"));
  EXPECT_EQ(both, "{'role': 'assistant', 'thinking': 'old', 'reasoning_content': 'new'}");
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
