// A small model with random weights whose layers have, from the first one on and every second one,
// the mixer of echo_mixer.h; ready to run.
#pragma once

#include <memory>

#include "base/threads.h"
#include "echo_mixer.h"
#include "io/checkpoint.h"
#include "model/transformer.h"
#include "random_model.h"

namespace lewis {

struct EchoModel {
  RandomModel random{Json::object(), std::make_shared<EchoMixer>()};
  Threads threads{2};
  Checkpoint checkpoint = Checkpoint::open(random.dir.path);
  std::unique_ptr<Backend> backend = make_cpu_backend(threads);
  Transformer model{checkpoint, random.spec, *backend, threads};
};

}  // namespace lewis
