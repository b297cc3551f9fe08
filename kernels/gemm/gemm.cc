#include "kernels/gemm/gemm.h"

#include <algorithm>

#include "kernels/gemm/gemm_isa.h"
#include "kernels/gemm/int8_group.h"
#include "kernels/runtime/cpu.h"

namespace dreamstate::kernels {
namespace {

constexpr const GemmKernels* kByIsa[kIsaCount] = {
    &kGemmReference,   // reference
    &kGemmAvx2,        // avx2
    &kGemmAvx512,      // avx512
    &kGemmAvx512Vnni,  // avx512vnni
    &kGemmAvx512Bf16,  // avx512bf16
    &kGemmAmx,         // amx
};

// Multiply-adds that one piece of a parallel region should have (some microseconds); fewer in all
// run inline.
constexpr int64_t kPieceProducts = 64 * 1024;
// Elements of x that one piece of the conversion should have.
constexpr int64_t kPieceConversion = 4 * 1024;
// Rows that a tile of AMX may read behind the last.
constexpr int kSpareRows = 15;

const GemmFormat& FormatOf(const GemmKernels& kernels, const GemmTask& task) {
  return kernels.formats[static_cast<int>(task.w->format())];
}

// Bytes from one row to the next and from one block of a row to the next.
struct ConvertedStrides {
  int64_t row;
  int64_t block;
};

ConvertedStrides StridesOf(const GemmFormat& format, const GemmTask& task) {
  const int64_t block = format.block_bytes;
  const int blocks = (task.w->inputs() + format.block_inputs - 1) / format.block_inputs;
  return format.by_block ? ConvertedStrides{block, task.rows * block}
                         : ConvertedStrides{blocks * block, block};
}

// Rows are divided into chunks of nearly equal height.
int RowChunks(const GemmTask& task) { return (task.rows + kGemmMaxRows - 1) / kGemmMaxRows; }

// A unit of work is one chunk of rows times one panel, panels fastest: the chunk stays in the
// second-level cache while the weights stream past it, and a piece of units reads its weights as
// one run.
int64_t Units(const GemmTask& task) {
  return static_cast<int64_t>(task.w->panels()) * RowChunks(task);
}

bool NeedsConversion(const GemmTask& task) {
  return task.w->format() != WeightFormat::kFloat32 && task.rows > 0;
}

bool SharesConversion(const GemmTask& a, const GemmTask& b) {
  return NeedsConversion(a) && a.x == b.x && a.x_stride == b.x_stride && a.rows == b.rows &&
         a.w->inputs() == b.w->inputs() && a.w->format() == b.w->format();
}

// The first of the tasks that share the conversion of task `index`, which must need one.
size_t FirstToShare(std::span<const GemmTask> tasks, size_t index) {
  size_t first = 0;
  while (!SharesConversion(tasks[first], tasks[index])) ++first;
  return first;
}

// Where in the scratch the converted rows of task `index` begin: after those of the tasks before
// the first that it shares with.
size_t ConvertedOffset(std::span<const GemmTask> tasks, size_t index) {
  const size_t end = FirstToShare(tasks, index);
  size_t offset = 0;
  for (size_t i = 0; i < end; ++i) {
    if (NeedsConversion(tasks[i]) && FirstToShare(tasks, i) == i) {
      offset += GemmScratchBytes(tasks[i].rows, tasks[i].w->inputs());
    }
  }
  return offset;
}

void ConvertInputs(const GemmKernels& kernels, std::span<const GemmTask> tasks, std::byte* scratch,
                   ThreadPool& pool) {
  const auto converts = [tasks](size_t i) {
    return NeedsConversion(tasks[i]) && FirstToShare(tasks, i) == i;
  };
  int64_t rows = 0;
  int64_t elements = 0;
  for (size_t i = 0; i < tasks.size(); ++i) {
    if (!converts(i)) continue;
    rows += tasks[i].rows;
    elements += static_cast<int64_t>(tasks[i].rows) * tasks[i].w->inputs();
  }
  if (rows == 0) return;
  // One region for the rows of all tasks, one task behind the other.
  pool.ParallelFor(rows, kPieceConversion / (elements / rows + 1) + 1,
                   [&](int64_t begin, int64_t end, int) {
                     int64_t first = 0;
                     for (size_t i = 0; i < tasks.size() && first < end; ++i) {
                       if (!converts(i)) continue;
                       const GemmTask& task = tasks[i];
                       const GemmFormat& format = FormatOf(kernels, task);
                       const ConvertedStrides strides = StridesOf(format, task);
                       std::byte* converted = scratch + ConvertedOffset(tasks, i);
                       const int64_t to = std::min<int64_t>(end - first, task.rows);
                       for (int64_t m = std::max<int64_t>(begin - first, 0); m < to; ++m) {
                         format.convert_row(task.x + m * task.x_stride, task.w->inputs(),
                                            converted + m * strides.row, strides.block);
                       }
                       first += task.rows;
                     }
                   });
}

// Units [begin, end) of one task.
void RunUnits(const GemmFormat& format, const GemmTask& task, const std::byte* converted,
              int64_t begin, int64_t end) {
  const PackedMatrix& w = *task.w;
  const int inputs = w.inputs();
  const int64_t chunks = RowChunks(task);
  const int64_t panel_bytes = static_cast<int64_t>(w.bytes() / w.panels());
  const ConvertedStrides strides =
      converted != nullptr
          ? StridesOf(format, task)
          : ConvertedStrides{task.x_stride * static_cast<int64_t>(sizeof(float)), sizeof(float)};
  const std::byte* x =
      converted != nullptr ? converted : reinterpret_cast<const std::byte*>(task.x);
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
        .x = x + row * strides.row,
        .row_bytes = strides.row,
        .x_block_bytes = strides.block,
        .rows = static_cast<int>(task.rows * (chunk + 1) / chunks - row),
        .y = task.y + row * task.y_stride + panel * PackedMatrix::kPanel,
        .y_stride = task.y_stride,
        .epilogue = task.epilogue,
    };
    format.multiply(block);
    begin += panels;
  }
}

}  // namespace

size_t GemmScratchBytes(int rows, int inputs) {
  if (rows == 0) return 0;
  // The widest that any instruction set makes of a row: floats in blocks of up to 32, or 16-bit
  // numbers in groups behind a head.
  const size_t floats = (static_cast<size_t>(inputs) + 31) / 32 * 32 * sizeof(float);
  const size_t groups = (static_cast<size_t>(inputs) + kInt8Group - 1) / kInt8Group *
                        (sizeof(Int8RowHead) + kInt8Group * sizeof(int16_t));
  return (static_cast<size_t>(rows) + kSpareRows) * std::max(floats, groups);
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
  ConvertInputs(kernels, tasks, scratch.data(), pool);

  const int64_t grain = kPieceProducts / (products / units + 1) + 1;
  pool.ParallelFor(units, grain, [&](int64_t begin, int64_t end, int) {
    int64_t first = 0;
    for (size_t i = 0; i < tasks.size() && first < end; ++i) {
      const GemmTask& task = tasks[i];
      const int64_t count = Units(task);
      const int64_t from = std::max(begin, first) - first;
      const int64_t to = std::min(end, first + count) - first;
      if (from < to) {
        const std::byte* converted =
            NeedsConversion(task) ? scratch.data() + ConvertedOffset(tasks, i) : nullptr;
        RunUnits(FormatOf(kernels, task), task, converted, from, to);
      }
      first += count;
    }
  });
}

}  // namespace dreamstate::kernels
