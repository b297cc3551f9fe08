// dreamstate decode --batch: many decodes from a file, over one stream.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "client/cli/session.h"
#include "dreamstate/v1/decode_service.pb.h"

namespace dreamstate::cli {

// Reads `file` ("-" = standard input), decodes, and prints a line of JSON a decode when it ends, or
// with --json every message of the stream.
absl::Status DecodeBatch(Session& session, const std::string& file, const v1::DecodeRequest& base);

}  // namespace dreamstate::cli
