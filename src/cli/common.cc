#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "app/interrupts.h"
#include "base/chosen_word.h"
#include "base/error.h"
#include "cli/verbs.h"

namespace lewis {

std::shared_ptr<CommonOptions> add_common_options(CLI::App& verb) {
  auto options = std::make_shared<CommonOptions>();
  verb.add_option("--threads,-j,--num-threads", options->threads, "Threads (0: one per core)");
  verb.add_flag("--quiet,-q", options->quiet, "No progress");
  verb.add_flag("--json", options->json, "Print one JSON object instead of text");
  return options;
}

void add_lenient_option(CLI::App& verb, UnknownKeys& unknown) {
  verb.add_flag_callback(
      "--lenient", [&unknown] { unknown = UnknownKeys::kNoted; },
      "Ignore keys of the recipe that mergekit ignores, with a note");
}

std::atomic<bool>& interrupt_flag() {
  static std::atomic<bool> interrupted = false;
  return interrupted;
}

ProgressFn interruptible(ProgressPrinter& progress) {
  return [&progress](const Progress& p) {
    check_interrupt(interrupt_flag());
    progress(p);
  };
}

RunContext run_context(const CommonOptions& options, ProgressPrinter& progress) {
  return {.threads = options.threads,
          .progress = progress.callback(),
          .notice =
              [quiet = options.quiet](const Notice& notice) {
                if (notice.warning || !quiet) write_err("{}\n", notice.text);
              },
          .interrupted = &interrupt_flag()};
}

void make_local(std::filesystem::path& model, const CommonOptions& options) {
  ProgressPrinter progress(options.quiet);
  model = local_model(model, hub_options(), run_context(options, progress));
}

StreamOptions stream_options(const std::string& max_disk) {
  StreamOptions options;
  if (!max_disk.empty()) options.max_disk = parse_bytes(max_disk, "--max-disk");
  return options;
}

void make_data_local(const std::filesystem::path& data, const CommonOptions& options) {
  if (data.empty()) return;
  ProgressPrinter progress(options.quiet);
  pull_data(data, hub_options(), run_context(options, progress));
}

void add_compute_option(CLI::App& verb, ComputeType& type) {
  const auto take = [&type](const std::string& name) {
    static constexpr std::array<std::string_view, 3> kNames = {"f32", "bf16", "auto"};
    const size_t at = chosen_word("--compute", name, kNames);
    type = at == 0 ? ComputeType::kF32 : at == 1 ? ComputeType::kBF16 : faster_compute_type();
  };
  verb.add_option_function<std::string>("--compute", take,
                                        "Inputs and weights of linear layers: f32 (default: the "
                                        "same numbers on every machine), bf16, "
                                        "or auto: what is faster here");
}

void refuse_negative_counts(CLI::App& app) {
  for (CLI::App* verb : app.get_subcommands({})) {
    for (CLI::Option* option : verb->get_options()) {
      if (option->get_type_name() != "UINT" && option->get_type_name() != "INT") continue;
      option->check(CLI::Validator(
          [](const std::string& text) {
            return !text.empty() && text.find('-') == std::string::npos
                       ? ""
                       : fmt::format("'{}': expected a number from 0 on", text);
          },
          ""));
    }
  }
}

uint64_t parse_bytes(const std::string& text, std::string_view option) {
  size_t end = 0;
  double value = 0;
  try {
    value = std::stod(text, &end);
  } catch (const std::exception&) {
  }
  std::string unit = text.substr(end);
  if (unit.size() == 2 && (unit[1] == 'B' || unit[1] == 'b')) unit.pop_back();  // "GB"
  const double factor = unit.empty()                                               ? 1
                        : unit == "K" || unit == "k"                               ? 1e3
                        : unit == "M" || unit == "m"                               ? 1e6
                        : unit == "B" || unit == "b" || unit == "G" || unit == "g" ? 1e9
                                                                                   : 0;
  if (!(value * factor >= 1 && value * factor < 1e18)) {
    throw usage_error("{} {}: expected a number of bytes, as 5000000000, 500M or 5B", option, text);
  }
  return static_cast<uint64_t>(value * factor);
}

}  // namespace lewis
