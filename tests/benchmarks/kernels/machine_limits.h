// What this machine can do at most, measured with a given pool in the same run as what is compared
// with it: other work on the machine, and caches that hold more or less of the weights, then weigh
// on both. Each call takes a fraction of a second.
#pragma once

#include <cstddef>

#include "kernels/gemm/gemm.h"
#include "kernels/runtime/aligned.h"
#include "kernels/runtime/cpu.h"
#include "kernels/runtime/thread_pool.h"

namespace dreamstate::kernels {

// Bytes a second of reading `bytes` of memory again and again, all threads together, each its own
// part.
double MeasureReadBandwidth(size_t bytes, ThreadPool& pool);

// Reads the same memory once a call, so that what it is compared with may be timed in between.
class ReadProbe {
 public:
  explicit ReadProbe(size_t bytes);
  size_t bytes() const { return bytes_; }
  // Of one read of all of it by all threads.
  double Seconds(ThreadPool& pool) const;

 private:
  size_t bytes_;
  AlignedBuffer<float> memory_;
};

// Floating-point operations a second (a multiply-add counts two) of independent fused multiply-adds
// in registers with the vectors of `isa`, if every thread of the pool has a processor to itself; 0
// for kReference and for what the processor lacks.
double MeasureFloat32Peak(Isa isa, ThreadPool& pool);

// The same of vdpbf16ps; 0 where the processor lacks it.
double MeasureBfloat16Peak(ThreadPool& pool);

// The same of the instructions by which `isa` multiplies matrices of `format` (kernels/gemm): fused
// multiply-adds for what is widened to floats, vpmaddwd with vpaddd or vpdpbusd for int8, and what
// AMX has.
double MeasurePeakOf(WeightFormat format, Isa isa, ThreadPool& pool);
// Their name.
const char* PeakName(WeightFormat format, Isa isa);

}  // namespace dreamstate::kernels
