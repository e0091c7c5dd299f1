#include "base/json.h"

#include <gtest/gtest.h>

#include <ctime>
#include <map>
#include <random>

#include "base/error.h"

namespace lewis {
namespace {

std::string key_of(size_t i) { return "key." + std::to_string(i); }

std::string refusal(std::string_view text) {
  try {
    parse_json(text, "x.json");
    return "";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kInput);
    return e.what();
  }
}

double seconds_since(std::clock_t begin) {
  return static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
}

// Against std::map for the values and a list for the order.
TEST(JsonMap, IsAMapThatKeepsTheOrder) {
  std::mt19937 random(1);
  Json json = Json::object();
  std::map<std::string, size_t> values;
  std::vector<std::string> order;
  for (size_t step = 0; step < 20'000; ++step) {
    const std::string key = key_of(random() % 300);
    if (random() % 4 == 0) {
      EXPECT_EQ(json.erase(key), values.erase(key));
      std::erase(order, key);
    } else {
      if (values.insert_or_assign(key, step).second) order.push_back(key);
      json[key] = step;
    }
    const std::string other = key_of(random() % 300);
    const auto known = values.find(other);
    ASSERT_EQ(json.contains(other), known != values.end());
    if (known == values.end()) continue;
    ASSERT_EQ(json.at(other), known->second);
  }
  std::vector<std::string> found;
  for (const auto& [key, value] : json.items()) {
    found.push_back(key);
    EXPECT_EQ(value, values.at(key));
  }
  EXPECT_EQ(found, order);
  const Json copy = json;
  Json moved = std::move(json);
  for (const std::string& key : order) {
    EXPECT_EQ(copy.at(key), values.at(key));
    EXPECT_EQ(moved.at(key), values.at(key));
  }
  EXPECT_EQ(copy, moved);
  moved.clear();
  EXPECT_FALSE(moved.contains(order[0]));
  EXPECT_EQ(Json(values).size(), values.size());
  EXPECT_EQ(Json(values).at(order[0]), values.at(order[0]));
}

// Searching all keys at every insertion would be minutes.
TEST(JsonMap, ManyKeysInLinearTime) {
  const std::clock_t begin = std::clock();
  Json json = Json::object();
  for (size_t i = 0; i < 300'000; ++i) json[key_of(i)] = i;
  const Json parsed = parse_json(json.dump(), "x.json");
  EXPECT_EQ(parsed, json);
  EXPECT_EQ(parsed.at(key_of(299'999)), 299'999);
  EXPECT_LT(seconds_since(begin), 20);  // also sanitized
}

TEST(Json, DuplicatesAreSeenAmongManyKeys) {
  std::string text = "{\"x\": 0";
  for (size_t i = 0; i < 1000; ++i) text += ", \"" + key_of(i) + "\": {}";
  EXPECT_EQ(refusal(text + "}"), "");
  EXPECT_NE(refusal(text + ", \"key.700\": 1}").find("duplicate key 'key.700'"), std::string::npos);
  EXPECT_NE(refusal("{\"a\": [{\"b\": 1, \"b\": 2}]}").find("duplicate key 'b'"),
            std::string::npos);
}

TEST(Json, NulAndByteOrderMarksAreRefused) {
  using namespace std::string_view_literals;
  EXPECT_NE(refusal("{}\0"sv).find("NUL"), std::string::npos);
  EXPECT_NE(refusal("{}\0{\"hidden\": 1}"sv).find("byte 2 is NUL"), std::string::npos);
  EXPECT_NE(refusal("\xef\xbb\xbf{}").find("byte order mark"), std::string::npos);
}

TEST(Json, HugeTextsAreRefusedShortly) {
  std::string many = "[0";
  for (size_t i = 0; i < 4'000'000; ++i) many += ",0";
  EXPECT_NE(refusal(many + "]").find("more than 4000000 values"), std::string::npos);
  std::string keys = "{\"a\":0";
  for (size_t i = 0; i < 1'500'000; ++i) keys += fmt::format(",\"{}\":0", i);
  EXPECT_NE(refusal(keys + "}").find("more than 1500000 keys"), std::string::npos);
  EXPECT_LT(refusal("{\"" + std::string(1'000'000, 'x')).size(), 500u);
  EXPECT_NE(refusal(std::string(1'000'000, '[')).find("nested deeper"), std::string::npos);
}

struct Streamed {
  std::vector<std::pair<std::string, std::string>> members;
  Json rest;
};

Streamed stream(std::string_view text, std::string_view key) {
  Streamed s;
  s.rest = parse_json_members(text, "x.json", key, [&](std::string& name, Json& value) {
    s.members.emplace_back(name, value.dump());
  });
  return s;
}

TEST(JsonMembers, AreGivenOneByOne) {
  using Members = std::vector<std::pair<std::string, std::string>>;
  const std::string text =
      R"({"a": {"m": 0}, "m": {"x": [1, {"m": 2}], "y": {"x": {}}, "x": null}, "b": {"x": 7}})";
  const Streamed inner = stream(text, "m");
  EXPECT_EQ(inner.members, (Members{{"x", R"([1,{"m":2}])"}, {"y", R"({"x":{}})"}, {"x", "null"}}));
  EXPECT_EQ(inner.rest.dump(), R"({"a":{"m":0},"m":{},"b":{"x":7}})");
  const Streamed whole = stream(R"({"a": 1, "b": {"a": 2}, "a": [3]})", "");
  EXPECT_EQ(whole.members, (Members{{"a", "1"}, {"b", R"({"a":2})"}, {"a", "[3]"}}));
  EXPECT_EQ(whole.rest.dump(), "{}");
  EXPECT_EQ(stream(R"({"m": [1]})", "m").rest.dump(), R"({"m":[1]})");
  EXPECT_EQ(stream("[1]", "").rest.dump(), "[1]");
  EXPECT_THROW(stream(R"({"m": {}, "m": {}})", "m"), Error);
  EXPECT_THROW(
      parse_json_members("{\"a\": 1}", "x", "", [](auto&, auto&) { throw usage_error("mine"); }),
      Error);
}

}  // namespace
}  // namespace lewis
