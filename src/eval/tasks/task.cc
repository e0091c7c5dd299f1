#include "eval/tasks/task.h"

#include <algorithm>

#include "base/error.h"
#include "eval/answers/gsm8k_answer.h"
#include "eval/tasks/python_random.h"
#include "text/line_reader.h"
#include "text/stop_strings.h"

namespace lewis {
namespace {

constexpr uint32_t kShotSeed = 1234;  // of lm-evaluation-harness

// Continues the prompts; `take` gets each text, cut at the first stop, as soon as it is there.
void generate_texts(const TaskRun& run, const std::vector<std::string>& stops,
                    const std::function<void(size_t item, const std::string& text)>& take) {
  const TaskOptions& o = run.task.options;
  const Tokenizer& tokenizer = *run.model.tokenizer;
  GenerateOptions options;
  options.max_new_tokens = *o.max_new_tokens;
  options.temperature = o.temperature;
  options.top_p = o.top_p;
  options.seed = o.seed;
  options.stop_ids = run.model.stop_ids;
  options.max_memory = o.max_memory;
  options.note = o.note;
  std::vector<std::vector<int32_t>> prompts;
  for (const size_t item : run.items) {
    prompts.push_back(run.task.items[item].tokens.ids);
    options.numbers.push_back(item);
  }
  StopStrings stop_strings(tokenizer, stops);
  options.stop = [&](size_t i, std::span<const int32_t> generated) {
    return stop_strings.completed(i, generated);
  };
  options.finished = [&](size_t i, std::span<const int32_t> generated) {
    const size_t item = run.items[i];
    const std::string text = cut_at_stops(tokenizer.decode(generated, true), stops);
    take(item, text);
  };
  options.progress = [&](const Progress& p) {
    if (run.progress) run.progress({"generating", "items", p.done, p.total});
  };
  options.progress({"", "", 0, prompts.size()});  // the clock starts before the first prompt
  generate(run.model.transformer, prompts, options);
}

std::vector<ScoredSequence> scored_sequences(const PreparedTask& task) {
  std::vector<ScoredSequence> sequences;
  for (const TaskItem& item : task.items) {
    sequences.push_back({item.tokens.ids, std::max<size_t>(item.tokens.prompt_tokens, 1)});
  }
  return sequences;
}

}  // namespace

std::vector<WorkUnit> work_units(const PreparedTask& task, const ModelSpec& spec) {
  if (task.in_passes) return scoring_passes(spec, scored_sequences(task));
  std::vector<WorkUnit> units;
  for (size_t item = 0; item < task.items.size(); ++item) units.emplace_back(item, item + 1);
  return units;
}

std::vector<DataItem> read_items(const TaskContext& context, const std::filesystem::path& file,
                                 uint64_t limit) {
  DataOptions data;
  data.file = file;
  data.format = value_of<DataFormat>(context.options.format, "data format");
  data.prompt_field = context.options.prompt_field;
  data.answer_field = context.options.answer_field;
  data.note = context.options.note;
  std::vector<DataItem> items = read_data(data, context.options.chat);
  if (limit && items.size() > limit) items.resize(limit);
  return items;
}

std::string DataRow::text(std::string_view field) const {
  const auto found = doc.find(field);
  if (found == doc.end()) throw input_error("{}: there is no field '{}'", where, field);
  if (!found->is_string()) throw input_error("{}: the field '{}' is no text", where, field);
  return found->get<std::string>();
}

std::vector<std::string> DataRow::texts(std::string_view field) const {
  const auto found = doc.find(field);
  const bool is_list = found != doc.end() && found->is_array() &&
                       std::ranges::all_of(*found, [](const Json& t) { return t.is_string(); });
  if (!is_list) throw input_error("{}: the field '{}' must be a list of texts", where, field);
  return found->get<std::vector<std::string>>();
}

std::vector<DataRow> read_rows(const std::filesystem::path& file) {
  std::vector<DataRow> rows;
  LineReader lines(file);
  while (const auto line = lines.next()) {
    if (line->find_first_not_of(" \t\r") == line->npos) continue;
    const std::string where = lines.where();
    rows.push_back({parse_json(*line, where), where});
    if (!rows.back().doc.is_object()) throw input_error("{}: expected a JSON object", where);
  }
  if (rows.empty()) throw input_error("{}: there are no rows", file.string());
  return rows;
}

std::vector<std::vector<uint32_t>> draw_shots(size_t items, size_t examples, uint64_t count) {
  PythonRandom random(kShotSeed);
  std::vector<std::vector<uint32_t>> drawn;
  for (size_t i = 0; i < items; ++i) {
    drawn.push_back(random.sample(static_cast<uint32_t>(examples), static_cast<uint32_t>(count)));
  }
  return drawn;
}

std::string fixed_prefix(const TaskContext& context, const std::vector<std::string>& shots) {
  const uint64_t count = *context.options.shots;
  if (count > shots.size()) {
    throw usage_error("task {}: {} shots, but it has {}", context.options.task, count,
                      shots.size());
  }
  std::string prefix;
  for (uint64_t i = 0; i < count; ++i) prefix += shots[i] + "\n\n";
  return prefix;
}

Json doc_of(const DataItem& item) {
  if (item.row.empty()) return {{"text", item.prompt + item.answer}};
  return parse_json(item.row, item.where);
}

TokenSequence item_tokens(const TaskContext& context, const DataItem& item, int64_t longest) {
  TokenSequence sequence = tokenize(context.tokenizer, item);
  if (static_cast<int64_t>(sequence.ids.size()) > longest) {
    throw input_error("{}: the item has {} tokens, but at most {} fit the model's {} positions",
                      item.where, sequence.ids.size(), longest, context.spec.max_positions);
  }
  for (int32_t id : sequence.ids) {
    if (id < 0 || id >= context.spec.vocab) {
      throw input_error("{}: token id {} is not in the model's vocabulary of {}", item.where, id,
                        context.spec.vocab);
    }
  }
  return sequence;
}

TokenSequence prompt_tokens(const TaskContext& context, const std::string& prompt,
                            const std::string& where) {
  const TaskOptions& o = context.options;
  if (!context.tokenizer) throw input_error("task {}: the model has no tokenizer", o.task);
  if (*o.max_new_tokens < 1) {
    throw usage_error("task {}: {} new tokens, expected 1 or more", o.task, *o.max_new_tokens);
  }
  DataItem item;
  item.prompt = prompt;
  item.where = where;
  return item_tokens(context, item, context.spec.max_positions - *o.max_new_tokens);
}

Json generation_settings(const TaskOptions& options, const std::vector<std::string>& stops) {
  Json settings = {{"until", stops},
                   {"max_gen_toks", *options.max_new_tokens},
                   {"do_sample", options.temperature > 0},
                   {"temperature", options.temperature}};
  if (options.temperature > 0) {
    settings["top_p"] = options.top_p;
    settings["seed"] = options.seed;
  }
  return settings;
}

void run_generation(const TaskRun& run, const std::vector<std::string>& stops,
                    const TextScore& score) {
  generate_texts(run, stops, [&](size_t item, const std::string& text) {
    run.done(item, score(run.task.items[item], text));
  });
}

void run_programs(const TaskRun& run, const std::vector<std::string>& stops,
                  const ProgramOf& program_of) {
  ProgramQueue queue(*run.task.options.sandbox, run.model.transformer.threads().count());
  const auto take = [&](const ProgramCase& program, const ProgramResult& ran) {
    ItemResult result;
    result.scores = {{ran.verdict == Verdict::kPassed ? 1.0 : 0.0}};
    result.response = program.text;
    result.details = {{"verdict", verdict_name(ran.verdict)}};
    if (!ran.reason.empty()) result.details["reason"] = ran.reason;
    if (!ran.output.empty()) result.details["output"] = ran.output;
    run.done(program.item, result);
  };
  generate_texts(run, stops, [&](size_t item, const std::string& text) {
    ProgramCase next = program_of(run.task.items[item], text);
    next.item = item;
    next.text = text;
    queue.add(std::move(next));
    queue.take_finished(take);
  });
  queue.finish(take);
}

void run_passes(const TaskRun& run, const PassFn& pass, const LossScore& score) {
  const std::vector<ScoredSequence> sequences = scored_sequences(run.task);
  const size_t total = run.items.size();
  size_t before = 0;
  for (const auto& [first, last] : scoring_passes(run.model.transformer.spec(), sequences)) {
    const auto begin = std::ranges::lower_bound(run.items, first);
    const auto end = std::ranges::lower_bound(run.items, last);
    if (begin == end) continue;
    const auto count = static_cast<size_t>(end - begin);
    const auto losses =
        pass(std::span(sequences).subspan(first, last - first), [&](const Progress& p) {
          const double share = static_cast<double>(p.done) / static_cast<double>(p.total);
          const auto done = static_cast<size_t>(share * static_cast<double>(count));
          if (run.progress) run.progress({"scoring", "items", before + done, total});
        });
    for (auto item = begin; item != end; ++item) {
      run.done(*item, score(run.task.items[*item], losses[*item - first]));
    }
    before += count;
  }
}

void run_losses(const TaskRun& run, const LossScore& score) {
  const PassFn pass = [&](std::span<const ScoredSequence> sequences, const ProgressFn& progress) {
    return token_losses(run.model.transformer, sequences, progress);
  };
  run_passes(run, pass, score);
}

}  // namespace lewis
