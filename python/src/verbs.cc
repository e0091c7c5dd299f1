// The verbs as functions of a job, and recipes.
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <lewis/adapters.h>
#include <lewis/gguf.h>
#include <lewis/status.h>

#include "run.h"
#include "verbs.h"

namespace lewis_python {
namespace {

// Reading a recipe looks at the disk, so the GIL is free.
Recipe open_recipe(const std::filesystem::path& file, bool lenient) {
  const nb::gil_scoped_release release;
  return {lewis::open_recipe(file, unknown_keys(lenient))};
}

Recipe make_recipe(const std::string& text, const std::filesystem::path& file,
                   const std::vector<std::string>& in_memory, bool lenient) {
  const nb::gil_scoped_release release;
  return {lewis::make_recipe(text, file, in_memory, unknown_keys(lenient))};
}

Recipe adapter_recipe(const std::string& model, const std::vector<std::string>& adapters,
                      const std::string& dtype) {
  const nb::gil_scoped_release release;
  return {lewis::adapter_recipe(model, adapters, dtype)};
}

// def(job, threads, progress, notice) -> result
template <typename Result, typename Job>
void bind_verb(nb::module_& module, const char* name,
               Result (*verb)(const Job&, const lewis::RunContext&)) {
  module.def(
      name,
      [verb](const Job& job, size_t threads, nb::object progress, nb::object notice) {
        const Job copy = job;  // Python may change the job while this runs
        return run_verb(verb, copy, {threads, std::move(progress), std::move(notice)});
      },
      nb::arg("job"), nb::arg("threads"), nb::arg("progress").none(), nb::arg("notice").none());
}

std::vector<std::string> explain(const lewis::MergeJob& job, const std::string& tensor,
                                 size_t threads, nb::object progress, nb::object notice) {
  std::vector<std::string> lines;
  run_beside_python(
      {threads, std::move(progress), std::move(notice)},
      [&, copy = job](const lewis::RunContext& run) { lines = lewis::explain(copy, tensor, run); });
  return lines;
}

}  // namespace

lewis::UnknownKeys unknown_keys(bool lenient) {
  return lenient ? lewis::UnknownKeys::kNoted : lewis::UnknownKeys::kRefused;
}

void bind_verbs(nb::module_& module) {
  nb::class_<Recipe>(module, "Recipe", "A recipe that was read and found valid.")
      .def_prop_ro("yaml", [](const Recipe& r) { return python_text(lewis::yaml(*r.pointer)); })
      .def_prop_ro("mergekit_yaml",
                   [](const Recipe& r) { return python_text(lewis::mergekit_yaml(*r.pointer)); })
      .def_prop_ro("model_names", [](const Recipe& r) { return lewis::model_names(*r.pointer); });
  module.def("open_recipe", &open_recipe, nb::arg("file"), nb::arg("lenient"));
  module.def("make_recipe", &make_recipe, nb::arg("text"), nb::arg("file"), nb::arg("in_memory"),
             nb::arg("lenient"));
  bind_verb(module, "calibrate", &lewis::calibrate);
  bind_verb(module, "plan", &lewis::plan);
  bind_verb(module, "merge", &lewis::merge);
  bind_verb(module, "forecast", &lewis::forecast);
  bind_verb(module, "evaluate", &lewis::evaluate);
  bind_verb(module, "report", &lewis::report);
  bind_verb(module, "tune", &lewis::tune);
  bind_verb(module, "extract", &lewis::extract);
  bind_verb(module, "convert", &lewis::convert);
  bind_verb(module, "prove", &lewis::prove);
  bind_verb(module, "verify", &lewis::verify);
  bind_verb(module, "status", &lewis::status);
  bind_verb(module, "pull", &lewis::pull);
  bind_verb(module, "push", &lewis::push);
  module.def("adapter_recipe", &adapter_recipe, nb::arg("model"), nb::arg("adapters"),
             nb::arg("dtype"));
  module.def("explain", &explain, nb::arg("job"), nb::arg("tensor"), nb::arg("threads"),
             nb::arg("progress").none(), nb::arg("notice").none());
  module.def("faster_compute_type", &lewis::faster_compute_type);
  module.def("version", &lewis::version);
}

}  // namespace lewis_python
