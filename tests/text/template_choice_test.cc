#include "text/template_choice.h"

#include <gtest/gtest.h>

#include "model_folder.h"
#include "text/chat_template.h"

namespace lewis {
namespace {

Json talk(const std::vector<std::pair<std::string, std::string>>& turns) {
  Json messages = Json::array();
  for (const auto& [role, content] : turns)
    messages.push_back({{"role", role}, {"content", content}});
  return messages;
}

std::string render(const std::string& name, const Json& messages, bool prompt) {
  const Json special = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
  ChatOptions options;
  options.add_generation_prompt = prompt;
  return ChatTemplate(std::string(builtin_template(name)), name, special).render(messages, options);
}

const Json kHi = talk({{"user", "Hi"}});
const Json kTalk =
    talk({{"system", "Be kind."}, {"user", " Hi"}, {"assistant", "Hello. "}, {"user", "Bye"}});

// Against the texts of the formats' own descriptions.
TEST(BuiltinTemplates, WriteTheirFormats) {
  EXPECT_EQ(render("chatml", kTalk, true),
            "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n Hi<|im_end|>\n"
            "<|im_start|>assistant\nHello. <|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
            "<|im_start|>assistant\n");
  EXPECT_EQ(render("chatml", kHi, false), "<|im_start|>user\nHi<|im_end|>\n");
  EXPECT_EQ(render("llama3", kTalk, true),
            "<s><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\nHello.<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n");
  EXPECT_EQ(render("mistral", kTalk, true),
            "<s>[INST] Be kind.\n\nHi [/INST] Hello.</s> [INST] Bye [/INST]");
  EXPECT_EQ(render("mistral", kHi, true), "<s>[INST] Hi [/INST]");
  EXPECT_EQ(render("alpaca", kHi, true),
            "Below is an instruction that describes a task. Write a response that appropriately "
            "completes the request.\n\n### Instruction:\nHi\n\n### Response:\n");
  EXPECT_EQ(render("alpaca", kTalk, true),
            "Be kind.\n\n### Instruction:\nHi\n\n### Response:\nHello.</s>\n\n"
            "### Instruction:\nBye\n\n### Response:\n");
  EXPECT_EQ(render("exaone", kTalk, true),
            "[|system|]Be kind.[|endofturn|]\n[|user|]Hi\n[|assistant|]Hello.[|endofturn|]\n"
            "[|user|]Bye\n[|assistant|]");
  EXPECT_EQ(render("exaone", kHi, true), "[|system|][|endofturn|]\n[|user|]Hi\n[|assistant|]");
}

TEST(BuiltinTemplates, RefuseWhatTheyCannotSay) {
  const Json twice = talk({{"user", "a"}, {"user", "b"}});
  EXPECT_TRUE(contains(error_of([&] { render("mistral", twice, true); }), "roles must alternate"));
  const Json tool = talk({{"tool", "4"}});
  EXPECT_TRUE(contains(error_of([&] { render("alpaca", tool, true); }), "alpaca knows"));
}

// A model folder with a template, or none.
struct TemplateFolder : ModelFolder {
  explicit TemplateFolder(const Json& chat_template, bool own_file = false) {
    if (!chat_template.is_null() && !own_file) config["chat_template"] = chat_template;
    write();
    if (own_file) write_file(path / "chat_template.jinja", chat_template.get<std::string>());
  }
};

TEST(TemplateChoice, AutoTakesTheMostCommon) {
  const TemplateFolder none(nullptr), a("{{ 'a' }}"), also_a("{{ 'a' }}", true), b("{{ 'b' }}"),
      named(Json::parse(R"([{"name": "default", "template": "{{ 'c' }}"}])"));
  const auto chosen = [](std::vector<ModelFiles> models, size_t preferred) {
    return choose_template("auto", models, preferred);
  };
  EXPECT_EQ(chosen({b.path, a.path, also_a.path}, 0), "{{ 'a' }}");
  EXPECT_EQ(chosen({a.path, b.path}, 1), "{{ 'b' }}") << "the preferred one of two";
  EXPECT_EQ(chosen({none.path, a.path, b.path}, 0), "{{ 'a' }}") << "the first that has one";
  EXPECT_TRUE(chosen({none.path, none.path}, 0).is_null());
  EXPECT_TRUE(chosen({named.path, none.path}, 1).is_array());
}

TEST(TemplateChoice, NamesAndJinja) {
  const TemplateFolder none(nullptr);
  const auto chosen = [&](const std::string& wanted) {
    return choose_template(wanted, {none.path}, 0);
  };
  EXPECT_EQ(chosen("llama3"), builtin_template("llama3"));
  EXPECT_EQ(chosen("{{ messages[0]['content'] }}"), "{{ messages[0]['content'] }}");
  for (const char* bad : {"lama3", "{{ x }}", "a long text that has no brace in it"}) {
    EXPECT_TRUE(contains(error_of([&] { chosen(bad); }, ExitCode::kUsage), "alpaca, chatml"));
  }
  EXPECT_TRUE(
      contains(error_of([&] { chosen("{% for m in messages %}{{ m }}"); }, ExitCode::kUsage),
               "not a chat template"));
}

TEST(TemplateChoice, GoesWhereTheModelHasIt) {
  const TemplateFolder none(nullptr), own("{{ 'own' }}", true);
  const std::string text = "{{ messages[0]['content'] }}!";
  const Json hello = talk({{"user", "Hi"}});
  ModelFiles in_config(none.path), in_own(own.path), list(own.path);
  set_template(in_config, text);
  EXPECT_EQ(ChatTemplate::load(in_config).render(hello), "Hi!");
  EXPECT_EQ(parse_json(*in_config.read("tokenizer_config.json"), "c")["eos_token"],
            "<|endoftext|>");
  set_template(in_own, text);
  EXPECT_EQ(in_own.read("chat_template.jinja"), text);
  EXPECT_EQ(in_own.changed.count("tokenizer_config.json"), 0u);
  set_template(list, Json::parse(R"([{"name": "default", "template": "{{ 'c' }}"}])"));
  EXPECT_FALSE(list.read("chat_template.jinja"));
  EXPECT_EQ(ChatTemplate::load(list).render(hello), "c");
}

}  // namespace
}  // namespace lewis
