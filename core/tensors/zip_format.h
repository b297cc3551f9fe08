// Numbers of the zip format (APPNOTE.TXT 6.3), shared by its reader and writer.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dreamstate::tensors {

inline constexpr uint32_t kZipLocalSignature = 0x04034b50;
inline constexpr uint32_t kZipCentralSignature = 0x02014b50;
inline constexpr uint32_t kZipEndSignature = 0x06054b50;
inline constexpr uint32_t kZip64EndSignature = 0x06064b50;
inline constexpr uint32_t kZip64LocatorSignature = 0x07064b50;
inline constexpr size_t kZipLocalBytes = 30;
inline constexpr size_t kZipCentralBytes = 46;
inline constexpr size_t kZipEndBytes = 22;
inline constexpr size_t kZip64EndBytes = 56;
inline constexpr size_t kZip64LocatorBytes = 20;
inline constexpr uint16_t kZip64ExtraId = 1;
// What a field of 16 or 32 bits holds when its value is in the zip64 part.
inline constexpr uint16_t kZipIn64Short = 0xffff;
inline constexpr uint32_t kZipIn64 = 0xffffffff;

}  // namespace dreamstate::tensors
