#include "tests/benchmarks/kernels/machine_limits_isa.h"

namespace dreamstate::kernels {
namespace {

struct alignas(64) Config {
  unsigned char palette = 1;
  unsigned char start_row = 0;
  unsigned char reserved[14] = {};
  unsigned short row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  unsigned char rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

void Begin() {
  static constexpr Config kConfig = {};
  asm volatile("ldtilecfg %0" : : "m"(kConfig));
  asm volatile(
      "tilezero %%tmm0\n tilezero %%tmm1\n tilezero %%tmm2\n tilezero %%tmm3\n"
      "tilezero %%tmm4\n tilezero %%tmm5\n tilezero %%tmm6\n tilezero %%tmm7\n" ::);
}

}  // namespace

float MultiplyAddTilesInt8(int64_t steps) {
  Begin();
  static_assert(kChains % 4 == 0);
  for (int64_t i = 0; i < steps * (kChains / 4); ++i) {
    asm volatile(
        "tdpbsud %%tmm6, %%tmm4, %%tmm0\n tdpbsud %%tmm7, %%tmm4, %%tmm1\n"
        "tdpbsud %%tmm6, %%tmm5, %%tmm2\n tdpbsud %%tmm7, %%tmm5, %%tmm3\n" ::);
  }
  asm volatile("tilerelease" ::);
  return 0.0f;
}

float MultiplyAddTilesBf16(int64_t steps) {
  Begin();
  for (int64_t i = 0; i < steps * (kChains / 4); ++i) {
    asm volatile(
        "tdpbf16ps %%tmm6, %%tmm4, %%tmm0\n tdpbf16ps %%tmm7, %%tmm4, %%tmm1\n"
        "tdpbf16ps %%tmm6, %%tmm5, %%tmm2\n tdpbf16ps %%tmm7, %%tmm5, %%tmm3\n" ::);
  }
  asm volatile("tilerelease" ::);
  return 0.0f;
}

}  // namespace dreamstate::kernels
