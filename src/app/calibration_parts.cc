#include "app/calibration_parts.h"

#include <algorithm>
#include <set>
#include <system_error>

#include "base/current_error.h"
#include "base/error.h"
#include "calibrate/pieces.h"
#include "io/workers.h"

namespace lewis {

namespace fs = std::filesystem;

// Each part gets pieces that follow one another, so that it reads few models. A piece belongs to
// the part in whose share of the whole cost its middle lies.
CalibrationCut::CalibrationCut(const std::vector<CalibrationCost>& costs, uint64_t parts) {
  std::set<fs::path> known;
  std::vector<double> middles;
  double total = 0;
  for (size_t job = 0; job < costs.size(); ++job) {
    const CalibrationCost& cost = costs[job];
    if (!known.insert(cache_file("", cost.key)).second) continue;
    const double per_token = cost.operations / static_cast<double>(cost.tokens);
    for (size_t piece = 0; piece < cost.piece_tokens.size(); ++piece) {
      const double its = per_token * static_cast<double>(cost.piece_tokens[piece]);
      units_.push_back({job, piece, 0});
      middles.push_back(total + its / 2);
      total += its;
    }
  }
  for (size_t u = 0; u < units_.size(); ++u) {
    const double part = middles[u] / total * static_cast<double>(parts);
    units_[u].part = std::min(parts - 1, static_cast<uint64_t>(part));
  }
}

std::map<size_t, std::vector<size_t>> CalibrationCut::share(uint64_t part) const {
  std::map<size_t, std::vector<size_t>> pieces;
  for (const Unit& unit : units_) {
    if (unit.part == part) pieces[unit.job].push_back(unit.piece);
  }
  return pieces;
}

namespace {

// One text and model of the recipe, of which several workers measure pieces.
struct SharedJob {
  const CalibrationJob& job;
  const CalibrationCost& cost;
  const GuidanceOptions& options;
  RunResources& run;

  PiecesFolder folder() const { return {options.cache, cost.key, cost.piece_tokens.size()}; }
  bool is_complete() const { return is_cached(options.cache, cost.key); }
  bool is_whole() const { return job.protocol == Protocol::kReference; }
  std::string name() const {
    return fmt::format("{} on {}", cost.model, fs::path(cost.data).filename().string());
  }
};

// Claims pieces that nobody has measured and no living worker has claimed.
std::vector<size_t> claimed(Worker& worker, const PiecesFolder& folder,
                            const std::vector<size_t>& wanted, const SharedJob& shared) {
  std::set<std::string> owners;
  for (const size_t piece : wanted) {
    if (const auto owner = worker.owner(PiecesFolder::name_of(piece))) owners.insert(*owner);
  }
  const auto tick = [&] { shared.run.progress({"waiting for other workers", "pieces", 0, 1}); };
  for (const std::string& alive : worker.living(owners, tick)) owners.erase(alive);
  std::vector<size_t> mine;
  size_t left = 0;
  std::string who;
  for (const size_t piece : wanted) {
    const std::string name = PiecesFolder::name_of(piece);
    if (folder.has(piece)) continue;
    if (!worker.claim(name, owners)) {
      ++left;
      who = describe_worker(folder.path(), worker.owner(name).value_or("another worker"));
    } else if (folder.has(piece)) {  // measured since the look before
      worker.release(name);
    } else {
      mine.push_back(piece);
    }
  }
  if (left > 0) {
    shared.run.note(fmt::format("{}: {} is at work on {} pieces of this part, which are left to it",
                                shared.name(), who, left));
  }
  return mine;
}

// Returns how many pieces it has measured.
size_t measure(const SharedJob& shared, const std::vector<size_t>& wanted, const MergePart& part) {
  const PiecesFolder folder = shared.folder();
  std::error_code error;
  fs::create_directories(folder.path(), error);
  if (error) throw file_error(folder.path(), "cannot be made", error);
  Worker worker(folder.path(), fmt::format("part {}/{}", part.index, part.count), {});
  const std::vector<size_t> mine = claimed(worker, folder, wanted, shared);
  if (mine.empty()) return 0;
  if (shared.is_whole()) {
    run_calibration(shared.job, shared.options, shared.run.threads, shared.run.progress,
                    shared.cost.text.get());
    worker.stop();
    fs::remove_all(folder.path(), error);
    return 1;
  }
  run_pieces(shared.job, *shared.cost.text, mine, shared.options, shared.run.threads,
             shared.run.progress, [&](size_t piece, Statistics statistics) {
               folder.write(worker, piece, std::move(statistics));
               worker.release(PiecesFolder::name_of(piece));
             });
  return mine.size();
}

// The folder goes when another worker has added up what was in it; then an error is none.
size_t measure_unless_complete(const SharedJob& shared, const std::vector<size_t>& wanted,
                               const MergePart& part) {
  if (shared.is_complete()) return 0;
  try {
    return measure(shared, wanted, part);
  } catch (const Error& e) {
    if (e.code() == ExitCode::kInterrupted || !shared.is_complete()) throw;
  } catch (const std::exception&) {
    if (!shared.is_complete()) throw;
  }
  return 0;
}

// The pieces that are missing for the sum; none when it is in the cache.
std::vector<size_t> join(const SharedJob& shared) {
  if (shared.is_complete()) {
    // A worker that came too late may have made it, or one was killed while it removed it.
    std::error_code ignored;
    fs::remove_all(shared.folder().path(), ignored);
    return {};
  }
  if (shared.is_whole()) return {0};
  std::vector<size_t> missing;
  try {
    missing = shared.folder().join();
  } catch (const std::exception&) {
    if (!shared.is_complete()) throw;
  }
  // Where another worker has added them up meanwhile, they are gone.
  return missing.empty() || shared.is_complete() ? std::vector<size_t>() : missing;
}

}  // namespace

PartsReport calibrate_part(const Recipe& recipe, const std::optional<MergePart>& part,
                           const GuidanceOptions& options, RunResources& run) {
  if (options.cache.empty())
    throw usage_error("a calibration in parts needs a cache, which all workers see: give --cache");
  if (part && part->index >= part->count)
    throw usage_error("part {} of {}: parts are counted from 0", part->index, part->count);
  const std::vector<CalibrationJob> jobs = calibration_jobs(recipe);
  const auto costs = calibration_costs(recipe, options, run.threads, run.note);
  const CalibrationCut cut(costs, part ? part->count : 1);
  const auto shared = [&](size_t job) { return SharedJob{jobs[job], costs[job], options, run}; };
  PartsReport report;
  report.pieces = cut.units().size();
  if (part) {
    for (const auto& [job, pieces] : cut.share(part->index))
      report.measured += measure_unless_complete(shared(job), pieces, *part);
  }
  std::string missing;
  std::set<fs::path> known;
  for (size_t job = 0; job < jobs.size(); ++job) {
    if (!known.insert(cache_file(options.cache, costs[job].key)).second) continue;
    if (const auto left = join(shared(job)); !left.empty()) {
      report.left += left.size();
      missing +=
          (missing.empty() ? "" : "; ") + fmt::format("{}: {} of {} pieces", shared(job).name(),
                                                      left.size(), costs[job].piece_tokens.size());
    } else {
      report.complete.push_back(
          {costs[job].model,
           run_calibration(jobs[job], options, run.threads, run.progress, costs[job].text.get())});
    }
  }
  if (!part && report.left > 0) {
    throw usage_error(
        "{}: not all is measured yet, run the parts first (the same --part again goes on with a "
        "part): {}",
        recipe.file.string(), missing);
  }
  return report;
}

}  // namespace lewis
