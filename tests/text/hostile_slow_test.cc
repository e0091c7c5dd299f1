// Templates and tokenizers that loop, grow, nest or allocate without end: each is refused in one
// line, at the price of a second or two of processor time and of a bounded number of bytes.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <functional>

#include "model_folder.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace lewis {
namespace {

using Make = std::function<std::string()>;

struct Hostile {
  const char* name;
  Make make;                       // the template or the tokenizer.json
  std::string text = "some text";  // for a tokenizer
  bool may_work = false;           // in time
};

std::string repeated(std::string_view part, size_t times) {
  std::string text;
  for (size_t i = 0; i < times; ++i) text += part;
  return text;
}

Make text_of(std::string text) {
  return [text = std::move(text)] { return text; };
}

// A loop of 60 rounds that starts with `first` and makes `next` of ns.x, and what is done with it.
Make doubled(const char* first, const char* next, const char* use) {
  return text_of(
      fmt::format("{{% set ns = namespace(x={}, y={}) %}}{{% for i in range(60) %}}"
                  "{{% set ns.x = {} %}}{{% set ns.y = ns.x %}}{{% endfor %}}{}",
                  first, first, next, use));
}

// 99999 rounds.
Make nested(const char* next, const char* use) {
  return text_of(
      fmt::format("{{% set ns = namespace(x={{}}) %}}{{% for i in range(99999) %}}"
                  "{{% set ns.x = {} %}}{{% endfor %}}{}",
                  next, use));
}

// Two values of equal content, of which none is a part of the other.
Make two_doubled(const char* use) {
  return text_of(
      fmt::format("{{% set ns = namespace(x=[1], y=[1]) %}}{{% for i in range(60) %}}"
                  "{{% set ns.x = [ns.x, ns.x] %}}{{% set ns.y = [ns.y, ns.y] %}}"
                  "{{% endfor %}}{}",
                  use));
}

const std::vector<Hostile>& templates() {
  static const std::vector<Hostile> kAll = {
      // Values that contain themselves.
      {"itself, printed", text_of("{% set ns=namespace() %}{% set ns.x=ns %}{{ ns }}")},
      {"itself, joined", text_of("{% set ns=namespace() %}{% set ns.x=ns %}{{ [ns]|join }}")},
      {"itself, concatenated", text_of("{% set ns=namespace() %}{% set ns.x=ns %}{{ ns ~ 'a' }}")},
      {"itself, as a string", text_of("{% set ns=namespace() %}{% set ns.x=ns %}{{ ns|string }}")},
      {"itself, as JSON", text_of("{% set ns=namespace() %}{% set ns.x=ns %}{{ ns|tojson }}")},
      {"itself, printed prettily",
       text_of("{% set ns=namespace() %}{% set ns.x=ns %}{{ ns|pprint }}")},
      {"itself, escaped", text_of("{% set ns=namespace() %}{% set ns.x=ns %}{{ ns|e }}")},
      {"itself, formatted",
       text_of("{% set ns=namespace() %}{% set ns.x=ns %}{{ '%s'|format(ns) }}")},
      {"itself, formatted by braces",
       text_of("{% set ns=namespace() %}{% set ns.x=ns %}{{ '{}'.format(ns) }}")},
      {"itself in a list, printed",
       text_of("{% set ns=namespace() %}{% set ns.x=[[ns]] %}{{ [ns] }}")},
      {"itself, compared",
       text_of("{% set a=namespace() %}{% set b=namespace() %}{% set a.x=a %}{% set b.x=b %}"
               "{{ 1 if a.items()|list == b.items()|list }}{{ a }}")},
      {"itself, in an error", text_of("{% set ns=namespace() %}{% set ns.x=ns %}"
                                      "{{ raise_exception(ns|string) }}")},
      {"two that hold each other, printed",
       text_of("{% set a=namespace() %}{% set b=namespace(a=a) %}{% set a.b=b %}{{ a }}")},
      {"itself, by debug",
       text_of("{% set ns=namespace() %}{% set ns.x=ns %}{{ debug() }}{{ ns }}")},
      // Nesting in the source.
      {"a long sum", text_of("{{ " + repeated("x+", 300'000) + "1 }}")},
      {"a long concatenation", text_of("{{ " + repeated("x~", 300'000) + "1 }}")},
      {"a long product", text_of("{{ x " + repeated("*x", 30'000) + " }}")},
      {"a long chain of filters", text_of("{{ x" + repeated("|trim", 300'000) + " }}")},
      {"a long chain of attributes", text_of("{{ x" + repeated(".a", 300'000) + " }}")},
      {"a long chain of items", text_of("{{ x" + repeated("[0]", 300'000) + " }}")},
      {"a long chain of calls", text_of("{{ x" + repeated("()", 300'000) + " }}")},
      {"many brackets", text_of("{{ " + repeated("[", 99'999) + repeated("]", 99'999) + " }}")},
      {"many parentheses",
       text_of("{{ " + repeated("(", 99'999) + "1" + repeated(")", 99'999) + " }}")},
      {"many maps", text_of("{{ " + repeated("{1:", 99'999) + "1" + repeated("}", 99'999) + " }}")},
      {"many nots", text_of("{{ " + repeated("not ", 99'999) + "1 }}")},
      {"many signs", text_of("{{ " + repeated("-", 99'999) + "1 }}")},
      {"many conditions", text_of("{{ " + repeated("1 if 1 else ", 99'999) + "1 }}")},
      {"many alternatives", text_of("{{ " + repeated("x or ", 300'000) + "y.z.z }}")},
      {"many powers", text_of("{{ " + repeated("x**", 99'999) + "1 }}")},
      {"nested ifs", text_of(repeated("{% if 1 %}", 50'000) + repeated("{% endif %}", 50'000))},
      {"nested loops",
       text_of(repeated("{% for a in [1] %}", 50'000) + repeated("{% endfor %}", 50'000))},
      {"nested macros",
       text_of(repeated("{% macro a() %}", 50'000) + repeated("{% endmacro %}", 50'000))},
      {"nested elifs",
       text_of("{% if 0 %}" + repeated("{% elif x.y.z %}", 300'000) + "{% endif %}")},
      {"nested with",
       text_of(repeated("{% with a=1 %}", 50'000) + repeated("{% endwith %}", 50'000))},
      // Nesting at run time.
      {"nested maps, freed", nested("{'a': ns.x}", "")},
      {"nested maps, printed", nested("{'a': ns.x}", "{{ ns.x }}")},
      {"nested lists, freed", nested("[ns.x]", "")},
      {"nested lists, as JSON", nested("[ns.x]", "{{ ns.x|tojson }}")},
      {"nested lists, compared", nested("[ns.x]", "{{ ns.x == [ns.x] }}")},
      {"nested lists, as keys", nested("[ns.x]", "{{ {ns.x: 1} }}")},
      {"nested lists, sorted", nested("[ns.x]", "{{ [ns.x, [ns.x]]|sort }}")},
      {"nested slices", nested("[ns.x][:1]", "{{ ns.x }}")},
      {"nested namespaces", nested("namespace(y=ns.x)", "{{ ns.x }}")},
      {"nested tuples", nested("(ns.x,)", "{{ ns.x }}")},
      {"nested maps of filters", nested("[ns.x]|map('string')", "{{ ns.x|list }}")},
      {"a macro that calls itself", text_of("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}")},
      {"macros that call each other",
       text_of("{% macro f() %}{{ g() }}{{ g() }}{% endmacro %}"
               "{% macro g() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}")},
      {"a loop that calls itself",
       text_of("{% for a in [[1]] recursive %}{{ loop([[a]]) }}{% endfor %}")},
      // Doubling.
      {"a doubled list, printed", doubled("[1]", "[ns.x, ns.x]", "{{ ns.x }}")},
      {"a doubled list, counted as text",
       doubled("[1]", "[ns.x, ns.x]", "{{ ns.x|string|length }}")},
      {"a doubled list, as JSON", doubled("[1]", "[ns.x, ns.x]", "{{ ns.x|tojson }}")},
      {"a doubled list of floats", doubled("[1e-9]", "[ns.x, ns.x]", "{{ ns.x }}")},
      {"doubled lists, compared", two_doubled("{{ ns.x == ns.y }}")},
      {"doubled lists, ordered", two_doubled("{{ ns.x < ns.y }}")},
      {"doubled lists, searched", two_doubled("{{ ns.x in [ns.y] }}")},
      {"doubled lists, sorted", two_doubled("{{ [ns.x, ns.y]|sort|length }}")},
      {"doubled lists, unique", two_doubled("{{ [ns.x, ns.y]|unique|list|length }}")},
      {"doubled lists, as a key", two_doubled("{{ {ns.x: 1}[ns.y] }}")},
      {"doubled lists, grouped", two_doubled("{{ [{'a': ns.x}, {'a': ns.y}]|groupby('a') }}")},
      {"a doubled map, printed", doubled("{}", "{'a': ns.x, 'b': ns.x}", "{{ ns.x }}")},
      {"a doubled namespace, printed", doubled("1", "namespace(a=ns.x, b=ns.x)", "{{ ns.x }}")},
      {"a doubled text", doubled("'a'", "ns.x ~ ns.x", "{{ ns.x|length }}")},
      {"a doubled text, added", doubled("'a'", "ns.x + ns.x", "{{ ns.x|length }}")},
      {"a doubled text, replaced", doubled("'aa'", "ns.x|replace('a', 'aa')", "{{ ns.x|length }}")},
      {"a doubled text, joined", doubled("'aa'", "[ns.x, ns.x]|join", "{{ ns.x|length }}")},
      {"a doubled text, formatted", doubled("'aa'", "'%s%s'|format(ns.x, ns.x)", "")},
      {"a doubled text, formatted by braces", doubled("'aa'", "'{0}{0}'.format(ns.x)", "")},
      {"a doubled text, escaped", doubled("'&'", "(ns.x|forceescape|string) ~ ns.x", "")},
      {"a doubled list, added", doubled("[1]", "ns.x + ns.x", "{{ ns.x|list|length }}")},
      // Huge at once.
      {"a long text", text_of("{{ 'a' * 30000000 }}")},
      {"a wide format", text_of("{{ '{:>10000000000}'.format(1) }}")},
      {"a wide printf", text_of("{{ '%10000000000d'|format(1) }}")},
      {"a precise float", text_of("{{ '{:.10000000000f}'.format(1.5) }}")},
      {"a wide list of texts", text_of("{{ 'a' * 10000000000 }}")},
      {"a list times a number", text_of("{{ ([1] * 10000000000)|list|length }}")},
      {"a wide centre", text_of("{{ 'a'|center(10000000000) }}")},
      {"a wide indent", text_of("{{ 'a\nb'|indent(10000000000) }}")},
      {"a long range", text_of("{{ range(10000000000)|list|length }}")},
      {"a long range, summed",
       text_of("{{ range(100000)|map('string')|sum }}{{ range(10**15)|sum }}")},
      {"a big power", text_of("{{ 10 ** 10000000000 }}")},
      {"a wide batch", text_of("{{ [1]|batch(10000000000, 0)|list }}")},
      {"a wide slice", text_of("{{ [1]|slice(10000000000, 0)|list }}")},
      {"a wide indent of JSON", doubled("[1]", "[ns.x, ns.x]", "{{ ns.x|tojson(indent=1000) }}")},
      // Time.
      {"loops in loops", text_of("{% for a in range(9999) %}{% for b in range(9999) %}{{ b }}"
                                 "{% endfor %}{% endfor %}")},
      {"silent loops", text_of("{% for a in range(9999) %}{% for b in range(9999) %}"
                               "{% set c = b * b %}{% endfor %}{% endfor %}")},
      {"searching a long text",
       text_of("{% set t = 'a' * 100000 %}{% for i in range(99999) %}{{ t.count('b') }}"
               "{% endfor %}")},
      {"splitting a long text", text_of("{% set t = 'a ' * 100000 %}{% for i in range(99999) %}"
                                        "{% set u = t.split(' ') %}{% endfor %}")},
      {"changing a long text", text_of("{% set t = 'a ' * 100000 %}{% for i in range(99999) %}"
                                       "{% set u = t|upper|title %}{% endfor %}")},
      {"sorting", text_of("{% for i in range(99999) %}{% set u = range(99999)|sort(reverse=true) %}"
                          "{% endfor %}")},
  };
  return kAll;
}

// ---- tokenizers ----

Json word_level() {
  return Json::parse(R"({"version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
      "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
      "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "a": 1}, "unk_token": "[UNK]"}})");
}

Make with(const char* key, const Json& value) {
  Json json = word_level();
  json[key] = value;
  return text_of(json.dump());
}

Json replace(const Json& pattern, const std::string& content) {
  return {{"type", "Replace"}, {"pattern", pattern}, {"content", content}};
}

Json in_sequence(const char* key, const Json& part, size_t times) {
  Json parts = Json::array();
  for (size_t i = 0; i < times; ++i) parts.push_back(part);
  return {{"type", "Sequence"}, {key, parts}};
}

Json split(const std::string& regex) {
  return {{"type", "Split"},
          {"pattern", {{"Regex", regex}}},
          {"behavior", "Isolated"},
          {"invert", false}};
}

Make with_model(const Json& model) { return with("model", model); }

Make nested_json(const char* key, const char* open, const char* close, size_t times) {
  std::string text = word_level().dump();
  const std::string empty = fmt::format("\"{}\":null", key);
  text.replace(text.find(empty), empty.size(),
               fmt::format("\"{}\":{}null{}", key, repeated(open, times), repeated(close, times)));
  return text_of(text);
}

const std::vector<Hostile>& tokenizers() {
  static const std::vector<Hostile> kAll = {
      {"a normalizer that doubles",
       with("normalizer", in_sequence("normalizers", replace({{"String", "a"}}, "aa"), 60)), "a"},
      {"a normalizer that doubles by a regex",
       with("normalizer", in_sequence("normalizers", replace({{"Regex", "."}}, "aa"), 60)), "a"},
      {"a normalizer that fills in",
       with("normalizer", in_sequence("normalizers", replace({{"String", ""}}, "aaaa"), 60)), "a"},
      {"a normalizer with a long text",
       with("normalizer",
            in_sequence("normalizers", replace({{"String", "a"}}, repeated("a", 1000)), 9)),
       "a"},
      {"a pre-tokenizer that backtracks", with("pre_tokenizer", split("(a|aa|a?)+(?=z)z")),
       repeated("a", 5'000), true},
      {"a pre-tokenizer that backtracks behind",
       with("pre_tokenizer", split("(?<!x)(a*)*\\1(?!a)b")), repeated("a", 5'000), true},
      {"a pre-tokenizer of a nested pattern",
       with("pre_tokenizer", split(repeated("(", 99'999) + "a" + repeated(")", 99'999)))},
      {"a pre-tokenizer of counted patterns",
       with("pre_tokenizer", split("((((a{1,99}){1,99}){1,99}){1,99}){1,99}"))},
      {"a pre-tokenizer of nested looking",
       with("pre_tokenizer", split(repeated("(?=", 20'000) + "a" + repeated(")", 20'000)))},
      {"nested normalizers",
       nested_json("normalizer", R"({"type":"Sequence","normalizers":[)", "]}", 20'000)},
      {"nested decoders",
       nested_json("decoder", R"({"type":"Sequence","decoders":[)", "]}", 20'000)},
      {"nested pre-tokenizers",
       nested_json("pre_tokenizer", R"({"type":"Sequence","pretokenizers":[)", "]}", 20'000)},
      {"a big id", with("added_tokens", Json::parse(R"([{"id": 99999999999999, "content": "x",
          "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
          "special": true}])"))},
      {"a big id in the vocabulary", with_model({{"type", "WordLevel"},
                                                 {"vocab", {{"[UNK]", 99999999999999}}},
                                                 {"unk_token", "[UNK]"}})},
      {"a word longer than a piece",
       with_model({{"type", "WordPiece"},
                   {"vocab", {{"[UNK]", 0}, {"a", 1}}},
                   {"unk_token", "[UNK]"},
                   {"continuing_subword_prefix", repeated("#", 100'000)},
                   {"max_input_chars_per_word", 9999999999}}),
       repeated("a", 99'999) + "b", true},
      {"an unknown part", with("decoder", {{"type", "NoSuchDecoder"}})},
      {"not an object", text_of("[]")},
      {"nothing", text_of("")},
  };
  return kAll;
}

// ---- what all of them must keep ----

double processor_seconds() {
  double seconds = 0;
  for (const int who : {RUSAGE_SELF, RUSAGE_CHILDREN}) {
    rusage usage = {};
    getrusage(who, &usage);
    for (const timeval& t : {usage.ru_utime, usage.ru_stime})
      seconds += static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  }
  return seconds;
}

template <typename F>
void expect_refusal(const Hostile& hostile, F&& f) {
  const double before = processor_seconds();
  const std::string message = error_of(f);
  const bool works = hostile.may_work && message == "no error";
  EXPECT_TRUE(works || message.starts_with("m/")) << hostile.name << ": " << message.substr(0, 300);
  EXPECT_EQ(message.find('\n'), std::string::npos) << hostile.name << ": " << message;
  EXPECT_LE(message.size(), 2'000u) << hostile.name;
  EXPECT_LT(processor_seconds() - before, 2) << hostile.name << ": " << message.substr(0, 300);
}

TEST(Hostile, TemplatesAreRefused) {
  const Json messages = Json::parse(R"([{"role": "user", "content": "a"},
                                        {"role": "assistant", "content": "b"}])");
  for (const Hostile& hostile : templates()) {
    const std::string source = hostile.make();
    expect_refusal(hostile, [&] { ChatTemplate(source, "m/chat_template").render(messages); });
  }
}

TEST(Hostile, TokenizersAreRefused) {
  for (const Hostile& hostile : tokenizers()) {
    const std::string json = hostile.make();
    expect_refusal(hostile, [&] {
      const Tokenizer tokenizer = Tokenizer::from_json(json, "m/tokenizer.json");
      tokenizer.decode(tokenizer.encode(hostile.text, true), false);
    });
  }
}

}  // namespace
}  // namespace lewis
