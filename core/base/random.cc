#include "core/base/random.h"

#include <sys/random.h>

#include <cerrno>
#include <random>

namespace dreamstate {
namespace {

// Keeps the draws of decoding apart from other uses of the same seed ("DECO").
constexpr uint32_t kDecodeDomain = 0x4445434f;

}  // namespace

std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53} * counter[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<uint32_t>(product0)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

double DecodeUniform(uint64_t seed, uint32_t branch, uint64_t position) {
  const std::array<uint32_t, 4> block =
      Philox4x32({static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), branch,
                  kDecodeDomain},
                 {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  const uint64_t bits = (uint64_t{block[1]} << 32) | block[0];
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

uint64_t EntropyBits() {
  uint64_t bits = 0;
  for (;;) {
    // Requests of up to 256 bytes are answered whole.
    if (getrandom(&bits, sizeof(bits), 0) == static_cast<ssize_t>(sizeof(bits))) return bits;
    if (errno != EINTR) break;
  }
  // A kernel or sandbox without getrandom.
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

}  // namespace dreamstate
