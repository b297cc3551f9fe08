// Flags that `states generate` and `states edit` share: what a state is told, how it is drawn, and
// what becomes of it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/cli/output.h"
#include "dreamstate/v1/generation_service.pb.h"

namespace dreamstate::cli {

using Conditions = google::protobuf::RepeatedPtrField<v1::StateCondition>;

// "python" or "python=2": what it is told and how much that counts. A part behind the last "=" that
// is no number belongs to the text.
struct ConditionArguments {
  std::vector<std::string> labels;    // --of
  std::vector<std::string> texts;     // --like
  std::vector<std::string> keywords;  // --about; one condition of all words

  void AddTo(CLI::App& command);
  void Fill(Conditions* conditions) const;
};
// One label with its weight.
void FillLabel(const std::string& text, Conditions* conditions);

struct DrawArguments {
  std::string mode;
  std::optional<int> steps;
  std::string solver;
  std::optional<uint64_t> seed;

  void AddTo(CLI::App& command);
  void Fill(v1::GenerationOptions* options) const;
};

struct MaskArguments {
  std::vector<int> layers, heads;

  void AddTo(CLI::App& command, const std::string& what);
  bool given() const { return !layers.empty() || !heads.empty(); }
  void Fill(v1::HeadMask* mask) const;
};

struct KeepArguments {
  std::vector<std::string> labels;
  absl::Duration ttl = absl::ZeroDuration();

  void AddTo(CLI::App& command);
  void Fill(v1::Annotations* annotations) const;
};

// "passed", or what failed: "energy 0.31 is not within 0.05 to 0.28".
std::string ShowSafety(const v1::StateSafety& safety);

}  // namespace dreamstate::cli
