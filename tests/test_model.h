// A checkpoint that a test runs: opened, with its own threads and backend.
#pragma once

#include <filesystem>
#include <memory>

#include "base/threads.h"
#include "compute/backend.h"
#include "io/checkpoint.h"
#include "model/model_spec.h"
#include "model/transformer.h"

namespace lewis {

struct TestModel {
  explicit TestModel(const std::filesystem::path& folder, size_t thread_count = 2,
                     ComputeType type = ComputeType::kF32)
      : threads(thread_count),
        checkpoint(Checkpoint::open(folder)),
        backend(make_cpu_backend(threads, type)),
        transformer(checkpoint,
                    read_model_spec(checkpoint.config(), (folder / "config.json").string()),
                    *backend, threads) {}

  Threads threads;
  Checkpoint checkpoint;
  std::unique_ptr<Backend> backend;
  Transformer transformer;
};

}  // namespace lewis
