#include "client/pages.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dreamstate::client {
namespace {

using Numbers = Pages<int>;

TEST(Pages, WalksAllPagesInOrderAndFetchesNoneTwice) {
  std::vector<std::string> tokens;
  Numbers pages([&](const std::string& token) -> absl::StatusOr<Numbers::Page> {
    tokens.push_back(token);
    if (token.empty()) return Numbers::Page{{1, 2}, "a"};
    if (token == "a") return Numbers::Page{{}, "b"};  // a page may be empty
    return Numbers::Page{{3}, ""};
  });
  EXPECT_THAT(*pages.Collect(100), testing::ElementsAre(1, 2, 3));
  EXPECT_THAT(tokens, testing::ElementsAre("", "a", "b"));
  EXPECT_EQ(*pages.Next(), std::nullopt);
}

TEST(Pages, FetchesNothingBeyondTheLimit) {
  int fetched = 0;
  Numbers pages([&](const std::string&) -> absl::StatusOr<Numbers::Page> {
    ++fetched;
    return Numbers::Page{{1, 2}, absl::StrCat("more", fetched)};
  });
  EXPECT_THAT(*pages.Collect(2), testing::ElementsAre(1, 2));
  EXPECT_EQ(fetched, 1);
}

TEST(Pages, AFailedFetchIsAnsweredAgainAndAgain) {
  Numbers pages([](const std::string& token) -> absl::StatusOr<Numbers::Page> {
    if (token.empty()) return Numbers::Page{{1}, "a"};
    return absl::UnavailableError("gone");
  });
  EXPECT_EQ(**pages.Next(), 1);
  EXPECT_TRUE(absl::IsUnavailable(pages.Next().status()));
  EXPECT_TRUE(absl::IsUnavailable(pages.Next().status()));
}

TEST(Pages, TokensThatLeadNowhereEnd) {
  Numbers same([](const std::string&) -> absl::StatusOr<Numbers::Page> {
    return Numbers::Page{{}, "same"};
  });
  EXPECT_TRUE(absl::IsInternal(same.Next().status()));
  int i = 0;
  Numbers empty([&](const std::string&) -> absl::StatusOr<Numbers::Page> {
    return Numbers::Page{{}, std::to_string(++i)};
  });
  EXPECT_TRUE(absl::IsInternal(empty.Next().status()));
}

}  // namespace
}  // namespace dreamstate::client
