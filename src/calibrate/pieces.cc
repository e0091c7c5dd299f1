#include "calibrate/pieces.h"

#include <algorithm>
#include <random>

#include "base/current_error.h"
#include "base/error.h"
#include "calibrate/calibrate.h"
#include "io/file.h"

namespace lewis {

namespace fs = std::filesystem;

PiecesFolder::PiecesFolder(const fs::path& cache, StatisticsKey key, size_t pieces)
    : cache_(cache), key_(std::move(key)), pieces_(pieces) {
  StatisticsKey of_all = key_;
  of_all.piece = fmt::format("all/{}", pieces_);
  folder_ = cache_file(cache_, of_all).replace_extension(".pieces");
}

std::string PiecesFolder::name_of(size_t piece) { return fmt::format("{:03}", piece); }

StatisticsKey PiecesFolder::key_of_piece(size_t piece) const {
  StatisticsKey key = key_;
  key.piece = fmt::format("{}/{}", piece, pieces_);
  return key;
}

fs::path PiecesFolder::file_of(size_t piece) const {
  return folder_ / (name_of(piece) + ".safetensors");
}

bool PiecesFolder::has(size_t piece) const {
  std::error_code error;
  return fs::exists(file_of(piece), error);
}

void PiecesFolder::write(Worker& worker, size_t piece, Statistics statistics) const {
  const fs::path fresh = worker.temporary();
  store_statistics(fresh, key_of_piece(piece), std::move(statistics));
  std::error_code error;
  fs::rename(fresh, file_of(piece), error);
  if (error) throw file_error(file_of(piece), "cannot be written", error);
  sync_folder(folder_);
}

std::vector<size_t> PiecesFolder::join() const {
  std::vector<size_t> missing;
  for (size_t piece = 0; piece < pieces_; ++piece) {
    if (!has(piece)) missing.push_back(piece);
  }
  if (!missing.empty()) return missing;
  std::optional<Statistics> sum;
  for (size_t piece = 0; piece < pieces_; ++piece) {
    std::optional<Statistics> its = load_statistics(file_of(piece), key_of_piece(piece));
    if (!its) {
      std::error_code ignored;
      fs::remove(file_of(piece), ignored);
      missing.push_back(piece);
    } else if (!sum) {
      sum = std::move(its);
    } else {
      add_piece(*sum, *its);
    }
  }
  if (!missing.empty()) return missing;
  // Several workers may do this at once: each has a name of its own, and all have the same bytes.
  const fs::path fresh =
      folder_ / fmt::format("sum-{:08x}", static_cast<uint32_t>(std::random_device()()));
  store_statistics(fresh, key_, std::move(*sum));
  fs::rename(fresh, cache_file(cache_, key_));
  sync_folder(cache_);
  std::error_code ignored;  // another worker may do the same, or write into it
  fs::remove_all(folder_, ignored);
  return {};
}

}  // namespace lewis
