#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/time/time.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/repository/repository.h"
#include "server/trainer/command.h"

namespace dreamstate::trainer {
namespace {

constexpr char kExamples[] = R"(Examples:
  dreamstate-trainer collect --repository models --keep 5
  dreamstate-trainer collect --repository models --keep 5 --name mine --grace 2h
Pinned versions stay. What servers have loaded needs its files no longer.
Exit codes: 0 done, 1 failed, 2 wrong usage.)";

struct Arguments {
  std::string repository;
  std::string name;
  int keep = 0;
  std::string grace = "1h";
};

bool ParseGrace(const std::string& text, absl::Duration* grace) {
  return absl::ParseDuration(text, grace) && *grace >= absl::ZeroDuration();
}

// What is wrong with an option's value; empty when nothing is.
std::string CheckKeep(const std::string& text) {
  int keep = 0;
  if (absl::SimpleAtoi(text, &keep) && keep >= 1) return "";
  return "expected at least 1, found " + text;
}
std::string CheckGrace(const std::string& text) {
  absl::Duration grace;
  return ParseGrace(text, &grace) ? "" : "expected a duration such as 1h, found " + text;
}

std::string Count(int number, const std::string& noun) {
  return StrCat(number, " ", noun, number == 1 ? "" : "s");
}

absl::Status Collect(const Arguments& arguments) {
  absl::Duration grace;
  if (!ParseGrace(arguments.grace, &grace)) {
    return absl::InvalidArgumentError("--grace: " + CheckGrace(arguments.grace));
  }
  DS_ASSIGN_OR_RETURN(const std::unique_ptr<repository::Repository> repository,
                      repository::Repository::Open(arguments.repository));
  std::vector<std::string> models = {arguments.name};
  if (arguments.name.empty()) {
    DS_ASSIGN_OR_RETURN(models, repository->ListModels());
  }
  int versions = 0;
  for (const std::string& model : models) {
    DS_ASSIGN_OR_RETURN(const repository::CollectReport report,
                        repository->Retain(model, arguments.keep));
    versions += report.versions_removed;
  }
  DS_ASSIGN_OR_RETURN(const repository::CollectReport report, repository->Collect(grace));
  std::cout << "removed " << Count(versions, "version") << ", "
            << Count(report.blobs_removed, "blob") << " and "
            << Count(report.temporary_files_removed, "temporary file") << ": " << report.bytes_freed
            << " bytes\n";
  return absl::OkStatus();
}

}  // namespace

Command MakeCollectCommand(CLI::App& app) {
  const auto arguments = std::make_shared<Arguments>();
  CLI::App* collect = app.add_subcommand(
      "collect", "Remove old versions of a repository, and blobs that no version names");
  collect->footer(kExamples);
  collect->add_option("--repository", arguments->repository, "Model repository")->required();
  collect
      ->add_option("--keep", arguments->keep, "How many of the newest versions of a model to keep")
      ->required()
      ->check(CheckKeep);
  collect->add_option("--name", arguments->name, "One model; without it all of them");
  collect
      ->add_option("--grace", arguments->grace,
                   "Younger blobs stay: longer than a publication or a load takes")
      ->check(CheckGrace)
      ->capture_default_str();
  return {collect, [arguments] { return Collect(*arguments); }};
}

}  // namespace dreamstate::trainer
