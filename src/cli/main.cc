// lewis: merges fine-tuned language models, guided by data.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <new>

#include "app/interrupts.h"
#include "base/build.h"
#include "base/error.h"
#include "cli/verbs.h"
#include "compute/cpu/bf16_kernels.h"

namespace {

int fail(lewis::ExitCode code, const std::string& message) {
  const bool color = lewis::Terminal::of(STDERR_FILENO).color;
  fmt::print(stderr, "{} {}\n", lewis::styled("lewis: error:", "1;31", color), message);
  return static_cast<int>(code);
}

// "lewis 0.1.0 (build ec725db203a8+3f2a90c1b5d6, x86-64-v4: AVX-512 + AMX bf16)": the build, and
// the instructions that this processor gets.
std::string version_text() {
  const char* bf16 = lewis::amx_bf16_kernels()      ? " + AMX bf16"
                     : lewis::avx512_bf16_kernels() ? " + AVX512 bf16"
                                                    : "";
  return fmt::format("lewis {} (build {}, {}{})", lewis::lewis_version(), lewis::build_name(),
                     lewis::instruction_set(), bf16);
}

int run(int argc, char** argv) {
  CLI::App app{
      "Merges fine-tuned language models, guided by data: calibrate, plan, merge, evaluate."};
  app.name("lewis");
  app.set_version_flag("--version", version_text);
  app.require_subcommand(1);
  lewis::add_merge_verb(app);
  lewis::add_plan_verb(app);
  lewis::add_calibrate_verb(app);
  lewis::add_eval_verb(app);
  lewis::add_tune_verb(app);
  lewis::add_check_verb(app);
  lewis::add_diff_verb(app);
  lewis::add_inspect_verb(app);
  lewis::add_verify_verb(app);
  lewis::add_report_verb(app);
  app.footer(
      "Exit codes: 0 done, 1 failed, 2 wrong usage or recipe, 3 input refused, 4 out of space or "
      "memory, 5 verification failed, 130 interrupted.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {
    return app.exit(e);  // --help, --version
  } catch (const CLI::ParseError& e) {
    return fail(lewis::ExitCode::kUsage, fmt::format("{} (see lewis --help)", e.what()));
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    lewis::catch_interrupts(lewis::interrupt_flag());
    return run(argc, argv);
  } catch (const lewis::Error& e) {
    return fail(e.code(), e.what());
  } catch (const std::bad_alloc&) {
    return fail(lewis::ExitCode::kResource, "out of memory");
  } catch (const std::filesystem::filesystem_error& e) {
    return fail(lewis::ExitCode::kFailed, e.what());
  } catch (const std::exception& e) {
    return fail(lewis::ExitCode::kFailed, fmt::format("unexpected: {}", e.what()));
  }
}
