#include "kernels/activation/activation.h"

#include "kernels/activation/activation_isa.h"
#include "kernels/runtime/cpu.h"

namespace dreamstate::kernels {
namespace {

using RowsFunction = void (*)(const TimeMixGates&, int64_t, int64_t);
constexpr RowsFunction kByIsa[kIsaCount] = {
    TimeMixGatesOfReference,  // reference
    TimeMixGatesOfAvx2,       // avx2
    TimeMixGatesOfAvx512,     // avx512
    TimeMixGatesOfAvx512,     // avx512vnni
    TimeMixGatesOfAvx512,     // avx512bf16
    TimeMixGatesOfAvx512,     // amx
};

// Elements that one piece of a parallel region should have; fewer in all run inline.
constexpr int64_t kPieceElements = 4 * 1024;

}  // namespace

void TimeMixGateRows(const TimeMixGates& gates, int rows, ThreadPool& pool) {
  const RowsFunction rows_function = kByIsa[static_cast<int>(ActiveIsa())];
  const int64_t width = static_cast<int64_t>(gates.heads) * gates.head_size;
  pool.ParallelFor(rows, kPieceElements / (width + 1) + 1,
                   [&](int64_t begin, int64_t end, int) { rows_function(gates, begin, end); });
}

}  // namespace dreamstate::kernels
