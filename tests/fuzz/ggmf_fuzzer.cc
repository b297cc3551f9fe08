// Any bytes as an importable file: refused, or a set of tensors that weights can be asked of.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <string>

#include "core/base/strings.h"
#include "core/rwkv/weights.h"
#include "core/tensors/import.h"

namespace dreamstate::tensors {

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // A file in memory: the reader maps files.
  static const int file = memfd_create("fuzz", 0);
  if (ftruncate(file, 0) != 0 || pwrite(file, data, size, 0) != static_cast<ssize_t>(size))
    return 0;
  const absl::StatusOr<TensorSet> set = ReadGgmf(StrCat("/proc/self/fd/", file));
  if (set.ok()) (void)rwkv::Weights::Load(*set, rwkv::WeightFormat::kFloat32);
  return 0;
}

}  // namespace dreamstate::tensors
