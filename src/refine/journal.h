// What a refinement has finished, on disk, so that an interrupted one goes on: a folder with one
// file per block (its refined tensors and how they were found), the streams after the last block,
// and a journal (io/json_lines.h) that grows by one record (io/manifest.h) per file.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/json_lines.h"
#include "io/manifest.h"
#include "io/tensor_source.h"
#include "refine/block.h"

namespace lewis {

// The file that tells a folder of a refinement from anything else. It is locked while one is at
// work there.
inline constexpr std::string_view kRefineMarker = ".lewis-refined";

// The folder of a later pass over all blocks (lewis.refine.passes), within that of the first.
inline std::string refine_pass_folder(uint64_t pass) { return "pass-" + std::to_string(pass); }

class RefineJournal {
 public:
  // Makes the folder, in place of what an earlier run left there, or with `resume` takes over what
  // a run of the same plan has finished (nothing where no such run exists). Error(kUsage) when the
  // folder holds something else, or when another process works there.
  RefineJournal(std::filesystem::path folder, const std::string& plan, bool resume);
  // Removes the folder unless keep() was called.
  ~RefineJournal();
  RefineJournal(const RefineJournal&) = delete;
  RefineJournal& operator=(const RefineJournal&) = delete;

  const std::filesystem::path& folder() const { return folder_; }
  int64_t blocks_done() const { return static_cast<int64_t>(done_.size()); }
  // The streams after the last of blocks_done() blocks.
  void load_streams(StreamPair& streams) const;
  // How a finished block was found, without its tensors.
  BlockResult result(int64_t block) const;

  // Writes the next block, whose tensors have the types and shapes of `like`, and the streams after
  // it, and records them. What is on the disk when this returns stays.
  void add(const BlockResult& result, const TensorSource& like, const StreamPair& streams);
  void keep() { keep_ = true; }

 private:
  void take_over(const JournalIdentity& identity);
  std::filesystem::path block_file(int64_t block) const;
  std::string streams_name(int64_t block, std::string_view stream) const;

  std::filesystem::path folder_;
  std::optional<File> marker_;  // locked while this lives
  std::optional<JsonLines> journal_;
  std::vector<ShardRecord> done_;  // of the block files
  bool keep_ = false;
};

// The tensors of all block files of finished journals, as a source named `label`; of a tensor that
// several have, that of the last. The source keeps the journals, and with them their folders.
std::shared_ptr<const TensorSource> open_refined(
    std::vector<std::shared_ptr<const RefineJournal>> journals, const std::string& label);
inline std::shared_ptr<const TensorSource> open_refined(
    std::shared_ptr<const RefineJournal> journal, const std::string& label) {
  return open_refined(std::vector{std::move(journal)}, label);
}

}  // namespace lewis
