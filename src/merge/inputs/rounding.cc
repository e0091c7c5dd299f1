// MergeInputs: models that were rounded to blocks of few bits, beside what they were trained to.
#include <cmath>

#include "io/compare.h"
#include "io/gguf_rounding.h"
#include "merge/inputs.h"

namespace lewis {
namespace {

constexpr size_t kMostTensors = 256;     // that are looked at, evenly over the model
constexpr int64_t kMostElements = 4096;  // of each; a multiple of every block

// Of the first elements of a tensor of blocks: the expected sum of squares of what rounding to them
// changed.
double rounding_of(const RoundedTensors& rounded, const TensorInfo& tensor, GgufType type) {
  const int64_t count = std::min(kMostElements, element_count(tensor.shape));
  std::vector<float> values(static_cast<size_t>(count));
  rounded.source->read(tensor, 0, std::as_writable_bytes(std::span(values)));
  return rounding_energy(type, values);
}

double rounding_of(const std::shared_ptr<const RoundedTensors>& rounded, const std::string& name) {
  if (!rounded) return 0;
  const auto type = rounded->types.find(name);
  return type == rounded->types.end()
             ? 0
             : rounding_of(*rounded, rounded->source->get(name), type->second);
}

// Sums of squares over a sample of a model's rounded tensors.
struct RoundingSample {
  size_t tensors = 0;
  double rounding = 0;  // of the model and of the base
  TensorDifference difference;
};

RoundingSample sample_of(const InputModel& base, const InputModel& model, Threads& threads) {
  RoundingSample sample;
  const auto& types = model.rounded->types;
  const size_t step = (types.size() + kMostTensors - 1) / kMostTensors;
  size_t place = 0;
  for (const auto& [name, type] : types) {
    if (place++ % step != 0) continue;
    const TensorInfo *in_base = base.source->find(name), *own = model.source->find(name);
    if (!in_base || !own || own->shape != in_base->shape || !is_arithmetic(in_base->dtype))
      continue;
    ++sample.tensors;
    sample.rounding += rounding_of(model.rounded, name) + rounding_of(base.rounded, name);
    sample.difference += compare_tensors(*base.source, *model.source, name, kMostElements, threads);
  }
  return sample;
}

std::string note_on(const InputModel& base, const InputModel& model, const RoundingSample& s) {
  if (s.tensors == 0) {
    return fmt::format(
        "{}: its weights are rounded to blocks; they are not compared with {}, "
        "which has other names",
        model.label(), base.label());
  }
  const double rounding = std::sqrt(s.rounding), difference = s.difference.norm_difference;
  const auto percent = [&](double norm) {
    return s.difference.norm_a > 0 ? 100 * norm / s.difference.norm_a : 0;
  };
  std::string note = fmt::format(
      "{}: its weights are rounded to blocks: the rounding is {:.2g} % as large as the weights of "
      "{}, the task vector {:.2g} %",
      model.label(), percent(rounding), base.label(), percent(difference));
  if (rounding == 0) return note;
  note += fmt::format(", {:.2g} to 1", difference / rounding);
  if (difference < rounding) note += ": the task vector is mostly noise";
  return note;
}

}  // namespace

std::vector<std::string> MergeInputs::rounding_notes() const {
  std::vector<std::string> notes;
  if (!recipe_.base_index || opened_.empty()) return notes;
  const InputModel& base = opened_[*recipe_.base_index];
  Threads threads(1);
  for (const InputModel& model : opened_) {
    if (&model == &base || !model.rounded) continue;
    notes.push_back(note_on(base, model, sample_of(base, model, threads)));
  }
  return notes;
}

}  // namespace lewis
