// The values of a merge method's parameters for one tensor.
#pragma once

#include <array>
#include <optional>
#include <string_view>

#include "base/error.h"
#include "recipe/parameters.h"

namespace lewis {

// A parameter that a method reads, with the value that it has where the recipe says nothing.
struct MethodParameter {
  ParameterId id;
  std::optional<double> otherwise{};  // unset: the recipe must say it

  bool required() const { return !otherwise; }
};

// Values by the rows of the table of parameters, for those that are known; flags are 0 or 1.
class ParameterValues {
 public:
  // The value, which must have been set: the method lists the parameter as one that it reads.
  double operator[](ParameterId id) const {
    const std::optional<double>& value = values_[id.index()];
    if (!value) throw failed_error("the merge method does not list the parameter {}", id.name());
    return *value;
  }
  bool flag(ParameterId id) const { return (*this)[id] != 0; }
  std::optional<double> find(ParameterId id) const { return values_[id.index()]; }
  void set(ParameterId id, double value) { values_[id.index()] = value; }

 private:
  std::array<std::optional<double>, kParameterTable.size()> values_;
};

}  // namespace lewis
