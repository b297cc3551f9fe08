#include "server/inference/places.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>

namespace dreamstate::server {
namespace {

TEST(PlacesTest, GivesNoMoreThanThereAreAndTakesThemBack) {
  Places places("cups", 10);
  auto six = places.Take(6);
  ASSERT_TRUE(six.ok());
  auto four = places.Take(4);
  ASSERT_TRUE(four.ok());
  const auto none = places.Take();
  EXPECT_EQ(none.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(none.status().message()), ::testing::HasSubstr("at most 10"));
  six->reset();
  EXPECT_FALSE(places.Take(7).ok());
  EXPECT_TRUE(places.Take(6).ok());  // and back at once
  EXPECT_TRUE(places.Take(6).ok());
}

TEST(PlacesTest, APlaceMayOutliveThem) {
  std::optional<Places> places(std::in_place, "cups", 1);
  auto place = places->Take();
  places.reset();
  EXPECT_TRUE(place.ok());
}

}  // namespace
}  // namespace dreamstate::server
