#include "merge/far_reads.h"

#include <algorithm>
#include <iterator>

namespace lewis {
namespace {

std::vector<FilePlace> far_places(const OutputTensor& tensor) {
  std::vector<FilePlace> places;
  for (const MergeSource& s : tensor.sources())
    std::ranges::copy(s.input->source->read_cost(*s.tensor).places, std::back_inserter(places));
  return places;
}

}  // namespace

FarReads::~FarReads() {
  if (ahead_) ahead_->stop();
}

void FarReads::add(const OutputTensor& tensor, bool in_parts) {
  steps_.push_back({far_places(tensor), in_parts});
}

void FarReads::begin(const ReadAhead::Room& room) {
  for (const ReadAhead::Step& step : steps_) {
    if (!step.places.empty()) ahead_ = &step.places[0].file->read_ahead();
  }
  if (ahead_) ahead_->begin(steps_, room);
}

void FarReads::finish(size_t step) {
  if (ahead_) ahead_->finish(step);
}

std::vector<std::string> FarReads::end() {
  return ahead_ ? ahead_->end() : std::vector<std::string>();
}

bool FarReads::is_cut() const { return ahead_ && ahead_->is_cut(); }

}  // namespace lewis
