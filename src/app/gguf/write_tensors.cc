#include "app/gguf/write_tensors.h"

#include <algorithm>
#include <cmath>

#include "base/dtype.h"
#include "base/error.h"
#include "io/gguf_source.h"

namespace lewis {
namespace {

// The numbers of a row in the order of the file.
std::vector<float> in_order(std::span<const float> row, const ValueHeads& columns) {
  std::vector<float> out(row.size());
  for (size_t i = 0; i < row.size(); ++i)
    out[i] = row[static_cast<size_t>(columns(static_cast<int64_t>(i)))];
  return out;
}

}  // namespace

void GgufTensorWriter::write(const GgufPart& part, const File& file) {
  const size_t of_model = export_.tensors.size();
  file.allocate(part.layout.file_bytes);
  file.write_at(0, std::as_bytes(std::span(part.layout.header)));
  for (size_t i = part.begin; i < part.end; ++i) {
    uint64_t begin = part.layout.begins[i - part.begin];
    if (i >= of_model) {
      file.write_at(begin, std::as_bytes(std::span(export_.made[i - of_model].values)));
    } else {
      for (const std::string& source : export_.tensors[i].sources)
        begin += write_tensor(export_.tensors[i], source, begin, file);
    }
    ++progress_.done;
    if (run_.progress) run_.progress(progress_);
  }
}

// Rows are encoded beside each other, a piece of the tensor at a time. Returns the bytes written.
uint64_t GgufTensorWriter::write_tensor(const ExportedTensor& t, const std::string& source,
                                        uint64_t begin, const File& file) {
  const TensorInfo& info = model_.get(source);
  std::vector<std::byte> stored(byte_size(info));
  model_.read(info, 0, stored);
  // A bias that goes through rope has a number per row of its matrix.
  const bool has_rows = info.shape.size() > 1 || t.rope_heads > 0;
  const int64_t rows = has_rows ? info.shape[0] : 1;
  const int64_t columns = element_count(info.shape) / std::max<int64_t>(1, rows);
  const uint64_t row_bytes = gguf_bytes(t.tensor.type, columns);
  const size_t stored_row = static_cast<size_t>(columns) * dtype_size(info.dtype);
  const int64_t together = std::clamp<int64_t>((int64_t{16} << 20) / std::max<int64_t>(1, columns),
                                               1, std::max<int64_t>(1, rows));
  std::vector<std::byte> out(static_cast<size_t>(together) * row_bytes);
  const auto found = importances_.by_tensor.find(source);
  std::vector<float> importances;
  if (found != importances_.by_tensor.end()) importances = in_order(found->second, t.columns);
  for (int64_t first = 0; first < rows; first += together) {
    const int64_t count = std::min(together, rows - first);
    run_.threads.run(static_cast<size_t>(count), [&](size_t r) {
      const int64_t row = first + static_cast<int64_t>(r);
      const int64_t from = t.rope_heads > 0 ? row_of_rope(row, rows, t.rope_heads) : row;
      std::vector<float> values(static_cast<size_t>(columns));
      widen(info.dtype, stored.data() + static_cast<size_t>(t.rows(from)) * stored_row, values);
      if (!all_finite(values))
        throw input_error("{}: tensor {} has values that are not finite", model_.label(),
                          info.name);
      if (t.plus != 0) {
        for (float& x : values) x += t.plus;
      }
      if (t.decay) {
        for (float& x : values) x = static_cast<float>(-std::exp(static_cast<double>(x)));
      }
      if (t.columns.keys > 0) values = in_order(values, t.columns);
      encode_gguf(t.tensor.type, values, importances, out.data() + r * row_bytes);
    });
    file.write_at(begin + static_cast<uint64_t>(first) * row_bytes,
                  std::span(out).first(static_cast<size_t>(count) * row_bytes));
  }
  return static_cast<uint64_t>(rows) * row_bytes;
}

}  // namespace lewis
