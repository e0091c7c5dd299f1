// `outputs:`: several weighted means of the recipe's models, from an average, a list or a table.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "base/path_words.h"
#include "base/suggest.h"
#include "base/text_file.h"
#include "recipe/averages.h"
#include "recipe/outputs.h"
#include "recipe/parse/recipe_reader.h"

namespace lewis {

using Kind = YamlNode::Kind;

namespace {

// A table of weights: a line of names, then a line per model; fields are parted by commas or tabs.
struct WeightTable {
  std::vector<std::string> columns;                 // without that of the models
  std::map<std::string, std::vector<double>> rows;  // by model, as the table writes it
};

std::string trimmed(std::string_view field) {
  const auto blank = [](char c) { return c == ' ' || c == '"' || c == '\r'; };
  while (!field.empty() && blank(field.front())) field.remove_prefix(1);
  while (!field.empty() && blank(field.back())) field.remove_suffix(1);
  return std::string(field);
}

std::vector<std::string> fields_of(std::string_view line) {
  const char mark = line.find('\t') != line.npos ? '\t' : ',';
  std::vector<std::string> fields;
  for (size_t at = 0; at <= line.size();) {
    const size_t end = std::min(line.find(mark, at), line.size());
    fields.push_back(trimmed(line.substr(at, end - at)));
    at = end + 1;
  }
  return fields;
}

double weight_of(const std::string& field, const std::string& where) {
  double value = 0;
  const char* begin = field.data() + (field.starts_with('+') ? 1 : 0);
  const auto [end, error] = std::from_chars(begin, field.data() + field.size(), value);
  if (field.empty() || error != std::errc() || end != field.data() + field.size() ||
      !std::isfinite(value))
    throw input_error("{}: expected a number, found {}", where, in_quotes(field));
  return value;
}

WeightTable read_weight_table(const std::filesystem::path& file) {
  const std::string text = read_text_file(file);
  WeightTable table;
  size_t number = 0;
  for (const std::string_view line : split_lines(text)) {
    ++number;
    if (trimmed(line).empty() || line.starts_with('#')) continue;
    const std::string where = fmt::format("{}:{}", file.string(), number);
    std::vector<std::string> fields = fields_of(line);
    if (table.columns.empty()) {
      if (fields.size() < 2 || fields[0] != "model") {
        throw input_error("{}: expected a first line like model,NAME,NAME, found {}", where,
                          in_quotes(line));
      }
      table.columns.assign(fields.begin() + 1, fields.end());
      continue;
    }
    if (fields.size() != table.columns.size() + 1) {
      throw input_error("{}: expected a model and {} weights, found {} fields", where,
                        table.columns.size(), fields.size());
    }
    std::vector<double> weights;
    for (size_t i = 1; i < fields.size(); ++i) weights.push_back(weight_of(fields[i], where));
    if (!table.rows.emplace(fields[0], std::move(weights)).second)
      throw input_error("{}: a second line for the model {}", where, fields[0]);
  }
  if (table.rows.empty()) throw input_error("{}: a table of weights without a line", file.string());
  return table;
}

// The weights of a column, as Recipe::models. Models that the table lacks have 0.
std::vector<double> column_of(const WeightTable& table, size_t column, const Recipe& r,
                              const std::string& file) {
  std::vector<double> weights(r.models.size());
  for (const auto& [name, row] : table.rows) {
    const auto named = [&](const std::string& model) {
      return model == name || last_part(model) == name;
    };
    std::vector<size_t> fitting;
    for (size_t m = 0; m < r.models.size(); ++m) {
      if (r.models[m].listed && named(r.models[m].model)) fitting.push_back(m);
    }
    if (fitting.empty())
      throw input_error("{}: {} is none of the recipe's models", file, in_quotes(name));
    if (fitting.size() > 1) {
      throw input_error("{}: {} may be {} or {}; write it as the recipe does", file,
                        in_quotes(name), r.models[fitting[0]].model, r.models[fitting[1]].model);
    }
    weights[fitting[0]] = row[column];
  }
  return weights;
}

// Whether a name can be that of a folder in OUT.
bool is_folder_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.size() <= 200 &&
         !name.starts_with('.') && !name.ends_with(".partial") &&
         std::ranges::all_of(name, [](char c) {
           return std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.' ||
                  c == '+' || c == '=';
         });
}

std::vector<size_t> listed_models(const Recipe& r) {
  std::vector<size_t> listed;
  for (size_t m = 0; m < r.models.size(); ++m) {
    if (r.models[m].listed) listed.push_back(m);
  }
  return listed;
}

}  // namespace

// average: NAME with its window, over the models in the recipe's order.
void RecipeReader::read_average(const YamlNode& node, const Recipe& r, RecipeOutput& out) const {
  const YamlNode& named = need(node, "average");
  const auto average = choice<Average>(named, "average");
  const Window window = window_of(node);
  const bool needs_last = average == Average::kLawa || average == Average::kPma;
  if (needs_last && !window.last) {
    fail(named.line, fmt::format("average: {} needs last: how many of the latest checkpoints",
                                 name_of(average)));
  }
  const YamlNode* alpha_node = given(node, "alpha");
  if ((average == Average::kEma) != (alpha_node != nullptr)) {
    fail(named.line,
         average == Average::kEma
             ? "average: ema needs alpha, the weight of the newest, above 0 and up to 1"
             : fmt::format("alpha belongs to average: ema, not to {}", name_of(average)));
  }
  const double alpha = alpha_node ? share(*alpha_node, "alpha") : 1;
  if (alpha == 0) fail(alpha_node->line, "alpha must be above 0 and up to 1, found 0");
  const std::vector<size_t> listed = listed_models(r);
  const std::vector<size_t> places = window.of(listed.size());
  if (places.empty()) {
    fail(node.line, fmt::format("output {}: {} are asked for, and there are {} models", out.name,
                                window.words(), listed.size()));
  }
  const std::vector<double> weights = average_weights(average, places.size(), alpha);
  for (size_t i = 0; i < places.size(); ++i) out.weights[listed[places[i]]] = weights[i];
  out.origin = std::string(name_of(average));
  if (alpha_node) out.origin += fmt::format(", alpha {}", alpha);
  if (!window.words().empty()) out.origin += ", " + window.words();
}

// weights: a list as long as `models`, or a table's file.
void RecipeReader::read_weights(const YamlNode& node, const Recipe& r, RecipeOutput& out) const {
  for (const std::string_view key : {"alpha", "first", "last", "every"}) {
    if (const YamlNode* n = given(node, key))
      fail(n->line, fmt::format("'{}' has no meaning beside weights", key));
  }
  const YamlNode& weights = need(node, "weights");
  if (weights.kind == Kind::kList) {
    const std::vector<size_t> listed = listed_models(r);
    if (weights.items.size() != listed.size()) {
      fail(weights.line, fmt::format("output {}: {} weights for {} models", out.name,
                                     weights.items.size(), listed.size()));
    }
    for (size_t i = 0; i < listed.size(); ++i)
      out.weights[listed[i]] = number(weights.items[i], "a weight");
    out.origin = "weights as given";
    return;
  }
  const std::string written = text(weights, "weights");
  const std::filesystem::path file = file_path(written, weights.line, "weights");
  const WeightTable table = read_weight_table(file);
  const auto column = std::ranges::find(table.columns, out.name);
  const bool only = table.columns.size() == 1;
  if (column == table.columns.end() && !only) {
    fail(weights.line, fmt::format("{}: there is no column {}; it has {}", written, out.name,
                                   fmt::join(table.columns, ", ")));
  }
  const auto at = only ? 0 : static_cast<size_t>(column - table.columns.begin());
  out.weights = column_of(table, at, r, file.string());
  out.origin = "weights of " + last_part(written);
}

RecipeOutput RecipeReader::output_of(const YamlNode& node, const Recipe& r) const {
  check_keys(node, {"name", "average", "weights", "alpha", "first", "last", "every"}, "an output");
  RecipeOutput out;
  out.line = node.line;
  out.name = text(need(node, "name"), "name");
  out.weights.resize(r.models.size());
  const bool average = given(node, "average") != nullptr;
  if (average == (given(node, "weights") != nullptr))
    fail(node.line, fmt::format("output {}: expected one of average and weights", out.name));
  average ? read_average(node, r, out) : read_weights(node, r, out);
  return out;
}

// outputs: FILE has an output per column.
std::vector<RecipeOutput> RecipeReader::outputs_of_table(const YamlNode& node,
                                                         const Recipe& r) const {
  const std::string written = text(node, "outputs");
  const std::filesystem::path file = file_path(written, node.line, "outputs");
  const WeightTable table = read_weight_table(file);
  std::vector<RecipeOutput> outputs;
  for (size_t c = 0; c < table.columns.size(); ++c) {
    outputs.push_back({table.columns[c], column_of(table, c, r, file.string()),
                       "weights of " + last_part(written), node.line});
  }
  return outputs;
}

void RecipeReader::check_outputs(const YamlNode& node, const Recipe& r) const {
  if (r.merge_method != "linear") {
    fail(node.line, fmt::format("outputs are weighted means: merge_method must be linear, found {}",
                                r.merge_method));
  }
  if (!r.slices.empty() || !r.modules.empty())
    fail(node.line, "outputs needs the form models, not slices or modules");
  bool weighted = r.parameters.contains("weight");
  for (const RecipeModel& m : r.models) weighted = weighted || m.parameters.contains("weight");
  if (weighted) fail(node.line, "the weights are those of outputs: remove the parameter weight");
}

void RecipeReader::read_outputs(const YamlNode& root, Recipe& r) const {
  const YamlNode* node = given(root, "outputs");
  if (!node) return;
  check_outputs(*node, r);
  if (node->kind == Kind::kScalar) {
    r.outputs = outputs_of_table(*node, r);
  } else {
    if (node->kind != Kind::kList || node->items.empty())
      fail(node->line, "'outputs' must be a list of outputs, or the file of a table");
    for (const YamlNode& item : node->items) r.outputs.push_back(output_of(item, r));
  }
  const bool divides = normalizes(r);
  std::set<std::string> names;
  for (const RecipeOutput& out : r.outputs) {
    if (!is_folder_name(out.name)) {
      fail(out.line, fmt::format("output {}: expected the name of a folder, of letters, digits and "
                                 "- _ . + =, not beginning with a dot",
                                 in_quotes(out.name)));
    }
    if (!names.insert(out.name).second)
      fail(out.line, fmt::format("two outputs have the name {}", out.name));
    const double sum = std::accumulate(out.weights.begin(), out.weights.end(), 0.0);
    if (std::ranges::all_of(out.weights, [](double w) { return w == 0; }))
      fail(out.line, fmt::format("output {}: all weights are 0", out.name));
    if (divides && std::abs(sum) < 1e-8) {
      fail(out.line, fmt::format("output {}: the weights add up to {}, and normalize divides by it",
                                 out.name, sum));
    }
    if (!divides && !out.origin.starts_with("weights"))
      fail(out.line, fmt::format("output {}: an average divides by the sum of its weights, so "
                                 "normalize must be true",
                                 out.name));
  }
  for (RecipeModel& m : r.models) {
    if (m.listed) m.parameters["weight"] = 1.0;  // stands in until an output is chosen
  }
  r.parameters["double_sums"] = 1.0;
}

}  // namespace lewis
