// A task is a function from options and data to prompts, and how they are run and scored. Each has
// a file of its own here, a declaration below and a line in the table of eval/tasks.cc.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "eval/sandbox/program_queue.h"
#include "eval/tasks.h"
#include "eval/tasks/task_data.h"
#include "eval/tasks/token_loss.h"
#include "text/dataset.h"

namespace lewis {

struct TaskContext {
  const TaskOptions& options;
  const ModelSpec& spec;
  const Tokenizer* tokenizer;  // may be null
};

struct Task {
  std::string_view name;
  std::string_view format;  // of data whose format is not said; "": by the file's ending
  int64_t max_new_tokens;   // of generation, where nothing else is asked for; 0: none
  // Fills version, metrics, settings, items and run; the rest is prepare_task's. What options
  // leave open (format, label, max_new_tokens) is settled in the context's.
  PreparedTask (*prepare)(const TaskContext&);
  TaskData test = {}, train = {};  // the task's own; examples come from the second
  uint64_t shots = 0;              // where nothing else is asked for
  bool programs = false;           // runs what the model writes
};

PreparedTask prepare_loss(const TaskContext& context);
PreparedTask prepare_perplexity(const TaskContext& context);
PreparedTask prepare_gsm8k(const TaskContext& context);
PreparedTask prepare_gsm8k_cot(const TaskContext& context);
PreparedTask prepare_mbpp(const TaskContext& context);
PreparedTask prepare_humaneval(const TaskContext& context);
PreparedTask prepare_kl(const TaskContext& context);
PreparedTask prepare_own(const TaskContext& context);
PreparedTask prepare_ifeval(const TaskContext& context);

// The items of a data file in the task's format; the first `limit` of them (0: all).
std::vector<DataItem> read_items(const TaskContext& context, const std::filesystem::path& file,
                                 uint64_t limit = 0);

// A line of a .jsonl file.
struct DataRow {
  Json doc;
  std::string where;  // "file:line"

  // A field. Throws Error(kInput) that names it when it is missing or no text.
  std::string text(std::string_view field) const;
  // A field that is a list of texts. The same errors.
  std::vector<std::string> texts(std::string_view field) const;
};
// Throws Error(kInput) for a line that is no JSON object, and for a file without lines.
std::vector<DataRow> read_rows(const std::filesystem::path& file);

// For each of `items`, which of `examples` stand before it: sample(examples, count) anew for each,
// in order, from one random.Random(1234), as lm-evaluation-harness does.
std::vector<std::vector<uint32_t>> draw_shots(size_t items, size_t examples, uint64_t count);

// The text before every question: the first of `shots`, joined by blank lines. Throws
// Error(kUsage) when options.shots asks for more.
std::string fixed_prefix(const TaskContext& context, const std::vector<std::string>& shots);

// The row of the data file; for data without rows an object with the text.
Json doc_of(const DataItem& item);

// The item's tokens. Throws Error(kInput), with the item's file and line, for an id that the model
// does not know, and when there are more tokens than `longest`.
TokenSequence item_tokens(const TaskContext& context, const DataItem& item, int64_t longest);

// The tokens of a prompt that is to be continued by options.max_new_tokens. The same errors.
TokenSequence prompt_tokens(const TaskContext& context, const std::string& prompt,
                            const std::string& where);

// Settings of generation that decide its results.
Json generation_settings(const TaskOptions& options, const std::vector<std::string>& stops);

// Continues the prompts (TaskItem::tokens) as options say, up to the first stop string; score() is
// called with the text before it.
using TextScore = std::function<ItemResult(const TaskItem& item, const std::string& text)>;
void run_generation(const TaskRun& run, const std::vector<std::string>& stops,
                    const TextScore& score);

// Continues the prompts and runs what program_of() makes of them in options.sandbox. The one metric
// is whether the program passes; verdict, reason and output are in the item's details.
using ProgramOf = std::function<ProgramCase(const TaskItem& item, const std::string& text)>;
void run_programs(const TaskRun& run, const std::vector<std::string>& stops,
                  const ProgramOf& program_of);

// Scores the answer's tokens of each item (TaskItem::tokens; token 0 never, since nothing comes
// before it): score() gets one number per token, from `pass`. Items go through the
// model in passes that depend on all items of the task, so a pass is run whole or not at all.
using TokenScores = std::vector<std::vector<double>>;
using PassFn = std::function<TokenScores(std::span<const ScoredSequence> sequences,
                                         const ProgressFn& progress)>;
using LossScore = std::function<ItemResult(const TaskItem& item, std::span<const double> losses)>;
void run_passes(const TaskRun& run, const PassFn& pass, const LossScore& score);

// run_passes with negative log-likelihoods in nats.
void run_losses(const TaskRun& run, const LossScore& score);

}  // namespace lewis
