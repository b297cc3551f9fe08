// Prints the branches of a decode that arrive side by side: one after the other, the first
// unfinished one as it comes.
#pragma once

#include <string>
#include <vector>

#include "client/cli/output.h"
#include "dreamstate/v1/common.pb.h"

namespace dreamstate::cli {

// One branch is printed as its text alone; more get a heading each. Text ends with a newline. Not
// thread-safe.
class BranchPrinter {
 public:
  BranchPrinter(Output& output, int branches, bool with_log_probs);

  // `branch` in [0, branches).
  void Piece(int branch, const v1::TextPiece& piece);
  void Finish(int branch);
  // Prints what is left, also of branches that did not finish.
  void Close();

 private:
  struct Branch {
    std::string pending;             // text that waits for its turn
    std::vector<std::string> table;  // a line a token, with log-probabilities
    bool finished = false;
  };

  void PrintHeading();
  void PrintPending();
  void EndBranch();

  Output& output_;
  const bool with_log_probs_;
  std::vector<Branch> branches_;
  size_t current_ = 0;
  bool headed_ = false;  // the current branch's heading is out
  char last_ = '\n';     // last character printed of the current branch
};

}  // namespace dreamstate::cli
