#include "tensors.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <nanobind/ndarray.h>
#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "arrays.h"
#include "run.h"
#include "verbs.h"

namespace lewis_python {
namespace {

// Memory of a tensor that lewis made. Large ones are on huge pages where the kernel has some, since
// fresh pages cost more than the arithmetic on them.
class Tensor {
 public:
  explicit Tensor(lewis::TensorInfo info) : info_(std::move(info)) {
    constexpr size_t kHugePage = 2 << 20;
    const size_t bytes = std::max<size_t>(lewis::byte_size(info_), 1);
    const size_t alignment = bytes < 2 * kHugePage ? 64 : kHugePage;
    data_.reset(static_cast<std::byte*>(
        std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment)));
    if (!data_) throw lewis::Error(lewis::ExitCode::kResource, "out of memory");
    if (alignment == kHugePage) madvise(data_.get(), bytes, MADV_HUGEPAGE);
  }

  const lewis::TensorInfo& info() const { return info_; }
  std::span<std::byte> bytes() const { return {data_.get(), lewis::byte_size(info_)}; }

 private:
  struct Free {
    void operator()(std::byte* data) const { std::free(data); }
  };
  lewis::TensorInfo info_;
  std::unique_ptr<std::byte, Free> data_;
};
using TensorPtr = std::shared_ptr<Tensor>;

using ShapeTuple = nb::typed<nb::tuple, int, nb::ellipsis>;

ShapeTuple shape_of(const lewis::TensorInfo& info) {
  nb::list sizes;
  for (const int64_t size : info.shape) sizes.append(size);
  return ShapeTuple(nb::tuple(sizes));
}

nb::str dtype_of(const lewis::TensorInfo& info) {
  return python_text(lewis::dtype_name(info.dtype));
}

// An object of nanobind with the methods of DLPack, which keeps `self` alive.
nb::object dlpack_array(nb::handle self) {
  const Tensor& tensor = *nb::inst_ptr<Tensor>(self);
  const std::optional<nb::dlpack::dtype> type = dlpack_type(tensor.info().dtype);
  if (!type) {
    PyErr_Format(PyExc_BufferError, "DLPack has no type for %s",
                 std::string(lewis::dtype_name(tensor.info().dtype)).c_str());
    throw nb::python_error();
  }
  const std::vector<size_t> shape(tensor.info().shape.begin(), tensor.info().shape.end());
  return nb::cast(nb::ndarray<nb::array_api>(tensor.bytes().data(), shape.size(), shape.data(),
                                             self, nullptr, *type, nb::device::cpu::value));
}

// The bytes as a buffer of Python: writable, and one unsigned byte per element.
int get_buffer(PyObject* self, Py_buffer* view, int flags) {
  const Tensor& tensor = *nb::inst_ptr<Tensor>(self);
  return PyBuffer_FillInfo(view, self, tensor.bytes().data(),
                           static_cast<Py_ssize_t>(tensor.bytes().size()), 0, flags);
}

PyType_Slot tensor_slots[] = {{Py_bf_getbuffer, reinterpret_cast<void*>(get_buffer)}, {0, nullptr}};

// ---- a model on disk ----

class Model {
 public:
  explicit Model(const std::filesystem::path& folder) : source_(lewis::open_checkpoint(folder)) {}

  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const lewis::TensorInfo& t : source_->tensors()) names.push_back(t.name);
    return names;
  }
  bool has(const std::string& name) const { return source_->find(name) != nullptr; }
  const lewis::TensorInfo& info(const std::string& name) const { return source_->get(name); }
  TensorPtr read(const std::string& name) const {
    const nb::gil_scoped_release release;
    const lewis::TensorInfo& info = source_->get(name);
    auto tensor = std::make_shared<Tensor>(info);
    source_->read(info, 0, tensor->bytes());
    return tensor;
  }
  const std::shared_ptr<const lewis::TensorSource>& source() const { return source_; }

 private:
  std::shared_ptr<const lewis::TensorSource> source_;
};

Model open_model(const std::filesystem::path& folder) {
  const nb::gil_scoped_release release;
  return Model(folder);
}

// ---- merging ----

// A model of a merge: Arrays, or a Model on disk.
std::shared_ptr<const lewis::TensorSource> source_of(nb::handle model) {
  if (nb::isinstance<Model>(model)) return nb::inst_ptr<Model>(model)->source();
  if (nb::isinstance<Arrays>(model)) return nb::inst_ptr<Arrays>(model)->source();
  throw nb::type_error("a model is an Arrays or a Model");
}

// The merged tensors, sorted by name. `models`: by their names in the recipe.
std::vector<TensorPtr> merge_tensors(const Recipe& recipe,
                                     const std::map<std::string, nb::object>& models, uint64_t seed,
                                     size_t threads, nb::object progress, nb::object notice) {
  lewis::TensorMergeJob job;
  job.recipe = recipe.pointer;
  job.seed = seed;
  for (const auto& [name, model] : models) job.models[name] = source_of(model);
  std::vector<TensorPtr> merged;
  const auto take = [&](const lewis::TensorInfo& info, std::span<const std::byte> bytes) {
    merged.push_back(std::make_shared<Tensor>(info));
    std::ranges::copy(bytes, merged.back()->bytes().begin());
  };
  run_beside_python({threads, std::move(progress), std::move(notice)},
                    [&](const lewis::RunContext& run) { lewis::merge_tensors(job, take, run); });
  return merged;
}

}  // namespace

void bind_tensors(nb::module_& m) {
  nb::class_<Tensor>(
      m, "Tensor", nb::type_slots(tensor_slots),
      "A tensor of lewis: `name`, `dtype` (safetensors' name), `shape` and its memory, which "
      "__dlpack__ and the buffer protocol (writable bytes) give without a copy.")
      .def_prop_ro("name", [](const Tensor& t) { return python_text(t.info().name); })
      .def_prop_ro("dtype", [](const Tensor& t) { return dtype_of(t.info()); })
      .def_prop_ro("shape", [](const Tensor& t) { return shape_of(t.info()); })
      .def_prop_ro("nbytes", [](const Tensor& t) { return t.bytes().size(); })
      .def(
          "__dlpack__",
          [](nb::handle self, const nb::kwargs& how) {
            return dlpack_array(self).attr("__dlpack__")(**how);
          },
          nb::sig("def __dlpack__(self, **how: object) -> object"))
      .def("__dlpack_device__", [](const Tensor&) { return std::pair(nb::device::cpu::value, 0); })
      .def("__repr__", [](const Tensor& t) {
        return python_text("<lewis tensor " + t.info().name + ": " +
                           std::string(lewis::dtype_name(t.info().dtype)) + " " +
                           lewis::to_string(t.info().shape) + ">");
      });
  nb::class_<Model>(m, "Model")
      .def("names", &Model::names)
      .def("has", &Model::has, nb::arg("name"))
      .def(
          "shape",
          [](const Model& model, const std::string& name) { return shape_of(model.info(name)); },
          nb::arg("name"))
      .def(
          "dtype",
          [](const Model& model, const std::string& name) { return dtype_of(model.info(name)); },
          nb::arg("name"))
      .def("read", &Model::read, nb::arg("name"));
  m.def("open_model", &open_model, nb::arg("folder"));
  nb::class_<Arrays>(m, "Arrays")
      .def(nb::init<std::string>(), nb::arg("label"))
      .def("add", &Arrays::add, nb::arg("name"), nb::arg("array").none(), nb::arg("dtype"));
  m.def("merge_tensors", &merge_tensors, nb::arg("recipe"), nb::arg("models"), nb::arg("seed"),
        nb::arg("threads"), nb::arg("progress").none(), nb::arg("notice").none());
}

}  // namespace lewis_python
