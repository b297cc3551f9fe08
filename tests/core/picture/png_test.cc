#include "core/picture/png.h"

#include <png.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace dreamstate::picture {
namespace {

TEST(Png, HoldsEveryPixel) {
  Image image(61, 7);
  for (int x = 0; x < 61; ++x) {
    for (int y = 0; y < 7; ++y)
      image.Fill(
          x, y, 1, 1,
          {static_cast<uint8_t>(x * 4), static_cast<uint8_t>(y * 30), static_cast<uint8_t>(x ^ y)});
  }
  const auto bytes = EncodePng(image);
  ASSERT_TRUE(bytes.ok()) << bytes.status();

  png_image header = {};
  header.version = PNG_IMAGE_VERSION;
  ASSERT_NE(png_image_begin_read_from_memory(&header, bytes->data(), bytes->size()), 0);
  EXPECT_EQ(header.width, 61u);
  EXPECT_EQ(header.height, 7u);
  header.format = PNG_FORMAT_RGB;
  std::vector<uint8_t> pixels(PNG_IMAGE_SIZE(header));
  ASSERT_NE(png_image_finish_read(&header, nullptr, pixels.data(), 0, nullptr), 0);
  EXPECT_TRUE(std::equal(pixels.begin(), pixels.end(), image.bytes().begin(), image.bytes().end()));
}

TEST(Image, TextIsAsWideAsItSaysAndStaysInside) {
  Image image(40, 20);
  image.Text(1, 1, 2, "Hi", {0, 0, 0});
  int right = 0, bottom = 0;
  for (int x = 0; x < 40; ++x) {
    for (int y = 0; y < 20; ++y) {
      if (image.At(x, y) == Rgb{0, 0, 0}) right = std::max(right, x), bottom = std::max(bottom, y);
    }
  }
  EXPECT_LE(right, TextWidth(2, "Hi"));
  EXPECT_GE(right, TextWidth(2, "H"));
  EXPECT_LE(bottom, TextHeight(2));
  image.Text(35, 15, 3, "outside \xff\n", {0, 0, 0});
  image.TextUpwards(-5, 3, 3, "outside", {0, 0, 0});
  image.Fill(-10, -10, 100, 100, {1, 2, 3});
  EXPECT_EQ(image.At(39, 19), (Rgb{1, 2, 3}));
}

TEST(Image, EveryGlyphIsOfItsOwn) {
  std::set<std::string> seen;
  for (char c = ' '; c <= '~'; ++c) {
    Image image(5, 8);
    image.Text(0, 0, 1, std::string(1, c), {0, 0, 0});
    EXPECT_TRUE(seen.emplace(image.bytes().begin(), image.bytes().end()).second) << c;
  }
}

}  // namespace
}  // namespace dreamstate::picture
