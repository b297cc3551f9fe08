// Random choices: Philox keyed by a seed, a stream for every use,
// so that adding one use changes no other's choices.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace dreamstate {

// Not thread-safe.
class Draws {
 public:
  // `stream` and `substream` name the use: see the constants of the files that draw.
  Draws(uint64_t seed, uint32_t stream, uint32_t substream);

  // Uniform in [0, n), n >= 1; off by less than n / 2^32.
  uint32_t Below(uint32_t n);
  // Uniform in [0, 1), 32 bits.
  double Uniform();
  // All orders equally likely (Fisher and Yates).
  void Shuffle(std::span<float> values);
  void Shuffle(std::span<int32_t> values);
  // min(count, n) different ones of 0 .. n - 1, in random order.
  std::vector<int32_t> Choose(int32_t count, int32_t n);

 private:
  uint32_t Bits();

  std::array<uint32_t, 2> key_;
  uint32_t stream_, substream_;
  uint64_t block_ = 0;
  std::array<uint32_t, 4> bits_ = {};
  int left_ = 0;
};

}  // namespace dreamstate
