// A program of somebody else: merges a recipe, shows progress, and can be stopped.
#include <csignal>
#include <cstdio>

#include <lewis/lewis.h>

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
  } catch (const lewis::Error& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return static_cast<int>(e.code());
  }
}
