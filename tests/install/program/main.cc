// A program of somebody else: merges a recipe, shows progress, can be stopped, reads again what it
// has written, and makes a file for llama.cpp of it.
#include <csignal>
#include <cstdio>

#include <lewis/gguf.h>
#include <lewis/lewis.h>
#include <lewis/status.h>

namespace {

std::atomic<bool> stop = false;

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  std::signal(SIGINT, [](int) { stop = true; });
  lewis::RunContext run;
  run.interrupted = &stop;
  run.progress = [](const lewis::Progress& p) {
    std::fprintf(stderr, "%s: %llu of %llu %s\n", p.what.c_str(), (unsigned long long)p.done,
                 (unsigned long long)p.total, p.unit.c_str());
  };
  try {
    lewis::MergeJob job;
    job.recipe = lewis::open_recipe(argv[1]);
    job.out = argv[2];
    const lewis::MergeResult result = lewis::merge(job, run);
    std::printf("lewis %s: %s\n", lewis::version().c_str(), lewis::json_text(result).c_str());
    const lewis::VerifyResult verified = lewis::verify({job.out}, run);
    std::printf("verified: %s\n", lewis::json_text(verified).c_str());
    std::printf("status: %s\n", lewis::status({job.out}, run).state.c_str());
    lewis::ConvertJob convert;
    convert.model = job.out;
    convert.out = job.out.string() + ".gguf";
    convert.type = "q4_k";
    std::printf("%s\n", lewis::convert(convert, run).architecture.c_str());
  } catch (const lewis::Error& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return static_cast<int>(e.code());
  }
}
