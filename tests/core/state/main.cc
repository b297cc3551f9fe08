// The tests, or one of the roles that they run in another process.
#include <cstring>

#include "gtest/gtest.h"
#include "tests/core/state/child_process.h"

int main(int argc, char** argv) {
  if (argc == 3 && std::strcmp(argv[1], "--write-until-killed") == 0) {
    return dreamstate::testing::WriteUntilKilled(argv[2]);
  }
  if (argc == 3 && std::strcmp(argv[1], "--hold-until-killed") == 0) {
    return dreamstate::testing::HoldUntilKilled(argv[2]);
  }
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
