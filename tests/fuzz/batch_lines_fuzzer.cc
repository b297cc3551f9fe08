// Any text as a batch of decodes: refused, or requests with names of their own that survive being
// written.
#include <cstdint>
#include <cstdlib>
#include <set>
#include <string>

#include "client/cli/batch_lines.h"
#include "google/protobuf/util/json_util.h"

namespace dreamstate::cli {

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto requests =
      ParseBatch("fuzz", {reinterpret_cast<const char*>(data), size}, v1::DecodeRequest());
  if (!requests.ok()) return 0;
  std::set<std::string> ids;
  for (const v1::DecodeBatchRequest& request : *requests) {
    if (request.id().empty() || !ids.insert(request.id()).second) std::abort();
    std::string line;
    if (!google::protobuf::util::MessageToJsonString(request, &line).ok()) std::abort();
    const auto again = ParseBatch("again", line, v1::DecodeRequest());
    if (!again.ok() || again->size() != 1) std::abort();
  }
  return 0;
}

}  // namespace dreamstate::cli
