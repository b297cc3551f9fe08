#include "core/state/layouts.h"

#include <cmath>
#include <fstream>
#include <iterator>
#include <limits>
#include <random>

#include "core/base/status.h"
#include "core/tensors/pth.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/core/state/state_fixtures.h"
#include "tests/support/golden.h"

namespace dreamstate::state {
namespace {

using ::dreamstate::testing::Difference;
using ::dreamstate::testing::Golden;
using ::dreamstate::testing::kSmallShape;
using ::dreamstate::testing::MakeRecord;
using tensors::DType;
using ::testing::HasSubstr;

const std::string kGolden = DREAMSTATE_TEST_DATA "/golden/";
constexpr Shape kGoldenShape{.layers = 3, .width = 128, .heads = 2, .head_size = 64};
constexpr std::optional<DType> kDTypes[] = {std::nullopt, DType::kF32, DType::kBF16, DType::kF16};

std::string FileBytes(const std::string& name) {
  std::ifstream file(kGolden + name, std::ios::binary);
  EXPECT_TRUE(file) << name;
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

State GoldenState() {
  const Golden golden(kGolden + "state_layouts");
  return {kGoldenShape, golden.Values<float>("canonical_shift"),
          golden.Values<float>("canonical_wkv")};
}

absl::StatusOr<StateFile> Read(const std::string& bytes, const LayoutOptions& options = {},
                               const Shape& shape = kSmallShape) {
  return ReadStateFile("the file", bytes, shape, options);
}

// Values that every dtype holds exactly.
Record EasyRecord() {
  Record record = MakeRecord(3);
  const auto round = [](std::vector<float>& values) {
    for (float& value : values) value = std::round(std::clamp(value, -100.0f, 100.0f) * 4) / 4;
  };
  round(record.state.shift);
  round(record.state.wkv);
  return record;
}

std::string Field(const absl::Status& status) {
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  return DetailsOf(status).field.value_or("");
}

TEST(Layouts, TheOfficialPackagesListIsTheCanonicalState) {
  const std::string bytes = FileBytes("state_pip_list_f32.pth");
  for (const std::optional<Layout> layout : {std::optional<Layout>(), {Layout::kRwkvPackage}}) {
    const auto file = Read(bytes, {.layout = layout}, kGoldenShape);
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_EQ(file->layout, Layout::kRwkvPackage);
    EXPECT_EQ(file->dtype, DType::kF32);
    EXPECT_EQ(file->record.state, GoldenState());
  }
}

TEST(Layouts, CanonicalBytesAreTheCanonicalState) {
  const Golden golden(kGolden + "state_layouts");
  const std::string bytes = golden.Bytes("canonical_shift") + golden.Bytes("canonical_wkv");
  const auto file = Read(bytes, {}, kGoldenShape);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->layout, Layout::kCanonical);
  EXPECT_EQ(file->record.state, GoldenState());
  Record record;
  record.state = GoldenState();
  EXPECT_EQ(WriteStateFile(record, Layout::kCanonical, {}).value(), bytes);
}

TEST(Layouts, ATunedTimeStateIsTheOneTheGoldenForwardStartsFrom) {
  const std::string bytes = FileBytes("peft_time_state_bf16.pth");
  const auto file = Read(bytes, {}, kGoldenShape);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->layout, Layout::kTimeState);
  EXPECT_EQ(file->dtype, DType::kBF16);
  EXPECT_EQ(file->record.state.shift, State::Empty(kGoldenShape).shift);
  const std::string raw = Golden(kGolden + "tuned_time_state").Bytes("time_state");
  std::vector<float> expected(raw.size() / 2);
  ASSERT_TRUE(tensors::ToFloat({"time_state",
                                DType::kBF16,
                                {static_cast<int64_t>(expected.size())},
                                std::as_bytes(std::span(raw.data(), raw.size()))},
                               expected)
                  .ok());
  EXPECT_EQ(file->record.state.wkv, expected);
}

TEST(Layouts, EveryLayoutComesBackInEveryDTypeThatHoldsTheValues) {
  const Record record = EasyRecord();
  for (const Layout layout :
       {Layout::kCanonical, Layout::kRwkvPackage, Layout::kTimeState, Layout::kRecord}) {
    for (const std::optional<DType>& dtype : kDTypes) {
      SCOPED_TRACE(::testing::Message()
                   << LayoutName(layout) << " " << (dtype ? tensors::DTypeName(*dtype) : "unset"));
      const auto bytes = WriteStateFile(record, layout, dtype);
      if (layout == Layout::kRecord && dtype && *dtype != DType::kF32) {
        EXPECT_EQ(Field(bytes.status()), "dtype");
        continue;
      }
      ASSERT_TRUE(bytes.ok()) << bytes.status();
      LayoutOptions options;
      if (layout == Layout::kCanonical) options.dtype = dtype;
      EXPECT_LE(static_cast<int64_t>(bytes->size()),
                MostFileBytes(kSmallShape, options,
                              static_cast<int64_t>(record.lineage.kept_tokens.size())));
      for (const bool named : {false, true}) {
        if (named) options.layout = layout;
        const auto file = Read(*bytes, options);
        ASSERT_TRUE(file.ok()) << file.status();
        EXPECT_EQ(file->layout, layout);
        State expected = record.state;
        if (layout == Layout::kTimeState) expected.shift = State::Empty(kSmallShape).shift;
        EXPECT_EQ(file->record.state, expected);
        if (layout == Layout::kRecord) {
          EXPECT_EQ(Difference(record, file->record), "");
        }
      }
    }
  }
}

TEST(Layouts, TheOwnDTypesAreThoseOfTheContract) {
  const Record record = EasyRecord();
  const auto dtype = [&](Layout layout) {
    return Read(*WriteStateFile(record, layout, {}))->dtype;
  };
  EXPECT_EQ(dtype(Layout::kRwkvPackage), DType::kBF16);
  EXPECT_EQ(dtype(Layout::kTimeState), DType::kF32);
  // The matrices of the package's list stay fp32 whatever the shifts are.
  const std::string bytes = *WriteStateFile(MakeRecord(8), Layout::kRwkvPackage, DType::kF16);
  EXPECT_EQ(Read(bytes)->record.state.wkv, MakeRecord(8).state.wkv);
}

TEST(Layouts, TransposedFilesAreTurned) {
  Record record = EasyRecord();
  Record turned = record;
  const size_t n = static_cast<size_t>(kSmallShape.head_size);
  for (size_t head = 0; head < record.state.wkv.size(); head += n * n) {
    for (size_t v = 0; v < n; ++v) {
      for (size_t k = 0; k < n; ++k) {
        turned.state.wkv[head + k * n + v] = record.state.wkv[head + v * n + k];
      }
    }
  }
  for (const Layout layout : {Layout::kRwkvPackage, Layout::kTimeState}) {
    const std::string bytes = *WriteStateFile(turned, layout, {});
    EXPECT_EQ(Read(bytes, {.transposed = true})->record.state.wkv, record.state.wkv);
  }
  for (const Layout layout : {Layout::kCanonical, Layout::kRecord}) {
    const std::string bytes = *WriteStateFile(record, layout, {});
    EXPECT_EQ(Field(Read(bytes, {.transposed = true}).status()), "transposed");
    EXPECT_EQ(Field(Read(bytes, {.layout = layout, .transposed = true}).status()), "transposed");
  }
}

TEST(Layouts, OptionsThatDoNotGoTogetherAreRefused) {
  for (const Layout layout : {Layout::kRecord, Layout::kRwkvPackage, Layout::kTimeState}) {
    EXPECT_EQ(Field(CheckLayoutOptions({.layout = layout, .dtype = DType::kF16})), "dtype");
  }
  EXPECT_EQ(Field(CheckLayoutOptions({.dtype = DType::kI32})), "dtype");
  EXPECT_EQ(Field(CheckLayoutOptions({.dtype = DType::kF16, .transposed = true})), "transposed");
  EXPECT_TRUE(CheckLayoutOptions({.layout = Layout::kCanonical, .dtype = DType::kF16}).ok());
  EXPECT_TRUE(CheckLayoutOptions({.transposed = true}).ok());
}

TEST(Layouts, ABatchOfOneIsTaken) {
  const State state = EasyRecord().state;
  std::vector<tensors::Tensor> list;
  const auto bytes = [](std::span<const float> values) { return std::as_bytes(values); };
  for (size_t layer = 0; layer < 2; ++layer) {
    const std::span<const float> shift = std::span(state.shift).subspan(layer * 16, 16);
    list.push_back({"a", DType::kF32, {1, 1, 8}, bytes(shift.first(8))});
    list.push_back(
        {"b", DType::kF32, {1, 2, 4, 4}, bytes(std::span(state.wkv).subspan(layer * 32, 32))});
    list.push_back({"c", DType::kF32, {1, 8}, bytes(shift.last(8))});
  }
  const std::string file = *tensors::SerializePth(list, tensors::PthContainer::kList);
  const auto read = Read(file);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->record.state, state);
}

TEST(Layouts, FilesOfAnotherShapeAreRefusedSayingBoth) {
  const Record record = EasyRecord();
  const auto message = [&](Layout layout, const Shape& shape) {
    const auto read = Read(*WriteStateFile(record, layout, {}), {}, shape);
    EXPECT_EQ(read.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(read.status().message());
  };
  const Shape deeper{.layers = 3, .width = 8, .heads = 2, .head_size = 4};
  const Shape wider{.layers = 2, .width = 12, .heads = 3, .head_size = 4};
  EXPECT_THAT(message(Layout::kRwkvPackage, deeper),
              AllOf(HasSubstr("9 tensors"), HasSubstr("found 6")));
  EXPECT_THAT(message(Layout::kRwkvPackage, wider), AllOf(HasSubstr("[12]"), HasSubstr("[8]")));
  EXPECT_THAT(message(Layout::kTimeState, deeper), HasSubstr("blocks.2.att.time_state"));
  EXPECT_THAT(message(Layout::kTimeState, {.layers = 1, .width = 8, .heads = 2, .head_size = 4}),
              HasSubstr("blocks.1.att.time_state"));
  EXPECT_THAT(message(Layout::kTimeState, wider),
              AllOf(HasSubstr("[3, 4, 4]"), HasSubstr("[2, 4, 4]")));
  EXPECT_THAT(message(Layout::kCanonical, wider), AllOf(HasSubstr("576"), HasSubstr("384")));
}

TEST(Layouts, ValuesThatAreNotFiniteAreRefusedByPlace) {
  Record record = EasyRecord();
  record.state.wkv[37] = std::numeric_limits<float>::quiet_NaN();
  record.state.shift[9] = 1;
  for (const Layout layout : {Layout::kCanonical, Layout::kRwkvPackage, Layout::kTimeState}) {
    const auto read = Read(*WriteStateFile(record, layout, {}));
    EXPECT_EQ(read.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(read.status().message()), HasSubstr("layer 1, head 0"));
  }
}

TEST(Layouts, ValuesThatADTypeCannotHoldAreRefused) {
  Record record = EasyRecord();
  record.state.wkv[5] = 70'000;
  EXPECT_EQ(Field(WriteStateFile(record, Layout::kCanonical, DType::kF16).status()), "dtype");
  EXPECT_EQ(Field(WriteStateFile(record, Layout::kTimeState, DType::kF16).status()), "dtype");
  // The package's matrices are fp32.
  EXPECT_TRUE(WriteStateFile(record, Layout::kRwkvPackage, DType::kF16).ok());
  record.state.shift[5] = 70'000;
  EXPECT_EQ(Field(WriteStateFile(record, Layout::kRwkvPackage, DType::kF16).status()), "dtype");
  EXPECT_EQ(Field(WriteStateFile(record, Layout::kCanonical, DType::kI64).status()), "dtype");
}

TEST(Layouts, BytesThatAreNoStateAreRefused) {
  for (const std::string& bytes :
       {std::string(), std::string("x"), std::string(100, '\0'), std::string("PK\3\4"),
        std::string("\x80\x02"), std::string("\x08\0\0\0\0\0\0\0{}      ", 16)}) {
    for (const std::optional<Layout> layout : {std::optional<Layout>(),
                                               {Layout::kRecord},
                                               {Layout::kCanonical},
                                               {Layout::kRwkvPackage},
                                               {Layout::kTimeState}}) {
      EXPECT_EQ(Read(bytes, {.layout = layout}).status().code(),
                absl::StatusCode::kInvalidArgument);
    }
  }
}

TEST(Layouts, DamagedFilesAreRefusedOrAreStatesAllTheSame) {
  std::mt19937_64 random(5);
  for (const Layout layout : {Layout::kRecord, Layout::kRwkvPackage, Layout::kTimeState}) {
    const std::string good = *WriteStateFile(EasyRecord(), layout, {});
    for (int i = 0; i < 400; ++i) {
      std::string bad = good;
      if (i % 2 == 0) {
        bad.resize(random() % bad.size());
      } else {
        bad[random() % bad.size()] ^= static_cast<char>(1 + random() % 255);
      }
      const auto read = Read(bad, {.layout = layout});
      if (read.ok()) {
        // A bit of a value that nothing checks: only the record has checksums.
        EXPECT_NE(layout, Layout::kRecord);
        EXPECT_TRUE(read->record.state.Validate().ok());
      } else {
        EXPECT_EQ(read.status().code(), absl::StatusCode::kInvalidArgument) << read.status();
      }
    }
  }
}

}  // namespace
}  // namespace dreamstate::state
