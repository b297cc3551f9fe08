// Any text as a bundle manifest: refused, or one that is written and read again unchanged.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "core/repository/manifest.h"

namespace dreamstate::repository {

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::StatusOr<Manifest> manifest =
      ParseManifest("fuzz", {reinterpret_cast<const char*>(data), size});
  if (!manifest.ok()) return 0;
  const std::string text = SerializeManifest(*manifest);
  const absl::StatusOr<Manifest> again = ParseManifest("again", text);
  if (!again.ok() || SerializeManifest(*again) != text) std::abort();
  return 0;
}

}  // namespace dreamstate::repository
