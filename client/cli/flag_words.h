// A server's refusal in the words of the command line.
#pragma once

#include <initializer_list>
#include <string>
#include <utility>

#include "absl/status/status.h"

namespace dreamstate::cli {

// The same error, where it is about a field of the request that `words` has, with the flag or file
// that the field came from in the field's place, and with the flags' names of number formats. Other
// statuses unchanged.
absl::Status InFlagWords(const absl::Status& status,
                         std::initializer_list<std::pair<const char*, std::string>> words);

}  // namespace dreamstate::cli
