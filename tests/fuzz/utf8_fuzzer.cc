// Any bytes, cut anywhere: what comes out is valid UTF-8, the same for every cut, and valid input
// comes out unchanged.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "core/text/utf8.h"

namespace dreamstate::text {

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  Utf8Stream whole;
  const std::string expected = whole.Push(bytes) + whole.Finish();
  Utf8Stream pieces;
  std::string text;
  for (size_t begin = 0; begin < size;) {
    const size_t length = std::min<size_t>(size - begin, 1 + data[begin] % 5);
    const std::string piece = pieces.Push(bytes.substr(begin, length));
    if (!IsValidUtf8(piece) || pieces.pending_bytes() > 3) std::abort();
    text += piece;
    begin += length;
  }
  text += pieces.Finish();
  if (text != expected || (IsValidUtf8(bytes) && text != bytes)) std::abort();
  return 0;
}

}  // namespace dreamstate::text
