#include "kernels/runtime/cpu.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>

namespace dreamstate::kernels {
namespace {

constexpr std::string_view kNames[kIsaCount] = {"reference",  "avx2",       "avx512",
                                                "avx512vnni", "avx512bf16", "amx"};
constexpr int kUnknown = -1;

// The register sets that the operating system saves on a context switch (XCR0).
uint64_t EnabledRegisterSets() {
  uint32_t low;
  uint32_t high;
  // By instruction, since the intrinsic would need a flag that the whole file would be compiled
  // with.
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<uint64_t>(high) << 32) | low;
}

// Asks the system, once for the whole process, to save the tiles' data on a context switch; without
// its leave the first tile instruction would end the process.
bool AllowTiles() {
  constexpr int kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM of asm/prctl.h
  constexpr int kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

bool Has(uint32_t value, std::initializer_list<int> bits) {
  for (const int bit : bits) {
    if ((value >> bit & 1u) == 0) return false;
  }
  return true;
}

Isa DetectIsa() {
  uint32_t a;
  uint32_t b;
  uint32_t c;
  uint32_t d;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0) return Isa::kReference;
  // FMA 12, SSE4.1 19, SSE4.2 20, POPCNT 23, OSXSAVE 27, AVX 28, F16C 29.
  if (!Has(c, {12, 19, 20, 23, 27, 28, 29})) return Isa::kReference;
  const uint64_t sets = EnabledRegisterSets();
  constexpr uint64_t kSseAvx = 0x06;
  constexpr uint64_t kMasksZmm = 0xe0;
  if ((sets & kSseAvx) != kSseAvx) return Isa::kReference;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return Isa::kReference;
  if (!Has(b, {5})) return Isa::kReference;  // AVX2
  // AVX512F 16, DQ 17, BW 30, VL 31.
  if ((sets & kMasksZmm) != kMasksZmm || !Has(b, {16, 17, 30, 31})) return Isa::kAvx2;
  if (!Has(c, {11})) return Isa::kAvx512;   // AVX512_VNNI
  const bool tiles = Has(d, {22, 24, 25});  // AMX-BF16, AMX-TILE, AMX-INT8
  if (a < 1 || __get_cpuid_count(7, 1, &a, &b, &c, &d) == 0) return Isa::kAvx512Vnni;
  if (!Has(a, {5})) return Isa::kAvx512Vnni;  // AVX512_BF16
  constexpr uint64_t kTiles = 0x60000;
  return tiles && (sets & kTiles) == kTiles && AllowTiles() ? Isa::kAmx : Isa::kAvx512Bf16;
}

std::atomic<int> active{kUnknown};

// What the environment asks for; kUnknown when it names nothing, or nothing that runs here.
int RequestedIsa(const char* name) {
  Isa isa;
  if (name == nullptr || !ParseIsa(name, &isa) || isa > BestIsa()) return kUnknown;
  return static_cast<int>(isa);
}

}  // namespace

std::string_view IsaName(Isa isa) { return kNames[static_cast<int>(isa)]; }

bool ParseIsa(std::string_view name, Isa* isa) {
  for (int i = 0; i < kIsaCount; ++i) {
    if (kNames[i] == name) {
      *isa = static_cast<Isa>(i);
      return true;
    }
  }
  return false;
}

Isa BestIsa() {
  static const Isa best = DetectIsa();
  return best;
}

Isa ActiveIsa() {
  const int known = active.load(std::memory_order_relaxed);
  if (known != kUnknown) return static_cast<Isa>(known);
  int found = RequestedIsa(std::getenv("DREAMSTATE_CPU_ISA"));
  if (found == kUnknown) found = static_cast<int>(BestIsa());
  active.store(found, std::memory_order_relaxed);
  return static_cast<Isa>(found);
}

std::string_view InitialiseIsa() {
  const char* name = std::getenv("DREAMSTATE_CPU_ISA");
  if (name == nullptr || *name == '\0') {
    active.store(static_cast<int>(BestIsa()), std::memory_order_relaxed);
    return {};
  }
  const int requested = RequestedIsa(name);
  if (requested != kUnknown) {
    active.store(requested, std::memory_order_relaxed);
    return {};
  }
  // Kept for the life of the program, because the caller gets a view of it.
  static char message[256];
  Isa isa;
  if (ParseIsa(name, &isa)) {
    std::snprintf(
        message, sizeof message,
        "DREAMSTATE_CPU_ISA: this processor does not support %.32s (the best it supports is %s)",
        name, kNames[static_cast<int>(BestIsa())].data());
  } else {
    std::snprintf(message, sizeof message,
                  "DREAMSTATE_CPU_ISA: expected reference, avx2, avx512, avx512vnni, avx512bf16 or "
                  "amx, found "
                  "\"%.32s\"",
                  name);
  }
  return message;
}

void SetActiveIsaForTesting(Isa isa) {
  active.store(static_cast<int>(isa), std::memory_order_relaxed);
}

}  // namespace dreamstate::kernels
