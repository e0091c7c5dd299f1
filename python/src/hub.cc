// Models and data of the hub, as the command line fetches them before a verb begins.
#include <cstdint>
#include <filesystem>
#include <utility>

#include <nanobind/stl/filesystem.h>

#include <lewis/hub.h>

#include "run.h"
#include "verbs.h"

namespace lewis_python {
namespace {

// A model or recipe as the verbs take it.
std::filesystem::path local_model(const std::filesystem::path& name, nb::object progress,
                                  nb::object notice) {
  std::filesystem::path local;
  run_beside_python({1, std::move(progress), std::move(notice)}, [&](const lewis::RunContext& run) {
    local = lewis::local_model(name, lewis::hub_options(), run);
  });
  return local;
}

void pull_data(const std::filesystem::path& data, nb::object progress, nb::object notice) {
  run_beside_python({1, std::move(progress), std::move(notice)}, [&](const lewis::RunContext& run) {
    lewis::pull_data(data, lewis::hub_options(), run);
  });
}

void pull_task_data(const lewis::EvaluateJob& job, nb::object progress, nb::object notice) {
  run_beside_python({1, std::move(progress), std::move(notice)},
                    [&, copy = job](const lewis::RunContext& run) {
                      lewis::pull_data(copy, lewis::hub_options(), run);
                    });
}

// merge() of a recipe whose models are read from the hub meanwhile; the job's recipe is not used.
lewis::MergeResult merge_streamed(const lewis::MergeJob& job, const std::filesystem::path& recipe,
                                  bool lenient, uint64_t max_disk, size_t threads,
                                  nb::object progress, nb::object notice) {
  lewis::MergeResult result;
  run_beside_python({threads, std::move(progress), std::move(notice)},
                    [&, copy = job](const lewis::RunContext& run) mutable {
                      lewis::StreamOptions options;
                      options.max_disk = max_disk;
                      copy.recipe =
                          lewis::open_streamed(recipe, unknown_keys(lenient), options, run);
                      result = lewis::merge(copy, run);
                    });
  return result;
}

}  // namespace

void bind_hub(nb::module_& module) {
  module.def("local_model", &local_model, nb::arg("name"), nb::arg("progress").none(),
             nb::arg("notice").none());
  module.def("pull_data", &pull_data, nb::arg("data"), nb::arg("progress").none(),
             nb::arg("notice").none());
  module.def("pull_task_data", &pull_task_data, nb::arg("job"), nb::arg("progress").none(),
             nb::arg("notice").none());
  module.def("merge_streamed", &merge_streamed, nb::arg("job"), nb::arg("recipe"),
             nb::arg("lenient"), nb::arg("max_disk"), nb::arg("threads"),
             nb::arg("progress").none(), nb::arg("notice").none());
}

}  // namespace lewis_python
