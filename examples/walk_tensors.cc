// Walks a model's tensors: types, shapes, and the largest value of each matrix of one layer.
//
//   example_walk_tensors [MODEL]
#include <algorithm>
#include <cmath>
#include <cstdio>

#include <lewis/error.h>
#include <lewis/tensor_source.h>

int main(int argc, char** argv) try {
  const auto model = lewis::open_checkpoint(argc > 1 ? argv[1] : "demo/models/math");
  int64_t parameters = 0;
  for (const lewis::TensorInfo& t : model->tensors()) parameters += lewis::element_count(t.shape);
  std::printf("%s: %zu tensors, %lld parameters\n", model->label().c_str(), model->tensors().size(),
              static_cast<long long>(parameters));

  for (const lewis::TensorInfo& t : model->tensors()) {
    if (t.name.find("layers.0.") == std::string::npos || t.shape.size() != 2) continue;
    float largest = 0;  // no more than this one tensor is in memory
    for (const float value : model->read_floats(t)) largest = std::max(largest, std::abs(value));
    std::printf("%-40s %s %-10s largest %.4f\n", t.name.c_str(),
                std::string(lewis::dtype_name(t.dtype)).c_str(), lewis::to_string(t.shape).c_str(),
                static_cast<double>(largest));
  }
  return 0;
} catch (const lewis::Error& e) {
  std::fprintf(stderr, "%s\n", e.what());
  return static_cast<int>(e.code());
}
