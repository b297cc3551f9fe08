// Incremental UTF-8: hands out only complete code points.
#pragma once

#include <string>
#include <string_view>

namespace dreamstate::text {

// True when `bytes` are valid UTF-8 (no overlong forms, surrogates or values above U+10FFFF).
bool IsValidUtf8(std::string_view bytes);

// Collects bytes and gives back text. Bytes that can never become UTF-8 come back as U+FFFD (one
// for each maximal subpart, as the Unicode standard recommends). Not thread-safe.
class Utf8Stream {
 public:
  // Adds bytes; returns the text that became complete.
  std::string Push(std::string_view bytes);
  // Ends the text: what is still incomplete comes back as U+FFFD.
  std::string Finish();
  // Bytes held back, at most 3.
  size_t pending_bytes() const { return pending_.size(); }

 private:
  std::string pending_;
};

}  // namespace dreamstate::text
