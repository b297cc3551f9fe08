// The colours of heat maps.
#pragma once

#include <cstdint>
#include <span>

namespace dreamstate::picture {

struct Rgb {
  uint8_t red = 0, green = 0, blue = 0;
  friend bool operator==(const Rgb&, const Rgb&) = default;
};

// The palette "viridis": dark blue at 0, yellow at 1, equal steps look equally large, and it keeps
// its order in grey and for the colour-blind. `position` is clamped to [0, 1]; NaN is kNoValue.
Rgb Viridis(double position);

// What stands for a value that is not finite: a grey that viridis does not have.
inline constexpr Rgb kNoValue = {0xc8, 0xc8, 0xc8};

// How values become positions of a palette.
struct Scale {
  double low = 0, high = 0;  // positions 0 and 1; low <= high
  bool logarithmic = false;  // then low > 0

  // From the least to the greatest of the finite values. Logarithmic when no value is negative and
  // the greatest is at least 30 times the least positive one; values below that are then at 0.
  static Scale Of(std::span<const float> values);
  // In [0, 1], clamped; 0 when low == high; NaN for a value that is not finite.
  double PositionOf(double value) const;
  // The value at a position in [0, 1].
  double ValueAt(double position) const;
};

}  // namespace dreamstate::picture
