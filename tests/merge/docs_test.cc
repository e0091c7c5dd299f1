// The lists of methods in README.md and docs/methods.md are those of the tables. LEWIS_WRITE_DOCS=1
// writes them anew: `LEWIS_WRITE_DOCS=1 build/dev/test_merge --gtest_filter='Docs.*'`.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "golden_file.h"
#include "merge/method.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

std::string default_text(const MethodParameter& p) {
  if (p.required()) return "must be given";
  if (p.id.row().kind == ParameterKind::kFlag) return *p.otherwise != 0 ? "true" : "false";
  return fmt::format("{}", *p.otherwise);
}

std::string parameter_lines(const std::vector<MethodParameter>& parameters, std::string_view of) {
  std::string text;
  for (const MethodParameter& p : parameters) {
    text += fmt::format("| `{}` | {} | {} | {} | {} |\n", p.id.name(), of, default_text(p),
                        range_text(p.id.row()), p.id.row().meaning);
  }
  return text;
}

std::string base_text(const MergeMethod& m) {
  switch (m.base) {
    case BaseRole::kApart:
      return "a base, and";
    case BaseRole::kOptional:
      return "a base if there is one, and";
    case BaseRole::kWeighted:
      return "the base as a model like others if it has a weight;";
    case BaseRole::kModel:
      return "the base as a model like others;";
  }
  return "";
}

std::string count_text(const MergeMethod& m) {
  const auto models = [](size_t n) { return fmt::format("{} model{}", n, n == 1 ? "" : "s"); };
  if (m.min_models == m.max_models) return models(m.min_models);
  if (m.max_models == SIZE_MAX) return models(m.min_models) + " or more";
  return fmt::format("{} to {}", m.min_models, models(m.max_models));
}

std::string method_text(const MergeMethod& m) {
  std::string text = fmt::format("### {}\n\n{}\n", m.name, m.about);
  if (!m.paper.empty()) text += fmt::format("Source: {}.\n", m.paper);
  text += fmt::format("It takes {} {}.\n\n", base_text(m), count_text(m));
  const std::string rows = parameter_lines(m.model_parameters, "a model") +
                           parameter_lines(m.whole_parameters, "the whole merge");
  if (rows.empty()) return text + "It reads no parameters.\n\n";
  return text + "| parameter | of | default | values | meaning |\n|---|---|---|---|---|\n" + rows +
         "\n";
}

std::string all_methods() {
  std::string text;
  for (const std::string_view name : merge_method_names())
    text += method_text(find_merge_method(name));
  text.pop_back();
  return text;
}

// Names in code, wrapped to lines of at most 100 columns.
std::string names_in_lines() {
  std::string text, line;
  for (const std::string_view name : merge_method_names()) {
    const std::string word = fmt::format("`{}`", name);
    if (!line.empty() && line.size() + 2 + word.size() > 99) {
      text += line + ",\n";
      line.clear();
    }
    line += (line.empty() ? "" : ", ") + word;
  }
  return text + line + "\n";
}

// The part of a file between `<!-- MARK -->` and `<!-- end of MARK -->` is `expected`.
void expect_part(const fs::path& file, const std::string& mark, const std::string& expected) {
  const std::string begin = fmt::format("<!-- {} -->\n", mark),
                    end = fmt::format("<!-- end of {} -->", mark);
  std::string text = file_text(file);
  const size_t first = text.find(begin), last = text.find(end);
  ASSERT_NE(first, std::string::npos) << file << " has no " << begin;
  ASSERT_NE(last, std::string::npos) << file << " has no " << end;
  const size_t at = first + begin.size();
  if (std::getenv("LEWIS_WRITE_DOCS")) {
    text.replace(at, last - at, expected);
    std::ofstream(file, std::ios::binary) << text;
    return;
  }
  EXPECT_EQ(text.substr(at, last - at), expected)
      << "write it anew: LEWIS_WRITE_DOCS=1 test_merge --gtest_filter='Docs.*'";
}

TEST(Docs, ReadmeListsTheMethods) {
  expect_part(fs::path(LEWIS_SOURCE) / "README.md", "methods", names_in_lines());
}

TEST(Docs, MethodsPageHasTheTables) {
  expect_part(fs::path(LEWIS_SOURCE) / "docs" / "methods.md", "methods", all_methods());
}

// A parameter of each model must be one that the parser accepts under a model.
TEST(Docs, ParametersOfModelsMayBeWrittenUnderModels) {
  for (const std::string_view name : merge_method_names()) {
    const MergeMethod& m = find_merge_method(name);
    EXPECT_FALSE(m.about.empty()) << name;
    for (const MethodParameter& p : m.model_parameters)
      EXPECT_EQ(p.id.row().scope, ParameterScope::kModel) << name << ' ' << p.id.name();
  }
}

// A row of the table that no method reads is forgotten.
TEST(Docs, EveryParameterIsReadByAMethod) {
  for (const ParameterRow& row : kParameterTable) {
    EXPECT_FALSE(row.meaning.empty()) << row.name;
    bool read = false;
    for (const std::string_view name : merge_method_names())
      read |= find_merge_method(name).reads(row.name);
    EXPECT_TRUE(read) << row.name;
  }
}

}  // namespace
}  // namespace lewis
