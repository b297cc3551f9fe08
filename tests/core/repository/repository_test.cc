#include "core/repository/repository.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/core/repository/models.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate::repository {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::ReadAll;
using testing::TemporaryDirectory;
using testing::WriteAll;

TEST(Repository, OpenWantsADirectory) {
  TemporaryDirectory directory;
  WriteAll(directory / "file", "x");
  for (const std::string& path : {directory / "none", directory / "file"}) {
    const auto repository = Repository::Open(path);
    EXPECT_EQ(repository.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(repository.status().message()), HasSubstr(path));
  }
  EXPECT_FALSE(Repository::Create(directory / "file").ok());
  EXPECT_FALSE(Repository::Create(directory / "file/below").ok());
}

TEST(Repository, OpenWritesNothing) {
  TemporaryDirectory directory;
  const auto repository = Repository::Open(directory.path());
  ASSERT_TRUE(repository.ok());
  EXPECT_TRUE((*repository)->ListModels()->empty());
  EXPECT_EQ((*repository)->ListVersions("tiny").status().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE((*repository)->Collect(absl::ZeroDuration()).ok());
  EXPECT_TRUE(directory.Names().empty());
}

TEST(Repository, ListsNewestFirstAndUnreadableVersionsWithTheReason) {
  TemporaryDirectory directory;
  const auto repository = MustCreate(directory.path());
  for (int i = 0; i < 11; ++i) ASSERT_TRUE(PublishBackbone(*repository, i).ok());
  const std::string bundles = directory / "bundles/tiny/";
  const std::string good = ReadAll(bundles + "3.json");
  std::string future = ReadAll(bundles + "4.json");
  future.replace(future.find("\"schema\": 1"), 11, "\"schema\": 2");
  WriteAll(bundles + "4.json", future);
  WriteAll(bundles + "5.json", "garbage");
  WriteAll(bundles + "6.json", good);  // another version's
  WriteAll(bundles + "7.json", std::string(3 << 20, ' '));
  ASSERT_EQ(unlink((bundles + "8.json").c_str()), 0);
  ASSERT_EQ(mkdir((bundles + "8.json").c_str(), 0755), 0);
  // Not versions at all.
  for (const char* name : {"0.json", "-1.json", "01.json", "9223372036854775807.json", "x.json",
                           "1.json.bak", "1.txt", "12.json.tmp-0"}) {
    WriteAll(bundles + name, good);
  }
  const auto versions = repository->ListVersions("tiny");
  ASSERT_TRUE(versions.ok()) << versions.status();
  ASSERT_EQ(versions->size(), 11u);
  for (size_t i = 0; i < 11; ++i) EXPECT_EQ((*versions)[i].version, 11 - static_cast<int>(i));
  const auto reason = [&](int version) {
    return std::string((*versions)[static_cast<size_t>(11 - version)].manifest.status().message());
  };
  EXPECT_EQ(reason(3), "");
  EXPECT_THAT(reason(4), HasSubstr("schema: expected 1"));
  EXPECT_THAT(reason(4), HasSubstr("found 2"));
  EXPECT_THAT(reason(4), HasSubstr(bundles + "4.json"));
  EXPECT_THAT(reason(5), HasSubstr("expected a JSON object, found a syntax error"));
  EXPECT_THAT(reason(6), HasSubstr("expected tiny version 6, found tiny version 3"));
  EXPECT_THAT(reason(7), HasSubstr("at most 1048576 bytes, found 3145728"));
  EXPECT_THAT(reason(8), HasSubstr("expected a regular file, found a directory"));
  EXPECT_EQ(reason(9), "");
}

TEST(Repository, NamesThatLeadElsewhereAreRefused) {
  TemporaryDirectory directory;
  const auto repository = MustCreate(directory / "models");
  ASSERT_TRUE(PublishBackbone(*repository, 1).ok());
  for (const std::string& name :
       {std::string(".."), std::string("."), std::string("../bundles/tiny"), std::string("tiny/"),
        std::string("/etc"), std::string("tiny\0x", 6), std::string(), std::string("Tiny"),
        std::string(64, 'a'), std::string("-tiny"), std::string("tiny\n")}) {
    EXPECT_EQ(repository->ListVersions(name).status().code(), absl::StatusCode::kInvalidArgument)
        << name;
    EXPECT_FALSE(PublishBackbone(*repository, 1, name).ok()) << name;
  }
  EXPECT_TRUE(ValidateModelName(std::string(63, 'a')).ok());
  EXPECT_TRUE(ValidateModelName("0.19b_x-y").ok());
}

TEST(Repository, DirectoriesThatAreNoModelsAreSkipped) {
  TemporaryDirectory directory;
  const auto repository = MustCreate(directory.path());
  ASSERT_TRUE(PublishBackbone(*repository, 1).ok());
  for (const char* name : {"bundles/Upper", "bundles/.hidden", "bundles/empty"}) {
    ASSERT_EQ(mkdir((directory / name).c_str(), 0755), 0);
  }
  WriteAll(directory / "bundles/file", "x");
  EXPECT_THAT(*repository->ListModels(), ElementsAre("tiny"));
}

TEST(Repository, FailsWhenTheDirectoryIsTakenAway) {
  TemporaryDirectory directory;
  const auto repository = MustCreate(directory / "models");
  ASSERT_TRUE(PublishBackbone(*repository, 1).ok());
  ASSERT_EQ(rename((directory / "models").c_str(), (directory / "gone").c_str()), 0);
  EXPECT_TRUE(repository->ListModels()->empty());
  EXPECT_FALSE(repository->ListVersions("tiny").ok());
}

class Verify : public ::testing::Test {
 protected:
  Verify() : repository_(MustCreate(directory_.path())) {
    manifest_ = *PublishBackbone(*repository_, 1);
    blob_ = directory_ / "blobs/sha256/" + manifest_.components[0].digest;
    contents_ = ReadAll(blob_);
  }

  // Both answers carry the file and the fault.
  void ExpectRefused(const std::string& says) {
    for (const absl::Status& status :
         {repository_->Verify(manifest_),
          repository_->LoadComponent(manifest_, "backbone").status()}) {
      EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
      EXPECT_THAT(std::string(status.message()), HasSubstr(says));
      EXPECT_THAT(std::string(status.message()), HasSubstr(blob_));
    }
  }

  TemporaryDirectory directory_;
  std::unique_ptr<Repository> repository_;
  Manifest manifest_;
  std::string blob_;
  std::string contents_;
};

TEST_F(Verify, FindsAMissingBlob) {
  ASSERT_EQ(unlink(blob_.c_str()), 0);
  ExpectRefused("found none");
}

TEST_F(Verify, FindsTruncationAndGrowth) {
  for (const size_t size : {size_t{0}, size_t{7}, contents_.size() / 2, contents_.size() - 1}) {
    WriteAll(blob_, contents_.substr(0, size));
    ExpectRefused("bytes, found " + std::to_string(size));
  }
  WriteAll(blob_, contents_ + "x");
  ExpectRefused("bytes, found");
}

TEST_F(Verify, FindsAChangedByteAnywhere) {
  // The header is read before the whole is hashed, and says itself what is wrong with it.
  uint64_t header = 0;
  std::memcpy(&header, contents_.data(), sizeof(header));
  for (size_t i = 0; i < contents_.size(); i += 37) {
    std::string changed = contents_;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    WriteAll(blob_, changed);
    ExpectRefused(i < sizeof(header) + header
                      ? ""
                      : "expected SHA-256 " + manifest_.components[0].file_sha256);
  }
}

TEST_F(Verify, AFileThatIsNoneIsRefusedBeforeAllOfItIsRead) {
  WriteAll(blob_, std::string(contents_.size(), '\0'));
  int asked = 0;
  const auto loaded = repository_->LoadComponent(manifest_, "backbone", [&] {
    ++asked;
    return false;
  });
  EXPECT_EQ(loaded.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(asked, 0);
}

TEST_F(Verify, AFileThatIsCutWhileItIsReadIsRefused) {
  const auto loaded = repository_->LoadComponent(manifest_, "backbone", [&] {
    std::filesystem::resize_file(blob_, 0);
    return false;
  });
  EXPECT_EQ(loaded.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(loaded.status().message()),
              AllOf(HasSubstr(blob_), HasSubstr("was cut while it was read")));
}

TEST_F(Verify, FindsTensorsThatAreNotTheFingerprints) {
  // A whole file of another model under this name, with size and hash made to fit.
  const auto other = PublishBackbone(*repository_, 2);
  ASSERT_TRUE(other.ok());
  WriteAll(blob_, ReadAll(directory_ / "blobs/sha256/" + other->components[0].digest));
  manifest_.components[0].file_sha256 = other->components[0].file_sha256;
  ExpectRefused("expected fingerprint " + manifest_.components[0].digest);
}

TEST_F(Verify, RefusesDigestsThatAreNoDigests) {
  for (const std::string& digest : {std::string("../../bundles/tiny/1.json"), std::string(),
                                    std::string(64, 'G'), std::string(65, 'a')}) {
    Manifest manifest = manifest_;
    manifest.components[0].digest = digest;
    EXPECT_EQ(repository_->Verify(manifest).code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST_F(Verify, AComponentThatIsNotThereIsNotFound) {
  const auto status = repository_->LoadComponent(manifest_, "state_dit").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("state_dit"));
}

TEST_F(Verify, StopsInTheMiddleWhenTold) {
  int all = 0;
  const auto whole = repository_->LoadComponent(manifest_, "backbone", [&] { return ++all < 0; });
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_EQ(all, 1 + static_cast<int>(whole->tensors().size()));  // the file, and each tensor
  for (int stop_at = 1; stop_at <= all; ++stop_at) {
    int asked = 0;
    const auto stopped =
        repository_->LoadComponent(manifest_, "backbone", [&] { return ++asked == stop_at; });
    EXPECT_TRUE(absl::IsCancelled(stopped.status())) << stopped.status();
    EXPECT_EQ(asked, stop_at);
  }
}

TEST_F(Verify, LoadedTensorsOutliveTheirFile) {
  const auto loaded = repository_->LoadComponent(manifest_, "backbone");
  ASSERT_TRUE(loaded.ok());
  ASSERT_EQ(unlink(blob_.c_str()), 0);
  EXPECT_EQ(tensors::Fingerprint(*loaded), manifest_.components[0].digest);
}

}  // namespace
}  // namespace dreamstate::repository
