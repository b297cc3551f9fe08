// SHA-256 of what arrives in pieces.
#pragma once

#include <memory>
#include <string>

#include "absl/strings/string_view.h"

namespace dreamstate::client {

// Not thread-safe.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  void Update(absl::string_view bytes);
  // 64 lower-case hexadecimal digits; call once, last.
  std::string HexDigest();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

}  // namespace dreamstate::client
