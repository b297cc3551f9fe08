// Images as PNG files.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "core/picture/image.h"

namespace dreamstate::picture {

// The bytes of a PNG file, 8 bits a channel. RESOURCE_EXHAUSTED when memory does not suffice.
absl::StatusOr<std::string> EncodePng(const Image& image);

}  // namespace dreamstate::picture
