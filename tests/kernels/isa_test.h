// What every kernel test needs: a run on each instruction set of this processor, and arrays at
// addresses that no vector load likes.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/runtime/cpu.h"

namespace dreamstate::kernels {

inline std::vector<Isa> AvailableIsas() {
  std::vector<Isa> isas;
  for (int i = 0; i <= static_cast<int>(BestIsa()); ++i) isas.push_back(static_cast<Isa>(i));
  return isas;
}

// A test that runs once on each instruction set.
class IsaTest : public ::testing::TestWithParam<Isa> {
 protected:
  void SetUp() override { SetActiveIsaForTesting(GetParam()); }
  void TearDown() override { SetActiveIsaForTesting(BestIsa()); }
};

inline std::string IsaTestName(const ::testing::TestParamInfo<Isa>& info) {
  return std::string(IsaName(info.param));
}

// Floats that begin 4 bytes after an address divisible by 64, with a guard on both sides that
// CheckGuards looks at.
class Misaligned {
 public:
  explicit Misaligned(size_t size, float value = 0.0f)
      : size_(size), memory_(size + 2 * kGuard + 32, kGuardValue) {
    // Without it GCC 12 warns of sizes that no vector can have.
    if (size > memory_.size()) std::abort();
    const auto address = reinterpret_cast<uintptr_t>(memory_.data());
    begin_ = kGuard + (64 - address % 64) % 64 / sizeof(float) + 1;
    for (size_t i = 0; i < size; ++i) data()[i] = value;
  }
  // Moving would leave begin_ right, copying might not.
  Misaligned(const Misaligned&) = delete;
  Misaligned(Misaligned&&) = default;

  float* data() { return memory_.data() + begin_; }
  const float* data() const { return memory_.data() + begin_; }
  size_t size() const { return size_; }
  float& operator[](size_t i) { return data()[i]; }
  float operator[](size_t i) const { return data()[i]; }
  std::vector<double> Doubles() const { return {data(), data() + size_}; }
  std::vector<float> Floats() const { return {data(), data() + size_}; }

  bool GuardsIntact() const {
    for (size_t i = 0; i < memory_.size(); ++i) {
      if ((i < begin_ || i >= begin_ + size_) && memory_[i] != kGuardValue) return false;
    }
    return true;
  }

 private:
  static constexpr size_t kGuard = 32;
  static constexpr float kGuardValue = -12345.5f;
  size_t size_;
  size_t begin_;
  std::vector<float> memory_;
};

inline Misaligned RandomNormal(size_t size, uint32_t seed, float deviation = 1.0f) {
  Misaligned values(size);
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  for (size_t i = 0; i < size; ++i) values[i] = normal(generator);
  return values;
}

inline Misaligned RandomUniform(size_t size, uint32_t seed, float low, float high) {
  Misaligned values(size);
  std::mt19937 generator(seed);
  std::uniform_real_distribution<float> uniform(low, high);
  for (size_t i = 0; i < size; ++i) values[i] = uniform(generator);
  return values;
}

inline bool SameBits(const float* a, const float* b, size_t count) {
  return count == 0 || std::memcmp(a, b, count * sizeof(float)) == 0;
}

// The largest |found - expected| / (scale + |expected|); infinite when one is NaN and the other is
// not.
inline double LargestError(const float* found, const double* expected, size_t count, double scale) {
  double largest = 0.0;
  for (size_t i = 0; i < count; ++i) {
    if (std::isnan(found[i]) != std::isnan(expected[i])) return INFINITY;
    if (std::isnan(expected[i])) continue;
    const double error = std::abs(found[i] - expected[i]) / (scale + std::abs(expected[i]));
    if (error > largest) largest = error;
  }
  return largest;
}

}  // namespace dreamstate::kernels
