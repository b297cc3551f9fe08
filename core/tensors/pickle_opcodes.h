// The opcodes of pickles that checkpoints need (spec/rwkv7.md §5), shared by reader and writer.
#pragma once

#include <cstdint>
#include <string>

namespace dreamstate::tensors {

inline constexpr uint8_t kPickleProto = 0x80;
inline constexpr uint8_t kPickleFrame = 0x95;
inline constexpr uint8_t kPickleStop = '.';
inline constexpr uint8_t kPickleMark = '(';
inline constexpr uint8_t kPickleNone = 'N';
inline constexpr uint8_t kPickleNewTrue = 0x88;
inline constexpr uint8_t kPickleNewFalse = 0x89;
inline constexpr uint8_t kPickleBinInt = 'J';
inline constexpr uint8_t kPickleBinInt1 = 'K';
inline constexpr uint8_t kPickleBinInt2 = 'M';
inline constexpr uint8_t kPickleLong1 = 0x8a;
inline constexpr uint8_t kPickleBinFloat = 'G';
inline constexpr uint8_t kPickleShortBinString = 'U';  // a text of Python 2
inline constexpr uint8_t kPickleShortBinUnicode = 0x8c;
inline constexpr uint8_t kPickleBinUnicode = 'X';
inline constexpr uint8_t kPickleBinUnicode8 = 0x8d;
inline constexpr uint8_t kPickleEmptyTuple = ')';
inline constexpr uint8_t kPickleTuple1 = 0x85;
inline constexpr uint8_t kPickleTuple2 = 0x86;
inline constexpr uint8_t kPickleTuple3 = 0x87;
inline constexpr uint8_t kPickleTuple = 't';
inline constexpr uint8_t kPickleEmptyList = ']';
inline constexpr uint8_t kPickleAppend = 'a';
inline constexpr uint8_t kPickleAppends = 'e';
inline constexpr uint8_t kPickleEmptyDict = '}';
inline constexpr uint8_t kPickleSetItem = 's';
inline constexpr uint8_t kPickleSetItems = 'u';
inline constexpr uint8_t kPickleBinPut = 'q';
inline constexpr uint8_t kPickleLongBinPut = 'r';
inline constexpr uint8_t kPickleMemoize = 0x94;
inline constexpr uint8_t kPickleBinGet = 'h';
inline constexpr uint8_t kPickleLongBinGet = 'j';
inline constexpr uint8_t kPickleGlobal = 'c';
inline constexpr uint8_t kPickleStackGlobal = 0x93;
inline constexpr uint8_t kPickleReduce = 'R';
inline constexpr uint8_t kPickleBuild = 'b';
inline constexpr uint8_t kPickleBinPersId = 'Q';

// "GLOBAL", or "opcode 0x5c" for one that is not above.
std::string PickleOpcodeName(uint8_t opcode);

}  // namespace dreamstate::tensors
