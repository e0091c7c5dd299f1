#include "eval/answers/ifeval.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "base/suggest.h"
#include "eval/answers/english_text.h"
#include "eval/answers/language.h"
#include "text/regex.h"

namespace lewis {
namespace {

enum class Type { kText, kTexts, kNumber, kRelation };
struct Argument {
  std::string_view name;
  Type type;
};

struct Rule {
  std::string_view id;
  std::vector<Argument> arguments;
  bool (*follows)(const Json& arguments, const std::string& text);
};

std::string text_of(const Json& arguments, const char* name) { return arguments.at(name); }
double number_of(const Json& arguments, const char* name) { return arguments.at(name); }

// Python's re and the expressions here differ where a keyword is no expression there either.
Regex keyword_regex(const std::string& before, const std::string& keyword,
                    const std::string& after) {
  try {
    return Regex(before + keyword + after);
  } catch (const Error&) {
    return Regex(before + escape_regex(keyword) + after);
  }
}

bool compares(const Json& arguments, const char* relation, const char* bound, size_t count) {
  const double limit = number_of(arguments, bound);
  const auto found = static_cast<double>(count);
  return text_of(arguments, relation) == "less than" ? found < limit : found >= limit;
}

bool exactly(const Json& arguments, const char* name, size_t count) {
  return number_of(arguments, name) == static_cast<double>(count);
}

bool at_least(const Json& arguments, const char* name, size_t count) {
  return static_cast<double>(count) >= number_of(arguments, name);
}

std::vector<std::string> split(const std::string& text, const std::string& separator) {
  std::vector<std::string> parts;
  size_t begin = 0;
  for (size_t at; (at = text.find(separator, begin)) != std::string::npos;
       begin = at + separator.size())
    parts.push_back(text.substr(begin, at - begin));
  parts.push_back(text.substr(begin));
  return parts;
}

bool is_blank(std::string_view text) { return strip(text).empty(); }

bool has_keywords(const Json& arguments, const std::string& text) {
  return std::ranges::all_of(arguments.at("keywords"), [&](const Json& keyword) {
    return keyword_regex("(?i)", keyword, "").found_in(text);
  });
}

bool has_no_forbidden_words(const Json& arguments, const std::string& text) {
  return std::ranges::none_of(arguments.at("forbidden_words"), [&](const Json& word) {
    return keyword_regex(R"((?i)\b)", word, R"(\b)").found_in(text);
  });
}

bool has_keyword_often(const Json& arguments, const std::string& text) {
  const Regex keyword =
      keyword_regex("(?i)", std::string(strip(text_of(arguments, "keyword"))), "");
  return compares(arguments, "relation", "frequency", keyword.find_all(text).size());
}

bool has_letter_often(const Json& arguments, const std::string& text) {
  const Regex letter("(?i)" + escape_regex(text_of(arguments, "letter")));
  return compares(arguments, "let_relation", "let_frequency", letter.find_all(text).size());
}

bool is_in_language(const Json& arguments, const std::string& text) {
  const std::string found = detect_language(text);
  const std::string wanted = text_of(arguments, "language");
  return found.empty() || found == wanted.substr(0, wanted.find('-'));  // zh-cn, zh-tw
}

bool has_sentences(const Json& arguments, const std::string& text) {
  return compares(arguments, "relation", "num_sentences", count_sentences(text));
}

bool has_words(const Json& arguments, const std::string& text) {
  return compares(arguments, "relation", "num_words", count_words(text));
}

// Parts between the separators; the first and the last do not count when they are blank. None where
// another is.
std::vector<std::string> parts_between(const std::vector<std::string>& all) {
  std::vector<std::string> parts;
  for (size_t i = 0; i < all.size(); ++i) {
    if (!is_blank(all[i])) {
      parts.push_back(all[i]);
    } else if (i != 0 && i + 1 != all.size()) {
      return {};
    }
  }
  return parts;
}

bool has_paragraphs(const Json& arguments, const std::string& text) {
  static const Regex kDivider(R"(\s?\*\*\*\s?)");
  std::vector<std::string> all;
  for (const std::string_view part : kDivider.split(text)) all.emplace_back(part);
  return exactly(arguments, "num_paragraphs", parts_between(all).size());
}

// The first word up to a punctuation mark, lower case.
std::string first_word_of(std::string_view paragraph) {
  static const Regex kFirst(R"(\A\s*'*"*([^\s.,?!'"]*))");
  return ascii_lower(*kFirst.find_all(paragraph).at(0).at(1));
}

bool has_first_word(const Json& arguments, const std::string& text) {
  const std::vector<std::string> paragraphs = split(text, "\n\n");
  const auto blank = static_cast<size_t>(std::ranges::count_if(paragraphs, is_blank));
  const size_t count = paragraphs.size() - blank;
  const double nth = number_of(arguments, "nth_paragraph");
  if (nth < 1 || nth > static_cast<double>(count)) return false;
  const std::string& paragraph = paragraphs[static_cast<size_t>(nth) - 1];
  return !is_blank(paragraph) && exactly(arguments, "num_paragraphs", count) &&
         first_word_of(paragraph) == ascii_lower(text_of(arguments, "first_word"));
}

bool has_placeholders(const Json& arguments, const std::string& text) {
  static const Regex kPlaceholder(R"(\[.*?\])");
  return at_least(arguments, "num_placeholders", kPlaceholder.find_all(text).size());
}

bool has_postscript(const Json& arguments, const std::string& text) {
  static const Regex kTwice(R"((?im)\s*p\.\s?p\.\s?s.*$)"), kOnce(R"((?im)\s*p\.\s?s\..*$)");
  const std::string marker = text_of(arguments, "postscript_marker");
  if (marker == "P.P.S") return kTwice.found_in(text);
  if (marker == "P.S.") return kOnce.found_in(text);
  return keyword_regex(R"((?im)\s*)", marker, ".*$").found_in(text);
}

bool has_bullets(const Json& arguments, const std::string& text) {
  static const Regex kStar(R"((?m)^\s*\*[^*].*$)"), kDash(R"((?m)^\s*-.*$)");
  return exactly(arguments, "num_bullets",
                 kStar.find_all(text).size() + kDash.find_all(text).size());
}

bool is_constrained(const Json&, const std::string& text) {
  static const Regex kAnswer(R"(My answer is (?:yes|no|maybe)\.)");
  return kAnswer.found_in(text);
}

bool has_highlights(const Json& arguments, const std::string& text) {
  static const Regex kOne(R"(\*[^\n*]*\*)"), kTwo(R"(\*\*[^\n*]*\*\*)");
  size_t count = 0;
  for (const Regex* pattern : {&kOne, &kTwo}) {
    for (const auto& match : pattern->find_all(text)) {
      std::string inner(*match[0]);
      std::erase(inner, '*');
      count += !is_blank(inner);
    }
  }
  return at_least(arguments, "num_highlights", count);
}

bool has_sections(const Json& arguments, const std::string& text) {
  const Regex section =
      keyword_regex(R"(\s?)", text_of(arguments, "section_spliter"), R"(\s?\d+\s?)");
  return at_least(arguments, "num_sections", section.find_all(text).size());
}

bool is_json(const Json&, const std::string& text) {
  std::string_view inner = strip(text);
  for (const std::string_view fence : {"```json", "```Json", "```JSON", "```"}) {
    if (inner.starts_with(fence)) inner.remove_prefix(fence.size());
  }
  if (inner.ends_with("```")) inner.remove_suffix(3);
  return Json::accept(strip(inner));
}

bool has_title(const Json&, const std::string& text) {
  static const Regex kTitle(R"(<<[^\n]+>>)"), kInner(R"((?s)\A<*(.*?)>*\z)");
  return std::ranges::any_of(kTitle.find_all(text), [](const Regex::Match& match) {
    return !is_blank(*kInner.find_all(*match[0]).at(0).at(1));
  });
}

bool has_two_responses(const Json&, const std::string& text) {
  const std::vector<std::string> parts = parts_between(split(text, "******"));
  return parts.size() == 2 && strip(parts[0]) != strip(parts[1]);
}

bool repeats_prompt(const Json& arguments, const std::string& text) {
  return ascii_lower(strip(text))
      .starts_with(ascii_lower(strip(text_of(arguments, "prompt_to_repeat"))));
}

bool has_end(const Json& arguments, const std::string& text) {
  std::string_view end = strip(text);
  while (end.starts_with('"')) end.remove_prefix(1);
  while (end.ends_with('"')) end.remove_suffix(1);
  return ascii_lower(end).ends_with(ascii_lower(strip(text_of(arguments, "end_phrase"))));
}

bool has_capital_words(const Json& arguments, const std::string& text) {
  return compares(arguments, "capital_relation", "capital_frequency", count_capital_words(text));
}

bool is_english(const std::string& text) {
  const std::string language = detect_language(text);
  return language.empty() || language == "en";
}

bool is_english_capitals(const Json&, const std::string& text) {
  return is_upper(text) && is_english(text);
}

bool is_english_lower_case(const Json&, const std::string& text) {
  return is_lower(text) && is_english(text);
}

bool has_no_comma(const Json&, const std::string& text) {
  return text.find(',') == std::string::npos;
}

bool is_quoted(const Json&, const std::string& text) {
  const std::string_view inner = strip(text);
  return inner.size() > 1 && inner.front() == '"' && inner.back() == '"';
}

const std::vector<Rule>& rule_table() {
  static const std::vector<Rule> kRules = {
      {"keywords:existence", {{"keywords", Type::kTexts}}, has_keywords},
      {"keywords:frequency",
       {{"keyword", Type::kText}, {"frequency", Type::kNumber}, {"relation", Type::kRelation}},
       has_keyword_often},
      {"keywords:forbidden_words", {{"forbidden_words", Type::kTexts}}, has_no_forbidden_words},
      {"keywords:letter_frequency",
       {{"letter", Type::kText},
        {"let_frequency", Type::kNumber},
        {"let_relation", Type::kRelation}},
       has_letter_often},
      {"language:response_language", {{"language", Type::kText}}, is_in_language},
      {"length_constraints:number_sentences",
       {{"num_sentences", Type::kNumber}, {"relation", Type::kRelation}},
       has_sentences},
      {"length_constraints:number_paragraphs", {{"num_paragraphs", Type::kNumber}}, has_paragraphs},
      {"length_constraints:number_words",
       {{"num_words", Type::kNumber}, {"relation", Type::kRelation}},
       has_words},
      {"length_constraints:nth_paragraph_first_word",
       {{"num_paragraphs", Type::kNumber},
        {"nth_paragraph", Type::kNumber},
        {"first_word", Type::kText}},
       has_first_word},
      {"detectable_content:number_placeholders",
       {{"num_placeholders", Type::kNumber}},
       has_placeholders},
      {"detectable_content:postscript", {{"postscript_marker", Type::kText}}, has_postscript},
      {"detectable_format:number_bullet_lists", {{"num_bullets", Type::kNumber}}, has_bullets},
      {"detectable_format:constrained_response", {}, is_constrained},
      {"detectable_format:number_highlighted_sections",
       {{"num_highlights", Type::kNumber}},
       has_highlights},
      {"detectable_format:multiple_sections",
       {{"section_spliter", Type::kText}, {"num_sections", Type::kNumber}},
       has_sections},
      {"detectable_format:json_format", {}, is_json},
      {"detectable_format:title", {}, has_title},
      {"combination:two_responses", {}, has_two_responses},
      {"combination:repeat_prompt", {{"prompt_to_repeat", Type::kText}}, repeats_prompt},
      {"startend:end_checker", {{"end_phrase", Type::kText}}, has_end},
      {"change_case:capital_word_frequency",
       {{"capital_frequency", Type::kNumber}, {"capital_relation", Type::kRelation}},
       has_capital_words},
      {"change_case:english_capital", {}, is_english_capitals},
      {"change_case:english_lowercase", {}, is_english_lower_case},
      {"punctuation:no_comma", {}, has_no_comma},
      {"startend:quotation", {}, is_quoted},
  };
  return kRules;
}

const Rule& find_rule(const std::string& id, const std::string& where) {
  const auto rule = std::ranges::find(rule_table(), id, &Rule::id);
  if (rule != rule_table().end()) return *rule;
  throw input_error("{}: unknown instruction '{}'; did you mean '{}'?", where, id,
                    nearest_name(id, ifeval_rule_ids()));
}

bool fits(const Json& value, Type type) {
  switch (type) {
    case Type::kText:
      return value.is_string();
    case Type::kTexts:
      return value.is_array() && std::ranges::all_of(value, &Json::is_string);
    case Type::kNumber:
      return value.is_number();
    case Type::kRelation:
      return value == "less than" || value == "at least";
  }
  return false;
}

std::string_view type_text(Type type) {
  constexpr std::array kTexts = {"a text", "a list of texts", "a number",
                                 "'less than' or 'at least'"};
  return kTexts[static_cast<size_t>(type)];
}

void check_arguments(const IfevalRule& rule, const std::string& where) {
  for (const auto& [name, type] : find_rule(rule.id, where).arguments) {
    const auto value = rule.arguments.find(std::string(name));
    if (value == rule.arguments.end())
      throw input_error("{}: instruction {} lacks its argument {}", where, rule.id, name);
    if (!fits(*value, type)) {
      throw input_error("{}: argument {} of instruction {} must be {}, not {}", where, name,
                        rule.id, type_text(type), value->dump());
    }
  }
}

// The response, and what is left of it without asterisks and its first or last line.
std::vector<std::string> loose_responses(const std::string& response) {
  const size_t first = response.find('\n'), last = response.rfind('\n');
  const bool lines = first != std::string::npos;
  std::vector<std::string> all = {
      response, lines ? std::string(strip(response.substr(first + 1))) : "",
      lines ? std::string(strip(response.substr(0, last))) : "",
      first < last && lines ? std::string(strip(response.substr(first + 1, last - first - 1)))
                            : ""};
  for (size_t i = 0; i < 4; ++i) {
    std::string plain = all[i];
    std::erase(plain, '*');
    all.push_back(std::move(plain));
  }
  return all;
}

}  // namespace

std::vector<std::string_view> ifeval_rule_ids() {
  std::vector<std::string_view> ids;
  for (const Rule& rule : rule_table()) ids.push_back(rule.id);
  return ids;
}

std::vector<IfevalRule> read_ifeval_rules(const Json& row, const std::string& where) {
  for (const char* name : {"instruction_id_list", "kwargs"}) {
    if (!row.contains(name) || !row.at(name).is_array())
      throw input_error("{}: field {} must be a list", where, name);
  }
  const Json &ids = row.at("instruction_id_list"), &arguments = row.at("kwargs");
  if (ids.size() != arguments.size() || ids.empty()) {
    throw input_error("{}: {} instructions in instruction_id_list, but {} in kwargs", where,
                      ids.size(), arguments.size());
  }
  std::vector<IfevalRule> rules;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (!ids[i].is_string() || !arguments[i].is_object())
      throw input_error("{}: instruction {} is not a name with an object in kwargs", where, i + 1);
    IfevalRule rule = {ids[i].get<std::string>()};
    for (const auto& [name, value] : arguments[i].items()) {
      if (!value.is_null()) rule.arguments[name] = value;
    }
    check_arguments(rule, where);
    rules.push_back(std::move(rule));
  }
  return rules;
}

IfevalVerdict check_ifeval(const std::vector<IfevalRule>& rules, const std::string& response) {
  const std::vector<std::string> responses = loose_responses(response);
  IfevalVerdict verdict;
  for (const IfevalRule& rule : rules) {
    const auto follows = find_rule(rule.id, rule.id).follows;
    const auto does = [&](const std::string& text) {
      return !is_blank(text) && follows(rule.arguments, text);
    };
    verdict.strict.push_back(does(response));
    verdict.loose.push_back(std::ranges::any_of(responses, does));
  }
  return verdict;
}

}  // namespace lewis
