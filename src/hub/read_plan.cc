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
constexpr uint64_t kMostHeld = 1 << 20;

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

// Plans one file.
class FilePlanner {
 public:
  explicit FilePlanner(PlannedFile& file) : file_(file), at_(file.known) {}

  void count(const Place& place) { ++uses_[place.begin]; }

  void add(const Place& place, size_t step, bool in_parts) {
    last_step_ = step;
    if (is_held(place, step)) return;
    if (file_.is_hashed && place.begin > at_) skip_to(place.begin, step);
    const bool small = place.end - place.begin <= kMostHeld;
    const bool held = small && !in_parts && uses_[place.begin] > 1;
    runs_.push_back({place.begin, place.end, step, {step}, in_parts, held});
    if (place.begin <= at_) at_ = std::max(at_, place.end);
  }

  std::vector<Run> result() {
    if (file_.is_hashed && at_ < file_.size) skip_to(file_.size, last_step_);
    return std::move(runs_);
  }

 private:
  // Bytes that an earlier run brings, and that stay until this step.
  bool is_held(const Place& place, size_t step) {
    uint64_t covered = place.begin;
    std::vector<Run*> holders;
    // Held runs are few, or short and near each other.
    for (Run& run : runs_) {
      if (!run.held || run.end <= place.begin || run.begin >= place.end) continue;
      if (run.begin <= covered) covered = std::max(covered, run.end);
      holders.push_back(&run);
    }
    if (covered < place.end) return false;
    for (Run* run : holders) run->steps.push_back(step);
    return true;
  }

  void skip_to(uint64_t place, size_t step) {
    if (place - at_ > std::min(kMostSkipped, file_.size / kPartSkipped)) {
      file_.is_hashed = false;
      return;
    }
    runs_.push_back({at_, place, step, {}, false, true});
    at_ = place;
  }

  PlannedFile& file_;
  uint64_t at_;  // where the bytes that have come without a gap end
  size_t last_step_ = 0;
  std::vector<Run> runs_;
  std::map<uint64_t, size_t> uses_;  // how many steps read what begins there
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
    for_places(s, [](FilePlanner& planner, const Place& place) { planner.count(place); });
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
