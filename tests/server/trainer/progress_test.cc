#include "server/trainer/progress.h"

#include <sstream>

#include "gtest/gtest.h"

namespace dreamstate::trainer {
namespace {

TEST(ProgressPrinter, PrintsNameBytesTimeAndRateOfEachLongStage) {
  std::chrono::steady_clock::time_point now;
  std::ostringstream out;
  {
    ProgressPrinter progress(out, [&now] { return now; });
    progress.Begin("read", 382'000'000);
    EXPECT_EQ(out.str(), "read                   382 MB ");
    now += std::chrono::seconds(2);
    progress.Begin("small", ProgressPrinter::kLeastBytes - 1);
    progress.Begin("write", 26'500'000'000);
    now += std::chrono::milliseconds(12'500);
    progress.End();
    progress.End();
    progress.Begin("quick", 1'000'000'000);
  }
  EXPECT_EQ(out.str(),
            "read                   382 MB      2.0 s    191 MB/s\n"
            "write                 26.5 GB     12.5 s   2.12 GB/s\n"
            "quick                 1.00 GB      0.0 s   1.00 TB/s\n");
}

}  // namespace
}  // namespace dreamstate::trainer
