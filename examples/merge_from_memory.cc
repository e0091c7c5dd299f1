// Merges tensors that are in memory: no folder is read, none is written.
#include <cstdio>
#include <cstring>

#include <lewis/lewis.h>

namespace {

// One model: a matrix w of two rows and three columns.
std::shared_ptr<const lewis::TensorSource> model(const std::string& name,
                                                 const std::vector<float>& values) {
  const lewis::TensorInfo info{"w", lewis::DType::kF32, {2, 3}};
  return lewis::memory_source(name, {{info, std::as_bytes(std::span(values))}});
}

}  // namespace

int main() try {
  const std::vector<float> base = {0, 0, 0, 1, 1, 1}, math = {4, 1, 0, 1, 1, 3},
                           code = {0, -2, 0, 5, 1, 1};
  lewis::TensorMergeJob job;
  job.recipe = lewis::make_recipe(R"(
merge_method: ties
base_model: base
models:
- {model: math, parameters: {weight: 1, density: 0.5}}
- {model: code, parameters: {weight: 1, density: 0.5}}
dtype: float32
)",
                                  "recipe.yml", {"base", "math", "code"});
  job.models = {
      {"base", model("base", base)}, {"math", model("math", math)}, {"code", model("code", code)}};

  lewis::merge_tensors(job, [](const lewis::TensorInfo& info, std::span<const std::byte> bytes) {
    std::vector<float> merged(bytes.size() / sizeof(float));
    std::memcpy(merged.data(), bytes.data(), bytes.size());
    std::printf("%s %s:", info.name.c_str(), lewis::to_string(info.shape).c_str());
    for (const float value : merged) std::printf(" %g", static_cast<double>(value));
    std::printf("\n");
  });
  return 0;
} catch (const lewis::Error& e) {
  std::fprintf(stderr, "%s\n", e.what());
  return static_cast<int>(e.code());
}
