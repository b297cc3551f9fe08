// What the processor can do, found once, and the instruction set that kernels use.
// Thread-safe after the first call. Nothing here allocates.
#pragma once

#include <string_view>

namespace dreamstate::kernels {

// In order of preference; each includes the ones before it: kAvx512Vnni adds vpdpbusd, kAvx512Bf16
// vdpbf16ps, kAmx the tiles of int8 and bf16. (No processor has vdpbf16ps without vpdpbusd, or
// tiles without both, so one ordered list names them all.)
enum class Isa {
  kReference = 0,
  kAvx2 = 1,
  kAvx512 = 2,
  kAvx512Vnni = 3,
  kAvx512Bf16 = 4,
  kAmx = 5,
};
inline constexpr int kIsaCount = 6;

// "reference", "avx2", "avx512", "avx512vnni", "avx512bf16", "amx".
std::string_view IsaName(Isa isa);

// Parses a name as IsaName gives it; false when there is no such instruction set.
bool ParseIsa(std::string_view name, Isa* isa);

// The best that this processor and operating system support.
Isa BestIsa();

// What kernels run: BestIsa(), or less when DREAMSTATE_CPU_ISA names a lesser one (an unknown name,
// or one that the processor lacks, is refused by InitialiseIsa; without that call it is ignored).
Isa ActiveIsa();

// Reads DREAMSTATE_CPU_ISA. Returns an empty view, or what is wrong with it, for the program to
// print and exit.
std::string_view InitialiseIsa();

// For tests: from now on ActiveIsa() is `isa`, which must not exceed BestIsa(). Not thread-safe.
void SetActiveIsaForTesting(Isa isa);

}  // namespace dreamstate::kernels
