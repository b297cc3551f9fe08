#include "core/picture/png.h"

#include <png.h>

#include "absl/strings/str_cat.h"

namespace dreamstate::picture {

absl::StatusOr<std::string> EncodePng(const Image& image) {
  png_image header = {};
  header.version = PNG_IMAGE_VERSION;
  header.width = static_cast<png_uint_32>(image.width());
  header.height = static_cast<png_uint_32>(image.height());
  header.format = PNG_FORMAT_RGB;
  // The most that it may take; libpng says how much it took.
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(header);
  std::string bytes(size, '\0');
  const int written =
      png_image_write_to_memory(&header, bytes.data(), &size, /*convert_to_8_bit=*/0,
                                image.bytes().data(), /*row_stride=*/0, nullptr);
  if (written == 0) return absl::ResourceExhaustedError(absl::StrCat("PNG: ", header.message));
  bytes.resize(size);
  return bytes;
}

}  // namespace dreamstate::picture
