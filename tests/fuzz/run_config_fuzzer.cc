// Any text as a run's config: refused, or a config that means the same when it is written and read
// again.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "core/training/run_config.h"

namespace dreamstate::training {

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto config = ParseRunConfig("fuzz", {reinterpret_cast<const char*>(data), size});
  if (!config.ok()) return 0;
  const std::string written = SerializeRunConfig(*config);
  const auto again = ParseRunConfig("again", written);
  if (!again.ok() || SerializeRunConfig(*again) != written) std::abort();
  return 0;
}

}  // namespace dreamstate::training
