#include <cstdio>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/training/corpus.h"
#include "core/training/corpus_builder.h"
#include "server/trainer/command.h"

namespace dreamstate::trainer {
namespace {

constexpr char kExamples[] = R"(Examples:
  dreamstate-trainer corpus texts --to corpus              # a folder a label, a document a file
  dreamstate-trainer corpus texts --to corpus --tokenizer world --slice 0
A folder's source.json ({"source", "version", "licence"}) goes into CARD.md. Labels whose folder
begins with x_ are never trained on.
Exit codes: 0 done, 1 failed, 2 wrong usage.)";

// "950 B", "12.3 KB", "4.5 MB".
std::string Size(int64_t bytes) {
  if (bytes < 1000) return StrCat(bytes, " B");
  if (bytes < 1'000'000) return absl::StrFormat("%.1f KB", bytes / 1e3);
  return absl::StrFormat("%.1f MB", bytes / 1e6);
}

// Labels without a document to select models by, or to report on, by what they lack.
std::string Lacking(const std::vector<training::LabelReport>& reports, training::Split split) {
  std::vector<std::string> labels;
  for (const training::LabelReport& report : reports) {
    if (report.documents[static_cast<int>(split)] == 0) labels.push_back(report.label);
  }
  return absl::StrJoin(labels, ", ");
}

struct Arguments {
  std::string from;
  std::string to;
  bool json = false;
  training::CorpusOptions options;
};

absl::Status Build(const Arguments& arguments) {
  const auto progress = [&](const std::string& label, int64_t documents, int64_t bytes) {
    if (arguments.json) return;
    std::cout << absl::StrFormat("%-16s %6d documents  %9s\n", label, documents, Size(bytes))
              << std::flush;
  };
  DS_ASSIGN_OR_RETURN(
      const std::vector<training::LabelReport> reports,
      training::BuildCorpus(arguments.from, arguments.to, arguments.options, progress));
  DS_RETURN_IF_ERROR(training::Corpus::Open(arguments.to).status());
  int64_t documents[3] = {}, bytes[3] = {}, near = 0, same = 0, with_zero = 0, too_short = 0;
  for (const training::LabelReport& report : reports) {
    for (int s = 0; s < 3; ++s) {
      documents[s] += report.documents[s];
      bytes[s] += report.bytes[s];
    }
    near += report.near_duplicates;
    same += report.duplicates;
    with_zero += report.with_zero;
    too_short += report.too_short;
  }
  if (arguments.json) {
    nlohmann::json out = {{"corpus", arguments.to}, {"labels", reports.size()}};
    for (const training::Split split :
         {training::Split::kTrain, training::Split::kValid, training::Split::kTest}) {
      const int s = static_cast<int>(split);
      out[std::string(training::SplitName(split))] = {{"documents", documents[s]},
                                                      {"bytes", bytes[s]}};
    }
    out["left_out"] = {{"near_duplicates", near},
                       {"duplicates", same},
                       {"with_byte_0", with_zero},
                       {"too_short", too_short}};
    std::cout << out.dump() << "\n";
    return absl::OkStatus();
  }
  std::cout << absl::StrFormat("%s: train %d documents (%s), valid %d (%s), test %d (%s)\n",
                               arguments.to, documents[0], Size(bytes[0]), documents[1],
                               Size(bytes[1]), documents[2], Size(bytes[2]));
  std::cout << "left out: " << near << " near-duplicates, " << same << " duplicates, " << with_zero
            << " with byte 0, " << too_short << " too short\n";
  for (const training::Split split : {training::Split::kValid, training::Split::kTest}) {
    const std::string labels = Lacking(reports, split);
    if (labels.empty()) continue;
    std::cout << "note: without a " << training::SplitName(split) << " document: " << labels
              << " (more documents, or a larger --" << training::SplitName(split) << ")\n";
  }
  return absl::OkStatus();
}

}  // namespace

Command MakeCorpusCommand(CLI::App& app) {
  const auto arguments = std::make_shared<Arguments>();
  CLI::App* corpus =
      app.add_subcommand("corpus", "Make a corpus to train on from a folder of folders of files");
  corpus->footer(kExamples);
  training::CorpusOptions& options = arguments->options;
  corpus->add_option("FROM", arguments->from, "Folder with one folder a label")->required();
  corpus->add_option("--to", arguments->to, "Directory to make")->required();
  corpus->add_option("--tokenizer", options.tokenizer, "byte or world")->capture_default_str();
  corpus->add_option("--slice", options.slice_bytes, "Bytes taken of a longer file; 0 = all")
      ->capture_default_str();
  corpus->add_option("--min-bytes", options.min_bytes, "Shorter files are left out")
      ->capture_default_str();
  corpus->add_option("--label-bytes", options.label_bytes, "Bytes taken of a label")
      ->capture_default_str();
  corpus->add_option("--valid", options.valid_share, "Share of documents to select models by")
      ->capture_default_str();
  corpus->add_option("--test", options.test_share, "Share of documents to report on")
      ->capture_default_str();
  corpus->add_option("--untrained", options.untrained, "Labels that are never trained on");
  corpus->add_option("--near-duplicate", options.near_duplicate, "Similarity that counts as same")
      ->capture_default_str();
  corpus->add_option("--seed", options.seed, "Of splits, order and pieces")->capture_default_str();
  corpus->add_flag("--json", arguments->json, "Print JSON");
  return {.app = corpus, .run = [arguments] { return Build(*arguments); }};
}

}  // namespace dreamstate::trainer
