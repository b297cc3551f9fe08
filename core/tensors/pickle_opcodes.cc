#include "core/tensors/pickle_opcodes.h"

#include "absl/strings/str_format.h"

namespace dreamstate::tensors {
namespace {

struct Name {
  uint8_t opcode;
  const char* name;
};

// Also those that are refused, by the names that Python gives them.
constexpr Name kNames[] = {
    {kPickleProto, "PROTO"},
    {kPickleFrame, "FRAME"},
    {kPickleStop, "STOP"},
    {kPickleMark, "MARK"},
    {kPickleNone, "NONE"},
    {kPickleNewTrue, "NEWTRUE"},
    {kPickleNewFalse, "NEWFALSE"},
    {kPickleBinInt, "BININT"},
    {kPickleBinInt1, "BININT1"},
    {kPickleBinInt2, "BININT2"},
    {kPickleLong1, "LONG1"},
    {kPickleBinFloat, "BINFLOAT"},
    {kPickleShortBinString, "SHORT_BINSTRING"},
    {kPickleShortBinUnicode, "SHORT_BINUNICODE"},
    {kPickleBinUnicode, "BINUNICODE"},
    {kPickleBinUnicode8, "BINUNICODE8"},
    {kPickleEmptyTuple, "EMPTY_TUPLE"},
    {kPickleTuple1, "TUPLE1"},
    {kPickleTuple2, "TUPLE2"},
    {kPickleTuple3, "TUPLE3"},
    {kPickleTuple, "TUPLE"},
    {kPickleEmptyList, "EMPTY_LIST"},
    {kPickleAppend, "APPEND"},
    {kPickleAppends, "APPENDS"},
    {kPickleEmptyDict, "EMPTY_DICT"},
    {kPickleSetItem, "SETITEM"},
    {kPickleSetItems, "SETITEMS"},
    {kPickleBinPut, "BINPUT"},
    {kPickleLongBinPut, "LONG_BINPUT"},
    {kPickleMemoize, "MEMOIZE"},
    {kPickleBinGet, "BINGET"},
    {kPickleLongBinGet, "LONG_BINGET"},
    {kPickleGlobal, "GLOBAL"},
    {kPickleStackGlobal, "STACK_GLOBAL"},
    {kPickleReduce, "REDUCE"},
    {kPickleBuild, "BUILD"},
    {kPickleBinPersId, "BINPERSID"},
    {'P', "PERSID"},
    {'i', "INST"},
    {'o', "OBJ"},
    {0x81, "NEWOBJ"},
    {0x92, "NEWOBJ_EX"},
    {0x82, "EXT1"},
    {0x83, "EXT2"},
    {0x84, "EXT4"},
    {0x8b, "LONG4"},
    {0x97, "NEXT_BUFFER"},
    {'0', "POP"},
    {'1', "POP_MARK"},
    {'2', "DUP"},
};

}  // namespace

std::string PickleOpcodeName(uint8_t opcode) {
  for (const Name& name : kNames) {
    if (name.opcode == opcode) return name.name;
  }
  return absl::StrFormat("opcode 0x%02x", opcode);
}

}  // namespace dreamstate::tensors
