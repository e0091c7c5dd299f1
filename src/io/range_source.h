// Files of which parts are read, wherever they lie: on disk, or at the other end of a network.
#pragma once

#include <lewis/tensor_source.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace lewis {

// A piece of work that reads places of files which lie far away, in the order of its steps. Who
// knows what will be read says so before, so that bytes come while others are worked on. A file
// that belongs to a ReadAhead may be read without one, too, but then nothing comes early.
class ReadAhead {
 public:
  struct Step {
    std::vector<FilePlace> places;  // that the step reads, each as often as it likes
    bool in_parts = false;          // too large for memory: the bytes lie on disk meanwhile
  };
  struct Room {
    uint64_t memory = 0;          // bytes that may be there ahead of the steps that are worked on
    std::filesystem::path spool;  // a folder for a file without a name, for the steps `in_parts`
  };
  virtual ~ReadAhead() = default;

  // Begins to fetch what the steps need, in their order. Only one pass runs at a time.
  virtual void begin(const std::vector<Step>& steps, const Room& room) = 0;
  // The bytes of a step are no longer needed. From any thread.
  virtual void finish(size_t step) = 0;
  // Ends a pass whose steps have all been finished. Returns notes on what could not be verified,
  // one line each. Throws Error(kInput) for a file whose bytes are not those that it should have.
  virtual std::vector<std::string> end() = 0;
  // Ends a pass at any time; without one it does nothing.
  virtual void stop() noexcept = 0;
  // True when a pass has failed since bytes did not come, which the next try may repair.
  virtual bool is_cut() const = 0;
};

// The bytes of one file.
class RangeSource {
 public:
  virtual ~RangeSource() = default;

  virtual uint64_t size() const = 0;
  // Exactly out.size() bytes at `offset`; from any thread. Error(kInput) where the file ends
  // before, Error(kResource) where the network fails.
  virtual void read_at(uint64_t offset, std::span<std::byte> out) const = 0;
  // A text that changes when the content does, for files that lie far away.
  virtual std::string identity() const = 0;
  virtual ReadAhead& read_ahead() const = 0;
};

// The files of model folders that lie elsewhere.
class FarFiles {
 public:
  virtual ~FarFiles() = default;
  // The file of that path, which is not on disk; null where there is no such file.
  virtual std::shared_ptr<const RangeSource> find(const std::filesystem::path& path) const = 0;
};

}  // namespace lewis
