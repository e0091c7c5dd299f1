#include "hub/read_plan.h"

#include <algorithm>
#include <map>
#include <span>
#include <utility>

namespace lewis {
namespace {

// Of bytes that nobody reads now, at most so many are fetched for the hash, and at most this part
// of the file.
constexpr uint64_t kMostSkipped = 4 << 20, kPartSkipped = 16;
// Bytes that several steps read stay from the first to the last where they are few, or where these
// steps are near each other.
constexpr uint64_t kMostHeld = 1 << 20;
constexpr size_t kNearSteps = 4;

// Bytes that come for one step, and perhaps stay for later ones.
struct Run {
  uint64_t begin = 0, end = 0;
  size_t step = 0;
  std::vector<size_t> steps;
  bool in_parts = false, held = false;
};

struct Place {
  uint64_t begin = 0, end = 0;
};

// The places of a step in one file, sorted, without what is known; those that touch are joined.
std::vector<Place> places_in(const ReadAhead::Step& step, const PlannedFile& file) {
  std::vector<Place> all;
  for (const FilePlace& p : step.places) {
    if (p.file != file.file || p.size == 0) continue;
    const Place place{std::max(p.offset, file.known), p.offset + p.size};
    if (place.begin < place.end) all.push_back(place);
  }
  std::ranges::sort(all, {}, &Place::begin);
  std::vector<Place> joined;
  for (const Place& p : all) {
    if (!joined.empty() && p.begin <= joined.back().end) {
      joined.back().end = std::max(joined.back().end, p.end);
    } else {
      joined.push_back(p);
    }
  }
  return joined;
}

// Plans one file. All places are counted, in the order of their steps, before the first is added.
class FilePlanner {
 public:
  explicit FilePlanner(PlannedFile& file) : file_(file), at_(file.known) {}

  void count(const Place& place, size_t step) {
    ++begins_[place.begin];
    uses_.push_back({place, step});
  }

  void add(const Place& place, size_t step, bool in_parts) {
    last_step_ = step;
    const bool small = place.end - place.begin <= kMostHeld && begins_[place.begin] > 1;
    const bool held = !in_parts && (small || is_read_soon(place, step));
    for (const Place& part : not_held(place, step)) {
      if (file_.is_hashed && part.begin > at_) skip_to(part.begin, step);
      if (held) held_.push_back(runs_.size());
      runs_.push_back({part.begin, part.end, step, {step}, in_parts});
      if (part.begin <= at_) at_ = std::max(at_, part.end);
    }
  }

  std::vector<Run> result() {
    if (file_.is_hashed && at_ < file_.size) skip_to(file_.size, last_step_);
    for (const size_t i : held_) runs_[i].held = true;
    return std::move(runs_);
  }

 private:
  // True when one of the next steps reads bytes of this place, too: gate and up of an expert lie
  // among each other in some models.
  bool is_read_soon(const Place& place, size_t step) {
    while (next_use_ < uses_.size() && uses_[next_use_].step <= step) ++next_use_;
    for (size_t i = next_use_; i < uses_.size() && uses_[i].step <= step + kNearSteps; ++i) {
      if (uses_[i].place.begin < place.end && place.begin < uses_[i].place.end) return true;
    }
    return false;
  }

  // The parts of a place that no earlier run brings and keeps; those that do stay until this step.
  std::vector<Place> not_held(const Place& place, size_t step) {
    std::vector<Run*> holders;
    for (const size_t i : held_) {
      if (runs_[i].begin < place.end && place.begin < runs_[i].end) holders.push_back(&runs_[i]);
    }
    std::ranges::sort(holders, {}, &Run::begin);
    std::vector<Place> parts;
    uint64_t at = place.begin;
    for (Run* run : holders) {
      run->steps.push_back(step);
      if (run->begin > at) parts.push_back({at, run->begin});
      at = std::max(at, run->end);
    }
    if (at < place.end) parts.push_back({at, place.end});
    return parts;
  }

  void skip_to(uint64_t place, size_t step) {
    if (place - at_ > std::min(kMostSkipped, file_.size / kPartSkipped)) {
      file_.is_hashed = false;
      return;
    }
    held_.push_back(runs_.size());
    runs_.push_back({at_, place, step, {}, false});
    at_ = place;
  }

  PlannedFile& file_;
  uint64_t at_;  // where the bytes that have come without a gap end
  size_t last_step_ = 0;
  std::vector<Run> runs_;
  std::vector<size_t> held_;           // of runs_: those that stay; few, or short
  std::map<uint64_t, size_t> begins_;  // how many steps read what begins there
  struct Use {
    Place place;
    size_t step = 0;
  };
  std::vector<Use> uses_;
  size_t next_use_ = 0;  // of a later step than the last that was added
};

struct Cut {
  PlannedPiece piece;
  bool held = false;
  double depth = 0;  // how far into its file's part of the step
};

// The files of a step in_parts come side by side, since its parts are read from all of them.
void set_depths(std::span<Cut> cuts) {
  for (size_t i = 0, end; i < cuts.size(); i = end) {
    for (end = i; end < cuts.size() && cuts[end].piece.step == cuts[i].piece.step;) ++end;
    for (size_t c = i; c < end; ++c) {
      if (cuts[c].piece.in_parts)
        cuts[c].depth = static_cast<double>(c - i) / static_cast<double>(end - i);
    }
  }
}

// Bytes that stay for later steps are not joined with others, which would have to stay with them.
void cut_runs(const std::vector<Run>& runs, size_t file, uint64_t piece_bytes,
              std::vector<Cut>& cuts) {
  const size_t first = cuts.size();
  for (const Run& run : runs) {
    for (uint64_t at = run.begin; at < run.end;) {
      Cut* last = cuts.size() > first ? &cuts.back() : nullptr;
      const bool joins = last && last->piece.begin + last->piece.size == at &&
                         last->piece.size < piece_bytes && last->piece.in_parts == run.in_parts &&
                         last->held == run.held;
      if (!joins) {
        cuts.push_back({{file, at, 0, run.step, {}, run.in_parts}, run.held, 0});
        last = &cuts.back();
      }
      const uint64_t size = std::min(run.end - at, piece_bytes - last->piece.size);
      last->piece.size += size;
      last->piece.steps.insert(last->piece.steps.end(), run.steps.begin(), run.steps.end());
      at += size;
    }
  }
  set_depths(std::span(cuts).subspan(first));
}

}  // namespace

ReadPlan plan_reads(const std::vector<ReadAhead::Step>& steps, std::vector<PlannedFile> files,
                    uint64_t piece_bytes) {
  ReadPlan plan{std::move(files), {}};
  std::map<const RangeSource*, size_t> number;
  std::vector<FilePlanner> planners;
  for (size_t f = 0; f < plan.files.size(); ++f) {
    number[plan.files[f].file] = f;
    planners.emplace_back(plan.files[f]);
  }
  const auto for_places = [&](size_t s, const auto& use) {
    std::vector<size_t> read;
    for (const FilePlace& p : steps[s].places) {
      const size_t f = number.at(p.file);
      if (std::ranges::find(read, f) == read.end()) read.push_back(f);
    }
    for (const size_t f : read) {
      for (const Place& place : places_in(steps[s], plan.files[f])) use(planners[f], place);
    }
  };
  for (size_t s = 0; s < steps.size(); ++s)
    for_places(s, [s](FilePlanner& planner, const Place& place) { planner.count(place, s); });
  for (size_t s = 0; s < steps.size(); ++s) {
    for_places(s, [&](FilePlanner& planner, const Place& place) {
      planner.add(place, s, steps[s].in_parts);
    });
  }
  std::vector<Cut> cuts;
  for (size_t f = 0; f < planners.size(); ++f) cut_runs(planners[f].result(), f, piece_bytes, cuts);
  std::ranges::stable_sort(cuts, {}, [](const Cut& c) { return std::pair(c.piece.step, c.depth); });
  for (Cut& cut : cuts) {
    auto& read_by = cut.piece.steps;
    std::ranges::sort(read_by);
    read_by.erase(std::unique(read_by.begin(), read_by.end()), read_by.end());
    plan.pieces.push_back(std::move(cut.piece));
  }
  return plan;
}

}  // namespace lewis
