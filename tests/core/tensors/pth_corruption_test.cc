// Hostile .pth files: each one is refused with an error that names the file and the fault, nothing
// is executed, and memory stays in proportion to the file.
#include <cstdint>
#include <random>
#include <string>

#include "core/tensors/pth.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/core/tensors/pth_files.h"
#include "tests/support/allocation_counter.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate::tensors {
namespace {

using dreamstate::testing::PeakMemory;
using dreamstate::testing::ReadAll;
using testing::Checkpoint;
using testing::Dict;
using testing::Get;
using testing::Global;
using ::testing::HasSubstr;
using testing::Int;
using testing::Ints;
using testing::LittleEndian;
using testing::NoHooks;
using testing::Program;
using testing::Put;
using testing::Storage;
using testing::TensorOf;
using testing::Text;
using testing::Tuple;
using testing::WithoutChecksums;
using testing::Zip;

const std::string kGolden = DREAMSTATE_TEST_DATA "/golden/";

absl::StatusOr<TensorSet> Parse(const std::string& file) {
  return ParsePth("bad.pth", std::as_bytes(std::span(file)), nullptr);
}

void ExpectFileRefused(const std::string& file, const std::string& says) {
  const auto set = Parse(file);
  ASSERT_FALSE(set.ok()) << says;
  const std::string message(set.status().message());
  EXPECT_EQ(set.status().code(), absl::StatusCode::kInvalidArgument) << message;
  EXPECT_THAT(message, HasSubstr("bad.pth"));
  EXPECT_THAT(message, HasSubstr(says));
  EXPECT_LT(message.size(), 2000u);
}

// A checkpoint with one storage of 8 floats.
void ExpectRefused(const std::string& body, const std::string& says) {
  ExpectFileRefused(Checkpoint(Program(body), {std::string(32, 'd')}), says);
}

std::string Good() { return TensorOf(Storage("0", 8), 0, {2, 4}, {4, 1}); }

absl::StatusOr<TensorSet> ParseBody(const std::string& body) {
  return Parse(Checkpoint(Program(body), {std::string(32, 'd')}));
}

TEST(PthCorruption, TheHandMadeCheckpointIsReadWhenNothingIsWrong) {
  const auto set = ParseBody(Dict({Text("w"), Good()}));
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_EQ(set->Find("w")->shape, (Shape{2, 4}));
}

TEST(PthCorruption, CodeIsRefusedAndNotRun) {
  const std::string untrusted = "which is not trusted";
  const std::string command = Tuple({Text("touch /tmp/dreamstate-was-here")}) + "R";
  ExpectRefused(Global("os", "system") + command, "found \"os system\"");
  ExpectRefused(Global("posix", "system") + command, untrusted);
  ExpectRefused(Global("builtins", "eval") + command, untrusted);
  ExpectRefused(Global("builtins", "getattr") + command, untrusted);
  ExpectRefused(Global("torch", "load") + command, untrusted);
  ExpectRefused(Global("torch._utils", "_rebuild_tensor_v2.__globals__") + command, untrusted);
  ExpectRefused(Global("collections", "namedtuple") + command, untrusted);
  ExpectRefused(Global("numpy.core.multiarray", "_reconstruct") + command, untrusted);
  ExpectRefused(Global("", "") + command, untrusted);
  ExpectRefused(Global(std::string(100'000, 'm'), "x") + command, "…");
  ExpectRefused(Text("os") + Text("system") + "\x93" + command, "STACK_GLOBAL");
  ExpectRefused(std::string("(") + Text("touch x") + "ios\nsystem\n", "INST at byte");
  ExpectRefused(std::string("(") + Text("os") + "o", "OBJ at byte");
  ExpectRefused(Text("os") + ")\x81", "NEWOBJ at byte");
  ExpectRefused(Text("os") + ")}\x92", "NEWOBJ_EX at byte");
  ExpectRefused("\x82\x01", "EXT1 at byte");
  ExpectRefused("\x83\x01\x01", "EXT2 at byte");
  ExpectRefused(std::string("\x84\x01\x01\x01\x01", 5), "EXT4 at byte");
  ExpectRefused("Pstorage\n", "PERSID at byte");
  ExpectRefused("\x97", "NEXT_BUFFER at byte");
  ExpectRefused("2", "DUP at byte");
  ExpectRefused("0", "POP at byte");
  ExpectRefused("I1\n", "opcode 0x49 at byte 2");
  ExpectRefused("\xff", "opcode 0xff at byte 2");
}

TEST(PthCorruption, CallsOfWhatIsKnownAreCheckedToo) {
  const std::string rebuild = Global("torch._utils", "_rebuild_tensor_v2");
  ExpectRefused(rebuild + ")R", "expected 6 arguments of a tensor, found 0");
  ExpectRefused(rebuild + "]R", "tuple of arguments, found a list");
  ExpectRefused(Text("f") + ")R", "expected a function to call, found a text");
  ExpectRefused(Global("torch", "FloatStorage") + ")R", "function to call, found a type");
  ExpectRefused(Global("collections", "OrderedDict") + Tuple({"]"}) + "R",
                "expected an empty OrderedDict, found 1 arguments");
  ExpectRefused(
      Global("torch._utils", "_rebuild_parameter") + Tuple({"N", "\x89", NoHooks()}) + "R",
      "expected a parameter's tensor");
  const auto tensor = [&](const std::string& storage, const std::string& offset,
                          const std::string& shape, const std::string& strides) {
    return rebuild + Tuple({storage, offset, shape, strides, "\x89", NoHooks()}) + "R";
  };
  const std::string storage = Storage("0", 8);
  ASSERT_TRUE(ParseBody(Dict({Text("w"), tensor(storage, Int(0), Ints({8}), Ints({1}))})).ok());
  ExpectRefused(tensor("N", Int(0), Ints({8}), Ints({1})), "a tensor's storage, found None");
  ExpectRefused(tensor(storage, Int(-1), Ints({8}), Ints({1})), "an offset of 0 or more");
  ExpectRefused(tensor(storage, "N", Ints({8}), Ints({1})), "an offset of 0 or more");
  ExpectRefused(tensor(storage, Int(0), Ints({-8}), Ints({1})), "not negative, found -8");
  ExpectRefused(tensor(storage, Int(0), Ints({8}), Ints({-1})), "not negative, found -1");
  ExpectRefused(tensor(storage, Int(0), Tuple({Text("8")}), Ints({1})), "found a text");
  ExpectRefused(tensor(storage, Int(0), "]", Ints({1})), "tuple as size, found a list");
  ExpectRefused(tensor(storage, Int(0), Ints({8}), "N"), "tuple as stride, found None");
  ExpectRefused(tensor(storage, Int(0), Ints({8}), Ints({1, 1})), "expected 1 strides, found 2");
  ExpectRefused(tensor(storage, Int(0), Ints({1, 1, 1, 1, 1, 1, 1, 1, 1}), Ints({1})),
                "size of at most 8, found 9");
}

TEST(PthCorruption, OfStoragesIsRefused) {
  const std::string expected = "expected (\"storage\", type, key, device, elements), found ";
  ExpectRefused("NQ", expected + "None");
  ExpectRefused(Text("storage") + "Q", expected + "a text");
  ExpectRefused(")Q", expected + "a tuple of 0");
  const std::string type = Global("torch", "FloatStorage");
  const auto id = [&](const std::vector<std::string>& items) { return Tuple(items) + "Q"; };
  ExpectRefused(id({Text("module"), type, Text("0"), Text("cpu"), Int(8)}), "another kind");
  ExpectRefused(id({Text("storage"), Text("Float"), Text("0"), Text("cpu"), Int(8)}), "a text");
  ExpectRefused(id({Text("storage"), type, Int(0), Text("cpu"), Int(8)}), "no key");
  ExpectRefused(id({Text("storage"), type, Text(""), Text("cpu"), Int(8)}), "no key");
  ExpectRefused(id({Text("storage"), type, Text("0"), Int(0), Int(8)}), "no device");
  ExpectRefused(id({Text("storage"), type, Text("0"), Text("cpu"), Int(-8)}), "no number");
  ExpectRefused(id({Text("storage"), type, Text("0"), Text("cpu"), Int(8), Tuple({})}), "a view");
  ExpectRefused(Global("torch", "QInt8Storage"), "not trusted");
  const auto named = [&](const std::string& storage) {
    return Dict({Text("w"), TensorOf(storage, 0, {2}, {1})});
  };
  ExpectRefused(named(Storage("1", 8)), "m/data/1: expected in the zip archive");
  ExpectRefused(named(Storage("../0", 8)), "m/data/../0: expected in the zip archive");
  ExpectRefused(named(Storage("0", 7)), "m/data/0: expected 28 bytes for 7 f32, found 32");
  ExpectRefused(named(Storage("0", 9)), "expected 36 bytes");
  ExpectRefused(named(Storage("0", 8, "DoubleStorage")), "expected 64 bytes for 8 f64, found 32");
  ExpectRefused(named(Storage("0", INT64_MAX)), "below 2^63 bytes");
  ExpectRefused(Dict({Text("a"), TensorOf(Storage("0", 8), 0, {2}, {1}), Text("b"),
                      TensorOf(Storage("0", 16, "HalfStorage"), 0, {2}, {1})}),
                "storage \"0\" of 8 f32 as before, found 16 f16");
}

TEST(PthCorruption, TensorsBeyondTheirStorageAreRefused) {
  const auto refuse = [](int64_t offset, const std::vector<int64_t>& shape,
                         const std::vector<int64_t>& strides, const std::string& says) {
    ExpectRefused(Dict({Text("w"), TensorOf(Storage("0", 8), offset, shape, strides)}), says);
  };
  const std::string beyond = "within 8 elements of storage 0, found it beyond";
  refuse(0, {9}, {1}, beyond);
  refuse(1, {8}, {1}, beyond);
  refuse(8, {}, {}, beyond);
  refuse(0, {2, 4}, {5, 1}, beyond);
  refuse(0, {2}, {8}, beyond);
  refuse(INT64_MAX, {1}, {1}, beyond);
  refuse(INT64_MAX, {2}, {INT64_MAX}, beyond);
  refuse(0, {3}, {INT64_MAX}, beyond);
  refuse(0, {INT64_MAX / 4}, {1}, beyond);
  refuse(0, {INT64_MAX}, {0}, "below 2^63 bytes");
  refuse(0, {int64_t{1} << 32, int64_t{1} << 32}, {0, 0}, "below 2^63 bytes");
  // Within it, but without an end of their own: memory for nothing.
  refuse(0, {int64_t{1} << 40}, {0}, "views of at most 32 more bytes");
  refuse(0, {9}, {0}, "views of at most 32 more bytes");
  refuse(0, {3, 6}, {1, 1}, "views of at most 32 more bytes");
}

TEST(PthCorruption, WhatLooksOddButIsWellDefinedIsRead) {
  const auto shape = [](const std::string& tensor) {
    const auto set = ParseBody(Dict({Text("w"), tensor}));
    EXPECT_TRUE(set.ok()) << set.status();
    return set.ok() ? set->Find("w")->shape : Shape{-1};
  };
  const std::string storage = Storage("0", 8);
  EXPECT_EQ(shape(TensorOf(storage, 0, {8}, {0})), Shape{8});  // one value, eight times
  EXPECT_EQ(shape(TensorOf(storage, 7, {1, 1}, {INT64_MAX, 5})), (Shape{1, 1}));
  EXPECT_EQ(shape(TensorOf(storage, 0, {1, 2, 2}, {INT64_MAX, 1, 4})), (Shape{1, 2, 2}));
  EXPECT_EQ(shape(TensorOf(storage, INT64_MAX, {0}, {INT64_MAX})), Shape{0});
  EXPECT_EQ(shape(TensorOf(storage, 0, {INT64_MAX, 0}, {1, 1})), (Shape{INT64_MAX, 0}));
  EXPECT_EQ(shape(Global("torch._utils", "_rebuild_parameter") +
                  Tuple({Good(), "\x88", NoHooks()}) + "R"),
            (Shape{2, 4}));
}

// Many strided views of one storage, each of them allowed.
TEST(PthCorruption, GatheredViewsTogetherAreBoundedByTheFile) {
  std::vector<std::string> items;
  for (int i = 0; i < 2000; ++i) {
    items.push_back(Text(std::to_string(i)));
    items.push_back(i == 0 ? TensorOf(Storage("0", 1 << 18) + Put(0), 0, {512, 512}, {1, 512})
                           : TensorOf(Get(0), 0, {512, 512}, {1, 512}));
  }
  const std::string file = Checkpoint(Program(Dict(items)), {std::string(1 << 20, 'd')});
  const PeakMemory peak;
  ExpectFileRefused(file, "to be gathered");
  EXPECT_LT(peak.bytes(), static_cast<int64_t>(4 * file.size()));
}

TEST(PthCorruption, CyclesAndSharedContainersAreRefused) {
  ExpectRefused(std::string("]") + Put(0) + Get(0) + "a", "found one");
  ExpectRefused(std::string("}") + Put(0) + Text("a") + Get(0) + "s", "a: expected no cycle");
  ExpectRefused(std::string("}") + Put(0) + Text("model") + Get(0) + "s", "expected no cycle");
  ExpectRefused(std::string("]") + Put(0) + "]" + Get(0) + "aa",
                "0.0: expected no cycle, found one");
  // Each level holds the one below it ten times: 10^15 tensors.
  std::string bomb = std::string("](") + Good() + "e" + Put(0);
  for (uint8_t level = 1; level < 15; ++level) {
    bomb += "](";
    for (int i = 0; i < 10; ++i) bomb += Get(static_cast<uint8_t>(level - 1));
    bomb += std::string("e") + Put(level);
  }
  const std::string nested = "(" + bomb;  // what lies below the top is taken off by a tuple
  ExpectRefused(nested + "t", "expected each container of tensors once");
  // The same of nothing is nothing.
  std::string empty = std::string("(]") + Put(0);
  for (uint8_t level = 1; level < 15; ++level) {
    empty += "](";
    for (int i = 0; i < 10; ++i) empty += Get(static_cast<uint8_t>(level - 1));
    empty += std::string("e") + Put(level);
  }
  const auto set = ParseBody(empty + "t");
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_EQ(set->tensors().size(), 0u);
}

TEST(PthCorruption, DeepNestingIsRefusedAtOnce) {
  const auto lists = [](size_t depth) {
    return std::string(depth, ']') + Good() + std::string(depth, 'a');
  };
  EXPECT_TRUE(ParseBody(lists(16)).ok());
  ExpectRefused(lists(17), "expected at most 16 levels, found more");
  ExpectRefused(lists(200'000), "expected at most 16 levels, found more");
  ExpectRefused(std::string(200'000, '('), "expected one value at the end, found 0");
  ExpectRefused(std::string((1 << 20) + 1, '('), "fewer marks");
  ExpectRefused(std::string((1 << 20) + 1, 'N'), "at most 1048576 values, found more");
}

TEST(PthCorruption, NamesAreChecked) {
  ExpectRefused(Dict({Text("w"), Good(), Text("w"), Good()}), "w: expected once, found twice");
  ExpectRefused(Dict({Text("1"), Good(), Int(1), Good()}), "1: expected once, found twice");
  ExpectRefused(Dict({Text("a.b"), Good(), Text("a"), Dict({Text("b"), Good()})}),
                "a.b: expected once");
  ExpectRefused(Dict({Text(""), Good()}), "expected a printable name");
  ExpectRefused(Dict({Text(std::string("a\0b", 3)), Good()}), "expected a printable name");
  ExpectRefused(Dict({Text("a\nb"), Good()}), "expected a printable name");
  ExpectRefused(Dict({Text(std::string(1025, 'n')), Good()}), "at most 1024 bytes");
  ExpectRefused(Dict({Text(""), "N", Text(""), "N"}), "expected once, found twice");
  ExpectRefused(Dict({Int(0), "N", Int(0), "N"}), "0: expected once, found twice");
  const auto different = ParseBody(Dict({Text(""), "N", Int(0), Good()}));
  ASSERT_TRUE(different.ok()) << different.status();
  EXPECT_EQ(different->tensors()[0].name, "0");
  ExpectRefused(Dict({"N", Good()}), "as key, found None");
  ExpectRefused(Dict({"]", Good()}), "as key, found a list");
  ExpectRefused(std::string("}(") + Text("w") + "u", "keys and values, found an odd number");
  ExpectRefused(Good(), "expected a dict or list of tensors, found a tensor");
  ExpectRefused("N", "expected a dict or list of tensors, found None");
}

TEST(PthCorruption, OnlyTheModelOfATrainersCheckpointIsRead) {
  const std::string optimiser = Dict({Text("step"), Good()});
  const std::string model = Dict({Text("w"), Good(), Text("epoch"), Int(3)});
  for (const std::string& body :
       {Dict({Text("optimizer"), optimiser, Text("model"), model}),
        Dict({Text("epoch"), Int(1), Text("state_dict"), Dict({Text("model"), model})})}) {
    const auto set = ParseBody(body);
    ASSERT_TRUE(set.ok()) << set.status();
    ASSERT_EQ(set->tensors().size(), 1u);
    EXPECT_EQ(set->tensors()[0].name, "w");
  }
}

TEST(PthCorruption, OfTheStackIsRefused) {
  const std::string none = "expected a value on the stack, found none";
  ExpectRefused("R", none);
  ExpectRefused("Q", none);
  ExpectRefused("b", none);
  ExpectRefused("s", none);
  ExpectRefused("\x85", none);
  ExpectRefused(Put(0), none);
  ExpectRefused("N(R", none);  // below a mark nothing can be reached
  ExpectRefused("t", "expected a mark on the stack, found none");
  ExpectRefused("e", "expected a mark on the stack, found none");
  ExpectRefused("Na", "expected a list on the stack, found nothing");
  ExpectRefused("NNa", "expected a list on the stack, found None");
  ExpectRefused("](Na", "expected a list on the stack, found a list");
  ExpectRefused("]NNs", "expected a text or an integer as key");
  ExpectRefused(std::string("]") + Text("k") + "Ns", "expected a dict on the stack, found a list");
  ExpectRefused("NNb", "expected a dict on the stack, found None");
  ExpectRefused(Get(0), "expected a value in the memo at 0, found none");
  ExpectRefused("j\xff\xff\xff\xff", "in the memo at 4294967295");
  ExpectRefused("", "expected one value at the end, found 0");
  ExpectRefused("NN", "expected one value at the end, found 2");
  ExpectRefused("N(", "expected one value at the end");
}

TEST(PthCorruption, OfThePicklesBytesIsRefused) {
  const std::vector<std::string> storage = {std::string(32, 'd')};
  const auto refuse = [&](const std::string& program, const std::string& says) {
    ExpectFileRefused(Checkpoint(program, storage), says);
  };
  refuse("", "expected a pickle that ends, found none in 0 bytes");
  refuse("\x80\x02}", "found none in 3 bytes");
  refuse("\x80", "expected 1 more bytes, found 0");
  refuse(std::string("\x80\x01}.", 4), "expected protocol 2 to 5, found 1");
  refuse("\x80\x06}.", "expected protocol 2 to 5, found 6");
  refuse("\x80\x02}.x", "expected 4 bytes, found 5");
  refuse("\x80\x02X\xff\xff\xff\xff", "expected 4294967295 more bytes, found 0");
  refuse("\x80\x02\x8d\xff\xff\xff\xff\xff\xff\xff\xff", "more bytes, found 0");
  refuse(
      "\x80\x02"
      "c"
      "torch",
      "found no end of it");
  refuse(
      "\x80\x02\x8a\x09"
      "123456789.",
      "expected at most 8 bytes, found 9");
  refuse(
      "\x80\x02\x8a\x08"
      "1234",
      "expected 8 more bytes, found 4");
  EXPECT_TRUE(
      Parse(Checkpoint(std::string("\x80\x04\x95") + LittleEndian(7, 8) + "}\x94" + ".", {})).ok());
}

TEST(PthCorruption, OfTheArchiveIsRefused) {
  const std::string program = Program(Dict({Text("w"), Good()}));
  const std::string data(32, 'd');
  ASSERT_TRUE(Parse(Zip({{"m/data.pkl", program}, {"m/data/0", data}})).ok());
  ASSERT_TRUE(
      Parse(Zip({{"m/data/0", data}, {"m/byteorder", "little"}, {"m/data.pkl", program}})).ok());
  ExpectFileRefused(Zip({}), "data.pkl: expected in the zip archive");
  ExpectFileRefused(Zip({{"data.pkl", program}, {"data/0", data}}), "data.pkl: expected in");
  ExpectFileRefused(Zip({{"a/b/data.pkl", program}, {"a/b/data/0", data}}), "found none");
  ExpectFileRefused(Zip({{"m/data.pkl", program}, {"n/data.pkl", program}, {"m/data/0", data}}),
                    "data.pkl: expected once, found twice");
  ExpectFileRefused(Zip({{"m/data.pkl", program}, {"n/data/0", data}}), "m/data/0: expected in");
  ExpectFileRefused(Zip({{"m/data.pkl", program}, {"m/data/0", data}, {"m/data/0", data}}),
                    "m/data/0: expected once, found twice");
  ExpectFileRefused(Zip({{"m/data.pkl", program}, {"m/data/0", data}, {"m/byteorder", "big"}}),
                    "byteorder: expected little");
  ExpectFileRefused("", "expected a zip archive, found 0 bytes");
  ExpectFileRefused("PK\x03\x04 but nothing else", "without its end record");
}

// The archive of one entry, with one field of a record overwritten.
class ZipField : public ::testing::Test {
 protected:
  ZipField()
      : file_(Zip({{"m/data.pkl", Program(Dict({Text("w"), Good()}))},
                   {"m/data/0", std::string(32, 'd')}})),
        end_(file_.size() - 22),
        end64_(end_ - 20 - 56),
        second_(file_.rfind("PK\x01\x02")),
        first_(file_.find("PK\x01\x02")) {}

  void Expect(size_t at, uint64_t value, int bytes, const std::string& says) {
    std::string file = file_;
    file.replace(at, static_cast<size_t>(bytes), LittleEndian(value, bytes));
    ExpectFileRefused(file, says);
  }

  const std::string file_;
  const size_t end_, end64_, second_, first_;
};

TEST_F(ZipField, OutOfRangeIsRefused) {
  ASSERT_TRUE(Parse(file_).ok());
  Expect(first_ + 8, 0x801, 2, "m/data.pkl: expected a plain entry, found an encrypted one");
  Expect(first_ + 10, 8, 2, "expected a stored entry, found compression method 8");
  Expect(8, 8, 2, "expected the header of a stored entry at byte 0");
  Expect(first_ + 20, 1 << 30, 4, "stored bytes, found 1073741824");
  Expect(first_ + 24, 1 << 30, 4, "expected 1073741824 stored bytes");
  Expect(first_ + 24, 0xffffffff, 4, "expected zip64 sizes, found none");
  Expect(first_ + 42, 1, 4, "expected the header of a stored entry at byte 1");
  Expect(first_ + 42, 0xfffffffe, 4, "expected its header before the zip directory");
  Expect(first_ + 42, 0xffffffff, 4, "expected zip64 sizes, found none");
  Expect(first_ + 28, 0xffff, 2, "in the zip directory, found");
  Expect(first_ + 30, 0xffff, 2, "in the zip directory, found");
  Expect(first_ + 32, 1, 2, "expected an entry of the zip directory");
  Expect(first_, 0, 4, "expected an entry of the zip directory");
  Expect(26, 0xffff, 2, "expected");
  Expect(30, 'x', 1, "expected the same name in its header, found another");
  Expect(end64_, 0, 4, "expected the zip64 end record");
  Expect(end64_ + 16, 1, 4, "expected a zip archive in one part");
  Expect(end64_ + 24, 3, 8, "expected a zip archive in one part");
  Expect(end64_ + 40, UINT64_MAX, 8, "expected the zip directory within");
  Expect(end64_ + 48, UINT64_MAX, 8, "expected the zip directory within");
  Expect(end64_ + 40, 0, 8, "expected at most 0 entries");
  Expect(end_ - 20 + 8, UINT64_MAX, 8, "expected the zip64 end record");
  Expect(end_ + 20, 1, 2, "without its end record");
}

// Without zip64 records, and with sizes in an entry's zip64 part although they are small.
TEST_F(ZipField, OldAndLargeArchivesAreRead) {
  std::string old = file_;
  old.erase(end64_, 56 + 20);
  const auto set = Parse(old);
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_EQ(Fingerprint(*set), Fingerprint(*Parse(file_)));

  std::string large = file_;
  const std::string offset = large.substr(second_ + 42, 4) + std::string(4, '\0');
  const std::string extra = LittleEndian(0x4246, 2) + LittleEndian(3, 2) + "ZZZ" +
                            LittleEndian(1, 2) + LittleEndian(24, 2) + LittleEndian(32, 8) +
                            LittleEndian(32, 8) + offset;
  large.replace(second_ + 20, 8, std::string(8, '\xff'));
  large.replace(second_ + 30, 2, LittleEndian(extra.size(), 2));
  large.replace(second_ + 42, 4, std::string(4, '\xff'));
  large.insert(second_ + 46 + std::string("m/data/0").size(), extra);
  const size_t end64 = end64_ + extra.size();
  const uint64_t directory_bytes = end64 - first_;
  large.replace(end64 + 40, 8, LittleEndian(directory_bytes, 8));
  large.replace(end64 + 56 + 8, 8, LittleEndian(end64, 8));
  const auto again = Parse(large);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(Fingerprint(*again), Fingerprint(*set));
}

TEST_F(ZipField, OverlappingEntriesAreRefused) {
  // Both names for the same data: the second entry's header becomes the first's.
  const std::string same = Zip({{"m/data.pkl", Program(Dict({Text("w"), Good()}))}});
  std::string file = same;
  const size_t directory = file.find("PK\x01\x02");
  const size_t end64 = file.size() - 22 - 20 - 56;
  file.insert(end64, same.substr(directory, end64 - directory));
  const size_t moved = 2 * end64 - directory;
  file.replace(moved + 24, 16, LittleEndian(2, 8) + LittleEndian(2, 8));
  file.replace(moved + 40, 8, LittleEndian(moved - directory, 8));
  file.replace(moved + 56 + 8, 8, LittleEndian(moved, 8));
  ExpectFileRefused(file, "(overlap)");
}

TEST(PthCorruption, OfTheFormatBeforePyTorch16IsRefused) {
  const std::string file = ReadAll(kGolden + "pth_legacy_format.pth");
  ASSERT_TRUE(Parse(file).ok());
  ExpectFileRefused(file + "x", "file: expected its end, found 1 more bytes");
  for (size_t size = 16; size < file.size(); ++size) {
    const std::string cut(file, 0, size);
    EXPECT_FALSE(Parse(cut).ok()) << size;
  }
  std::string other = file;
  const size_t version = 15 + 2;
  other[version + 1] = 1;
  ExpectFileRefused(other, "protocol version: expected 1001");
  other = file;
  const size_t order = file.find("little_endian") + std::string("little_endian").size() + 2;
  ASSERT_EQ(other[order], '\x88');
  other[order] = '\x89';
  ExpectFileRefused(other, "byte order: expected little");
  other = file;
  other[file.rfind("1144460656")] = '9';
  ExpectFileRefused(other, "storage keys: expected each storage of the pickle once");
}

TEST(PthCorruption, TruncationAnywhereIsRefused) {
  for (const char* name : {"pth_views_dtypes.pth", "pth_ordereddict_metadata.pth"}) {
    const std::string file = ReadAll(kGolden + name);
    ASSERT_TRUE(Parse(file).ok());
    for (size_t size = 0; size < file.size(); ++size) {
      // A copy of its own: reading past the end is seen by the address sanitizer.
      const std::string cut(file, 0, size);
      EXPECT_FALSE(Parse(cut).ok()) << name << " " << size;
    }
  }
  // A large one that was not copied to its end.
  const std::string large = ReadAll(kGolden + "tiny_rwkv7_bf16.pth");
  for (const double part : {0.1, 0.5, 0.9, 0.999}) {
    ExpectFileRefused(large.substr(0, static_cast<size_t>(part * large.size())), "truncated");
  }
}

void ExpectConsistent(const std::string& damaged) {
  const auto set = Parse(damaged);
  if (!set.ok()) {
    EXPECT_EQ(set.status().code(), absl::StatusCode::kInvalidArgument);
    return;
  }
  for (const Tensor& tensor : set->tensors()) {
    EXPECT_EQ(TensorBytes(tensor.dtype, tensor.shape), tensor.data.size());
  }
  EXPECT_EQ(Fingerprint(*set).size(), 64u);  // touches every byte
}

// A flipped byte of a weight is a number like any other: only the checksum tells.
TEST(PthCorruption, AFlippedByteOfDataIsRefusedByItsChecksum) {
  const std::string file = Checkpoint(Program(Dict({Text("w"), Good()})), {std::string(32, 'd')});
  const size_t data = file.find(std::string(32, 'd'));
  for (size_t at = data; at < data + 32; ++at) {
    std::string damaged = file;
    damaged[at] ^= 1;
    ExpectFileRefused(damaged, "m/data/0: expected CRC-32 ");
    EXPECT_TRUE(Parse(WithoutChecksums(damaged)).ok()) << at;
  }
  std::string renamed = file;
  renamed[renamed.find(Text("w")) + 5] = 'v';
  ExpectFileRefused(renamed, "m/data.pkl: expected CRC-32 ");
  EXPECT_TRUE(Parse(WithoutChecksums(renamed)).ok());
  // What torch.save wrote has checksums that are right, and is held to them.
  std::string saved = ReadAll(kGolden + "tiny_rwkv7_bf16.pth");
  ASSERT_TRUE(Parse(saved).ok());
  saved[saved.size() / 2] ^= 1;
  ExpectFileRefused(saved, ": the file is damaged (bad.pth)");
}

TEST(PthCorruption, EveryDamagedByteIsRefusedOrGivesAConsistentSet) {
  for (const char* name :
       {"pth_views_dtypes.pth", "pth_legacy_format.pth", "pth_ordereddict_metadata.pth"}) {
    const std::string file = WithoutChecksums(ReadAll(kGolden + name));
    for (size_t at = 0; at < file.size(); ++at) {
      for (const int flip : {0x01, 0x80, 0xff, file[at] ^ '.'}) {
        std::string damaged = file;
        damaged[at] = static_cast<char>(damaged[at] ^ flip);
        ExpectConsistent(damaged);
      }
    }
  }
}

TEST(PthCorruption, DamagedPicklesAreRefusedOrGiveAConsistentSet) {
  const std::string file = WithoutChecksums(ReadAll(kGolden + "pth_views_dtypes.pth"));
  const size_t begin = file.find("\x80\x02}");
  constexpr size_t kProgram = 661;
  const std::string opcodes("\x80.(NQRb}])tue\x85\x86\x87sahjqrcKMJX\x8a\x88\x89", 30);
  std::mt19937 bits(1);
  for (int round = 0; round < 20'000; ++round) {
    std::string damaged = file;
    for (uint32_t i = 1 + bits() % 4; i-- > 0;) {
      damaged[begin + bits() % kProgram] =
          static_cast<char>(bits() % 2 ? bits() : opcodes[bits() % opcodes.size()]);
    }
    ExpectConsistent(damaged);
  }
}

// A value of the pickle's machine on the stack and in its container, while both grow.
constexpr int64_t kMostBytesPerByte = 256;

// A pickle makes at most one value of fixed size a byte.
TEST(PthCorruption, MemoryIsBoundedByTheFile) {
  std::string body = "(";
  for (int i = 0; i < 250'000; ++i) body += ")]}N";
  const std::string file = Checkpoint(Program(body + "t"), {});
  const PeakMemory peak;
  const auto set = Parse(file);
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_LT(peak.bytes(), kMostBytesPerByte * static_cast<int64_t>(file.size()));
}

// One tensor, named again and again in two bytes each, in a list under a long key.
std::string ManyNamesOfOneTensor(size_t key_bytes, int count) {
  std::string list = "](" + Good() + Put(0);
  for (int i = 1; i < count; ++i) list += Get(0);
  return Checkpoint(Program(Dict({Text(std::string(key_bytes, 'k')), list + "e"})),
                    {std::string(32, 'd')});
}

TEST(PthCorruption, OneTensorUnderManyNamesIsBoundedByTheFile) {
  for (const auto& [key_bytes, count, says] :
       {std::tuple{1000, 1'000'000, "bytes together, found more"},
        std::tuple{1000, 65'536, "bytes together, found more"},
        std::tuple{1, 1'000'000, "expected at most 65536 tensors, found more"}}) {
    const std::string file = ManyNamesOfOneTensor(static_cast<size_t>(key_bytes), count);
    const PeakMemory peak;
    ExpectFileRefused(file, says);
    EXPECT_LT(peak.bytes(), kMostBytesPerByte * static_cast<int64_t>(file.size()));
  }
  // As many as are allowed.
  const auto set = Parse(ManyNamesOfOneTensor(1, 65'536));
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_EQ(set->tensors().size(), 65'536u);
  EXPECT_TRUE(Parse(ManyNamesOfOneTensor(1000, 1'000)).ok());
}

}  // namespace
}  // namespace dreamstate::tensors
