// lewis inspect MODEL [TENSOR]: the tensors of a model, or the values of one tensor.
#include <fmt/format.h>

#include <map>

#include "app/check.h"
#include "base/error.h"
#include "base/json.h"
#include "base/threads.h"
#include "cli/inspect_gguf.h"
#include "cli/inspect_tensors.h"
#include "cli/verbs.h"
#include "io/checkpoint.h"
#include "io/gguf.h"
#include "io/plain_source.h"

namespace lewis {
namespace {

struct InspectArguments {
  std::filesystem::path model;
  std::string tensor;
  std::shared_ptr<CommonOptions> common;
};

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
  std::vector<InspectedTensor> all;
  for (const TensorInfo& t : values.tensors())
    all.push_back({t.name, stored_type(model, t), t.shape});
  write_out("\n{}", tensors_table(all));
}

// A scale of quantised weights is none of `values`, but can be looked at, too.
void inspect_tensor(const Checkpoint& model, const TensorSource& values, const std::string& name,
                    bool json, Threads& threads) {
  const bool plain = values.find(name) || !model.find(name);
  const TensorSource& source = plain ? values : model;
  const TensorInfo& t = source.get(name);
  const std::string type = stored_type(model, t);
  print_tensor(source, t, type, json, threads);
}

}  // namespace

void add_inspect_verb(CLI::App& app) {
  auto o = std::make_shared<InspectArguments>();
  CLI::App* verb = app.add_subcommand("inspect", "What is in a model, or in one of its tensors");
  verb->add_option("MODEL", o->model, "Model folder or GGUF file")->required();
  verb->add_option("TENSOR", o->tensor, "Name of a tensor");
  o->common = add_common_options(*verb);
  verb->callback([o] {
    make_local(o->model, *o->common);
    Threads threads(o->common->threads);
    if (is_gguf_path(o->model)) return inspect_gguf(o->model, o->tensor, o->common->json, threads);
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
