#include "server/trainer/token_progress.h"

#include <sstream>

#include "gtest/gtest.h"

namespace dreamstate::trainer {
namespace {

using std::chrono::milliseconds;

TEST(TokenProgress, ALineAStageWhereNothingCanBeWrittenOver) {
  std::chrono::steady_clock::time_point now;
  std::ostringstream out;
  {
    TokenProgress progress(out, false, [&now] { return now; });
    progress.Show("states", 0, 1000);
    now += milliseconds(2000);
    progress.Show("states", 600, 1000);
    EXPECT_EQ(out.str(), "");
    now += milliseconds(2000);
    progress.Show("states", 1000, 1000);
    progress.Show("state use", 0, 500);
    now += milliseconds(500);
    progress.Show("state use", 250, 500);  // then it fails
  }
  EXPECT_EQ(out.str(),
            "states           100 %  1000 of 1000 tokens  250 tokens/s  4 s\n"
            "state use         50 %  250 of 500 tokens  500 tokens/s  0 s, 0 s left\n");
}

TEST(TokenProgress, ATerminalsLineIsWrittenOverNotTooOften) {
  std::chrono::steady_clock::time_point now;
  std::ostringstream out;
  TokenProgress progress(out, true, [&now] { return now; });
  progress.Show("states", 0, 1000);
  for (int i = 1; i <= 4; ++i) {
    now += milliseconds(100);
    progress.Show("states", 100 * i, 1000);
  }
  EXPECT_EQ(out.str(),
            "\r\x1b[Kstates            30 %  300 of 1000 tokens  1000 tokens/s  0 s, 1 s left");
  out.str("");
  progress.End();
  progress.End();
  EXPECT_EQ(out.str(),
            "\r\x1b[Kstates            40 %  400 of 1000 tokens  1000 tokens/s  0 s, 1 s left\n");
}

}  // namespace
}  // namespace dreamstate::trainer
