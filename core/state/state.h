// A state: everything an RWKV-7 model carries from the tokens it has read. A plain value in the
// canonical layout.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/rwkv/config.h"

namespace dreamstate::state {

struct Shape {
  int layers = 0;
  int width = 0;
  int heads = 0;
  int head_size = 0;

  static Shape Of(const rwkv::Config& config);
  int64_t shift_elements() const { return int64_t{layers} * 2 * width; }
  int64_t wkv_elements() const { return int64_t{layers} * heads * head_size * head_size; }
  int64_t bytes() const { return (shift_elements() + wkv_elements()) * int64_t{sizeof(float)}; }
  // Sizes that no model has (not positive, heads * head_size != width, or more than 2^40 elements)
  // are INVALID_ARGUMENT.
  absl::Status Validate() const;
  friend bool operator==(const Shape&, const Shape&) = default;
};

struct State {
  Shape shape;
  std::vector<float> shift;  // [L][2][D]; 0 = time mix, 1 = channel mix
  std::vector<float> wkv;    // [L][H][N value][N key]

  // The empty state of that shape.
  static State Empty(const Shape& shape);
  // INVALID_ARGUMENT when a size does not fit the shape or a value is NaN or infinite (naming layer
  // and head).
  absl::Status Validate() const;
  friend bool operator==(const State&, const State&) = default;
};

}  // namespace dreamstate::state
