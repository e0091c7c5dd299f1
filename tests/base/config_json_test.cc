// config.json with the bare words of Python's json.
#include "base/config_json.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/json.h"

namespace lewis {
namespace {

void expect_refused(const std::string& text, const std::string& said) {
  try {
    parse_config(text, "config.json");
    ADD_FAILURE() << "accepted: " << text;
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kInput);
    EXPECT_NE(std::string(e.what()).find("config.json"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find(said), std::string::npos) << e.what();
    EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos) << e.what();
  }
}

TEST(ConfigJson, InfinityIsReadWhereTheKeyMayHaveIt) {
  for (const char* text : {R"({"time_step_limit": [0.0, Infinity]})",
                           R"({"a": {"time_step_limit":[0.0,Infinity]}, "b": 1})",
                           "{\"x\": \"a \\\" b\", \"time_step_limit\": [\n 0.0,\n Infinity\n ]}",
                           R"({"time_step_limit": [-Infinity, Infinity], "name": "Infinity"})"}) {
    const Json config = parse_config(text, "config.json");
    const Json& part = config.contains("a") ? config["a"] : config;
    EXPECT_EQ(part["time_step_limit"][1]["__float__"], "Infinity") << text;
  }
}

TEST(ConfigJson, ElsewhereBareWordsAreRefusedByTheKey) {
  expect_refused(R"({"rope_theta": Infinity})", "key 'rope_theta' has the bare word Infinity");
  expect_refused(R"({"text_config": {"rms_norm_eps": NaN}})", "key 'rms_norm_eps'");
  expect_refused(R"({"time_step_limit": [0.0, NaN]})", "bare word NaN");
  expect_refused(R"({"a": [1, {"time_step_limit": 2}, -Infinity]})", "key 'a'");
  expect_refused("Infinity", "bare word Infinity");
  expect_refused(R"({"time_step_limit": [0.0, Infinityy]})", "not valid JSON");
  expect_refused(R"({"time_step_limit": [0.0, Infinity)", "not valid JSON");
  expect_refused(R"({"time_step_limit)", "not valid JSON");
  expect_refused("{\"a\": \"Infinity\\", "not valid JSON");
  EXPECT_THROW(parse_json(R"({"time_step_limit": [0.0, Infinity]})", "other.json"), Error);
}

TEST(ConfigJson, WhatIsWrittenHasTheWordsOfTheFile) {
  const std::string bare = R"({"a":"Infinity and NaN","time_step_limit":[-Infinity,Infinity]})";
  const std::string text = config_text(parse_config(bare, "config.json"));
  std::string packed;
  bool in_string = false;
  for (const char c : text) {
    if (c == '"') in_string = !in_string;
    if (in_string || (c != ' ' && c != '\n')) packed += c;
  }
  EXPECT_EQ(packed, bare);
  // transformers 5's spelling stays as well, and so does a text without any.
  const Json five = {{"time_step_limit", {0.0, {{"__float__", "Infinity"}}}}};
  EXPECT_EQ(parse_config(config_text(five), "config.json"), five);
  EXPECT_EQ(config_text(five), five.dump(2) + "\n");
}

}  // namespace
}  // namespace lewis
