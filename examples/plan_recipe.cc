// Plans a recipe: calibrates its models and shows which share of each layer LEWIS would keep.
//
//   example_plan_recipe [RECIPE]
#include <cstdio>

#include <lewis/lewis.h>

int main(int argc, char** argv) try {
  lewis::PlanJob job;
  job.recipe = lewis::open_recipe(argc > 1 ? argv[1] : "demo/recipe.yml");
  job.guidance.compute = lewis::ComputeType::kF32;  // the same densities on every machine

  lewis::RunContext run;  // all cores; progress goes to stderr
  run.progress = [](const lewis::Progress& p) {
    if (p.done == p.total) std::fprintf(stderr, "%s: done\n", p.what.c_str());
  };
  const lewis::PlanResult result = lewis::plan(job, run);

  for (const lewis::PlannedModel& planned : result.models) {
    std::printf("%s on %s: mean density %.4f\n", planned.model.c_str(), planned.data.c_str(),
                planned.mean_density);
    for (const auto& [module, density] : planned.layers.density) {
      if (module.find("down_proj") == std::string::npos) continue;
      std::printf("  %-28s importance %.5f  density %.4f\n", module.c_str(),
                  planned.layers.importance.at(module), density);
    }
  }
  std::printf("The merge will write %llu bytes.\n",
              static_cast<unsigned long long>(result.cost.bytes_written));
  return 0;
} catch (const lewis::Error& e) {
  std::fprintf(stderr, "%s\n", e.what());
  return static_cast<int>(e.code());
}
