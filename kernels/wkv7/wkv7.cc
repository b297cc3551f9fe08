#include "kernels/wkv7/wkv7.h"

#include "kernels/runtime/cpu.h"
#include "kernels/wkv7/wkv7_isa.h"

namespace dreamstate::kernels {
namespace {

using HeadFunction = void (*)(const Wkv7Head&);
constexpr HeadFunction kByIsa[kIsaCount] = {
    Wkv7HeadOfReference,  // reference
    Wkv7HeadOfAvx2,       // avx2
    Wkv7HeadOfAvx512,     // avx512
    Wkv7HeadOfAvx512,     // avx512vnni
    Wkv7HeadOfAvx512,     // avx512bf16
    Wkv7HeadOfAvx512,     // amx
};

// State elements times tokens below which a parallel region costs more than it saves.
constexpr int64_t kSerialElements = 48 * 1024;

}  // namespace

void Wkv7(const Wkv7Batch& batch, float* y, ThreadPool& pool) {
  const HeadFunction head_function = kByIsa[static_cast<int>(ActiveIsa())];
  const int n = batch.head_size;
  const int64_t width = static_cast<int64_t>(batch.heads) * n;
  const int64_t sequences = static_cast<int64_t>(batch.tokens.size());
  int64_t all_tokens = 0;
  for (const int tokens : batch.tokens) all_tokens += tokens;

  const auto run_heads = [&](int64_t begin, int64_t end, int) {
    int64_t sequence = 0;
    int64_t first_token = 0;
    for (int64_t unit = begin; unit < end; ++unit) {
      for (; sequence < unit / batch.heads; ++sequence) first_token += batch.tokens[sequence];
      const int64_t h = unit % batch.heads;
      const int64_t at = first_token * width + h * n;
      head_function({.head_size = n,
                     .tokens = batch.tokens[sequence],
                     .stride = width,
                     .state = batch.state[sequence] + h * n * n,
                     .r = batch.r + at,
                     .w = batch.w + at,
                     .k = batch.k + at,
                     .v = batch.v + at,
                     .a = batch.a + at,
                     .kk = batch.kk + at,
                     .y = y + at});
    }
  };
  const int64_t units = sequences * batch.heads;
  const bool serial = all_tokens * width * n < kSerialElements;
  pool.ParallelFor(units, serial ? units : 1, run_heads);
}

}  // namespace dreamstate::kernels
