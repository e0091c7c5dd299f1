// The finished part of a refinement on disk, so that an interrupted one goes on: a folder with one
// file per block (its refined tensors, errors and notes), the streams after the last block,
// and a journal that grows by a line per file, as io/manifest.h has it.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/manifest.h"
#include "io/tensor_source.h"
#include "refine/block.h"

namespace lewis {

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
  BlockResult result(int64_t block) const;  // without its tensors

  // The next block is finished: written, flushed, in the journal. `like`: types and shapes.
  void add(const BlockResult& result, const TensorSource& like, const StreamPair& streams);
  void keep() { keep_ = true; }

 private:
  void take_over(const std::string& plan);
  void record(const std::string& name);
  std::filesystem::path block_file(int64_t block) const;
  std::string streams_name(int64_t block, std::string_view stream) const;

  std::filesystem::path folder_;
  std::optional<File> marker_;  // locked while this lives
  std::optional<File> journal_;
  std::vector<ShardRecord> done_;  // of the block files
  bool keep_ = false;
};

// The tensors of all block files of a finished journal. The source keeps the journal, and with it
// the folder.
std::shared_ptr<const TensorSource> open_refined(std::shared_ptr<const RefineJournal> journal,
                                                 const std::string& label);

}  // namespace lewis
