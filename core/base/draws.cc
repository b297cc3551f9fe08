#include "core/base/draws.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "core/base/random.h"

namespace dreamstate {
namespace {

template <typename T>
void ShuffleValues(Draws& draws, std::span<T> values) {
  for (size_t left = values.size(); left > 1; --left) {
    std::swap(values[left - 1], values[draws.Below(static_cast<uint32_t>(left))]);
  }
}

}  // namespace

Draws::Draws(uint64_t seed, uint32_t stream, uint32_t substream)
    : key_{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)},
      stream_(stream),
      substream_(substream) {}

uint32_t Draws::Bits() {
  if (left_ == 0) {
    bits_ = Philox4x32(
        {static_cast<uint32_t>(block_), static_cast<uint32_t>(block_ >> 32), substream_, stream_},
        key_);
    ++block_;
    left_ = static_cast<int>(bits_.size());
  }
  return bits_[--left_];
}

uint32_t Draws::Below(uint32_t n) { return static_cast<uint32_t>((uint64_t{Bits()} * n) >> 32); }

double Draws::Uniform() { return Bits() * 0x1p-32; }

void Draws::Shuffle(std::span<float> values) { ShuffleValues(*this, values); }
void Draws::Shuffle(std::span<int32_t> values) { ShuffleValues(*this, values); }

std::vector<int32_t> Draws::Choose(int32_t count, int32_t n) {
  std::vector<int32_t> all(n);
  std::iota(all.begin(), all.end(), 0);
  Shuffle(all);
  all.resize(std::min(count, n));
  return all;
}

}  // namespace dreamstate
