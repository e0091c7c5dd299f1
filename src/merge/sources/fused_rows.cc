#include "merge/sources/fused_rows.h"

#include <algorithm>
#include <array>
#include <set>
#include <span>
#include <vector>

#include "io/pieces_source.h"

namespace lewis {
namespace {

struct Fusion {
  std::string_view fused;
  std::array<std::string_view, 3> parts;  // an empty one is not there
};
constexpr auto kFusions = std::to_array<Fusion>(
    {{"qkv_proj", {"q_proj", "k_proj", "v_proj"}}, {"gate_up_proj", {"gate_proj", "up_proj", ""}}});

class RowFitting {
 public:
  RowFitting(const TensorSource& own, const TensorSource& main) : own_(own), main_(main) {}

  // Adds main's tensor `wanted` to what is shown, if the model has it in another way.
  void make(const TensorInfo& wanted) {
    for (const std::string_view end : {".weight", ".bias"}) {
      if (!wanted.name.ends_with(end)) continue;
      const std::string stem = wanted.name.substr(0, wanted.name.size() - end.size());
      const size_t dot = stem.rfind('.') + 1;  // 0 where there is none
      const std::string place = stem.substr(0, dot), layer = stem.substr(dot);
      for (const Fusion& fusion : kFusions) {
        if (layer == fusion.fused) put_together(wanted, place, end, fusion);
        if (std::ranges::find(fusion.parts, layer) != fusion.parts.end())
          take_apart(wanted, place, end, fusion);
      }
    }
  }

  std::vector<PiecedTensor> shown;
  std::set<const TensorInfo*> consumed;

 private:
  static std::string name_of(const std::string& place, std::string_view part,
                             std::string_view end) {
    return place + std::string(part) + std::string(end);
  }
  static int64_t columns_of(const TensorInfo& t) { return t.shape.size() == 2 ? t.shape[1] : 1; }
  static Strides rows(int64_t first, int64_t count, int64_t columns) {
    return {first * columns, count, columns, columns, 1};
  }

  // The tensors of all parts in a model, empty where one is missing or does not fit.
  static std::vector<const TensorInfo*> parts_in(const TensorSource& model,
                                                 const std::string& place, std::string_view end,
                                                 const Fusion& fusion, const TensorInfo& like) {
    std::vector<const TensorInfo*> found;
    for (const std::string_view part : fusion.parts) {
      if (part.empty()) continue;
      const TensorInfo* t = model.find(name_of(place, part, end));
      if (!t || t->shape.size() != like.shape.size() || columns_of(*t) != columns_of(like))
        return {};
      found.push_back(t);
    }
    return found;
  }

  void put_together(const TensorInfo& wanted, const std::string& place, std::string_view end,
                    const Fusion& fusion) {
    const auto parts = parts_in(own_, place, end, fusion, wanted);
    if (parts.empty()) return;
    PiecedTensor made{{wanted.name, parts[0]->dtype, wanted.shape}, {}};
    int64_t all = 0;
    for (const TensorInfo* part : parts) {
      if (part->dtype != parts[0]->dtype) return;
      made.pieces.push_back({part, rows(0, part->shape[0], columns_of(*part))});
      all += part->shape[0];
    }
    if (all != wanted.shape[0]) return;
    consumed.insert(parts.begin(), parts.end());
    shown.push_back(std::move(made));
  }

  void take_apart(const TensorInfo& wanted, const std::string& place, std::string_view end,
                  const Fusion& fusion) {
    const TensorInfo* fused = own_.find(name_of(place, fusion.fused, end));
    if (!fused || fused->shape.size() != wanted.shape.size() ||
        columns_of(*fused) != columns_of(wanted))
      return;
    int64_t before = 0, all = 0;
    for (const TensorInfo* part : parts_in(main_, place, end, fusion, wanted)) {
      if (part == &wanted) before = all;
      all += part->shape[0];
    }
    if (all != fused->shape[0]) return;
    consumed.insert(fused);
    const Strides place_in_fused = rows(before, wanted.shape[0], columns_of(wanted));
    shown.push_back({{wanted.name, fused->dtype, wanted.shape}, {{fused, place_in_fused}}});
  }

  const TensorSource& own_;
  const TensorSource& main_;
};

}  // namespace

FittedRows fit_rows(std::shared_ptr<const TensorSource> source, const TensorSource& main) {
  RowFitting fitting(*source, main);
  for (const TensorInfo& t : main.tensors()) {
    if (!source->find(t.name)) fitting.make(t);
  }
  FittedRows result{source, fitting.shown.size(), ""};
  if (fitting.shown.empty()) return result;
  result.first = fitting.shown[0].info.name;
  for (const TensorInfo& t : source->tensors()) {
    if (!fitting.consumed.contains(&t)) fitting.shown.push_back(whole_tensor(t));
  }
  result.source = show_pieces(std::move(source), std::move(fitting.shown));
  return result;
}

}  // namespace lewis
