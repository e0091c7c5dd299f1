// lewis: merges fine-tuned language models, guided by data.
#include <execinfo.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <sstream>

#include "app/interrupts.h"
#include "base/build.h"
#include "base/current_error.h"
#include "base/error.h"
#include "cli/help.h"
#include "cli/usage.h"
#include "cli/verbs.h"
#include "compute/cpu/bf16_kernels.h"
#ifdef LEWIS_WITH_MPI
#include "cli/mpi/refine_worker.h"
#endif

namespace {

int fail(const lewis::Error& error) {
  const bool color = lewis::Terminal::of(STDERR_FILENO).color;
  lewis::write_err("{} {}\n", lewis::styled("lewis: error:", "1;31", color), error.what());
  return static_cast<int>(error.code());
}

// Files that are opened later must not get the numbers of standard input, output and error.
void open_standard_files() {
  for (int file = STDIN_FILENO; file <= STDERR_FILENO; ++file) {
    if (fcntl(file, F_GETFD) >= 0 || errno != EBADF) continue;
    open("/dev/null",
         file == STDIN_FILENO ? O_RDONLY : O_WRONLY);  // the lowest number that is free
  }
}

// Ends the process beside work that has not noticed an interrupt. A pipe that nobody reads must not
// keep it.
void end_late() {
  pollfd writable = {STDERR_FILENO, POLLOUT, 0};
  if (poll(&writable, 1, 0) == 1) {
    if (lewis::Terminal::of(STDERR_FILENO).interactive)
      lewis::write_err(lewis::TerminalText::ready("\r\x1b[K"));
    fail(lewis::Error(lewis::ExitCode::kInterrupted, "interrupted"));
  }
  _exit(static_cast<int>(lewis::ExitCode::kInterrupted));
}

// An exception that left a function which must not throw, as destructors and threads are: lack of
// memory, at most. The message may need memory too.
void end_after_exception() {
  if (!std::current_exception()) std::abort();
  int code = static_cast<int>(lewis::ExitCode::kResource);
  try {
    code = fail(lewis::current_error());
  } catch (...) {
    constexpr std::string_view kMessage = "lewis: error: out of memory\n";
    [[maybe_unused]] const ssize_t n = write(STDERR_FILENO, kMessage.data(), kMessage.size());
  }
  _exit(code);
}

// A reader that goes away, as `head` does, and a file that may not grow are errors of a call, not
// the end of the process.
void prepare_process() {
  open_standard_files();
  std::set_terminate(end_after_exception);
  // The C library loads its unwinder at the first exception that goes through it, when memory may
  // be what is lacking.
  void* frame = nullptr;
  backtrace(&frame, 1);
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  lewis::catch_interrupts(lewis::interrupt_flag(), {std::chrono::milliseconds(1500), end_late});
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

void run(int argc, char** argv) {
  CLI::App app{
      "Merges fine-tuned language models, guided by data: calibrate, plan, merge, evaluate."};
  app.name("lewis");
  app.set_version_flag("--version", version_text);
  app.require_subcommand(1);
  lewis::add_merge_verb(app);
  lewis::add_apply_verb(app);
  lewis::add_plan_verb(app);
  lewis::add_calibrate_verb(app);
  lewis::add_eval_verb(app);
  lewis::add_tune_verb(app);
  lewis::add_check_verb(app);
  lewis::add_convert_verb(app);
  lewis::add_diff_verb(app);
  lewis::add_extract_verb(app);
  lewis::add_inspect_verb(app);
  lewis::add_verify_verb(app);
  lewis::add_status_verb(app);
  lewis::add_slurm_verb(app);
  lewis::add_report_verb(app);
  lewis::add_pull_verb(app);
  lewis::add_push_verb(app);
  lewis::add_new_verb(app);
  lewis::add_completion_verb(app);
  lewis::add_man_verb(app);
#ifdef LEWIS_WITH_MPI
  lewis::add_refine_worker_verb(app);
#endif
  lewis::refuse_negative_counts(app);
  lewis::set_up_help(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {
    std::ostringstream text, unused;  // --help, --version
    app.exit(e, text, unused);
    lewis::write_out(lewis::TerminalText::ready(text.str()));
  } catch (const CLI::ParseError& e) {
    throw lewis::usage_error_of(app, e);
  }
}

// Results that could not be printed. A reader that has enough is no failure.
int check_output() {
  const int error = lewis::output_error();
  if (error == 0 || error == EPIPE) return 0;
  return fail(lewis::resource_error("standard output: {}", std::strerror(error)));
}

}  // namespace

int main(int argc, char** argv) {
  try {
    prepare_process();
    run(argc, argv);
    return check_output();
  } catch (...) {
    return fail(lewis::current_error());
  }
}
