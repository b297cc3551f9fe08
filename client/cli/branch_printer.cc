#include "client/cli/branch_printer.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace dreamstate::cli {
namespace {

std::string LogProbLine(int32_t token, const v1::TokenLogProbs& probs) {
  std::string line = absl::StrFormat("  token %6d  ln p %9.4f", token, probs.log_prob());
  for (int i = 0; i < probs.top_size(); ++i) {
    absl::StrAppendFormat(&line, "%s%d %.4f", i == 0 ? "   best: " : ", ", probs.top(i).token_id(),
                          probs.top(i).log_prob());
  }
  return line;
}

}  // namespace

BranchPrinter::BranchPrinter(Output& output, int branches, bool with_log_probs)
    : output_(output), with_log_probs_(with_log_probs), branches_(branches) {}

void BranchPrinter::Piece(int branch, const v1::TextPiece& piece) {
  Branch& target = branches_[branch];
  target.pending.append(piece.text());
  if (with_log_probs_) {
    const int count = std::min(piece.token_ids_size(), piece.log_probs_size());
    for (int i = 0; i < count; ++i)
      target.table.push_back(LogProbLine(piece.token_ids(i), piece.log_probs(i)));
  }
  if (static_cast<size_t>(branch) == current_) PrintPending();
}

void BranchPrinter::Finish(int branch) {
  branches_[branch].finished = true;
  while (current_ < branches_.size() && branches_[current_].finished) EndBranch();
  if (current_ < branches_.size()) PrintPending();
}

void BranchPrinter::Close() {
  while (current_ < branches_.size()) {
    if (branches_[current_].pending.empty() && !headed_ && last_ == '\n') {
      ++current_;  // nothing came of it
    } else {
      EndBranch();
    }
  }
}

void BranchPrinter::PrintHeading() {
  if (headed_ || branches_.size() == 1) return;
  if (current_ > 0) output_.Line("");
  output_.Heading(absl::StrCat("--- branch ", current_, " ---"));
  headed_ = true;
}

void BranchPrinter::PrintPending() {
  std::string& pending = branches_[current_].pending;
  if (pending.empty()) return;
  PrintHeading();
  output_.Text(pending);
  output_.Flush();
  last_ = pending.back();
  pending.clear();
}

void BranchPrinter::EndBranch() {
  PrintHeading();
  PrintPending();
  if (last_ != '\n') output_.Line("");
  for (const std::string& line : branches_[current_].table) output_.Line(line);
  ++current_;
  headed_ = false;
  last_ = '\n';
}

}  // namespace dreamstate::cli
