// lewis inspect MODEL [TENSOR]: the tensors of a model, or the values of one tensor.
#include <fmt/format.h>
#include <unistd.h>

#include <map>

#include "app/check.h"
#include "base/error.h"
#include "base/json.h"
#include "base/threads.h"
#include "cli/table.h"
#include "cli/verbs.h"
#include "io/checkpoint.h"
#include "io/compare.h"
#include "io/plain_source.h"

namespace lewis {
namespace {

struct InspectArguments {
  std::filesystem::path model;
  std::string tensor;
  std::shared_ptr<CommonOptions> common;
};

// model.layers.3.mlp -> model.layers.*.mlp: tensors that repeat layer by layer are one line.
std::string pattern_of(const std::string& name) {
  std::string pattern;
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    const std::string part = name.substr(begin, end - begin);
    const bool number = !part.empty() && part.find_first_not_of("0123456789") == std::string::npos;
    pattern += (begin ? "." : "") + (number ? "*" : part);
    begin = end + 1;
  }
  return pattern;
}

// A model as plain numbers, or as it is stored where that cannot be: its notes say why.
std::shared_ptr<const TensorSource> values_of(const std::shared_ptr<const Checkpoint>& model) {
  try {
    return show_plain(model).source;
  } catch (const Error&) {
    return model;
  }
}

// The type that a tensor of `values` is stored in.
std::string stored_type(const Checkpoint& model, const TensorInfo& t) {
  const TensorInfo* stored = model.find(t.name);
  return stored ? std::string(dtype_name(stored->dtype)) : "MXFP4";
}

// `values`: the model as plain numbers.
void inspect_model(const Checkpoint& model, const TensorSource& values,
                   const std::vector<std::string>& notes, bool json) {
  uint64_t parameters = 0;
  std::map<std::string, uint64_t> of_dtype;
  for (const TensorInfo& t : values.tensors()) {
    parameters += static_cast<uint64_t>(element_count(t.shape));
    of_dtype[stored_type(model, t)] += static_cast<uint64_t>(element_count(t.shape));
  }
  if (json) {
    Json tensors = Json::object();
    for (const TensorInfo& t : values.tensors()) {
      tensors[t.name] = {{"dtype", stored_type(model, t)}, {"shape", t.shape}};
    }
    write_json(Json{{"model", model.label()},
                    {"parameters", parameters},
                    {"bytes", model.total_bytes()},
                    {"parameters_of_dtype", of_dtype},
                    {"notes", notes},
                    {"tensors", tensors}});
    return;
  }
  write_out("{}: {} parameters in {} tensors, {}\n", model.label(), with_commas(parameters),
            with_commas(values.tensors().size()), human_bytes(model.total_bytes()));
  for (const auto& [dtype, count] : of_dtype)
    write_out("{}: {} parameters\n", dtype, with_commas(count));
  struct Row {
    TensorInfo first;
    std::string type;
    size_t count = 0;
  };
  std::map<std::string, Row> rows;
  for (const TensorInfo& t : values.tensors()) {
    const std::string type = stored_type(model, t);
    Row& row = rows[pattern_of(t.name) + " " + to_string(t.shape) + type];
    if (row.count++ == 0) row.first = t;
    row.type = type;
  }
  Table table({{"tensors", Align::kLeft}, {"times"}, {"type"}, {"shape", Align::kLeft}});
  for (const auto& [_, row] : rows) {
    table.add({pattern_of(row.first.name), std::to_string(row.count), row.type,
               to_string(row.first.shape)});
  }
  write_out("\n{}", table.text(Terminal::of(STDOUT_FILENO)));
}

// A scale of quantised weights is none of `values`, but can be looked at, too.
void inspect_tensor(const Checkpoint& model, const TensorSource& values, const std::string& name,
                    bool json, Threads& threads) {
  const bool plain = values.find(name) || !model.find(name);
  const TensorSource& source = plain ? values : model;
  const TensorInfo& t = source.get(name);
  const std::string type = stored_type(model, t);
  Json all = {{"tensor", name}, {"dtype", type}, {"shape", t.shape}};
  TerminalText text = terminal_text("{}: {} {}\n", name, type, to_string(t.shape));
  if (is_arithmetic(t.dtype)) {
    const TensorSummary s = summarize(source, t, threads);
    const double share =
        s.count ? 100.0 * static_cast<double>(s.zeros) / static_cast<double>(s.count) : 0;
    text += terminal_text(
        "min {:.6g}, max {:.6g}, mean {:.6g}, standard deviation {:.6g}\n"
        "zeros {} ({:.1f} %), not finite {}\n",
        s.min, s.max, s.mean, s.deviation, with_commas(static_cast<uint64_t>(s.zeros)), share,
        with_commas(static_cast<uint64_t>(s.not_finite)));
    all.update({{"min", s.min},
                {"max", s.max},
                {"mean", s.mean},
                {"standard_deviation", s.deviation},
                {"zeros", s.zeros},
                {"not_finite", s.not_finite}});
  }
  json ? write_json(all) : write_out(text);
}

}  // namespace

void add_inspect_verb(CLI::App& app) {
  auto o = std::make_shared<InspectArguments>();
  CLI::App* verb = app.add_subcommand("inspect", "What is in a model, or in one of its tensors");
  verb->add_option("MODEL", o->model, "Model folder")->required();
  verb->add_option("TENSOR", o->tensor, "Name of a tensor");
  o->common = add_common_options(*verb);
  verb->callback([o] {
    make_local(o->model, *o->common);
    Threads threads(o->common->threads);
    const auto opened = std::make_shared<const Checkpoint>(Checkpoint::open(o->model));
    const Checkpoint& model = *opened;
    const auto values = values_of(opened);
    if (o->tensor.empty()) {
      const std::vector<std::string> notes = notes_on_model(model, threads);
      for (const std::string& note : notes) write_err("lewis: note: {}\n", note);
      inspect_model(model, *values, notes, o->common->json);
    } else {
      inspect_tensor(model, *values, o->tensor, o->common->json, threads);
    }
  });
}

}  // namespace lewis
