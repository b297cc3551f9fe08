// Many decodes as lines of JSON.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "dreamstate/v1/decode_service.pb.h"

namespace dreamstate::cli {

// The decodes of JSON lines; empty lines are skipped. A line is a DecodeBatchRequest as protobuf
// JSON, or shorter its DecodeRequest with an "id" among the fields; the prompt may be a string, and
// so may the source, which then names a state. The id is the line's number where there is none.
// Fields that a line does not set are those of `base`. A usage error that names `source` and the
// line.
absl::StatusOr<std::vector<v1::DecodeBatchRequest>> ParseBatch(const std::string& source,
                                                               absl::string_view lines,
                                                               const v1::DecodeRequest& base);

}  // namespace dreamstate::cli
