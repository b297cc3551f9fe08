// The program against a fake server, in a folder of its own.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/client/fake_server.h"
#include "tests/client/process.h"

namespace dreamstate::client {

class CliTest : public testing::Test {
 protected:
  CliTest() {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    directory_ = std::filesystem::path(testing::TempDir()) /
                 absl::StrCat("dreamstate_cli_", test->name(), "_", getpid());
    std::filesystem::create_directories(directory_);
  }
  ~CliTest() override { std::filesystem::remove_all(directory_); }

  std::string WriteFile(const std::string& name, const std::string& bytes) {
    const std::filesystem::path path = directory_ / name;
    std::ofstream(path, std::ios::binary) << bytes;
    return path.string();
  }

  std::string PathOf(const std::string& name) const { return (directory_ / name).string(); }
  std::string ReadFile(const std::string& name) const {
    std::ifstream file(directory_ / name, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  // Names of what lies in the folder.
  std::vector<std::string> Listing() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(directory_))
      names.push_back(entry.path().filename().string());
    return names;
  }

  // A state of `layers` layers with `heads` heads.
  void AddState(const std::string& name, int layers, int heads,
                const std::vector<std::string>& parents = {}) {
    v1::State state;
    state.set_name(name);
    state.set_bytes(2048);
    state.set_token_count(7);
    state.mutable_shape()->set_layers(layers);
    state.mutable_shape()->set_heads(heads);
    state.mutable_lineage()->set_operation(parents.empty() ? "harvest" : "decode");
    for (const std::string& parent : parents) state.mutable_lineage()->add_parents(parent);
    server_.AddState(state);
  }

  // With the fake server's address.
  Process::Result Cli(std::vector<std::string> arguments, const std::string& input = "") {
    arguments.insert(arguments.begin(), {"--server", server_.address()});
    return RunCli(arguments, input);
  }

  FakeServer server_;
  std::filesystem::path directory_;
};

}  // namespace dreamstate::client
