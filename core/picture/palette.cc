#include "core/picture/palette.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

namespace dreamstate::picture {
namespace {

// 33 equidistant points; straight lines between them are within 2/255 of the published 256 (van der
// Walt and Smith, CC0).
constexpr uint32_t kViridis[] = {
    0x440154, 0x470d60, 0x48186a, 0x482374, 0x472d7b, 0x453681, 0x424086, 0x3f4989, 0x3b528b,
    0x375a8d, 0x33638d, 0x2f6a8e, 0x2c728e, 0x297a8e, 0x26818e, 0x23898e, 0x21908c, 0x1f988b,
    0x1f9f88, 0x21a685, 0x28ae80, 0x31b57b, 0x3ebc74, 0x4cc26c, 0x5dc963, 0x6ece58, 0x82d34c,
    0x96d83f, 0xabdc32, 0xc0df24, 0xd5e21a, 0xeae51a, 0xfde725};
constexpr double kLogarithmicFrom = 30;

uint8_t Between(uint32_t from, uint32_t to, int shift, double share) {
  const double low = (from >> shift) & 0xff, high = (to >> shift) & 0xff;
  return static_cast<uint8_t>(std::lround(low + (high - low) * share));
}

}  // namespace

Rgb Viridis(double position) {
  if (std::isnan(position)) return kNoValue;
  constexpr int kLast = static_cast<int>(std::size(kViridis)) - 1;
  const double at = std::clamp(position, 0.0, 1.0) * kLast;
  const int index = std::min(static_cast<int>(at), kLast - 1);
  const uint32_t from = kViridis[index], to = kViridis[index + 1];
  const double share = at - index;
  return {Between(from, to, 16, share), Between(from, to, 8, share), Between(from, to, 0, share)};
}

Scale Scale::Of(std::span<const float> values) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  double least = kInfinity, greatest = -kInfinity, least_positive = kInfinity;
  for (const double value : values) {
    if (!std::isfinite(value)) continue;
    least = std::min(least, value);
    greatest = std::max(greatest, value);
    if (value > 0) least_positive = std::min(least_positive, value);
  }
  if (least > greatest) return {};
  if (least >= 0 && greatest > 0 && greatest >= kLogarithmicFrom * least_positive) {
    return {least_positive, greatest, true};
  }
  return {least, greatest, false};
}

double Scale::PositionOf(double value) const {
  if (!std::isfinite(value)) return std::numeric_limits<double>::quiet_NaN();
  if (!(low < high) || value <= low) return 0;
  const double position =
      logarithmic ? std::log(value / low) / std::log(high / low) : (value - low) / (high - low);
  return std::clamp(position, 0.0, 1.0);
}

double Scale::ValueAt(double position) const {
  return logarithmic ? low * std::pow(high / low, position) : low + (high - low) * position;
}

}  // namespace dreamstate::picture
