// Versions that must not be served, and what befalls a repository: every fault is refused with its
// reason or comes out right, and what serves serves on.
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "core/base/memory.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/paused_decode.h"
#include "tests/end_to_end/small_disk.h"
#include "tests/end_to_end/swap_fixture.h"
#include "tests/support/edited_set.h"

namespace dreamstate {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::Health;
using testing::HttpGet;
using testing::Name;
using ::testing::Not;
using testing::PausedDecode;
using testing::PublishModel;
using testing::SeededDecode;
using Swap = testing::Swap;

// Publishes into a copy of the repository, where `damage` may do what it likes, and brings the
// result over: blobs first, as a file system would show them.
class Bad : public Swap {
 protected:
  // A counter of /metrics by its name and labels as they are written there; 0 when it is not there.
  double Counter(const std::string& series) {
    std::istringstream metrics(HttpGet(server_->admin_port(), "/metrics"));
    for (std::string line; std::getline(metrics, line);) {
      if (line.starts_with(series + " ")) return std::stod(line.substr(line.rfind(' ')));
    }
    return 0;
  }
  double Rejected(const std::string& phase) {
    return Counter("dreamstate_bundles_rejected_total{model=\"m\",reason=\"" + phase + "\"}");
  }
  double Reloads(const std::string& outcome) {
    return Counter("dreamstate_reloads_total{model=\"m\",outcome=\"" + outcome + "\"}");
  }
  // That `version` was refused for `reason`, found in `phase`: the list of versions, the log and
  // the metrics say so, in the same words; and that version 1 serves on.
  struct Refusal {
    int64_t version;
    const char* phase;
    const char* reason;
    const char* outcome = "rejected";
  };
  struct Counted {
    double rejected, reloads;
  };
  Counted Count(const Refusal& refusal) {
    return {.rejected = Rejected(refusal.phase), .reloads = Reloads(refusal.outcome)};
  }
  void ExpectRefused(const Refusal& refusal, const Counted& before) {
    SCOPED_TRACE(refusal.reason);
    const v1::ModelVersion version = GetVersion(refusal.version);
    EXPECT_EQ(version.state(), v1::ModelVersion::FAILED);
    EXPECT_THAT(version.reason(), HasSubstr(refusal.reason));
    EXPECT_THAT(server_->Errors(), AllOf(HasSubstr(Name(refusal.version) + " rejected: "),
                                         HasSubstr(version.reason())));
    EXPECT_GE(Rejected(refusal.phase), before.rejected + 1);
    EXPECT_GE(Reloads(refusal.outcome), before.reloads + 1);
    EXPECT_EQ(GetModel().serving_version(), Name(1));
    EXPECT_EQ(session_->CheckHealth("models/m"), Health::SERVING);
    EXPECT_EQ(session_->Decode(SeededDecode("", 1, 1)).start.model_version(), Name(1));
  }
  void Bring(const std::function<void(const std::string& repository)>& damage) {
    namespace fs = std::filesystem;
    const std::string staging = directory_ / "staging";
    fs::remove_all(staging);
    fs::copy(repository_, staging, fs::copy_options::recursive);
    damage(staging);
    for (const char* part : {"/blobs", "/bundles"}) {
      fs::copy(staging + part, repository_ + part,
               fs::copy_options::recursive | fs::copy_options::skip_existing);
    }
  }
  static std::string Blob(const std::string& repository, const repository::Manifest& manifest) {
    return repository + "/blobs/sha256/" + manifest.Find("backbone")->digest;
  }
  static void PublishTensors(const std::string& path, const tensors::TensorSet& tensors) {
    const auto repository = repository::Repository::Open(path).value();
    repository::Manifest manifest = *repository->ListVersions("m")->back().manifest;
    ASSERT_TRUE(repository->Publish(manifest, {{.kind = "backbone", .tensors = &tensors}}).ok());
  }
};

TEST_F(Bad, VersionsAreRefusedWithTheirReasonAndTheOldOneServesOn) {
  const tensors::TensorSet weights = testing::RandomBackbone(testing::ByteConfig(), 99);
  struct Row {
    const char* phase;
    const char* reason;
    std::function<void(const std::string& repository)> make;
  };
  const std::vector<Row> table = {
      {"verify", "expected SHA-256",
       [&](const std::string& path) {
         const std::string file = Blob(path, PublishModel(path, "m", 11));
         std::string bytes = testing::ReadAll(file);
         bytes[bytes.size() / 2] ^= 1;
         testing::WriteAll(file, bytes);
       }},
      {"verify", "bytes, found 1000",
       [&](const std::string& path) {
         ASSERT_EQ(truncate(Blob(path, PublishModel(path, "m", 12)).c_str(), 1000), 0);
       }},
      {"verify", "found none",
       [&](const std::string& path) {
         ASSERT_EQ(unlink(Blob(path, PublishModel(path, "m", 13)).c_str()), 0);
       }},
      {"verify", "head.weight: expected [256, 128], found f32 [128, 256]",
       [&](const std::string& path) {
         PublishTensors(path,
                        testing::EditedSet(weights).Reshape("head.weight", {128, 256}).Make());
       }},
      {"load", "head.weight: expected finite values, found nan",
       [&](const std::string& path) {
         PublishTensors(path, testing::EditedSet(weights).Poison("head.weight", 5).Make());
       }},
      {"self_test", "self-test: expected",
       [&](const std::string& path) { PublishTensors(path, weights); }},
      {"verify", "tokenizer byte has 256 tokens, the model 100",
       [&](const std::string& path) {
         rwkv::Config config = testing::ByteConfig();
         config.vocab = 100;
         PublishTensors(path, testing::RandomBackbone(config, 3));
       }},
      {"manifest", "schema: expected 1",
       [&](const std::string& path) {
         testing::WriteAll(path + "/bundles/m/9.json", "{\"schema\": 2}");
       }},
  };
  Start({}, /*admin=*/true);
  PausedDecode running(*session_, 5);
  for (size_t i = 0; i < table.size(); ++i) {
    const Refusal refusal = {
        .version = static_cast<int64_t>(i) + 2, .phase = table[i].phase, .reason = table[i].reason};
    EXPECT_THAT(server_->Errors(), Not(HasSubstr(refusal.reason)));
    const Counted before = Count(refusal);
    Bring(table[i].make);
    ASSERT_TRUE(Reload().ok());
    ExpectRefused(refusal, before);
  }
  const auto [tokens, status] = running.Finish();
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(tokens.size(), static_cast<size_t>(PausedDecode::kTokens));
  // A good one gets through.
  PublishModel(repository_, "m", 2);
  WaitVersion(10);
  EXPECT_EQ(server_->Stop(), 0);
}

TEST_F(Bad, AVersionWhoseFilesWereMendedIsTakenAfterAReload) {
  Start();
  std::string whole;
  std::string blob;
  Bring([&](const std::string& path) {
    const repository::Manifest manifest = PublishModel(path, "m", 11);
    whole = testing::ReadAll(Blob(path, manifest));
    blob = Blob(repository_, manifest);
    testing::WriteAll(Blob(path, manifest), whole.substr(0, whole.size() / 2));
  });
  ASSERT_TRUE(Reload().ok());
  EXPECT_EQ(GetVersion(2).state(), v1::ModelVersion::FAILED);
  testing::WriteAll(blob, whole);
  v1::ReloadModelResponse reloaded;
  ASSERT_TRUE(Reload(&reloaded).ok());
  EXPECT_THAT(reloaded.retried_versions(), ElementsAre(2));
  EXPECT_EQ(reloaded.model().serving_version(), Name(2));
}

TEST_F(Bad, AVersionThatDoesNotFitTheMemoryIsRefusedAndTriedAgain) {
  // Many tokens a step make a wide layer take much memory, and its file little.
  constexpr int64_t kStepTokens = 65536;
  constexpr int64_t kMostWidth = 1 << 19;
  const std::optional<int64_t> available = AvailableMemoryBytes(ReadMemoryFiles());
  if (!available) GTEST_SKIP() << "how much memory is available is not known here";
  const int64_t width = *available / (kStepTokens * int64_t{sizeof(float)}) / 32 * 32 + 32;
  if (width > kMostWidth) GTEST_SKIP() << "this machine has too much memory to want more of it";
  rwkv::Config config = testing::ByteConfig();
  config.layers = 1;
  config.width = 64;
  config.heads = 1;
  config.ffn_width = static_cast<int>(width) * 5 / 4;  // others may give memory back meanwhile
  Start({"--step-max-tokens", std::to_string(kStepTokens)}, /*admin=*/true);
  const Refusal refusal = {.version = 2,
                           .phase = "verify",
                           .reason = "not enough memory: needs ",
                           .outcome = "failed_in_passing"};
  const Counted before = Count(refusal);
  PublishTensors(repository_, testing::RandomBackbone(config, 3));
  while (GetVersion(2).state() != v1::ModelVersion::FAILED) std::this_thread::yield();
  ExpectRefused(refusal, before);
  EXPECT_THAT(GetVersion(2).reason(), HasSubstr("again in "));
  // The next one that fits is not held up.
  PublishModel(repository_, "m", 2);
  WaitVersion(3);
}

TEST_F(Bad, APinnedVersionThatFailsIsNamedAndTheOldOneServesOn) {
  Start({}, /*admin=*/true);
  const Refusal refusal = {.version = 2, .phase = "self_test", .reason = "self-test: expected"};
  const Counted before = Count(refusal);
  PublishModel(repository_, "m", 2,
               [](repository::Manifest& manifest) { manifest.self_test.expected_nll += 5; });
  ASSERT_TRUE(Pin(Name(2)).ok());
  ASSERT_TRUE(Reload().ok());
  ExpectRefused(refusal, before);
  EXPECT_EQ(GetModel().pinned_version(), Name(2));
  ASSERT_TRUE(Pin(Name(1)).ok());
  ExpectRefused(refusal, before);
}

// A server whose repository lies on a disk that gets full.
class FullRepository : public Bad {
 protected:
  void SetUp() override {
    disk_.emplace(repository_);
    if (!disk_->mounted()) GTEST_SKIP() << "may not mount a small disk here (needs root)";
    Bad::SetUp();
  }
  // Writes a file that leaves no byte.
  void Fill() {
    std::ofstream file(filler_, std::ios::binary);
    const std::string block(1 << 16, 'x');
    while (file.write(block.data(), static_cast<std::streamsize>(block.size())).flush()) {
    }
  }
  void MakeRoom() { std::filesystem::remove(filler_); }

  const std::string filler_ = repository_ + "/filler";
  std::optional<testing::SmallDisk> disk_;
};

TEST_F(FullRepository, TellsThePublisherAndLeavesNothingToTheServer) {
  Start({}, /*admin=*/true);
  const repository::Manifest made = PublishModel(directory_ / "elsewhere", "m", 2);
  const tensors::TensorSet backbone = testing::RandomBackbone(testing::ByteConfig(), 2);
  const auto publish = [&] {
    return repository::Repository::Open(repository_)
        .value()
        ->Publish(made, {{.kind = "backbone", .tensors = &backbone}})
        .status();
  };
  Fill();
  const absl::Status full = publish();
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted) << full;
  const grpc::Status pinned = Pin(Name(1));
  EXPECT_FALSE(pinned.ok());
  EXPECT_THAT(pinned.error_message(), HasSubstr("pin"));
  ASSERT_TRUE(Reload().ok());
  EXPECT_EQ(GetModel().serving_version(), Name(1));
  EXPECT_EQ(GetModel().pinned_version(), "");
  EXPECT_EQ(GetVersion(2).version(), 0) << "a version that was not published whole is not seen";
  EXPECT_EQ(Reloads("rejected") + Reloads("failed_in_passing"), 0);
  EXPECT_TRUE(session_->Decode(SeededDecode("", 1, 1)).status.ok());
  MakeRoom();
  ASSERT_TRUE(publish().ok());
  WaitVersion(2);
}

TEST_F(Bad, PublishersThatRaceAreNoFaultAndTheNewestIsServed) {
  constexpr int kPublishers = 2, kEach = 5;
  // Whatever takes threads is done before the processes part.
  std::vector<repository::Manifest> made;
  std::vector<tensors::TensorSet> backbones;
  for (int p = 0; p < kPublishers; ++p) {
    const auto seed = static_cast<uint32_t>(20 + p);
    made.push_back(PublishModel(directory_ / "elsewhere", "m", seed));
    backbones.push_back(testing::RandomBackbone(testing::ByteConfig(), seed));
  }
  int gate[2];
  ASSERT_EQ(pipe(gate), 0);
  std::vector<pid_t> children;
  for (int p = 0; p < kPublishers; ++p) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      close(gate[1]);
      char ignored = 0;
      if (read(gate[0], &ignored, 1) != 0) _exit(2);  // until the parent closes its end
      const auto repository = repository::Repository::Open(repository_).value();
      for (int i = 0; i < kEach; ++i) {
        made[p].trainer_step = kEach * p + i;
        if (!repository->Publish(made[p], {{.kind = "backbone", .tensors = &backbones[p]}}).ok()) {
          _exit(1);
        }
      }
      _exit(0);
    }
    children.push_back(child);
  }
  close(gate[0]);
  // The server must not inherit the gate.
  fcntl(gate[1], F_SETFD, FD_CLOEXEC);
  Start({}, /*admin=*/true);
  close(gate[1]);
  for (const pid_t child : children) {
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
  constexpr int64_t kNewest = 1 + kPublishers * kEach;
  WaitVersion(kNewest);
  for (int64_t version = 1; version <= kNewest; ++version) {
    const v1::ModelVersion found = GetVersion(version);
    EXPECT_EQ(found.version(), version);
    EXPECT_NE(found.state(), v1::ModelVersion::FAILED) << found.reason();
  }
  EXPECT_EQ(Reloads("rejected") + Reloads("failed_in_passing"), 0);
}

}  // namespace
}  // namespace dreamstate
