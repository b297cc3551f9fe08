// A raster of pixels, with what drawings of numbers need: rectangles and short texts.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "core/picture/palette.h"

namespace dreamstate::picture {

// Not thread-safe. Whatever lies outside of the image is left out.
class Image {
 public:
  // White; width and height at least 1.
  Image(int width, int height);

  int width() const { return width_; }
  int height() const { return height_; }
  // [height][width][3]
  std::span<const uint8_t> bytes() const { return bytes_; }
  // (0, 0) is the upper left pixel; x and y lie inside.
  Rgb At(int x, int y) const;

  void Fill(int x, int y, int width, int height, Rgb colour);
  // `text` with its upper left corner at (x, y), pixels of the font `size` times enlarged. What is
  // not printable ASCII is drawn as "?".
  void Text(int x, int y, int size, std::string_view text, Rgb colour);
  // The same turned a quarter to the left: it is read upwards, and (x, y) is the lower left corner.
  void TextUpwards(int x, int y, int size, std::string_view text, Rgb colour);

 private:
  const int width_, height_;
  std::vector<uint8_t> bytes_;
};

// Pixels that a text takes.
int TextWidth(int size, std::string_view text);
int TextHeight(int size);

}  // namespace dreamstate::picture
