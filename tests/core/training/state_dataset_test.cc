// Data sets of states are files that nobody vouches for.
#include "core/training/state_dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "core/base/strings.h"
#include "core/tensors/safetensors.h"
#include "core/training/state_records.h"
#include "core/training/tuning_source.h"
#include "tests/core/training/made_corpus.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate::training {
namespace {

using dreamstate::testing::ReadAll;
using dreamstate::testing::TemporaryDirectory;
using dreamstate::testing::WriteAll;
using ::testing::HasSubstr;

class StateDatasetTest : public ::testing::Test {
 protected:
  StateDatasetTest() {
    info_.backbone = "f";
    info_.shape = {.layers = 1, .width = 4, .heads = 2, .head_size = 2};
    info_.tokenizer = "byte";
    info_.corpus = "c";
    info_.labels = {"a", "b", "x_c"};
    info_.trained = {true, true, false};
    info_.positions = {8, 16};
    info_.excerpts = 2;
    info_.excerpt_tokens = 3;
    info_.taps = {0};
    info_.documents_per_shard = 2;
    info_.shards[0] = 2;
    info_.shards[1] = info_.shards[2] = 1;
  }
  std::string path() const { return directory_ / "states"; }

  // A shard whose states are of these labels, one document each; every second has excerpts.
  void Write(const StateDataset& dataset, Split split, int shard, std::vector<int32_t> labels,
             const std::string& without = "",
             tensors::DType integers = tensors::DType::kI32) const {
    const auto n = static_cast<int64_t>(labels.size());
    std::vector<int32_t> documents, positions, excerpts;
    for (int32_t i = 0; i < n; ++i) {
      documents.push_back(i);
      positions.push_back(8);
      if (i % 2 == 0) excerpts.push_back(i);
    }
    const auto m = static_cast<int64_t>(excerpts.size());
    const std::string wkv(static_cast<size_t>(n) * 8 * 2, '\0'), shift(wkv.size(), '\0'),
        activations(static_cast<size_t>(m) * 2 * 3 * 4 * 2, '\0');
    const auto bytes = [](const auto& values) { return std::as_bytes(std::span(values)); };
    std::vector<tensors::Tensor> list = {
        {.name = "label", .dtype = integers, .shape = {n}, .data = bytes(labels)},
        {.name = "document", .dtype = tensors::DType::kI32, .shape = {n}, .data = bytes(documents)},
        {.name = "position", .dtype = tensors::DType::kI32, .shape = {n}, .data = bytes(positions)},
        {.name = "excerpt.document",
         .dtype = tensors::DType::kI32,
         .shape = {m},
         .data = bytes(excerpts)},
        {.name = "wkv",
         .dtype = tensors::DType::kF16,
         .shape = {n, 1, 2, 2, 2},
         .data = bytes(wkv)},
        {.name = "shift",
         .dtype = tensors::DType::kF16,
         .shape = {n, 1, 2, 4},
         .data = bytes(shift)},
        {.name = "excerpt.activations",
         .dtype = tensors::DType::kF16,
         .shape = {m, 2, 3, 4},
         .data = bytes(activations)}};
    std::erase_if(list, [&](const tensors::Tensor& tensor) { return tensor.name == without; });
    ASSERT_TRUE(tensors::WriteSafetensors(dataset.ShardPath(split, shard), list, {}).ok());
  }

  TemporaryDirectory directory_;
  StateDatasetInfo info_;
};

TEST_F(StateDatasetTest, ItsFilesAreChecked) {
  const StateDataset dataset = StateDataset::Create(path(), info_).value();
  Write(dataset, Split::kTrain, 0, {0, 1, 2});
  EXPECT_EQ(dataset.ReadShard(Split::kTrain, 0).value().origins.size(), 3u);
  EXPECT_THAT(std::string(dataset.CheckComplete(Split::kTrain).message()),
              HasSubstr("1 of 2 shards of train are missing"));
  for (const char* name : {"label", "document", "position", "wkv", "shift", "excerpt.document",
                           "excerpt.activations"}) {
    Write(dataset, Split::kTrain, 1, {0}, name);
    EXPECT_THAT(std::string(dataset.ReadShard(Split::kTrain, 1).status().message()),
                HasSubstr(name));
  }
  Write(dataset, Split::kTrain, 1, {3});
  EXPECT_THAT(std::string(dataset.ReadShard(Split::kTrain, 1).status().message()),
              HasSubstr("one of 3 labels"));
  Write(dataset, Split::kTrain, 1, {0}, "", tensors::DType::kU32);
  EXPECT_THAT(std::string(dataset.ReadShard(Split::kTrain, 1).status().message()),
              HasSubstr("label: expected i32"));
}

TEST_F(StateDatasetTest, ItsDescriptionIsChecked) {
  StateDataset::Create(path(), info_).value();
  // Begun once more it is the same, with other options it is refused.
  EXPECT_TRUE(StateDataset::Create(path(), info_).ok());
  StateDatasetInfo other = info_;
  other.positions = {8};
  EXPECT_TRUE(absl::IsFailedPrecondition(StateDataset::Create(path(), other).status()));
  const std::string text = ReadAll(path() + "/dataset.json");
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string changed = text;
    const size_t at = changed.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    WriteAll(path() + "/dataset.json", changed.replace(at, from.size(), to));
    const absl::Status status = StateDataset::Open(path()).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << to << ": " << status;
    return std::string(status.message());
  };
  EXPECT_THAT(with("\"schema\": 1", "\"schema\": 2"), HasSubstr("schema: expected 1"));
  EXPECT_THAT(with("\"layers\": 1", "\"layers\": -1"), HasSubstr("dataset.json"));
  EXPECT_THAT(with("\"layers\": 1", "\"layers\": \"1\""), HasSubstr("dataset.json"));
  EXPECT_THAT(with("\"trained\"", "\"trianed\""), HasSubstr("trained"));
  EXPECT_THAT(with("8,\n", "16,\n"), HasSubstr("positions: expected them to rise"));
  EXPECT_THAT(with("\"documents_per_shard\": 2", "\"documents_per_shard\": 0"),
              HasSubstr("out of range"));
  EXPECT_THAT(with("{", "["), HasSubstr("JSON"));
}

TEST_F(StateDatasetTest, RecordsAreDrawnAsConfigured) {
  const StateDataset dataset = StateDataset::Create(path(), info_).value();
  Write(dataset, Split::kTrain, 0, {0, 0, 2});
  Write(dataset, Split::kTrain, 1, {1, 0});
  Write(dataset, Split::kValid, 0, {1, 2, 0, 0});
  Write(dataset, Split::kTest, 0, {1});
  const auto records = StateRecords::Read(dataset).value();
  EXPECT_EQ(records->training(), 4);  // the label that is not trained is left out
  EXPECT_EQ(records->all().size(), 7u);
  const auto source =
      MakeStateSource(records, 8, {.label = 0.25, .text = 0.25, .both = 0.25}, 3).value();
  int told[2][2] = {}, of_label[2] = {};
  std::vector<std::string> positions;
  for (int step = 0; step < 250; ++step) {
    positions.push_back(source->Save());
    const Batch batch = source->Next().value();
    ASSERT_EQ(batch.row.size(), 8u);
    for (const Row& row : batch.row) {
      ASSERT_LT(row.record, 4);
      const StateRecord& record = records->all()[row.record];
      ++of_label[record.origin.label];
      EXPECT_TRUE(row.label < 0 || row.label == record.origin.label);
      EXPECT_TRUE(record.excerpts >= 0 || row.excerpt < 0);
      if (record.excerpts >= 0) ++told[row.label >= 0][row.excerpt >= 0];
      EXPECT_EQ(row.excerpt_tokens, row.excerpt >= 0 ? 3 : 0);
    }
  }
  // Labels are equally likely, however many states they have.
  EXPECT_NEAR(of_label[0] / 2000.0, 0.5, 0.04);
  const double all = told[0][0] + told[0][1] + told[1][0] + told[1][1];
  for (const auto& row : told) {
    for (const int count : row) EXPECT_NEAR(count / all, 0.25, 0.04);
  }
  // Same place, same batches.
  const auto again =
      MakeStateSource(records, 8, {.label = 0.25, .text = 0.25, .both = 0.25}, 3).value();
  ASSERT_TRUE(again->Restore(positions[100]).ok());
  ASSERT_TRUE(source->Restore(positions[100]).ok());
  EXPECT_EQ(again->Next().value().row[5].record, source->Next().value().row[5].record);
  EXPECT_FALSE(again->Restore("x").ok());
  EXPECT_FALSE(MakeStateSource(records, 8, {.label = 0.9, .text = 0.9, .both = 0}, 3).ok());

  const std::vector<Batch> held_out = HeldOutStates(*records, 2, 1);
  ASSERT_EQ(held_out.size(), 1u);
  EXPECT_EQ(held_out[0].rows, 2);
  for (const Row& row : held_out[0].row) EXPECT_GE(row.record, 4);
}

TEST_F(StateDatasetTest, WindowsLieBehindTheExcerptThatIsTold) {
  const std::shared_ptr<const Corpus> corpus = MadeCorpus(directory_ / "c");
  info_.corpus = corpus->digest();
  info_.shards[0] = 1;
  const StateDataset dataset = StateDataset::Create(path(), info_).value();
  Write(dataset, Split::kTrain, 0, {0, 0, 1});
  Write(dataset, Split::kValid, 0, {1, 0});
  Write(dataset, Split::kTest, 0, {1});
  const auto records = StateRecords::Read(dataset).value();
  const TuningOptions options = {
      .rows = 4, .tokens = 3000, .shares = {.label = 0.4, .text = 0.6, .both = 0}, .seed = 5};
  const auto source = MakeTuningSource(records, corpus, options).value();
  int behind = 0, elsewhere = 0, unscored = 0;
  std::string position;
  for (int step = 0; step < 20; ++step) {
    if (step == 10) position = source->Save();
    const Batch batch = source->Next().value();
    ASSERT_EQ(batch.targets.size(), 4u * 3000);
    for (int row = 0; row < batch.rows; ++row) {
      const Row& told = batch.row[row];
      const StateRecord& record = records->all()[told.record];
      const Document& document = corpus->documents(record.split)[record.origin.document];
      const auto text = corpus->tokens(record.split, document);
      const int32_t* inputs = batch.inputs.data() + row * 3000;
      const int32_t* targets = batch.targets.data() + row * 3000;
      EXPECT_EQ(inputs[0], info_.separator);
      for (int t = 1; t < 3000 && targets[t] >= 0; ++t) ASSERT_EQ(inputs[t], targets[t - 1]);
      if (told.excerpt < 0) {
        ++elsewhere;
        continue;
      }
      ++behind;
      const int64_t begin = ExcerptStarts(info_, record.split, record.origin.document,
                                          document.tokens)[told.excerpt] +
                            told.excerpt_tokens;
      for (int t = 0; t < 3000; ++t) {
        const bool there = begin + t < document.tokens;
        ASSERT_EQ(targets[t], there ? int32_t{text[begin + t]} : -1);
        if (!there) ++unscored;
      }
    }
  }
  EXPECT_GT(behind, 10);
  EXPECT_GT(elsewhere, 10);
  EXPECT_GT(unscored, 0);
  const auto again = MakeTuningSource(records, corpus, options).value();
  ASSERT_TRUE(again->Restore(position).ok());
  ASSERT_TRUE(source->Restore(position).ok());
  EXPECT_EQ(again->Next()->targets, source->Next()->targets);
  EXPECT_FALSE(again->Restore("x").ok());

  const auto held_out = HeldOutWindows(*records, *corpus, options, 2);
  ASSERT_EQ(held_out.size(), 1u);
  EXPECT_EQ(held_out[0].rows, 2);

  const auto other = MadeCorpus(directory_ / "other", 50);
  EXPECT_TRUE(absl::IsFailedPrecondition(MakeTuningSource(records, other, options).status()));
  // Documents of a shard are what somebody wrote: 200 are more than the corpus has.
  Write(dataset, Split::kTrain, 0, std::vector<int32_t>(200, 0));
  const auto more = StateRecords::Read(dataset).value();
  const absl::Status status = MakeTuningSource(more, corpus, options).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("document"));
}

}  // namespace
}  // namespace dreamstate::training
