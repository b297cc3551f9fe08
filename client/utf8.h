// Text on its way to and from a server. Protocol Buffers strings must be UTF-8; what a person's
// files hold may be anything.
#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "dreamstate/v1/common.pb.h"

namespace dreamstate::client {

// Strict: no surrogates, no overlong forms, nothing above U+10FFFF.
bool IsValidUtf8(absl::string_view bytes);

// `bytes` with each byte that is not part of valid UTF-8 replaced.
std::string ToValidUtf8(absl::string_view bytes, absl::string_view replacement);

// As `text` when it is UTF-8, else as `raw`; the model reads the same bytes either way.
v1::TextInput TextInputOf(std::string bytes);

}  // namespace dreamstate::client
