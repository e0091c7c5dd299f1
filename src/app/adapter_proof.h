// Proves that the adapters of a merge, or of a model that another program merged, are in it: tensor
// by tensor (merge/adapter_proof.h), and by logits (app/adapter_logits.h).
#pragma once

#include <lewis/lewis.h>

#include <filesystem>
#include <vector>

#include "app/run.h"
#include "merge/public_names.h"
#include "recipe/recipe.h"

namespace lewis {

// Error(kUsage) where no model of the recipe, of its stages and modules has an adapter: there is
// nothing to prove.
void check_has_adapters(const Recipe& recipe);

// One proof per model with an adapter. A recipe that only writes one such model is proven in what
// is written, in `folder`; in other merges, which mix models, what the merge reads of each model is
// proven to hold its adapter. Throws Error(kVerify) where it does not, or where rounding loses half
// of a change of a tensor and job.prove does not allow it. Notes what rounding loses from a tenth
// of a change on.
std::vector<AdapterProof> prove_merge(const MergeJob& job, const Recipe& recipe,
                                      const std::filesystem::path& folder, RunResources& run);

// Proofs without folders of this machine, for OUT/lewis_run.json.
std::vector<AdapterProof> public_proofs(std::vector<AdapterProof> proofs, const PublicNames& names);

}  // namespace lewis
