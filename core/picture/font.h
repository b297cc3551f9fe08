// A font of 5 x 8 dots for printable ASCII: seven rows above the base line, one below.
#pragma once

#include <array>
#include <cstdint>

namespace dreamstate::picture {

inline constexpr int kGlyphWidth = 5, kGlyphHeight = 8;
// Rows from the top; the five low bits of each, the highest of them at the left.
using Glyph = std::array<uint8_t, kGlyphHeight>;

// That of "?" for what is not printable ASCII.
const Glyph& GlyphOf(char c);

}  // namespace dreamstate::picture
