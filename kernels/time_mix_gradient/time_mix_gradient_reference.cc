#include <cmath>

#include "kernels/time_mix_gradient/time_mix_gradient_vector.h"

namespace dreamstate::kernels {
namespace {

// One lane: the operators' common code as plain loops.
struct Scalar {
  static constexpr int kLanes = 1;
  using Type = float;

  static float Load(const float* p) { return *p; }
  static void Store(float* p, float a) { *p = a; }
  static float LoadBf16(const Bf16* p) { return Bf16ToFloat(*p); }
  static void StoreBf16(Bf16* p, float a) { *p = FloatToBf16(a); }
  static float Zero() { return 0.0f; }
  static float Set(float a) { return a; }
  static float Add(float a, float b) { return a + b; }
  static float Sub(float a, float b) { return a - b; }
  static float Mul(float a, float b) { return a * b; }
  static float Div(float a, float b) { return a / b; }
  static float Fma(float a, float b, float c) { return a * b + c; }
  static float Max(float a, float b) { return a > b ? a : b; }
  static float Min(float a, float b) { return a < b ? a : b; }
  static float Round(float a) { return std::nearbyint(a); }
  static float Scale(float a, float n) { return std::ldexp(a, static_cast<int>(n)); }
  static float Sum(float a) { return a; }
};

}  // namespace

constinit const TimeMixKernels kTimeMixReference = {kTimeMixFunctions<Scalar, float>,
                                                    kTimeMixFunctions<Scalar, Bf16>};

}  // namespace dreamstate::kernels
