// Where merged tensors go: the counterpart of io/tensor_source.h. io/model_writer.h writes a model
// folder; every other format is another implementation, and merge/engine.h does not change for it.
//
// The life of a writer:
//
// 1. Its constructor gets the whole list of tensors (name, dtype, shape) and the format's own
//    options, so that the size and the place of every byte are known before the first one, and a
//    disk that is too small is refused before the work. A format whose file begins with metadata
//    that is made from config and tokenizer (GGUF: one file, header first) gets those here, too.
// 2. tensors() is the order in which the format wants them: that of its file, or shard after shard.
//    Whoever writes in this order lets the writer finish one part after the other, and write from
//    front to back. The list may be shorter than what the constructor got: a worker that writes a
//    share of the shards (io/part_writer.h) lists the tensors of its share, and its commit() leaves
//    the index, and the folder's last name, to whoever puts the shares together.
// 3. Each tensor for which is_done() is false is written once: whole, or in blocks from front to
//    back. Different tensors may be written by different threads at the same time.
// 4. add_file() and add_note() put small files beside the tensors, in any order, before commit().
// 5. commit() makes the result visible, complete, in one step. A writer that goes without it leaves
//    nothing behind, unless keep_partial() was called.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_fwd.h"
#include "base/tensor.h"

namespace lewis {

// How far the result is after commit().
struct WrittenState {
  bool complete = true;              // it is visible
  size_t shards_left = 0;            // that other workers have still to write
  size_t shards = 0;                 // of the whole result
  std::vector<std::string> notes{};  // one line each
};

class TensorWriter {
 public:
  virtual ~TensorWriter() = default;

  // The tensors that are to be written, in the order that suits the format. An index into this list
  // names a tensor below.
  virtual const std::vector<TensorInfo>& tensors() const = 0;
  // True for a tensor that an interrupted run has written: it must not be written again.
  virtual bool is_done(size_t tensor) const = 0;
  // The place of byte `offset` of the tensor in its file, modulo File::kDirectAlignment. Bytes that
  // lie as far behind a multiple of it in memory can be written without being copied. A hint: any
  // number below the alignment is right.
  virtual size_t lead(size_t tensor, uint64_t offset) const = 0;
  // Bytes [offset, offset + bytes.size()) of the tensor, each byte once; from any thread.
  // Error(kResource) when the disk is full.
  virtual void write(size_t tensor, uint64_t offset, std::span<const std::byte> bytes) = 0;

  // True when commit() will make the result visible, so that small files are wanted. False for a
  // worker whose share is not the last one. Call it once, when all tensors were written.
  virtual bool completes() { return true; }
  // Makes what was written readable as a model, though it has not its last name yet, and returns
  // its folder. Only where completes() is true, before commit().
  virtual std::filesystem::path readable() = 0;
  // A small file that is part of the result: config, tokenizer, model card.
  virtual void add_file(const std::string& name, std::string_view content) = 0;
  // A small file that tells about the run (times, memory) and is no part of the result.
  virtual void add_note(const std::string& name, std::string_view content) = 0;

  // Error(kFailed) when a tensor was not written whole. `about`, an object, is for people: program,
  // seed, sources.
  virtual void commit(const Json& about) = 0;
  // Lets the finished parts stay on the disk when the writer goes, for a run that resumes.
  virtual void keep_partial() = 0;

  virtual uint64_t tensor_bytes() const = 0;  // of tensors()
  virtual size_t shards() const = 0;          // files that hold tensors
  virtual WrittenState state() const { return {true, 0, shards(), {}}; }
};

}  // namespace lewis
