#include "targets.h"

#include <lewis/tensor_source.h>

#include <algorithm>
#include <array>
#include <vector>

#include "app/gguf/import.h"
#include "app/own_task.h"
#include "base/data_format.h"
#include "base/error.h"
#include "base/json.h"
#include "base/markdown.h"
#include "base/printable.h"
#include "calibrate/imatrix.h"
#include "calibrate/statistics.h"
#include "eval/results/results.h"
#include "io/checkpoint.h"
#include "io/gguf.h"
#include "io/json_lines.h"
#include "io/manifest.h"
#include "io/safetensors.h"
#include "journal_targets.h"
#include "merge/sources/adapter_config.h"
#include "model_targets.h"
#include "recipe/recipe.h"
#include "recipe/tunable.h"
#include "report/escape.h"
#include "text/chat_template.h"
#include "text/data_set.h"
#include "text/dataset.h"
#include "text/line_reader.h"
#include "text/regex.h"
#include "text/tokenizer.h"
#include "yaml/yaml.h"

namespace lewis {
namespace {

// A small checkpoint with the tensors "a" and "b", one byte each.
constexpr char kShard[] =
    "\x70\0\0\0\0\0\0\0"
    R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}       )"
    "xy";

// What a reader returns must lie in the file.
template <typename File>
void read_all(const File& file) {
  for (const auto& entry : file.entries()) {
    std::vector<std::byte> bytes(std::min<uint64_t>(byte_size(entry.info), 1 << 16));
    file.read(entry, byte_size(entry.info) - bytes.size(), bytes);
    fuzz_check(file.find(entry.info.name) == &entry, "a tensor is found by its name");
  }
}

void read_safetensors(std::string_view bytes, const FuzzFolder& folder) {
  read_all(SafetensorsFile(folder.write("model.safetensors", bytes)));
}

void read_index(std::string_view bytes, const FuzzFolder& folder) {
  folder.write("model-00001-of-00001.safetensors", {kShard, sizeof kShard - 1});
  folder.write("model.safetensors.index.json", bytes);
  Checkpoint::open(folder.path());
}

void read_tensors(const TensorSource& source) {
  for (const TensorInfo& t : source.tensors()) {
    fuzz_check(source.find(t.name) == &t, "a tensor is found by its name");
    const int64_t all = element_count(t.shape), count = std::min<int64_t>(all, 1 << 12);
    std::vector<std::byte> bytes(static_cast<size_t>(count) * dtype_size(t.dtype));
    source.read(t, all - count, bytes);
  }
}

// As it is stored, and as a model.
void read_gguf(std::string_view bytes, const FuzzFolder& folder) {
  const auto file = folder.write("m.gguf", bytes);
  if (!is_gguf(file)) return;
  const auto parts = open_gguf_parts(file);
  const auto stored = gguf_as_stored("m.gguf", parts);
  fuzz_check(stored->tensors().size() >= parts[0]->entries().size(), "no tensor is lost");
  read_tensors(*stored);
  const InputModel model = open_gguf(file);
  read_tensors(*model.source);
  read_model_spec(*model.config, "config.json");
}

// For a model with the weight that the seed names.
void read_importance_matrix(std::string_view bytes, const FuzzFolder& folder) {
  static const std::array<float, 8> weight{};
  static const auto model =
      memory_source("model", {{{"model.layers.0.mlp.up_proj.weight", DType::kF32, {2, 4}},
                               std::as_bytes(std::span(weight))}});
  read_imatrix(folder.write("m.gguf", bytes), *model);
}

// Statistics that were read are written and read again as they are.
void read_statistics_file(std::string_view bytes, const FuzzFolder& folder) {
  const Statistics s = read_statistics(folder.write("s.safetensors", bytes));
  const auto copy = folder.path() / "copy.safetensors";
  write_statistics(copy, s);
  const Statistics again = read_statistics(copy);
  fuzz_check(again.sum_squares == s.sum_squares && again.experts == s.experts &&
                 again.tokens == s.tokens && again.fused == s.fused,
             "statistics survive being written");
}

void read_yaml(std::string_view bytes, const FuzzFolder&) { parse_yaml(bytes, "input.yml"); }

// A recipe that was read is printed as one that means the same.
void read_recipe_text(std::string_view bytes, const FuzzFolder& folder) {
  const std::vector<std::string> models = {"base", "math", "code"};
  for (const char* data : {"math.jsonl", "code.jsonl"}) folder.write(data, "{}\n");
  const Recipe recipe = parse_recipe(bytes, folder.path() / "r.yml", models);
  const std::string text = to_yaml(recipe, false);
  const Recipe again = parse_recipe(text, folder.path() / "r.yml", models);
  fuzz_check(to_yaml(again, false) == text, "a printed recipe means the same");
}

void read_tunable_recipe(std::string_view bytes, const FuzzFolder& folder) {
  for (const char* model : {"base", "math", "code"})
    std::filesystem::create_directory(folder.path() / model);
  TunableRecipe::parse(bytes, folder.path() / "r.yml");
}

void read_manifest_file(std::string_view bytes, const FuzzFolder& folder) {
  // With and without its own hash, which almost no changed input has.
  try {
    read_manifest(folder.write("lewis_manifest.json", bytes));
  } catch (const Error&) {
  }
  shard_from_json(parse_json(bytes, "record"));
}

void read_journal(std::string_view bytes, const FuzzFolder& folder) {
  read_json_lines(folder.write("journal.jsonl", bytes), {"evaluation", "key"});
}

void read_json_text(std::string_view bytes, const FuzzFolder&) {
  const Json json = parse_json(bytes, "input.json");
  const std::string text = json.dump();
  fuzz_check(parse_json(text, "dump").dump() == text, "JSON survives being written");
}

void read_adapter(std::string_view bytes, const FuzzFolder& folder) {
  folder.write("adapter_config.json", bytes);
  const AdapterConfig config = read_adapter_config(folder.path());
  config.rank_of("model.layers.0.self_attn.q_proj");
  config.scale_of("model.layers.0.self_attn.q_proj");
}

void read_tokenizer(std::string_view bytes, const FuzzFolder&) {
  const Tokenizer tokenizer = Tokenizer::from_json(std::string(bytes), "tokenizer.json");
  tokenizer.encode("Hello, world 123! \xc3\xa9", true);
}

void render_template(std::string_view bytes, const FuzzFolder&) {
  const ChatTemplate chat(std::string(bytes), "template");
  const Json messages = {{{"role", "system"}, {"content", "Be short."}},
                         {{"role", "user"}, {"content", "What is 2 + 3?"}},
                         {{"role", "assistant"}, {"content", "5"}}};
  chat.render(messages);
}

// The first byte chooses the format.
void read_data_file(std::string_view bytes, const FuzzFolder& folder) {
  if (bytes.empty()) return;
  constexpr size_t kFormats = kEnumNames<DataFormat>.size();
  const DataFormat format =
      kEnumNames<DataFormat>[static_cast<unsigned char>(bytes[0]) % kFormats].value;
  static const ChatTemplate chat(
      "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}",
      "template");
  DataOptions options{folder.write("data.jsonl", bytes.substr(1)), format, "question", "answer"};
  read_data(options, &chat);
}

// What becomes of a row does not matter here, but all of them must come.
void read_lines(std::string_view bytes, const FuzzFolder& folder, std::string_view name) {
  LineReader lines(folder.write(name, bytes));
  while (const auto line = lines.next()) {
    if (!name.ends_with(".csv")) continue;
    parse_json(*line, lines.where());  // throws nothing but Error: names of columns may be anything
  }
}

void read_parquet(std::string_view bytes, const FuzzFolder& folder) {
  if (bytes.starts_with("PAR1")) read_lines(bytes, folder, "data.parquet");
}

void read_csv(std::string_view bytes, const FuzzFolder& folder) {
  read_lines(bytes, folder, "data.csv");
}

// gzip and Zstandard.
void read_packed(std::string_view bytes, const FuzzFolder& folder) {
  read_lines(bytes, folder, "data.jsonl");
}

// The front matter of a data set's README.md, beside three files.
void read_data_set(std::string_view bytes, const FuzzFolder& folder) {
  folder.write("train.jsonl", "{}");
  folder.write("test.csv", "a");
  folder.write("README.md", bytes);
  data_files(folder.path());
}

void read_task(std::string_view bytes, const FuzzFolder& folder) {
  const OwnTask task = read_own_task(folder.write("task.yml", bytes));
  const Json row = {{"question", "2 + 3"}, {"answer", 5}, {"list", {"a", "b"}}};
  fill_template(task.prompt, row, nullptr, "row 1");
}

void read_results_file(std::string_view bytes, const FuzzFolder& folder) {
  read_results(folder.write("results_2026-01-01T00-00-00.000000.json", bytes));
}

// The pattern is the first line, the text all others.
void match_regex(std::string_view bytes, const FuzzFolder&) {
  const size_t end = std::min(bytes.find('\n'), bytes.size());
  const Regex regex(bytes.substr(0, end));
  const std::string_view text = bytes.substr(std::min(end + 1, bytes.size()));
  for (const Regex::Match& match : regex.find_all(text))
    fuzz_check(match.size() == regex.groups(), "a match has all groups");
}

// Whatever goes in, one line that a terminal shows comes out.
void escape_text(std::string_view bytes, const FuzzFolder&) {
  const std::string shown = printable(bytes);
  for (size_t i = 0; i < shown.size();) {
    const Utf8Character c = utf8_character_at(shown, i);
    fuzz_check(c.valid && is_shown(c.code), "escaped text is shown");
    i += c.bytes;
  }
  fuzz_check(printable(shown) == shown, "escaping is stable");
  const std::string markup = escape_markup(bytes);
  fuzz_check(markup.find_first_of("<>\"") == markup.npos, "escaped markup has no tags");
}

constexpr auto kTargets = std::to_array<FuzzTarget>({{"safetensors", read_safetensors},
                                                     {"index", read_index},
                                                     {"gguf", read_gguf},
                                                     {"imatrix", read_importance_matrix},
                                                     {"statistics", read_statistics_file},
                                                     {"yaml", read_yaml},
                                                     {"recipe", read_recipe_text},
                                                     {"tunable", read_tunable_recipe},
                                                     {"manifest", read_manifest_file},
                                                     {"journal", read_journal},
                                                     {"journal_eval", resume_evaluation},
                                                     {"journal_tune", resume_tuning},
                                                     {"journal_refine", resume_refinement},
                                                     {"json", read_json_text},
                                                     {"adapter_config", read_adapter},
                                                     {"adapter", apply_adapter},
                                                     {"config", read_config},
                                                     {"quantized", read_quantized},
                                                     {"tokenizer", read_tokenizer},
                                                     {"tokenizers", unite_tokenizers},
                                                     {"template", render_template},
                                                     {"data", read_data_file},
                                                     {"parquet", read_parquet},
                                                     {"csv", read_csv},
                                                     {"packed", read_packed},
                                                     {"data_set", read_data_set},
                                                     {"task", read_task},
                                                     {"results", read_results_file},
                                                     {"answer", judge_answer},
                                                     {"regex", match_regex},
                                                     {"escaping", escape_text}});

}  // namespace

std::span<const FuzzTarget> fuzz_targets() { return kTargets; }

}  // namespace lewis
