// A norm of the merged model: its new weight.
#pragma once

#include "refine/layer_solver.h"

namespace lewis {

// x: the output of the norm as the prior has it; the merged stream's becomes that of the new
// weight. A norm with a bias stays, and so does any where the settings or the method do not ask for
// norms.
void solve_norm(LayerSolver& solver, const Transformer& prior, const TextRows& text,
                const RefineSettings& settings, const BlockNorm& norm, Streams& x);

}  // namespace lewis
