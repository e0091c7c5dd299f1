#include "merge/sources/tied_source.h"

#include <algorithm>

#include "merge/sources/embeddings.h"

namespace lewis {
namespace {

bool is_head(const TensorInfo& t) { return t.name.ends_with("lm_head.weight"); }

class TiedSource final : public TensorSource {
 public:
  explicit TiedSource(std::shared_ptr<const TensorSource> model) : model_(std::move(model)) {
    std::ranges::remove_copy_if(model_->tensors(), std::back_inserter(tensors_), is_head);
  }

  const std::string& label() const override { return model_->label(); }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  void read(const TensorInfo& tensor, int64_t first, std::span<std::byte> out) const override {
    model_->read(tensor, first, out);
  }
  ReadCost read_cost(const TensorInfo& tensor) const override { return model_->read_cost(tensor); }

 private:
  std::shared_ptr<const TensorSource> model_;
  std::vector<TensorInfo> tensors_;
};

}  // namespace

std::shared_ptr<const TensorSource> without_tied_head(std::shared_ptr<const TensorSource> model,
                                                      int64_t vocab_size) {
  const auto is_input = [&](const TensorInfo& t) {
    return !is_head(t) && is_embedding(t, vocab_size);
  };
  const auto& tensors = model->tensors();
  if (std::ranges::none_of(tensors, is_input) || std::ranges::none_of(tensors, is_head))
    return model;
  return std::make_shared<const TiedSource>(std::move(model));
}

}  // namespace lewis
