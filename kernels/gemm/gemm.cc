#include "kernels/gemm/gemm.h"

#include <algorithm>

#include "kernels/gemm/gemm_isa.h"
#include "kernels/runtime/cpu.h"

namespace dreamstate::kernels {
namespace {

constexpr const GemmKernels* kByIsa[] = {
    &kGemmReference,   // reference
    &kGemmAvx2,        // avx2
    &kGemmAvx512,      // avx512
    &kGemmAvx512Bf16,  // avx512bf16
};

// Multiply-adds that one piece of a parallel region should have (some microseconds); fewer in all
// run inline.
constexpr int64_t kPieceProducts = 64 * 1024;
// Elements of x that one piece of the rounding should have.
constexpr int64_t kPieceRounding = 64 * 1024;

// Rows are divided into chunks of nearly equal height.
int RowChunks(const GemmTask& task) { return (task.rows + kGemmMaxRows - 1) / kGemmMaxRows; }

// A unit of work is one chunk of rows times one panel, panels fastest: the chunk stays in the
// second-level cache while the weights stream past it, and a piece of units reads its weights as
// one run.
int64_t Units(const GemmTask& task) {
  return static_cast<int64_t>(task.w->panels()) * RowChunks(task);
}

bool NeedsRounding(const GemmTask& task) {
  return task.w->format() == WeightFormat::kBfloat16 && task.rows > 0;
}

bool SharesRounding(const GemmTask& a, const GemmTask& b) {
  return NeedsRounding(a) && a.x == b.x && a.x_stride == b.x_stride && a.rows == b.rows &&
         a.w->inputs() == b.w->inputs();
}

// Where in the scratch the rounded rows of task `index` begin: after those of the tasks before it
// that share with none of theirs.
size_t RoundedOffset(std::span<const GemmTask> tasks, size_t index) {
  size_t offset = 0;
  for (size_t i = 0;; ++i) {
    if (SharesRounding(tasks[i], tasks[index])) return offset;
    if (!NeedsRounding(tasks[i])) continue;
    size_t first = 0;
    while (!SharesRounding(tasks[first], tasks[i])) ++first;
    if (first == i) offset += GemmScratchBytes(tasks[i].rows, tasks[i].w->inputs());
  }
}

void RoundInputs(const GemmKernels& kernels, std::span<const GemmTask> tasks, std::byte* scratch,
                 ThreadPool& pool) {
  for (size_t i = 0; i < tasks.size(); ++i) {
    const GemmTask& task = tasks[i];
    if (!NeedsRounding(task)) continue;
    size_t first = 0;
    while (!SharesRounding(tasks[first], task)) ++first;
    if (first < i) continue;
    const int inputs = task.w->inputs();
    const int64_t row_bytes = static_cast<int64_t>(inputs + inputs % 2) * kernels.rounded_bytes;
    std::byte* rounded = scratch + RoundedOffset(tasks, i);
    pool.ParallelFor(
        task.rows, kPieceRounding / (inputs + 1) + 1, [&](int64_t begin, int64_t end, int) {
          for (int64_t m = begin; m < end; ++m) {
            kernels.round_row(task.x + m * task.x_stride, inputs, rounded + m * row_bytes);
          }
        });
  }
}

// Units [begin, end) of one task.
void RunUnits(const GemmKernels& kernels, const GemmTask& task, const std::byte* rounded,
              int64_t begin, int64_t end) {
  const PackedMatrix& w = *task.w;
  const bool bf16 = w.format() == WeightFormat::kBfloat16;
  const int inputs = w.inputs();
  const int64_t chunks = RowChunks(task);
  const int64_t panel_bytes = static_cast<int64_t>(w.bytes() / w.panels());
  const int64_t row_bytes = bf16 ? static_cast<int64_t>(inputs + inputs % 2) * kernels.rounded_bytes
                                 : task.x_stride * static_cast<int64_t>(sizeof(float));
  const std::byte* x = bf16 ? rounded : reinterpret_cast<const std::byte*>(task.x);
  while (begin < end) {
    const int64_t chunk = begin / w.panels();
    const int64_t panel = begin % w.panels();
    const int64_t panels = std::min<int64_t>(end - begin, w.panels() - panel);
    const int64_t row = task.rows * chunk / chunks;
    const GemmBlock block = {
        .w = w.data() + panel * panel_bytes,
        .panel_bytes = static_cast<size_t>(panel_bytes),
        .panels = static_cast<int>(panels),
        .outputs = static_cast<int>(std::min<int64_t>(w.outputs() - panel * PackedMatrix::kPanel,
                                                      panels * PackedMatrix::kPanel)),
        .inputs = inputs,
        .x = x + row * row_bytes,
        .row_bytes = row_bytes,
        .rows = static_cast<int>(task.rows * (chunk + 1) / chunks - row),
        .y = task.y + row * task.y_stride + panel * PackedMatrix::kPanel,
        .y_stride = task.y_stride,
        .epilogue = task.epilogue,
    };
    (bf16 ? kernels.bfloat16 : kernels.float32)(block);
    begin += panels;
  }
}

}  // namespace

size_t GemmScratchBytes(int rows, int inputs) {
  const size_t row_bytes = (static_cast<size_t>(inputs) + inputs % 2) * sizeof(float);
  return (rows * row_bytes + kAlignment - 1) / kAlignment * kAlignment;
}

void Gemm(std::span<const GemmTask> tasks, std::span<std::byte> scratch, ThreadPool& pool) {
  const GemmKernels& kernels = *kByIsa[static_cast<int>(ActiveIsa())];
  int64_t units = 0;
  int64_t products = 0;
  for (const GemmTask& task : tasks) {
    units += Units(task);
    products += static_cast<int64_t>(task.w->panels()) * PackedMatrix::kPanel * task.w->inputs() *
                task.rows;
  }
  if (units == 0) return;
  RoundInputs(kernels, tasks, scratch.data(), pool);

  const int64_t grain = kPieceProducts / (products / units + 1) + 1;
  pool.ParallelFor(units, grain, [&](int64_t begin, int64_t end, int) {
    int64_t first = 0;
    for (size_t i = 0; i < tasks.size() && first < end; ++i) {
      const GemmTask& task = tasks[i];
      const int64_t count = Units(task);
      const int64_t from = std::max(begin, first) - first;
      const int64_t to = std::min(end, first + count) - first;
      if (from < to) {
        const std::byte* rounded =
            NeedsRounding(task) ? scratch.data() + RoundedOffset(tasks, i) : nullptr;
        RunUnits(kernels, task, rounded, from, to);
      }
      first += count;
    }
  });
}

}  // namespace dreamstate::kernels
