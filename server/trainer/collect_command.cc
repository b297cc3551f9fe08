#include <iostream>
#include <memory>
#include <string>
#include <vector>

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

absl::Status Collect(const Arguments& arguments) {
  absl::Duration grace;
  if (!absl::ParseDuration(arguments.grace, &grace) || grace < absl::ZeroDuration()) {
    return absl::InvalidArgumentError(
        StrCat("--grace: expected a duration such as 1h, found ", arguments.grace));
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
  std::cout << "removed " << versions << " versions, " << report.blobs_removed << " blobs and "
            << report.temporary_files_removed << " temporary files: " << report.bytes_freed
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
      ->check(CLI::PositiveNumber);
  collect->add_option("--name", arguments->name, "One model; without it all of them");
  collect
      ->add_option("--grace", arguments->grace,
                   "Younger blobs stay: longer than a publication or a load takes")
      ->capture_default_str();
  return {collect, [arguments] { return Collect(*arguments); }};
}

}  // namespace dreamstate::trainer
