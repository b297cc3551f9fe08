#include "core/state/algebra.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/base/status.h"
#include "core/base/strings.h"

namespace dreamstate::state {
namespace {

// Sine of an angle below which two directions are one, or opposite.
constexpr double kParallel = 1e-6;

absl::StatusOr<std::vector<bool>> Chosen(const char* field, std::span<const int> list, int count) {
  const auto size = static_cast<size_t>(count);
  if (list.empty()) return std::vector<bool>(size, true);
  std::vector<bool> chosen(size);
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string path = StrCat(field, "[", i, "]");
    if (list[i] < 0 || list[i] >= count) {
      return FieldError(path, StrCat("expected 0 to ", count - 1, ", found ", list[i]));
    }
    if (chosen[static_cast<size_t>(list[i])]) {
      return FieldError(path, StrCat(list[i], " was named before"));
    }
    chosen[static_cast<size_t>(list[i])] = true;
  }
  return chosen;
}

void MixSpherically(std::span<const float> a, std::span<const float> b, double fraction,
                    std::span<float> out) {
  double aa = 0, bb = 0, ab = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    aa += double{a[i]} * double{a[i]};
    bb += double{b[i]} * double{b[i]};
    ab += double{a[i]} * double{b[i]};
  }
  double of_a = 1 - fraction, of_b = fraction;
  const double norm_a = std::sqrt(aa), norm_b = std::sqrt(bb);
  if (norm_a > 0 && norm_b > 0) {
    const double angle = std::acos(std::clamp(ab / norm_a / norm_b, -1.0, 1.0));
    const double sine = std::sin(angle);
    if (sine > kParallel) {
      const double norm = (1 - fraction) * norm_a + fraction * norm_b;
      of_a = norm * std::sin((1 - fraction) * angle) / sine / norm_a;
      of_b = norm * std::sin(fraction * angle) / sine / norm_b;
    }
  }
  for (size_t i = 0; i < a.size(); ++i) {
    out[i] = static_cast<float>(of_a * double{a[i]} + of_b * double{b[i]});
  }
}

}  // namespace

absl::StatusOr<HeadMask> MakeHeadMask(const Shape& shape, std::span<const int> layers,
                                      std::span<const int> heads) {
  DS_ASSIGN_OR_RETURN(const std::vector<bool> in_layers, Chosen("layers", layers, shape.layers));
  DS_ASSIGN_OR_RETURN(const std::vector<bool> in_heads, Chosen("heads", heads, shape.heads));
  HeadMask mask;
  for (const bool layer : in_layers) {
    for (const bool head : in_heads) mask.push_back(layer && head);
  }
  return mask;
}

State WeightedSum(std::span<const WeightedState> states) {
  const Shape& shape =
      std::ranges::find_if(states, [](const auto& s) { return s.state != nullptr; })->state->shape;
  State sum = State::Empty(shape);
  const auto add = [&](std::vector<float> State::*part) {
    std::vector<float>& out = sum.*part;
    for (size_t i = 0; i < out.size(); ++i) {
      double value = 0;
      for (const WeightedState& one : states) {
        if (one.state != nullptr) value += one.weight * double{(one.state->*part)[i]};
      }
      out[i] = static_cast<float>(value);
    }
  };
  add(&State::shift);
  add(&State::wkv);
  return sum;
}

State Linear(const State& a, const State& b, double fraction) {
  const WeightedState both[] = {{&a, 1 - fraction}, {&b, fraction}};
  return WeightedSum(both);
}

State Spherical(const State& a, const State& b, double fraction) {
  State mixed = State::Empty(a.shape);
  const auto mix = [&](std::vector<float> State::*part, size_t size) {
    for (size_t at = 0; at < (a.*part).size(); at += size) {
      MixSpherically(std::span(a.*part).subspan(at, size), std::span(b.*part).subspan(at, size),
                     fraction, std::span(mixed.*part).subspan(at, size));
    }
  };
  mix(&State::shift, static_cast<size_t>(a.shape.width));
  mix(&State::wkv, static_cast<size_t>(a.shape.head_size) * static_cast<size_t>(a.shape.head_size));
  return mixed;
}

State Masked(const State& original, State changed, const HeadMask& mask) {
  if (std::ranges::all_of(mask, [](bool in) { return in; })) return changed;
  const auto size =
      static_cast<size_t>(original.shape.head_size) * static_cast<size_t>(original.shape.head_size);
  for (size_t head = 0; head < mask.size(); ++head) {
    if (mask[head]) continue;
    const auto from = original.wkv.begin() + static_cast<ptrdiff_t>(head * size);
    std::copy_n(from, size, changed.wkv.begin() + static_cast<ptrdiff_t>(head * size));
  }
  changed.shift = original.shift;
  return changed;
}

double NormOf(const State& state) {
  double sum = 0;
  for (const float value : state.wkv) sum += double{value} * double{value};
  return std::sqrt(sum);
}

double DistanceOf(const State& a, const State& b) {
  double sum = 0;
  for (size_t i = 0; i < a.wkv.size(); ++i) {
    const double difference = double{a.wkv[i]} - double{b.wkv[i]};
    sum += difference * difference;
  }
  return std::sqrt(sum);
}

}  // namespace dreamstate::state
