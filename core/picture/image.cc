#include "core/picture/image.h"

#include <algorithm>

#include "core/picture/font.h"

namespace dreamstate::picture {
namespace {

// Calls `dot(column, row)` for each dot of the text, in dots of the font.
template <typename Dot>
void ForEachDot(std::string_view text, const Dot& dot) {
  int left = 0;
  for (const char c : text) {
    const auto& rows = GlyphOf(c);
    for (int row = 0; row < kGlyphHeight; ++row) {
      for (int column = 0; column < kGlyphWidth; ++column) {
        if ((rows[row] >> (kGlyphWidth - 1 - column)) & 1) dot(left + column, row);
      }
    }
    left += kGlyphWidth + 1;
  }
}

}  // namespace

Image::Image(int width, int height)
    : width_(width),
      height_(height),
      bytes_(static_cast<size_t>(width) * static_cast<size_t>(height) * 3, 0xff) {}

Rgb Image::At(int x, int y) const {
  const uint8_t* pixel = &bytes_[(static_cast<size_t>(y) * width_ + x) * 3];
  return {pixel[0], pixel[1], pixel[2]};
}

void Image::Fill(int x, int y, int width, int height, Rgb colour) {
  const int left = std::max(x, 0), right = std::min(x + width, width_);
  for (int row = std::max(y, 0); row < std::min(y + height, height_); ++row) {
    for (int column = left; column < right; ++column) {
      uint8_t* pixel = &bytes_[(static_cast<size_t>(row) * width_ + column) * 3];
      pixel[0] = colour.red;
      pixel[1] = colour.green;
      pixel[2] = colour.blue;
    }
  }
}

void Image::Text(int x, int y, int size, std::string_view text, Rgb colour) {
  ForEachDot(text, [&](int column, int row) {
    Fill(x + column * size, y + row * size, size, size, colour);
  });
}

void Image::TextUpwards(int x, int y, int size, std::string_view text, Rgb colour) {
  ForEachDot(text, [&](int column, int row) {
    Fill(x + row * size, y - (column + 1) * size, size, size, colour);
  });
}

int TextWidth(int size, std::string_view text) {
  return text.empty() ? 0 : (static_cast<int>(text.size()) * (kGlyphWidth + 1) - 1) * size;
}

int TextHeight(int size) { return kGlyphHeight * size; }

}  // namespace dreamstate::picture
