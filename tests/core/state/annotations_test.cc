#include "core/base/status.h"
#include "core/state/store.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dreamstate::state {
namespace {

using ::testing::ElementsAre;

std::string FieldOf(Annotations annotations) {
  const absl::Status status = NormaliseAnnotations(&annotations);
  if (status.ok()) return "ok";
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  return DetailsOf(status).field.value_or("none");
}

TEST(NormaliseAnnotations, SortsAndRemovesRepeats) {
  Annotations annotations{.labels = {"b", "ä", "a", "b", "B"}};
  ASSERT_TRUE(NormaliseAnnotations(&annotations).ok());
  EXPECT_THAT(annotations.labels, ElementsAre("B", "a", "b", "ä"));
}

TEST(NormaliseAnnotations, NamesTheLabelThatIsWrong) {
  EXPECT_EQ(FieldOf({.labels = {"a", "b", ""}}), "labels[2]");
  EXPECT_EQ(FieldOf({.labels = {std::string(128, 'x')}}), "ok");
  EXPECT_EQ(FieldOf({.labels = {std::string(129, 'x')}}), "labels[0]");
  EXPECT_EQ(FieldOf({.labels = {"ok", "tab\t"}}), "labels[1]");
  EXPECT_EQ(FieldOf({.labels = {std::string("nul\0", 4)}}), "labels[0]");
  EXPECT_EQ(FieldOf({.labels = {"\x7f"}}), "labels[0]");
  EXPECT_EQ(FieldOf({.labels = {"\xc2\x85"}}), "labels[0]");  // U+0085, a control
  EXPECT_EQ(FieldOf({.labels = {"\xc2\xa0"}}), "ok");         // U+00A0, a space
  EXPECT_EQ(FieldOf({.labels = {"\xff"}}), "labels[0]");
  EXPECT_EQ(FieldOf({.labels = {"\xc2"}}), "labels[0]");
  EXPECT_EQ(FieldOf({.labels = {"with space / and = signs ☃"}}), "ok");
}

TEST(NormaliseAnnotations, AtMost64DistinctLabels) {
  Annotations annotations;
  for (int i = 0; i < 64; ++i) annotations.labels.push_back("label " + std::to_string(i));
  EXPECT_EQ(FieldOf(annotations), "ok");
  annotations.labels.push_back("label 3");
  EXPECT_EQ(FieldOf(annotations), "ok");
  annotations.labels.push_back("one more");
  EXPECT_EQ(FieldOf(annotations), "labels");
}

TEST(NormaliseAnnotations, TimeToLiveIsBetweenNothingAndTenYears) {
  EXPECT_EQ(FieldOf({.time_to_live = absl::ZeroDuration()}), "ok");
  EXPECT_EQ(FieldOf({.time_to_live = absl::Hours(24 * 365 * 10)}), "ok");
  EXPECT_EQ(FieldOf({.time_to_live = -absl::Nanoseconds(1)}), "time_to_live");
  EXPECT_EQ(FieldOf({.time_to_live = absl::Hours(24 * 365 * 11)}), "time_to_live");
  EXPECT_EQ(FieldOf({.time_to_live = absl::InfiniteDuration()}), "time_to_live");
}

}  // namespace
}  // namespace dreamstate::state
